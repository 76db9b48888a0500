import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import * as assert from "uvu/assert";
import { answerersOf, type Kubelets } from "../../lab/kubelet/kubelets.ts";
import { VIPS as ALL } from "../../lab/topology.ts";
import { type Report, sumOf } from "../../lab/watch/watch.ts";

export const VIPS = ALL.slice(0, 10);
export const ADDRESSES = "10.9.0.0/18";

const seconds = (since: number) => (performance.now() - since) / 1000;

/** While `body` runs, no request may stay unanswered, and no VIP may move. */
export async function nothingHappens(cluster: Kubelets, what: string, body: () => Promise<void>): Promise<void> {
  let report!: Report;
  const started = performance.now();
  const { asked, failed } = await cluster.fetched(VIPS[0]!, async () => {
    report = await cluster.watched(VIPS, async () => {
      await sleep(300);
      await body();
      await sleep(300);
    });
  });
  const { asked: requests, unanswered, doubled, moves, silence } = sumOf(report);
  console.log(
    `\nMEASURED ${what}: ${requests} requests, ${unanswered} unanswered, ${asked} fetches, ${failed.length} failed, ${moves} moves, in ${seconds(started).toFixed(0)} s`,
  );
  assert.is(moves, 0, `a VIP moved: ${report.vips.map((seen) => answerersOf(seen).join(">")).join(" ")}`);
  assert.is(unanswered, 0, `silent for ${silence.toFixed(0)} ms`);
  assert.is(doubled, 0);
  assert.equal(failed, []);
  assert.ok(requests > 100 && asked > 5, "somebody asked");
}

/** Applies the manifest as docs/install.md says, with what may be announced. */
export async function install(cluster: Kubelets): Promise<void> {
  const manifest = readFileSync("deploy/isat.yaml", "utf8");
  const text = manifest.replace("kind: kubernetes\n", `kind: kubernetes\n      addresses: [${ADDRESSES}]\n`);
  assert.not.equal(text, manifest);
  await cluster.must("kubectl", ["apply", "-f", "-"], text);
  const secret = ["secret", "generic", "isat-wire", `--from-literal=wire.key=${"k".repeat(44)}`];
  await cluster.kubectl("-n", "isat-system", "create", ...secret);
}
