/** Which L2Advertisements cover which address, by the rules of MetalLB's internal/config. Pure. */
import { type Address, compare, having, overlap } from "../../core/address.ts";
import { type Nodes, nodeChecks } from "./nodes.ts";
import {
  baseOf,
  type ClusterNode,
  type IPAddressPool,
  type Key,
  type L2Advertisement,
  namespaceOf,
  sortedByKey,
} from "./objects.ts";
import { anySelects, type Labels, selects } from "./selector.ts";
import type { ClusterSettings } from "./settings.ts";

/** How an address is advertised for a Service. */
export interface Advertising {
  /** The pool that holds the address; undefined where no L2Advertisements are served. */
  pool: Key | undefined;
  /** The nodes that the L2Advertisements select, or all. */
  selected: ReadonlySet<string>;
  /** The selected nodes that nothing about the Node itself excludes. */
  available: readonly string[];
  /** Those that are preferred, with their scores. */
  scores: Readonly<Record<string, number>> | undefined;
  /** An L2Advertisement among them that is for some Services only. */
  selective: Key | undefined;
  /** Interfaces of this node that announce it; undefined: all. */
  interfaces: readonly string[] | undefined;
}

/** An L2Advertisement, and the nodes that it selects. */
interface Selection {
  advertisement: L2Advertisement;
  nodes: readonly string[];
}

/** The pools of a cluster with what advertises each of them. It never changes: one object changed makes a new one. */
export class Pools {
  readonly #settings: ClusterSettings;
  readonly #self: string;
  readonly #nodes: Nodes;
  readonly #pools: readonly IPAddressPool[];
  /** By pool, what advertises it; undefined: the API serves no L2Advertisements. */
  readonly #selections: ReadonlyMap<Key, Selection[]> | undefined;
  /** One object for all Services that are advertised alike: they are held by the ten thousand. */
  readonly #advertisings = new Map<string, Advertising>();

