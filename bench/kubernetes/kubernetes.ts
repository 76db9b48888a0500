import { noCluster } from "../../lab/cluster/binaries.ts";
import { Scene } from "../../lab/cluster/scene.ts";
import type { Figure } from "../figure.ts";
import type { Section } from "../section.ts";
import { addresses, endpoints } from "./changes.ts";
import { MANY, SECTION } from "./common.ts";
import { death } from "./death.ts";
import { rest } from "./rest.ts";
import { seed } from "./seed.ts";
import { few, starts } from "./starts.ts";

const PREFIX = "isat-kbench-";

export const kubernetes: Section = {
  name: SECTION,
  about: "10,000 Services on a real API server: starts, a death, changes, memory, CPU and requests at rest",
  async run(context) {
    if (noCluster) throw new Error(noCluster);
    const figures: Figure[] = [];
    context.progress("kubernetes: starting etcd, the API server and three nodes");
    await using scene = await Scene.start(PREFIX, { wire: "bridge", proxy: false });
    await few(context, scene, figures);
    context.progress(`kubernetes: making ${MANY} Services`);
    await seed(scene);
    await starts(context, scene, figures);
    await addresses(context, scene, figures);
    await endpoints(context, scene, figures);
    await rest(context, scene, figures);
    await death(context, scene, figures);
    return figures;
  },
};
