/** Clusters of objects, for tests. */
import { formatAddress, parseRange } from "../../../src/core/address.ts";
import type { Demand } from "../../../src/core/demand.ts";
import { elect } from "../../../src/core/ownership.ts";
import { Cluster } from "../../../src/source/kubernetes/cluster.ts";
import type { Past } from "../../../src/source/kubernetes/history.ts";
import { type Kind, type L2Advertisement, type Objects, readers } from "../../../src/source/kubernetes/objects.ts";
import type { ClusterSettings } from "../../../src/source/kubernetes/settings.ts";
import { pool, type Sent, type ServiceOptions, service } from "./objects.ts";

export const SETTINGS: ClusterSettings = {
  loadBalancerClass: undefined,
  poolNamespace: "metallb-system",
  addresses: undefined,
  interfaces: undefined,
  nodeSelector: undefined,
  serviceSelector: undefined,
  ignoreExcludeLabel: false,
};
/** Settings for clusters without L2Advertisements. */
export const PLAIN: ClusterSettings = {
  ...SETTINGS,
  addresses: [parseRange("10.9.0.0/16"), parseRange("10.0.0.0/24")],
};

export interface Options {
  settings?: Partial<ClusterSettings>;
  self?: string;
}

/** A cluster of these objects, up to date. L2Advertisements count as served if there is a pool. */
export function clusterOf(objects: readonly Sent[], { settings = {}, self = "n1" }: Options = {}): Cluster {
  const isServed = objects.some(([kind]) => kind === "IPAddressPool");
  const cluster = new Cluster({ ...(isServed ? SETTINGS : PLAIN), ...settings }, self);
  cluster.give({ hasAdvertisements: isServed });
  for (const [kind, object] of objects) cluster.put(kind, object);
  cluster.update();
  return cluster;
}

/** The owner of each VIP if every node is alive. */
export function owners({ vips, nodes }: Demand): Record<string, string> {
  const rows = vips.map((range) => {
    const address = formatAddress(range.first);
    const candidates = range.nodes ?? nodes.map(({ name }) => name);
    return [address, elect(candidates, range.hashAs ?? address, range.scores) ?? "nobody"] as const;
  });
  return Object.fromEntries(rows.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

export const READY: [string, object?][] = [["n1"], ["n2"], ["n3"]];
export const web = (ip: string | object, options: ServiceOptions = {}) => service("web", [ip], options);
export const EXCLUDE = { "node.kubernetes.io/exclude-from-external-load-balancers": "" };
export const P1 = pool("p1", ["10.9.0.0/24"]);
export const on = (name: string) => ({ matchLabels: { "kubernetes.io/hostname": name } });

/** A rule of ownership: the owners of these objects' VIPs if every node is alive. */
export type Rule = [sentence: string, objects: Sent[], owners: Record<string, string>, options?: Options];

/** All objects of a cluster, cut down. */
export type ClusterObjects = { [K in Exclude<Kind, "L2Advertisement">]: Iterable<Objects[K]> } & {
  /** undefined: the API does not serve them. */
  L2Advertisement: Iterable<L2Advertisement> | undefined;
  past?: Past;
};

/** The demand of these objects on the node `self`: the same as of a {@link Cluster} that came to them by changes. */
export function demandOf(objects: ClusterObjects, settings: ClusterSettings, self: string): Demand {
  const cluster = new Cluster(settings, self);
  for (const kind of Object.keys(readers) as Kind[]) {
    for (const object of objects[kind] ?? []) cluster.set(kind, object.key, object);
  }
  if (objects.past) cluster.recall(objects.past);
  cluster.give({ hasAdvertisements: objects.L2Advertisement !== undefined });
  return cluster.update();
}
