import type { Demand } from "../core/demand.ts";
import type { FileSource } from "./settings.ts";

/** The demand of a file's own lists. */
export function fileDemand({ nodes, vips }: FileSource): Demand {
  return { nodes, vips, checks: () => [] };
}
