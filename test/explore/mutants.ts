import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { explore } from "./exploration.ts";

/*
 * Rules without a story here, and the test that holds each:
 * - A reply to any frame of a claim counts, and frames that do not pass are halved (row W7). That takes a wire on which each
 *   round trip is longer than the time after which a claim is sent again, or that drops by size. Here a frame takes 0.1 ms,
 *   and one fault delays one frame. core/claims: "however often it was asked meanwhile", "where large frames do not pass".
 * - Old probes are not echoed, and a stranger's are under a bucket (row W18). What such echoes do harm is a third machine,
 *   and no VIP. bpf/speak: "of two recorded probes".
 * - Absence counts as a join, and joins are counted. Both take three faults: a node sleeps while it is cut off, and the one
 *   that took its VIPs is killed before it hears it again. core/simulation: "sleeps through its own death".
 * - Nobody stands in for a peer that is deaf or apart. A deaf one is asked by ARP now, which leaves it the VIP too; of one that
 * is apart and headless, no search tried so far has a story, and no other test holds it.
 * - Releases are looked at before a claim is won. The segment takes a VIP that was released back in the same step; without
 *   the rule it pauses for a second and not for 50 ms. core/claims: "released between the beginning of its claim".
 * - A node that cannot speak IPv6 is no candidate for VIPs of IPv6. The search has VIPs of IPv4 only. core/ownership: "a node
 *   that cannot speak IPv6"; lab/dual-stack: "a node without IPv6".
 */

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
