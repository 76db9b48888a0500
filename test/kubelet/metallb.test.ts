// limit: 400 s
/**
 * From MetalLB to isat and back, by the commands of docs/from-metallb.md. MetalLB is the real one: its controller, its
 * speaker, its resources and its webhooks, by its own manifest, in pods on real kubelets.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { METALLB_FILES, noMetallb } from "../../lab/cluster/binaries.ts";
import { advertisement, commandsOf, METALLB, pool } from "../../lab/cluster/metallb.ts";
import { until } from "../../lab/kernel/process.ts";
import { answerersOf, Kubelets, noNodes, PATIENCE } from "../../lab/kubelet/kubelets.ts";
import { checker } from "../../lab/skip.ts";
import { NODES, ownerOf } from "../../lab/topology.ts";
import { type Report, sumOf } from "../../lab/watch/watch.ts";

const test = suite("from MetalLB's own speaker, and back");
const without = noNodes ?? noMetallb;
const check = checker(test, without);
const MANIFEST = join(METALLB_FILES, "metallb-native.yaml");
const NAMES = Array.from({ length: 10 }, (_, index) => `web${index + 1}`);
let cluster: Kubelets;
/** The addresses that MetalLB's controller has given. */
let vips: string[];

if (!without) {
  test.before(async () => {
    cluster = await Kubelets.start("isat-t-mlb-", { metallb: true });
    await cluster.kubectl("apply", "-f", MANIFEST);
    await allReady();
    await cluster.apply(pool("lab", ["10.9.0.1-10.9.0.99"]), advertisement("lab"));
    await cluster.serveNamed(NAMES);
    await until("each Service has an address", async () => (vips = await addresses()).every(Boolean), PATIENCE);
    await answeredByOwners();
  });
  test.after(async () => await cluster?.[Symbol.asyncDispose]());
}

/** Waits until MetalLB's pods are ready. */
async function allReady(): Promise<void> {
  for (const what of ["deployment/controller", "daemonset/speaker"])
    await cluster.kubectl("-n", METALLB, "rollout", "status", what, "--timeout=110s");
}

async function addresses(): Promise<string[]> {
  const { items } = await cluster.api.list("/api/v1/namespaces/default/services");
  const ofName = new Map(items.map(({ metadata, status }) => [metadata.name, status?.loadBalancer?.ingress?.[0]?.ip]));
  return NAMES.map((name) => ofName.get(name) ?? "");
}

/** Waits until each VIP is answered by the node that the rule names, and by no other. */
async function answeredByOwners(): Promise<void> {
  const expected = vips.map((vip) => ownerOf(vip).name).join();
  const isRight = async () => {
    const report = await cluster.watched(vips, () => sleep(300));
    return report.vips.map((seen) => answerersOf(seen).join("+")).join() === expected;
  };
  await until("each VIP is answered by its owner", isRight, PATIENCE);
}

/** While `body` runs, no request may stay unanswered and no VIP may move. Two answers from one node are none too many. */
async function nothingHappens(what: string, body: () => Promise<void>): Promise<void> {
  let report!: Report;
  const { asked, failed } = await cluster.fetched(vips[0]!, async () => {
    const watched = async () => {
      await sleep(300);
      await body();
      await sleep(1_000);
    };
    // MetalLB's speaker is a process. On a busy machine it answers late; what its socket cannot hold meanwhile it loses:
    // less than 300 frames, and the client's requests for all VIPs come to each node.
    report = await cluster.watched(vips, watched, 10, 2_000);
  });
  const { asked: requests, unanswered, moves } = sumOf(report);
  console.log(`\nMEASURED ${what}: ${requests} requests, ${unanswered} unanswered, ${asked} fetches, ${moves} moves`);
  assert.equal(
    report.vips.map((seen) => [seen.vip, ...answerersOf(seen)]),
    vips.map((vip) => [vip, ownerOf(vip).name]),
  );
  assert.is(unanswered, 0);
  assert.equal(failed, []);
  assert.equal(await addresses(), vips, "no address has changed");
  assert.ok(requests > 100 && asked > 5, "somebody asked");
}

check("MetalLB's speaker alone, beside which isat is judged", () =>
  nothingHappens("MetalLB alone", () => sleep(10_000)),
);

check("there: isat starts beside MetalLB's speaker, which is then deleted", () =>
  nothingHappens("from MetalLB to isat", async () => {
    const [apply, secret, remove, ...rest] = commandsOf("There");
    assert.equal(rest, []);
    await cluster.shell(apply!);
    await cluster.shell(secret!);
    await cluster.allReady();
    await cluster.rolledOut();
    await cluster.shell(remove!);
    await until(
      "no speaker of MetalLB is left",
      async () => (await cluster.kubectl("-n", METALLB, "get", "pods", "-l", "component=speaker")) === "",
      PATIENCE,
    );
  }),
);

check("back: MetalLB's speaker starts beside isat, which is then removed", async () => {
  await nothingHappens("from isat to MetalLB", async () => {
    const [patch, ...rest] = commandsOf("Back");
    await cluster.shell(patch!);
    await cluster.rolledOut();
    await cluster.kubectl("apply", "-f", MANIFEST);
    await allReady();
    await sleep(5_000); // its speakers find each other
    for (const command of rest) await cluster.shell(command);
    await until("isat is gone", async () => !(await cluster.kubectl("get", "namespaces")).includes("isat"), PATIENCE);
  });
  for (const { name } of NODES) {
    const hooks = await cluster.machine(name).must("bpftool", "net", "show", "dev", "eth0");
    assert.not.match(hooks, /isat/, name);
  }
  await answeredByOwners();
});

test.run();
