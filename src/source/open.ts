import type { Config } from "../config/config.ts";
import { FileSource } from "./file.ts";
import type { Source, Surroundings } from "./source.ts";

/** Makes the source that the configuration names; it does nothing until it is started. */
export async function openSource(
  { source, node, runDir, stateDir }: Config,
  surroundings: Surroundings,
): Promise<Source> {
  if (source.kind === "file") return new FileSource(source);
  const { KubernetesSource } = await import("./kubernetes/source.ts"); // here, so that a file's speaker saves its memory
  return new KubernetesSource(source, { ...surroundings, node, folders: [stateDir, runDir] });
}
