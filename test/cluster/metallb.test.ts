// limit: 240 s
/**
 * Runs docs/from-metallb.md and deploy/isat.yaml on a real API server, with the rights that the manifest grants.
 * MetalLB's rule is written here from MetalLB's code (speaker/layer2_controller.go), without isat's.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { binary, noCluster } from "../../lab/cluster/binaries.ts";
import { advertisement, commandsOf, METALLB, METALLB_RULES, pool } from "../../lab/cluster/metallb.ts";
import { NODES, Scene } from "../../lab/cluster/scene.ts";
import { RULES } from "../../lab/cluster/speakers.ts";
import { execute } from "../../lab/kernel/process.ts";
import { checker } from "../../lab/skip.ts";
import { sumOf } from "../../lab/watch/watch.ts";
import { parseConfig } from "../../src/config/config.ts";

const TOP = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("from MetalLB");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let scene: Scene;

test.before(async () => {
  if (noCluster) return;
  scene = stack.use(await Scene.start("isat-t-metallb-", { wire: "bridge", metallb: true, grants: "none" }));
});

test.after(() => stack.disposeAsync());

const manifest = ["isat", "metallb"].flatMap((name) =>
  parseAllDocuments(readFileSync(join(TOP, `deploy/${name}.yaml`), "utf8")).map(
    (document) => document.toJS() as KubeObject,
  ),
);
const ofKind = (kind: string) => manifest.find((object) => object.kind === kind)!;
const configText: string = ofKind("ConfigMap").data["isat.yaml"];

/** Runs a command of the page unchanged, as the administrator. */
async function run(command: string): Promise<string> {
  const path = `${join(binary("kubectl"), "..")}:${process.env.PATH}`;
  const env = [`KUBECONFIG=${scene.cluster.kubeconfig("admin", "here")}`, `PATH=${path}`, "NO_PROXY=*", "no_proxy=*"];
  const { status, stdout, stderr } = await execute("env", [...env, "sh", "-c", `cd ${TOP} && ${command}`]);
  assert.is(status, 0, `${command}: ${stderr}`);
  return stdout;
}

/** The node from which MetalLB would announce: the first of the available ones by sha256(node#ip). */
function metallbNode(ip: string, available: readonly string[]): string | undefined {
  const sum = (node: string) => createHash("sha256").update(`${node}#${ip}`).digest();
  return available.toSorted((a, b) => Buffer.compare(sum(a), sum(b)))[0];
}

interface Row {
  name: string;
  ip: string;
  /** MetalLB's available nodes: selected, not excluded, and for policy Local with an endpoint. */
  available: readonly string[];
}

/** Creates sixty Services as MetalLB's controller does, in two pools, one of which is announced by n1 and n2 only. */
async function fill(): Promise<Row[]> {
  const { cluster } = scene;
  await cluster.api.apply(pool("all", ["10.9.20.0/24"]));
  await cluster.api.apply(pool("some", ["10.9.21.0/24"], { zone: "west" }));
  await cluster.api.apply(advertisement("all", { ipAddressPools: ["all"] }));
  const nodeSelectors = [
    { matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: ["n1", "n2"] }] },
  ];
  await cluster.api.apply(
    advertisement("some", { ipAddressPoolSelectors: [{ matchLabels: { zone: "west" } }], nodeSelectors }),
  );
  const rows: Row[] = [];
  for (let index = 0; index < 60; index++) {
    const [name, isSome, isLocal] = [`m${index}`, index % 3 === 1, index % 4 === 0];
    const ip = `10.9.${isSome ? 21 : 20}.${index + 1}`;
    const endpoints: readonly string[] = isLocal ? [NODES[index % 3]!, NODES[(index + 1) % 3]!] : NODES;
    await cluster.serve(name, ip, { policy: isLocal ? "Local" : "Cluster", endpoints });
    const selected = isSome ? ["n1", "n2"] : NODES;
    rows.push({ name, ip, available: isLocal ? selected.filter((node) => endpoints.includes(node)) : selected });
  }
  return rows;
}

const owners = (rows: readonly Row[]) =>
  Object.fromEntries(rows.map(({ ip }) => [ip, scene.speakers.owners(ip).join()]));
const metallbs = (rows: readonly Row[], without?: string) =>
  Object.fromEntries(
    rows.map(({ ip, available }) => [
      ip,
      metallbNode(
        ip,
        available.filter((node) => node !== without),
      ) ?? "",
    ]),
  );

let rows: Row[];

