/** `scripts/try-metallb`: MetalLB is the real one, with its own manifest, resources and webhooks, in pods on real kubelets. */
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { METALLB_FILES, noMetallb } from "../lab/cluster/binaries.ts";
import { advertisement, commandsOf, METALLB, pool } from "../lab/cluster/metallb.ts";
import { until } from "../lab/kernel/process.ts";
import { answerersOf, Kubelets, noNodes, PATIENCE } from "../lab/kubelet/kubelets.ts";
import { ownerOf } from "../lab/topology.ts";
import { type Report, sumOf } from "../lab/watch/watch.ts";

const MANIFEST = join(METALLB_FILES, "metallb-native.yaml");
const NAMES = Array.from({ length: 10 }, (_, index) => `web${index + 1}`);
let cluster: Kubelets;
/** The addresses that MetalLB's controller has given. */
let vips: string[];
let isUnseen = true;

async function start(): Promise<void> {
  await cluster.kubectl("apply", "-f", MANIFEST);
  await allReady();
  await cluster.apply(pool("lab", ["10.9.0.1-10.9.0.99"]), advertisement("lab"));
  await cluster.serveNamed(NAMES);
  await until("each Service has an address", async () => (vips = await addresses()).every(Boolean), PATIENCE);
  await answeredByOwners();
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

/** Prints what the client saw while `body` ran. Two answers from one node count as one. */
async function watched(what: string, body: () => Promise<void>): Promise<void> {
  let report!: Report;
  const { asked, failed } = await cluster.fetched(vips[0]!, async () => {
    report = await cluster.watched(vips, async () => {
      await sleep(300);
      await body();
      await sleep(1_000);
    });
  });
  const { asked: requests, unanswered, silence, moves } = sumOf(report);
  const moved = report.vips.filter((seen) => answerersOf(seen).length > 1).length;
  const isSame = String(await addresses()) === String(vips);
  console.log(
    `${what}: ${requests} requests, ${unanswered} unanswered, silent for ${silence.toFixed(0)} ms at most; the answering node ` +
      `changed for ${moved} of ${vips.length} VIPs, ${moves} times; ${failed.length} of ${asked} fetches failed; ` +
      `${isSame ? "no address changed" : "ADDRESSES CHANGED"}`,
  );
  if (unanswered > 0 || moves > 0 || failed.length > 0 || !isSame) isUnseen = false;
}

async function there(): Promise<void> {
  const [apply, secret, remove] = commandsOf("There");
  await cluster.shell(apply!);
  await cluster.shell(secret!);
  await cluster.allReady();
  await cluster.rolledOut();
  await cluster.shell(remove!);
  const pods = () => cluster.kubectl("-n", METALLB, "get", "pods", "-l", "component=speaker");
  await until("no speaker of MetalLB is left", async () => (await pods()) === "", PATIENCE);
}

async function back(): Promise<void> {
  const [patch, ...rest] = commandsOf("Back");
  await cluster.shell(patch!);
  await cluster.rolledOut();
  await cluster.kubectl("apply", "-f", MANIFEST);
  await allReady();
  await sleep(5_000); // its speakers find each other
  for (const command of rest) await cluster.shell(command);
  await until("isat is gone", async () => !(await cluster.kubectl("get", "namespaces")).includes("isat"), PATIENCE);
}

async function main(): Promise<number> {
  const reason = noNodes ?? noMetallb;
  if (reason) throw new Error(reason);
  await using own = await Kubelets.start("isat-try-mlb-", { metallb: true });
  cluster = own;
  await start();
  await watched("from MetalLB to isat", there);
  await watched("from isat to MetalLB", back);
  await answeredByOwners();
  return isUnseen ? 0 : 1;
}

main().then(
  (status) => process.exit(status),
  (error: Error) => {
    console.error(`try-metallb: ${error.message}`);
    process.exit(1);
  },
);
