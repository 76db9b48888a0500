import { randomUUID } from "node:crypto";
import { endpointSlice, service, status } from "../../lab/cluster/objects.ts";
import type { Scene } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import { formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import { MANY, PATIENCE, vipAt } from "./common.ts";

/** A Service and its EndpointSlice, with the fields that the API server's registry would fill in. */
function objectsOf(scene: Scene, index: number): [string, object][] {
  const name = `big${index}`;
  const known = { uid: randomUUID(), creationTimestamp: "2026-01-01T00:00:00Z" };
  const its = service(name);
  const spec = {
    ...its.spec,
    clusterIP: formatAddress(plus(parseAddress("10.96.0.10"), index)),
    clusterIPs: [formatAddress(plus(parseAddress("10.96.0.10"), index))],
    ipFamilies: ["IPv4"],
    ipFamilyPolicy: "SingleStack",
    sessionAffinity: "None",
    internalTrafficPolicy: "Cluster",
  };
  const slice = endpointSlice(
    name,
    scene.cluster.nodes.map((node) => ({ node })),
  );
  return [
    [
      `services/specs/default/${name}`,
      { ...its, metadata: { ...its.metadata, ...known }, spec, ...status([vipAt(index)]) },
    ],
    [`endpointslices/default/${slice.metadata.name}`, { ...slice, metadata: { ...slice.metadata, ...known } }],
  ];
}

/** Creates the Services by writing them into etcd, past the API server. */
export async function seed(scene: Scene): Promise<void> {
  await scene.cluster.seed(Array.from({ length: MANY }, (_, index) => objectsOf(scene, index)).flat());
  const counted = async () =>
    (await scene.cluster.api.request("GET", "/api/v1/services?limit=1")).body.metadata.remainingItemCount;
  await until("the API server has them", async () => (await counted()) >= MANY - 1, PATIENCE);
}