check("the manifests grant the rights that all other tests use, and no more", () => {
  const rulesOf = (kind: string) => ofKind(kind).rules as typeof RULES;
  const flat = (list: typeof RULES) =>
    list.flatMap(({ apiGroups, resources, verbs }) => resources.map((name) => `${apiGroups}/${name}: ${verbs}`)).sort();
  assert.equal(flat(rulesOf("ClusterRole")), flat(RULES));
  const inPools = manifest.find(({ kind, metadata }) => kind === "Role" && metadata.namespace === METALLB)!;
  assert.equal(flat(inPools.rules), flat(METALLB_RULES));
  const roles = manifest.filter(({ kind }) => kind === "Role");
  assert.equal(roles.map(({ metadata }) => metadata.namespace).sort(), ["isat-system", METALLB]);
  return Promise.resolve();
});

check("the manifest's configuration is valid, and its DaemonSet has everything that isat needs", () => {
  const config = parseConfig(configText, "isat.yaml", { NODE_NAME: "n1" });
  assert.is(config.source.kind, "kubernetes");
  const { spec } = ofKind("DaemonSet").spec.template;
  const [container] = spec.containers;
  assert.ok(spec.hostNetwork);
  assert.equal(container.securityContext.capabilities.add, ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]);
  const mounts = container.volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath);
  for (const needed of [config.pinDir, config.runDir, config.stateDir, "/etc/isat/wire.key"])
    assert.ok(
      mounts.some((path: string) => needed.startsWith(path)),
      needed,
    );
  const { sources, defaultMode } = spec.volumes.find(({ name }: { name: string }) => name === "config").projected;
  assert.equal(sources, [{ configMap: { name: "isat" } }, { secret: { name: "isat-wire" } }]);
  assert.is(defaultMode, 0o400);
  return Promise.resolve();
});

check("the commands of `There` work unchanged on a real API server, and each VIP is at MetalLB's node", async () => {
  const { cluster, speakers } = scene;
  const selector = { matchLabels: { app: "metallb" } };
  const template = {
    metadata: { labels: { app: "metallb" } },
    spec: { containers: [{ name: "speaker", image: "speaker" }] },
  };
  const metadata = { name: "speaker", namespace: METALLB };
  await cluster.api.create({ apiVersion: "apps/v1", kind: "DaemonSet", metadata, spec: { selector, template } });
  rows = await fill();
  for (const command of commandsOf("There")) await run(command);
  const secret = JSON.parse(await run("kubectl -n isat-system get secret isat-wire -o json"));
  const key = speakers.keyFile(Buffer.from(secret.data["wire.key"], "base64").toString());
  for (const speaker of speakers.all) speaker.write(configText.replace("/etc/isat/wire.key", key));
  await speakers.startAll();
  await scene.becomes(() => owners(rows), metallbs(rows));
  assert.ok(new Set(Object.values(owners(rows))).size === 3, "all three have some");
});

check(
  "a Node is excluded by a label, and a node dies: each VIP moves to the node that MetalLB would choose",
  async () => {
    const label = "node.kubernetes.io/exclude-from-external-load-balancers";
    await scene.cluster.labelNode("n2", { [label]: "" });
    await scene.becomes(() => owners(rows), metallbs(rows, "n2"));
    await scene.cluster.labelNode("n2", { [label]: null });
    await scene.becomes(() => owners(rows), metallbs(rows));
    await scene.die("n1");
    await scene.becomes(() => owners(rows), metallbs(rows, "n1"));
    await scene.revive("n1");
    await scene.becomes(() => owners(rows), metallbs(rows));
  },
);

check("narrowing an L2Advertisement moves only the VIPs that it must, and no request has two answers", async () => {
  const vips = rows.slice(0, 12).map(({ ip }) => ip);
  const report = await scene.speakers.watched(vips, async () => {
    const nodeSelectors = [{ matchLabels: { "kubernetes.io/hostname": "n3" } }];
    await scene.cluster.api.apply(advertisement("all", { ipAddressPools: ["all"], nodeSelectors }));
    const narrowed = rows.map((row) => ({
      ...row,
      available: row.ip.startsWith("10.9.20.") ? row.available.filter((node) => node === "n3") : row.available,
    }));
    await scene.becomes(() => owners(rows), metallbs(narrowed));
    await scene.cluster.api.apply(advertisement("all", { ipAddressPools: ["all"] }));
    await scene.becomes(() => owners(rows), metallbs(rows));
  });
  assert.is(sumOf(report).doubled, 0);
});

check("the commands of `Back` work, and a cleaned node answers for nothing and drops nothing", async () => {
  const [patch, ...rest] = commandsOf("Back");
  await run(patch!);
  const daemonSet = JSON.parse(await run("kubectl -n isat-system get daemonset isat -o json"));
  const { args } = daemonSet.spec.template.spec.containers[0];
  assert.equal([args[0], ...args.slice(-2)], ["run", "--clean-on-exit", "--no-goodbye"]);
  for (const speaker of scene.speakers.all) {
    await speaker.signal("SIGTERM");
    assert.match(speaker.isat("clean", "--no-goodbye"), /^detached, and removed everything/);
    assert.is(scene.speakers.vips(speaker).size, 0);
  }
  for (const command of rest) await run(command);
});

test.run();
