// limit: 300 s
/** A controller asks real speakers, and these ask a real wire, before an address is given. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { service } from "../../lab/cluster/objects.ts";
import { PATIENCE, Scene } from "../../lab/cluster/scene.ts";
import { CONTROLLER_RULES, RULES } from "../../lab/cluster/speakers.ts";
import { Process, until } from "../../lab/kernel/process.ts";
import { checker } from "../../lab/skip.ts";

const CONDITION = "isat.io/AddressAssigned";

const test = suite("addresses that are taken on the wire");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let scene: Scene;
let controller: Process;

test.before(async () => {
  if (noCluster) return;
  scene = stack.use(await Scene.start("isat-t-wire-", { nodes: 2, wire: "bridge", proxy: false }));
  const { cluster, speakers } = scene;
  await cluster.grant([...RULES, ...CONTROLLER_RULES]);
  await speakers.startAll();
  const folder = cluster.namespaces.folder();
  const file = join(folder, "isat.yaml");
  writeFileSync(
    file,
    "pools: [10.9.5.1-10.9.5.99]\nallocation: { choice: lowest, rest: 1s }\nsource: { kind: kubernetes, addresses: [10.9.0.0/16] }\n",
  );
  const env = Object.entries(cluster.speakerEnv("n1")).map(([name, value]) => `${name}=${value}`);
  controller = new Process(cluster.namespaces, "n1", ["controller", "--config", file], ["env", ...env]);
  await controller.says(/addresses are given from now on/, { limit: PATIENCE });
});

test.after(async () => {
  if (controller && !controller.isClosed) await controller.end("SIGKILL");
  await stack.disposeAsync();
});

const get = (name: string): Promise<KubeObject> => scene.cluster.api.get(service(name));
const ipsOf = ({ status }: KubeObject): string[] =>
  (status?.loadBalancer?.ingress ?? []).map(({ ip }: { ip: string }) => ip);
const conditionOf = ({ status }: KubeObject) =>
  status?.conditions?.find(({ type }: { type: string }) => type === CONDITION);

/** Another machine has the address, or no longer. */
function other(action: "add" | "del", ip: string): void {
  const { namespaces, client } = scene.cluster;
  namespaces.ip(client.name, [`addr ${action} ${ip}/32 dev eth0`]);
}

async function becomes(name: string, reason: string): Promise<KubeObject> {
  let last: KubeObject | undefined;
  const isSo = async () => conditionOf((last = await get(name)))?.reason === reason;
  await until(`${name} is ${reason}`, isSo, PATIENCE).catch((error: Error) => {
    throw new Error(`${error.message}: ${JSON.stringify(last?.status)}. ${controllers()}`);
  });
  return last!;
}
const controllers = () => controller.stderr;

check(
  "an address that nobody has is given, and one that another machine has is not, which is told with its MAC",
  async () => {
    const { cluster } = scene;
    const { mac } = cluster.client;
    other("add", "10.9.5.2");
    await cluster.applyService("first");
    assert.equal(ipsOf(await becomes("first", "Assigned")), ["10.9.5.1"]);
    await cluster.applyService("second");
    assert.equal(ipsOf(await becomes("second", "Assigned")), ["10.9.5.3"]);
    const line = await controller.says(/10\.9\.5\.2 is taken: /, { limit: PATIENCE });
    assert.match(JSON.stringify(line), mac);
    const told = async () => {
      const { items } = await cluster.api.list("/api/v1/namespaces/default/events");
      return items.some(
        ({ involvedObject, reason, message }) =>
          involvedObject.name === "second" && reason === "AnswersOnTheWire" && message.includes(mac),
      );
    };
    await until("an Event tells it", told, PATIENCE);
    assert.is(controller.said(/unasked/), undefined, controllers());
  },
);

check("who asks for an address that another machine has does not get it, and is told the MAC", async () => {
  await scene.cluster.applyService("wants", { annotations: { "isat.io/addresses": "10.9.5.2" } });
  const its = await becomes("wants", "AnswersOnTheWire");
  assert.equal(ipsOf(its), []);
  assert.match(conditionOf(its).message, scene.cluster.client.mac);
});

check("a Service that is made again has its address at once, though a speaker answered for it", async () => {
  const { cluster } = scene;
  await cluster.deleteService("first");
  await cluster.applyService("first");
  assert.equal(ipsOf(await becomes("first", "Assigned")), ["10.9.5.1"]);
});

check("no more than one write was made to a Service that was given an address", async () => {
  const writes = scene.cluster
    .speakersRequests()
    .filter(({ verb, uri }) => verb === "patch" && uri.includes("/services/second/status"));
  assert.is(writes.length, 1);
});

check("without speakers, addresses are given, and it is said", async () => {
  const { cluster, speakers } = scene;
  for (const speaker of speakers.all) await speaker.signal("SIGSTOP");
  await cluster.applyService("alone");
  assert.equal(ipsOf(await becomes("alone", "Assigned")), ["10.9.5.4"]);
  await controller.says(/given unasked/, { limit: PATIENCE });
  for (const speaker of speakers.all) await speaker.signal("SIGCONT");
});

test.run();
