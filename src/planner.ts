import type { Config } from "./config/config.ts";
import type { Address } from "./core/address.ts";
import type { Demand } from "./core/demand.ts";
import { Doubles } from "./core/doubles.ts";
import { matches } from "./core/glob.ts";
import { type Ns, SECOND } from "./core/time.ts";
import { describeLink, type Link, Links } from "./link/links.ts";
import { type Barred, makePlan, type Plan, type ResolvedConfig, resolveInterfaces } from "./plan.ts";

/** Routes that change are read again at most so often: a routing daemon may change them without end. */
const ROUTES: Ns = SECOND;

/** Keeps the list of this machine's devices, and makes plans for the devices as they are. */
export class Planner implements Disposable {
  readonly links = new Links();
  readonly #doubles = new Doubles();
  #devices: readonly Link[] = this.links.read();
  /** The devices changed, and no plan reflects that yet. */
  #isOutdated = false;
  /** The default gateways. One that was a gateway stays one: its route may be away for a moment. */
  #gateways: ReadonlySet<Address> = this.links.gateways();
  #hasNewGateway = false;
  #areRoutesOutdated = false;
  #routesReadAt: Ns = 0n;

  /** @throws Error where the configuration does not say where to announce, and there is no default route */
  resolve(config: Config): ResolvedConfig {
    return resolveInterfaces(config, this.links);
  }

  refresh(): void {
    this.#devices = this.links.read();
  }

  make(config: ResolvedConfig, demand: Demand): Plan {
    const plan = (barred: Barred) => makePlan(config, demand, this.#devices, barred, this.#gateways);
    const open = plan(new Map());
    const barred = this.#doubles.reasons((kept) => open.links.some(({ link }) => link.ifindex === kept));
    return barred.size > 0 ? plan(barred) : open;
  }

  /**
   * Looks whether a device or a default gateway changed that matters to the plan.
   * @returns the plan as it has to be now; undefined where it stays as it is. Until {@link accept} it is returned again
   */
  watch({ config, demand, links }: Plan, now: Ns): Plan | undefined {
    const known = new Set(links.map(({ link }) => link.ifindex));
    const concerns = (name: string, ifindex: number) => known.has(ifindex) || matches(name, config.interfaces);
    this.#isOutdated ||= this.links.changed(concerns);
    if (this.#doubles.expire(now)) this.#isOutdated = true;
    this.#watchRoutes(now);
    if (!this.#isOutdated) return undefined;
    this.refresh();
    const plan = this.make(config, demand);
    const describe = ({ links }: Pick<Plan, "links">) => links.map(({ link }) => describeLink(link)).join();
    if (this.#hasNewGateway || describe(plan) !== describe({ links })) return plan;
    this.#isOutdated = false;
    return undefined;
  }

  #watchRoutes(now: Ns): void {
    this.#areRoutesOutdated ||= this.links.routesChanged();
    if (!this.#areRoutesOutdated || now < this.#routesReadAt + ROUTES) return;
    this.#routesReadAt = now;
    const all = new Set([...this.#gateways, ...this.links.gateways()]);
    this.#areRoutesOutdated = false;
    if (all.size === this.#gateways.size) return;
    this.#gateways = all;
    this.#isOutdated = this.#hasNewGateway = true;
  }

  /** The plan that {@link watch} returned is in effect. */
  accept(): void {
    this.#isOutdated = this.#hasNewGateway = false;
  }

  /** A frame of this node's came in on an interface. @returns what is wrong; undefined where that is known, or nothing is */
  hearOwn({ links }: Plan, on: number, from: number, now: Ns): string | undefined {
    const nameOf = (ifindex: number) => links.find(({ link }) => link.ifindex === ifindex)?.link.name;
    return this.#doubles.hear(on, from, nameOf, now);
  }

  [Symbol.dispose](): void {
    this.links[Symbol.dispose]();
  }
}
