import type { Config } from "./config/config.ts";
import { MAX_INTERFACES } from "./core/abi.ts";
import { formatAddress } from "./core/address.ts";
import type { Demand, VipRange } from "./core/demand.ts";
import {
  type AnnouncingInterface,
  type Entries,
  type EntryKey,
  electAll,
  matches,
  refuseTooMany,
  type View,
} from "./core/ownership.ts";
import { type Link, type Links, refusal } from "./link/links.ts";

/** A configuration that says where to announce. */
export type ResolvedConfig = Config & { interfaces: string[] };

/** Nothing is known yet of who may own. */
export const UNKNOWN = () => ({ candidates: undefined, held: [] });

/** Static membership: every node listed is alive. */
export const everybody =
  ({ nodes }: Demand) =>
  () => ({ candidates: nodes.map(({ name }) => name), held: [] });

/** What a configuration and this machine's links come to. */
export interface Plan {
  config: ResolvedConfig;
  demand: Demand;
  /** The links on which this node announces. */
  links: Link[];
  view: View;
  entries: Entries;
  /** The entries that may differ from those of the plan before; undefined: all. */
  changed: ReadonlySet<EntryKey> | undefined;
  /** What is allowed, and probably not meant. */
  warnings: string[];
}

/**
 * Where to announce if the configuration does not say: on the interface of the default route, as it is now. To be asked
 * once, at the start: a route that flaps later, or goes with a link that is set down, must not silence VIPs.
 * @throws Error where there is no default route
 */
export function resolveInterfaces(config: Config, links: Links): ResolvedConfig {
  if (config.interfaces) return { ...config, interfaces: config.interfaces };
  const route = links.defaultRoute();
  const all = links.read();
  const found = all.find(({ ifindex }) => ifindex === route);
  if (found) return { ...config, interfaces: [found.name] };
  const fit = all.filter((link) => refusal(link, all) === undefined);
  const names = fit.map(({ name }) => name).join(", ") || "an Ethernet interface";
  throw new Error(
    `Cannot tell on which interface to announce as there is no default route. Set interfaces: to one of ${names}`,
  );
}

/** Links on which nothing is announced though the configuration means them, by ifindex: why. */
export type Barred = ReadonlyMap<number, string>;

/** The links that the configuration means, and why others that it means cannot be. */
function choose({ interfaces }: ResolvedConfig, links: readonly Link[], barred: Barred = new Map()) {
  const meant = links.filter(({ name }) => matches(name, interfaces));
  const why = (link: Link) => refusal(link, links) ?? barred.get(link.ifindex);
  const chosen = meant.filter((link) => why(link) === undefined);
  const problems: string[] = [];
  for (const pattern of interfaces) {
    if (chosen.some(({ name }) => matches(name, [pattern]))) continue;
    const refused = meant.find(({ name }) => matches(name, [pattern]));
    const names = links.map(({ name }) => name).join(", ");
    const reason = refused ? why(refused) : `there is no such interface. There are: ${names}`;
    problems.push(`Cannot announce on ${pattern} as ${reason}`);
  }
  if (chosen.length > MAX_INTERFACES) {
    problems.push(
      `Cannot announce on ${chosen.length} interfaces as ${MAX_INTERFACES} are the most. Narrow interfaces:`,
    );
  }
  return { chosen: chosen.slice(0, MAX_INTERFACES), problems };
}

/** The links on which a configuration announces, as far as they may be announced on. */
export const linksOf = (config: ResolvedConfig, links: readonly Link[], barred?: Barred): Link[] =>
  choose(config, links, barred).chosen;

const announces = (range: VipRange, { name }: Link) => !range.interfaces || matches(name, range.interfaces);

/** VIPs that are the node's own address on an interface that announces them: its kernel would answer for them anyway. */
function ownAddresses({ vips }: Demand, links: readonly Link[]): string[] {
  return links.flatMap((link) =>
    link.addresses
      .filter(({ address }) =>
        vips.some((range) => range.first <= address && address <= range.last && announces(range, link)),
      )
      .map(
        ({ address }) =>
          `Cannot announce ${formatAddress(address)} as it is this node's own address on ${link.name}. Take it out of the VIPs, or off the interface (ip addr del)`,
      ),
  );
}

/** VIPs outside every subnet of an interface: nobody on that wire asks for them, unless a route says so. */
function outside({ vips }: Demand, links: readonly Link[]): string[] {
  return links.flatMap((link) => {
    const isInside = (address: number) =>
      link.addresses.some(({ address: own, prefix }) => prefix === 0 || (own ^ address) >>> (32 - prefix) === 0);
    const stray = vips.find((range) => announces(range, link) && !(isInside(range.first) && isInside(range.last)));
    if (!stray) return [];
    const text = formatAddress(isInside(stray.first) ? stray.last : stray.first);
    return [`${text} lies outside of every subnet of ${link.name}: nobody there asks for it unless a route says so`];
  });
}

/** How the configuration fits this machine. @throws Error in one or more lines where it is refused */
function fit(
  config: ResolvedConfig,
  demand: Demand,
  links: readonly Link[],
  mode: "strict" | "lenient",
  barred?: Barred,
) {
  const { chosen, problems } = choose(config, links, barred);
  const own = ownAddresses(demand, chosen);
  // A file is refused for what it says; a Service of a cluster that cannot be served costs that Service alone.
  const refused = config.source.kind === "file" ? [...problems, ...own] : problems;
  if (mode === "strict" && refused.length > 0) throw new Error(refused.join("\n"));
  return { chosen, problems, own };
}

/** What does not fit is told before all else. @throws Error in one or more lines */
export function requireFit(config: ResolvedConfig, demand: Demand, links: readonly Link[]): void {
  const { chosen } = fit(config, demand, links, "strict");
  refuseTooMany({ vips: demand.vips, interfaces: chosen });
}

/**
 * What is to be, computed from what is: no I/O, and nothing is changed.
 * @param candidates the nodes that may own what is announced on a link
 * @param before the plan of the last time: what has not changed since is not worked out anew
 * @param mode strict: for a configuration, which is refused where it does not fit this machine; lenient: for links that
 * changed under a configuration that stands
 * @param barred links on which nothing is announced though the configuration means them
 * @throws Error in one line where the configuration is refused
 */
export function makePlan(
  config: ResolvedConfig,
  demand: Demand,
  links: readonly Link[],
  candidates: (link: Link) => Pick<AnnouncingInterface, "candidates" | "held">,
  mode: "strict" | "lenient",
  before?: Plan,
  barred?: Barred,
): Plan {
  const { chosen, problems, own } = fit(config, demand, links, mode, barred);
  const view: View = {
    self: config.node,
    vips: demand.vips,
    interfaces: chosen.map((link) => ({ ifindex: link.ifindex, name: link.name, ...candidates(link) })),
  };
  const warnings = [...problems, ...own, ...outside(demand, chosen)];
  return { config, demand, links: chosen, view, ...electAll(view, before), warnings };
}
