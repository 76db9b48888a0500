import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../../src/core/address.ts";
import type { Cluster } from "../../../src/source/kubernetes/cluster.ts";
import { isShutDown } from "../../../src/source/kubernetes/nodes.ts";
import type { ClusterSettings } from "../../../src/source/kubernetes/settings.ts";
import { clusterOf, owners, READY, web } from "./clusters.ts";
import { NODES, node, type Sent, slice } from "./objects.ts";

test("only the Nodes that run isat are named, with their first InternalIP", () => {
  const nodeSelector: ClusterSettings["nodeSelector"] = {
    matchLabels: {},
    matchExpressions: [{ key: "kubernetes.io/hostname", operator: "NotIn", values: ["n2"] }],
  };
  assert.equal(clusterOf(NODES, { settings: { nodeSelector } }).update().nodes, [
    { name: "n1", address: parseAddress("10.0.0.1") },
    { name: "n3", address: parseAddress("10.0.0.3") },
  ]);
});

const status = (type: string, status: string) => ({ type, status });

/** A Node as its kubelet writes it. */
function booted(name: string, address: string, bootID: string, ready: string): Sent {
  const [kind, object] = node(name, address, {}, [status("Ready", ready), status("NetworkUnavailable", "False")]);
  const its = object as { status: object };
  return [kind, { ...its, status: { ...its.status, nodeInfo: { bootID } } }];
}

const SERVED = [web("10.9.0.1"), slice("web", READY)];
const before = [NODES[0]!, booted("n2", "10.0.0.2", "one", "True"), NODES[2]!, ...SERVED];
const owner = (cluster: Cluster) => owners(cluster.update())["10.9.0.1"];

test("a Node that comes back from a boot owns nothing until it has been Ready once", () => {
  const cluster = clusterOf(before);
  assert.is(owner(cluster), "n2");
  cluster.put(...booted("n2", "10.0.0.2", "one", "Unknown")); // it is away
  assert.is(owner(cluster), "n2");
  cluster.put(...booted("n2", "10.0.0.2", "two", "False"));
  assert.is(owner(cluster), "n1");
  const checks = cluster.update().checks(parseAddress("10.9.0.1"), "n2");
  assert.equal(checks.find(({ what }) => what === "booted")?.refusal, "it has not been Ready since it booted");
  cluster.put(...booted("n2", "10.0.0.2", "two", "True"));
  assert.is(owner(cluster), "n2");
  cluster.put(...booted("n2", "10.0.0.2", "two", "False"));
  assert.is(owner(cluster), "n2", "a Ready that is lost later plays no part");
});

test("a speaker that starts meanwhile knows from what was saved that the Node is booting", () => {
  const cluster = clusterOf(before);
  cluster.put(...booted("n2", "10.0.0.2", "two", "False"));
  cluster.update();
  const next = clusterOf([]);
  for (const kind of ["Node", "Service", "EndpointSlice"] as const) {
    for (const [key, object] of cluster.all(kind)) next.set(kind, key, JSON.parse(JSON.stringify(object)));
  }
  next.put(...booted("n2", "10.0.0.2", "two", "False"));
  assert.is(owner(next), "n1");
});

test("a Node that never becomes Ready is waited for five minutes", () => {
  const cluster = clusterOf(before);
  cluster.put(...booted("n2", "10.0.0.2", "two", "False"));
  for (const [now, expected] of [
    [1_000, "n1"],
    [300_900, "n1"],
    [301_001, "n2"],
  ] as const) {
    assert.is(cluster.expire(now), expected === "n2", "it tells what has changed");
    assert.is(owner(cluster), expected);
  }
  cluster.put(...booted("n2", "10.0.0.2", "two", "False"));
  assert.is(owner(cluster), "n2");
});

test("a Node that is not Ready when it is seen first has booted; one that joins later has not", () => {
  const cluster = clusterOf([NODES[0]!, booted("n2", "10.0.0.2", "one", "False"), ...SERVED]);
  assert.is(owner(cluster), "n2");
  cluster.remove("Node", "n2");
  cluster.knowsNodes = true;
  cluster.put(...booted("n2", "10.0.0.2", "one", "False"));
  assert.is(owner(cluster), "n1");
});

test("a Node is shut down where kubelet's condition says so, and not for another reason, or in any other form", () => {
  const said = (status: string, message: unknown) => ({
    status: { conditions: [null, { type: "Ready", status, message }] },
  });
  assert.ok(isShutDown(said("False", "node is shutting down")));
  assert.ok(isShutDown(said("False", "[container runtime is down, node is shutting down]")));
  for (const other of [
    said("True", "node is shutting down"),
    said("False", "PLEG is not healthy"),
    said("False", null),
  ])
    assert.not(isShutDown(other));
  for (const odd of [{}, { status: 7 }, { status: { conditions: 7 } }, { status: null }]) assert.not(isShutDown(odd));
});

test.run();
