// limit: 300 s
/**
 * Machines that are shut down by order, while a client asks for every VIP each 10 ms. Kubelet's part is its Node's condition,
 * as pkg/kubelet/nodestatus writes it: a real graceful shutdown takes systemd-logind.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { best, NODES, PATIENCE, Scene, vipsOf } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import { checker } from "../../lab/skip.ts";
import { type Report, sumOf, turns } from "../../lab/watch/watch.ts";

const test = suite("shutdowns on a cluster");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let scene: Scene;

/** How often the client asks for each VIP, ms. */
const ASKED = 10;
const VIPS = NODES.flatMap((node) => vipsOf(node, 5, 4));
/** A death takes at least this long to be noticed, ms. */
const DEATH = 250;
/** Served by pods on n1 alone. */
const LOCAL = vipsOf("n1", 6, 1)[0]!;
const OTHERS = ["n2", "n3"];
const measured = (text: string) => console.log(`MEASURED ${text}`);

test.before(async () => {
  if (noCluster) return;
  scene = stack.use(await Scene.start("isat-t-shut-", { wire: "bridge", proxy: false }));
  for (const [index, vip] of VIPS.entries()) await scene.cluster.serve(`s${index}`, vip);
  await scene.cluster.serve("local", LOCAL, { policy: "Local", endpoints: ["n1"] });
  await scene.speakers.startAll();
  await scene.shared(VIPS);
});

test.after.each(async () => {
  if (noCluster) return;
  await goesOn();
  await scene.revive("n1").catch(() => {});
  await scene.shared(VIPS);
});

test.after(() => stack.disposeAsync());

/** Writes the condition Ready of n1 as kubelet's graceful node shutdown does. */
const goesDown = () =>
  scene.cluster.setNodeCondition("n1", "Ready", "False", {
    reason: "KubeletNotReady",
    message: "node is shutting down",
  });
const goesOn = () => scene.cluster.setNodeCondition("n1", "Ready", "True", { reason: "KubeletReady" });

/** The VIPs move from n1 to where they belong among the others, and back where they come back. */
const moves = (comesBack = false) =>
  Object.fromEntries(
    VIPS.map((vip) => [vip, best(vip) === "n1" ? `n1 > ${best(vip, OTHERS)}${comesBack ? " > n1" : ""}` : best(vip)]),
  );

/**
 * Asserts that the VIPs moved just as they had to, and that nobody had to notice a death for it. A hand-over alone is the
 * round trip of a claim, in which a request or two may come.
 */
function assertInOrder(what: string, report: Report, expected: Record<string, string>): void {
  const { unanswered, doubled, silence, asked } = sumOf(report);
  measured(`${what}: ${unanswered} of ${asked} requests unanswered, silence ${silence.toFixed(0)} ms at most`);
  assert.equal(turns(report), expected);
  assert.is(doubled, 0);
  assert.ok(silence < DEATH, `a VIP was silent for ${silence} ms`);
}

const isEmpty = () => VIPS.every((vip) => !scene.speakers.owners(vip).includes("n1"));

check("a node that kubelet shuts down gives its VIPs away in order before it goes", async () => {
  const report = await scene.speakers.watched(
    VIPS,
    async () => {
      await sleep(300);
      await goesDown();
      await until("n1 has none", isEmpty, PATIENCE);
      await scene.speakers.of("n1").signal("SIGTERM");
      scene.cluster.unplug("n1");
      await sleep(1_500);
    },
    ASKED,
  );
  assertInOrder("shutdown", report, moves());
});

check("a speaker that is stopped at the same time waits until its VIPs are elsewhere", async () => {
  const report = await scene.speakers.watched(
    VIPS,
    async () => {
      await sleep(300);
      const told = goesDown(); // kubelet stops the pods meanwhile, and does not wait for this
      await scene.speakers.of("n1").signal("SIGTERM");
      scene.cluster.unplug("n1");
      await told;
      await sleep(1_500);
    },
    ASKED,
  );
  assertInOrder("shutdown and SIGTERM at once", report, moves());
});

check("a shutdown that is taken back brings the VIPs back, and what no other node may own stays", async () => {
  const report = await scene.speakers.watched(
    [...VIPS, LOCAL],
    async () => {
      await sleep(300);
      await goesDown();
      await until("n1 has none", isEmpty, PATIENCE);
      await sleep(1_500); // longer than a VIP that leaves is answered for
      assert.match(scene.speakers.of("n1").isat("status"), /SHUTTING DOWN/);
      await goesOn();
      await scene.shared(VIPS);
      await sleep(300);
    },
    ASKED,
  );
  assertInOrder("shutdown taken back", report, { ...moves(true), [LOCAL]: "n1" });
});

check("where only the speaker is stopped, nothing moves", async () => {
  const report = await scene.speakers.watched(
    VIPS,
    async () => {
      await sleep(300);
      const speaker = scene.speakers.of("n1");
      await speaker.signal("SIGTERM");
      await sleep(1_000);
      speaker.start();
      await speaker.ready(PATIENCE);
      await sleep(300);
    },
    ASKED,
  );
  assertInOrder("speaker stopped and started", report, Object.fromEntries(VIPS.map((vip) => [vip, best(vip)])));
});

test.run();
