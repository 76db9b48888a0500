import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../../src/core/address.ts";
import type { ClusterSettings } from "../../../src/source/kubernetes/settings.ts";
import { clusterOf } from "./clusters.ts";
import { NODES } from "./objects.ts";

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

test.run();
