import type { Demand } from "../core/demand.ts";
import type { FileSettings } from "./settings.ts";

/** The demand of a file's own lists. */
export function fileDemand({ nodes, vips }: FileSettings): Demand {
  return { nodes, vips, checks: () => [] };
}
