import type { Config } from "./config/config.ts";
import type { Demand } from "./core/demand.ts";
import { Doubles } from "./core/doubles.ts";
import { matches } from "./core/glob.ts";
import { type Ns, SECOND } from "./core/time.ts";
import { layoutFolder, networkNamespace } from "./kernel/kernel.ts";
import { type Maps, readPinnedMaps } from "./kernel/object.ts";
import { type Defaults, describeLink, type Link, Links } from "./link/links.ts";
import { makePlan, type Plan, type PlannedLink } from "./plan.ts";

/** Routes that change are read again at most so often: a routing daemon may change them without end. */
const ROUTES: Ns = SECOND;

/** Keeps the list of this machine's devices, and makes plans for the devices as they are. */
export class Planner implements Disposable {
  readonly links = new Links();
  readonly #doubles = new Doubles();
  #devices: readonly Link[] = this.links.read();
  readonly #served: Map<number, string>;
  /** Something changed, and no plan reflects that yet. */
  #isOutdated = false;
  /** The gateways: one that was a gateway stays one, as its route may be away for a moment. */
  #defaults: Defaults = this.links.defaults();
  #hasNewGateway = false;
  #areRoutesOutdated = false;
  #routesReadAt: Ns = 0n;
  #room: number | undefined;

  /** @param served where an earlier speaker announced: names by ifindex */
  constructor(served: ReadonlyMap<number, string>) {
    this.#served = new Map(served);
  }

  /** How many entries the kernel has memory for. */
  set room(room: number) {
    this.#isOutdated ||= this.#room !== undefined && this.#room !== room;
    this.#room = room;
  }

  refresh(): void {
    this.#devices = this.links.read();
  }

  make(config: Config, demand: Demand): Plan {
    const network = { ...this.#defaults, links: this.#devices, served: this.#served, room: this.#room };
    const open = makePlan(config, demand, { ...network, barred: new Map() });
    const barred = this.#doubles.reasons((kept) =>
      open.links.some(({ link, isGuard }) => link.ifindex === kept && !isGuard),
    );
    const plan = barred.size > 0 ? makePlan(config, demand, { ...network, barred }) : open;
    for (const { link, isGuard } of plan.links) if (!isGuard) this.#served.set(link.ifindex, link.name);
    return plan;
  }

  /**
   * Looks whether a device or a default gateway changed that matters to the plan.
   * @returns the plan as it has to be now; undefined where it stays as it is. Until {@link accept} it is returned again
   */
  watch({ config, demand, links }: Plan, now: Ns): Plan | undefined {
    const known = new Set(links.map(({ link }) => link.ifindex));
    const nameOf = (ifindex: number) => this.#devices.find((link) => link.ifindex === ifindex)?.name ?? "";
    const { interfaces = [], excludeInterfaces } = config;
    const concerns = (given: string, ifindex: number) => {
      const name = given || nameOf(ifindex); // an event of an address has no name
      if (name === "lo") return false; // where VIPs are put, by isat and others
      return known.has(ifindex) || matches(name, interfaces) || !matches(name, excludeInterfaces);
    };
    this.#isOutdated ||= this.links.changed(concerns);
    if (this.#doubles.expire(now)) this.#isOutdated = true;
    this.#watchRoutes(now);
    if (!this.#isOutdated) return undefined;
    this.refresh();
    const plan = this.make(config, demand);
    if (this.#hasNewGateway || !isSame(plan.links, links)) return plan;
    this.#isOutdated = false;
    return undefined;
  }

  /**
   * The devices that turn up elsewhere on the network now, since the last {@link watch}: neighbours have to be told. A bridge
   * moves with its port, of which alone the kernel tells.
   */
  takeMoved(): number[] {
    const masterOf = (ifindex: number) => this.#devices.find((link) => link.ifindex === ifindex)?.portOf?.ifindex;
    return [...new Set(this.links.takeMoved().flatMap((ifindex) => [ifindex, masterOf(ifindex) ?? ifindex]))];
  }

  #watchRoutes(now: Ns): void {
    this.#areRoutesOutdated ||= this.links.routesChanged();
    if (!this.#areRoutesOutdated || now < this.#routesReadAt + ROUTES) return;
    this.#routesReadAt = now;
    const found = this.links.defaults();
    const all = new Set([...this.#defaults.gateways, ...found.gateways]);
    this.#areRoutesOutdated = false;
    const hasNewGateway = all.size > this.#defaults.gateways.size;
    const { device, device6 } = this.#defaults;
    if (!hasNewGateway && found.device === device && found.device6 === device6) return;
    this.#defaults = { ...found, gateways: all };
    this.#hasNewGateway ||= hasNewGateway;
    this.#isOutdated = true;
  }

  /** The plan that {@link watch} returned is in effect. */
  accept(): void {
    this.#isOutdated = this.#hasNewGateway = false;
  }

  /**
   * A frame of this node's came in on an interface. @returns what is wrong; undefined where that is known, or nothing
   * is
   */
  hearOwn({ links }: Plan, on: number, from: number, now: Ns): string | undefined {
    const announcing = links.filter(({ isGuard }) => !isGuard);
    const linkOf = (ifindex: number) => announcing.find(({ link }) => link.ifindex === ifindex)?.link;
    return this.#doubles.hear(on, from, linkOf, now);
  }

  [Symbol.dispose](): void {
    this.links[Symbol.dispose]();
  }
}

/** True if two plans, made for one configuration and demand, have the same links with the same VIPs. */
function isSame(now: readonly PlannedLink[], before: readonly PlannedLink[]): boolean {
  const describe = (links: readonly PlannedLink[]) =>
    links.map(({ link, isGuard, guarded }) => `${describeLink(link)} ${isGuard} ${guarded.length}`).join();
  const hasSame = ({ ranges }: PlannedLink, i: number) =>
    ranges.length === before[i]!.ranges.length && ranges.every((range, at) => range === before[i]!.ranges[at]);
  return describe(now) === describe(before) && now.every(hasSame);
}

/** The interfaces on which the last speaker announced, by the kernel's maps: names by ifindex. */
export function announcedBefore(pinDir: string): Map<number, string> {
  const read = ({ interfaces }: Maps) =>
    [...interfaces.entries()].flatMap(([ifindex, { name, netns, is_guard }]): [number, string][] =>
      netns === networkNamespace() && !is_guard ? [[ifindex, name]] : [],
    );
  try {
    return new Map(readPinnedMaps(layoutFolder(pinDir), read));
  } catch {
    return new Map(); // the speaker's own look at its pins tells the reason
  }
}