  /** @param self this node @param advertisements undefined where the API serves none */
  constructor(
    settings: ClusterSettings,
    self: string,
    nodes: Nodes,
    pools: Iterable<IPAddressPool>,
    advertisements: Iterable<L2Advertisement> | undefined,
  ) {
    this.#settings = settings;
    this.#self = self;
    this.#nodes = nodes;
    const isMetallb = ({ key }: { key: Key }) => namespaceOf(key) === settings.poolNamespace;
    this.#pools = sortedByKey(pools).filter(isMetallb);
    this.#selections =
      advertisements && selectionsOf(sortedByKey(advertisements).filter(isMetallb), this.#pools, nodes);
  }

  get hasAdvertisements(): boolean {
    return this.#selections !== undefined;
  }

  /** How the address is advertised for a Service with these labels; undefined if it may not be announced. */
  advertising(address: Address, labels: Labels): Advertising | undefined {
    const isIn = having(address);
    const { addresses } = this.#settings;
    if (addresses && !addresses.some(isIn)) return undefined;
    if (!this.#selections) return addresses && this.#advertisingBy(undefined, undefined);
    const ofService = ({ advertisement }: Selection) => anySelects(advertisement.serviceSelectors, labels);
    const holding = this.#pools
      .filter(({ ranges }) => ranges.some(isIn))
      .map(({ key }) => ({ key, selections: this.#selections!.get(key)!.filter(ofService) }));
    const pool = holding.find(({ selections }) => selections.length > 0) ?? holding[0];
    return pool && this.#advertisingBy(pool.key, pool.selections);
  }

  /** Pools that have addresses in common; MetalLB refuses them. @returns each pair, with the first such address */
  get overlaps(): [one: Key, other: Key, address: Address][] {
    const ranges = this.#pools.flatMap(({ key, ranges }) => ranges.map((range) => ({ key, ...range })));
    ranges.sort((a, b) => compare(a.first, b.first));
    const pairs = new Map<string, [Key, Key, Address]>();
    let widest: (typeof ranges)[number] | undefined;
    for (const range of ranges) {
      if (widest && overlap(range, widest) && range.key !== widest.key) {
        const [one, other] = [widest.key, range.key].sort() as [Key, Key];
        const pair = `${one} ${other}`;
        if (!pairs.has(pair)) pairs.set(pair, [one, other, range.first]);
      }
      if (!widest || compare(range.last, widest.last) > 0) widest = range;
    }
    return [...pairs.values()];
  }

  /** @param selections of the pool and the Service; undefined where no L2Advertisements are served */
  #advertisingBy(pool: Key | undefined, selections: readonly Selection[] | undefined): Advertising {
    const id = [pool, ...(selections ?? []).map(({ advertisement }) => advertisement.key)].join();
    const known = this.#advertisings.get(id);
    if (known) return known;
    const { running } = this.#nodes;
    const selected = new Set(selections ? selections.flatMap(({ nodes }) => nodes) : running.keys());
    const isFit = (node: ClusterNode) =>
      nodeChecks(node, this.#settings.ignoreExcludeLabel).every(({ refusal }) => refusal === undefined);
    const available = [...running.values()].filter((node) => selected.has(node.key) && isFit(node));
    const advertising = {
      pool,
      selected,
      available: available.map(({ key }) => key),
      scores: scoresOf(selections ?? [], running),
      selective: selections?.find(({ advertisement }) => advertisement.serviceSelectors.length > 0)?.advertisement.key,
      interfaces: this.#interfaces(selections ?? []),
    };
    this.#advertisings.set(id, advertising);
    return advertising;
  }

  /** Where this node announces: on what the L2Advertisements that select it name, unless one of them names none. */
  #interfaces(selections: readonly Selection[]): readonly string[] | undefined {
    const here = selections.filter(({ nodes }) => nodes.includes(this.#self));
    const named = here.map(({ advertisement }) => advertisement.interfaces);
    const isNarrowed = named.length > 0 && named.every((interfaces) => interfaces.length > 0);
    return isNarrowed ? [...new Set(named.flat())].sort() : this.#settings.interfaces;
  }
}

/** The weights of all advertisements add up, of each for the nodes that it selects (MetalLB's design/preferred-node-l2.md). */
function scoresOf(selections: readonly Selection[], running: Nodes["running"]): Advertising["scores"] {
  const scores: Record<string, number> = {};
  for (const { advertisement, nodes } of selections) {
    for (const { weight, preference } of advertisement.preferredNodeSelectors) {
      for (const node of nodes) {
        if (selects(preference, running.get(node)!.labels)) scores[node] = (scores[node] ?? 0) + weight;
      }
    }
  }
  return Object.keys(scores).length > 0 ? scores : undefined;
}

function selectionsOf(
  advertisements: readonly L2Advertisement[],
  pools: readonly IPAddressPool[],
  { running }: Nodes,
): Map<Key, Selection[]> {
  const selections = new Map<Key, Selection[]>(pools.map(({ key }) => [key, []]));
  for (const advertisement of advertisements) {
    const selected = [...running.values()].filter(({ labels }) => anySelects(advertisement.nodeSelectors, labels));
    const nodes = selected.map(({ key }) => key);
    for (const pool of pools) {
      if (advertises(advertisement, pool)) selections.get(pool.key)!.push({ advertisement, nodes });
    }
  }
  return selections;
}

/** The L2Advertisement is for this pool: by name, by labels, or as one for all pools (setL2AdvertisementsToPools). */
function advertises({ ipAddressPools, ipAddressPoolSelectors }: L2Advertisement, pool: IPAddressPool): boolean {
  if (ipAddressPools.length === 0 && ipAddressPoolSelectors.length === 0) return true;
  if (ipAddressPools.includes(baseOf(pool.key))) return true;
  return ipAddressPoolSelectors.some((selector) => selects(selector, pool.labels));
}
