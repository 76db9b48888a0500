// limit: 300 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, until } from "../kernel/process.ts";
import { Namespaces } from "../lab/namespaces.ts";
import { skip } from "../skip.ts";
import type { WatchEvent } from "./api.ts";
import { noCluster } from "./binaries.ts";
import { Cluster } from "./cluster.ts";
import { advertisement, pool } from "./metallb.ts";

const VIP = "10.9.0.1";
/** How long anything here may take that takes a second or two, ms. */
const PATIENCE = 60_000;

const test = suite("cluster");
const stack = new AsyncDisposableStack();
let cluster: Cluster;

test.before(async () => {
  if (noCluster) return;
  const namespaces = stack.use(new Namespaces("isat-t-cluster-"));
  const started = performance.now();
  cluster = stack.use(await Cluster.start(namespaces));
  console.log(`MEASURED a cluster of three nodes was ready after ${Math.round(performance.now() - started)} ms`);
});

test.after(() => stack.disposeAsync());

function check(name: string, body: () => Promise<void>): void {
  if (noCluster) skip(test, name, noCluster);
  else test(name, body);
}

/** What isat will do: says on the wire that the VIP is at the node. Here the client is told so. */
function lead(vip: string, node: string): void {
  const { mac } = cluster.node(node);
  cluster.namespaces.ip("client", [`neigh replace ${vip} lladdr ${mac} nud permanent dev eth0`]);
}

/** Waits until the client's curl is answered by the nodes that are given, and by no other. */
async function servedBy(vip: string, nodes: readonly string[]): Promise<void> {
  const missing = new Set(nodes);
  await until(
    `${vip} is served by ${nodes}`,
    async () => {
      const { node } = await cluster.curl(vip);
      if (node !== undefined) missing.delete(node);
      return missing.size === 0;
    },
    PATIENCE,
  );
}

check("the API server knows three nodes", async () => {
  const { items } = await cluster.api.list("/api/v1/nodes");
  assert.equal(
    items.map(({ metadata }) => metadata.name),
    ["n1", "n2", "n3"],
  );
});

check("without a neighbour entry nobody answers for a VIP", async () => {
  await cluster.serve("web", VIP);
  const { node, error } = await cluster.curl(VIP);
  assert.is(node, undefined);
  assert.match(error ?? "", /connect|timed out/i);
});

check("the client's curl goes by real kube-proxy to the web servers of all nodes", async () => {
  lead(VIP, "n1");
  await servedBy(VIP, ["n1", "n2", "n3"]);
});

test.run();
