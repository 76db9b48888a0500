import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../../src/core/address.ts";
import { warningsOf } from "../../../src/source/kubernetes/warnings.ts";
import { clusterOf, type Options, on, P1, web } from "./clusters.ts";
import { advertisement, NODES, pool, type Sent } from "./objects.ts";

const warnings: [what: string, objects: Sent[], options: Options, ...pieces: string[]][] = [
  ["a name that is no Node, naming those that are", NODES, { self: "n4" }, 'no Node "n4"', "n1, n2, n3", "NODE_NAME"],
  [
    "a node selector that leaves this Node out",
    NODES,
    { settings: { nodeSelector: { ...on("n2"), matchExpressions: [] } } },
    "source.nodeSelector",
    '"n1"',
  ],
  ["neither advertisements nor addresses", NODES, { settings: { addresses: undefined } }, "Set source.addresses"],
  [
    "pools that overlap",
    [...NODES, pool("a", ["10.8.0.0/16", "10.9.0.128/25"]), P1, pool("z", ["10.10.0.0/24"]), advertisement("all")],
    {},
    "IPAddressPools metallb-system/a and metallb-system/p1 overlap",
    "10.9.0.128",
  ],
  [
    "a field that some MetalLB knows",
    [...NODES, P1, advertisement("a", { somethingNew: [] })],
    {},
    "L2Advertisement metallb-system/a",
    "somethingNew",
  ],
];
for (const [what, objects, options, ...pieces] of warnings) {
  test(`${what} is a warning of one line`, () => {
    const [line, ...more] = warningsOf(clusterOf(objects, options));
    assert.equal(more, []);
    for (const piece of pieces) assert.ok(line?.includes(piece), line);
  });
}

test("an API server that is reached by a VIP is a warning that names the Service, any other is none", () => {
  const cluster = clusterOf([...NODES, P1, advertisement("all"), web("10.9.0.1")], {});
  const [line, ...more] = warningsOf(cluster, parseAddress("10.9.0.1"));
  assert.equal(more, []);
  for (const piece of ["10.9.0.1", "default/web", "stateDir"]) assert.ok(line?.includes(piece), line);
  assert.equal(warningsOf(cluster, parseAddress("10.9.0.2")), []);
  assert.equal(warningsOf(cluster), []);
});

test.run();
