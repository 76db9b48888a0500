import { describeProgram, type Point, programIds } from "./kernel/hooks.ts";
import { readFilters } from "./link/hooked.ts";

/**
 * The programs that run before isat's at a hook: what they do not pass on, isat never sees. tcx runs before clsact, and of
 * clsact's filters at one priority the newest runs first.
 * @param own the id of isat's program there
 * @param isOurs true for a program of isat's, which an earlier speaker may have left at another hook
 */
export function programsInFront(
  ifindex: number,
  { kind, direction }: Point,
  own: number,
  isOurs: (id: number) => boolean,
): string[] {
  if (kind === "xdp") return [];
  const attached = programIds(ifindex, { kind: "tcx", direction });
  const tcx = kind === "tcx" ? attached.slice(0, Math.max(0, attached.indexOf(own))) : attached;
  const names = tcx.filter((id) => !isOurs(id)).map((id) => `${describeProgram(id)} at tcx`);
  if (kind === "tcx") return names;
  const filters = readFilters(ifindex).filter((filter) => filter.direction === direction);
  const place = filters.findIndex(({ programId }) => programId === own);
  const before = filters.slice(0, Math.max(0, place)).filter(({ programId }) => !(programId && isOurs(programId)));
  return [...names, ...before.map(({ programId, name }) => `program id ${programId} (${name})`)];
}
