import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { explore } from "./exploration.ts";

/** A rule of the protocol, the source without it, and where the search finds out. */
export interface Mutant {
  rule: string;
  edits: readonly [file: string, from: string, to: string][];
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * The exploration, with the edited sources in the place of the shipped ones.
 * @param folder where the bundle is put
 * @throws Error where an edit finds nothing to change
 */
export async function mutate({ rule, edits }: Mutant, folder: string): Promise<typeof explore> {
  const done = new Set<string>();
  const onLoad = ({ path }: { path: string }) => {
    let contents = readFileSync(path, "utf8");
    for (const [file, from, to] of edits) {
      if (path !== `${ROOT}${file}` || !contents.includes(from)) continue;
      contents = contents.replace(from, to);
      done.add(`${file} ${from}`);
    }
    return { contents, loader: "ts" as const };
  };
  const outfile = `${folder}/mutant-${rule.replace(/\W+/g, "-")}.mjs`;
  await build({
    entryPoints: [`${ROOT}test/explore/exploration.ts`],
    ...{ outfile, bundle: true, format: "esm", platform: "node", logLevel: "error" },
    plugins: [{ name: "mutant", setup: (build) => build.onLoad({ filter: /\.ts$/ }, onLoad) }],
  });
  for (const [file, from] of edits) {
    if (!done.has(`${file} ${from}`)) throw new Error(`${file} does not say: ${from}`);
  }
  return ((await import(pathToFileURL(outfile).href)) as { explore: typeof explore }).explore;
}
