import type { Seeds } from "../../lab/cluster/etcd.ts";
import { seedsOf } from "../../lab/cluster/objects.ts";
import type { Scene } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import { formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import { MANY, PATIENCE, vipAt } from "./common.ts";

function objectsOf(scene: Scene, index: number): Seeds {
  const clusterIP = formatAddress(plus(parseAddress("10.96.0.10"), index));
  return seedsOf(`big${index}`, vipAt(index), clusterIP, scene.cluster.nodes);
}

/** Creates the Services by writing them into etcd, past the API server. */
export async function seed(scene: Scene): Promise<void> {
  await scene.cluster.seed(Array.from({ length: MANY }, (_, index) => objectsOf(scene, index)).flat());
  const counted = async () =>
    (await scene.cluster.api.request("GET", "/api/v1/services?limit=1")).body.metadata.remainingItemCount;
  await until("the API server has them", async () => (await counted()) >= MANY - 1, PATIENCE);
}
