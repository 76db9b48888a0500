import type { Config } from "./config.ts";
import { type InterfaceEntry, interfaceEntry, NO_VERDICTS } from "./core/abi.ts";
import { addressBytes, formatAddress } from "./core/address.ts";
import { formatMac } from "./core/frame.ts";
import { addressOf, entryKey, ifindexOf, matches } from "./core/ownership.ts";
import { bootTime } from "./ffi/libc.ts";
import { type HookKind, hasTcx, type Point } from "./kernel/hooks.ts";
import { Kernel, networkNamespace, pointsOf } from "./kernel/kernel.ts";
import { VipTable } from "./kernel/vips.ts";
import { requireXdpAnswers } from "./kernel/xdp.ts";
import { Announcer } from "./link/announcer.ts";
import { stripsVlanTags, stripVlanTags } from "./link/ethtool.ts";
import { type Link, Links } from "./link/links.ts";
import { PacketSocket } from "./link/packet.ts";
import type { Log } from "./observe/log.ts";
import { makePlan, type Plan, resolveInterfaces } from "./plan.ts";

/** How often the kernel's state is verified and the tick stamped, ms. */
const TICK = 500;
/** How often links are asked for changes, ms. */
const WATCH = 100;
/** The least age of the last tick at which isat counts as gone for good, ms. */
const GONE = 5 * 60_000;

const NANOSECONDS = 1_000_000;

const goneAfter = (fence: number) => Math.max(fence, GONE);

/**
 * The one loop: wanted - actual = changes. A new configuration, a link that changed, a tick that found something amiss:
 * each makes a plan and commits it, synchronously, so that no two of them ever mix.
 */
export class Speaker implements Disposable {
  readonly #log: Log;
  readonly #links: Links;
  readonly #socket: PacketSocket;
  readonly #kernel: Kernel;
  readonly #table: VipTable;
  readonly #announcer: Announcer;
  readonly #points: readonly Point[];
  readonly #netns = networkNamespace();
  readonly #timers: NodeJS.Timeout[];
  readonly #entries = new Map<number, InterfaceEntry>();
  /** Where to announce if a new configuration does not say. */
  readonly #firstInterfaces: string[];
  #plan: Plan;
  /** Links changed, and the plan does not reflect it yet. */
  #isStale = false;
  #warnings = new Set<string>();
  #lastError: { at: string; message: string } | undefined;

  /**
   * Takes over what an earlier speaker left, or starts anew. When this returns, the kernel answers.
   * @throws Error in one line that says what to do; what was attached before is as it was, and nothing else is.
   */
  constructor(config: Config, log: Log) {
    this.#log = log;
    using stack = new DisposableStack();
    this.#links = stack.use(new Links());
    const resolved = resolveInterfaces(config, this.#links);
    this.#firstInterfaces = resolved.interfaces;
    const plan = makePlan(resolved, this.#links.read(), "strict");
    this.#kernel = stack.use(new Kernel(config.pinDir));
    this.#socket = stack.use(new PacketSocket());
    this.#announcer = stack.use(new Announcer(this.#socket, config.garp, (error) => this.#fail(error)));
    this.#table = new VipTable(this.#kernel.maps);
    this.#points = pointsOf(config.hook === "auto" ? (hasTcx() ? "tcx" : "tc") : config.hook);
    this.#plan = { ...plan, links: [] };
    try {
      this.#commit(plan, "strict");
      this.#kernel.settle(
        plan.links.map(({ ifindex }) => ifindex),
        this.#points,
      );
    } catch (error) {
      for (const [link, point] of this.#newlyAttached) this.#kernel.detach(link.ifindex, point);
      for (const { name, vlan_strip_off } of this.#entries.values()) {
        if (vlan_strip_off && this.#kernel.isFresh) stripVlanTags(name, true);
      }
      this.#kernel.discard();
      throw error;
    }
    this.#timers = [
      setInterval(() => this.#round(() => this.#tick()), TICK),
      setInterval(() => this.#round(() => this.#watch()), WATCH),
    ];
    stack.move();
  }

  get hook(): HookKind {
    return this.#points.at(-1)!.kind;
  }

  get config(): Config {
    return this.#plan.config;
  }

  /** What the speaker serves now, for status and metrics. */
  get view() {
    return {
      plan: this.#plan,
      points: this.#points,
      maps: this.#kernel.maps,
      entries: this.#table.entries,
      lastError: this.#lastError,
      announcements: (ifindex: number) => this.#announcer.sent(ifindex),
      isAttached: (ifindex: number, point: Point) => this.#kernel.isAttached(ifindex, point),
    };
  }

  /** A new configuration takes effect, or is refused as a whole: then this throws, and the old state stays. */
  reload(config: Config): void {
    const next = { ...config };
    for (const key of ["node", "hook", "pinDir", "runDir", "metrics"] as const) {
      if (JSON.stringify(config[key]) === JSON.stringify(this.config[key])) continue;
      this.#log.warn(`${key} changed in the file: it takes effect when isat is started again`);
      Object.assign(next, { [key]: this.config[key] });
    }
    const interfaces = next.interfaces ?? this.#firstInterfaces;
    const plan = makePlan({ ...next, interfaces }, this.#links.read(), "strict");
    const before = this.#plan;
    try {
      this.#commit(plan, "strict");
    } catch (error) {
      this.#commit(before, "lenient"); // undoes what was done of it until it failed
      throw error;
    }
  }

  /** One round of the loop: what fails is said, and tried again by the next. */
  #round(body: () => void): void {
    try {
      body();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    if (this.#lastError?.message !== error.message) this.#log.error(error.message);
    this.#lastError = { at: new Date().toISOString(), message: error.message };
  }

  /**
   * Makes the plan so. Hooks come after the maps, so that no program meets an empty one.
   * @param mode lenient: an interface to which nothing can be attached keeps none of the others waiting; the ticks try on
   */
  #commit(plan: Plan, mode: "strict" | "lenient"): void {
    const before = this.#plan;
    const oldLink = (ifindex: number) => before.links.find((link) => link.ifindex === ifindex);
    const changed = (link: Link) => describe(link) !== describe(oldLink(link.ifindex));
    this.#warn(plan.warnings);

    /** Interfaces on which all that is owned is announced anew, and those that an earlier speaker served till now. */
    const anew = new Set<number>();
    const adopted = new Set<number>();

    for (const link of plan.links) {
      const old = oldLink(link.ifindex);
      if (!old && this.#kernel.maps.interfaces.get(link.ifindex)?.mac_text === formatMac(link.mac))
        adopted.add(link.ifindex);
      if (!old || formatMac(old.mac) !== formatMac(link.mac) || (link.isUp && !old.isUp)) anew.add(link.ifindex);
      if (old && changed(link)) this.#log.info({ interface: link.name }, `interface changed: ${describe(link)}`);
      this.#writeInterface(link, plan);
      this.#announcer.add(link.ifindex, link.mac);
    }
    this.#announcer.setPace(plan.config.garp);

    const { gained, lost, written, removed } = this.#table.apply(plan.entries, namesOf(plan.links));

    for (const link of plan.links.filter(({ ifindex }) => !oldLink(ifindex))) {
      try {
        const how = this.#points.map((point) => this.#attach(link, point));
        if (how.includes("attached")) adopted.delete(link.ifindex);
        this.#log.info(
          { interface: link.name, hook: this.hook },
          `interface ${describe(link)}: ${this.hook} ${how.at(-1)}`,
        );
      } catch (error) {
        if (mode === "strict") throw error;
        this.#fail(error as Error);
      }
    }
    this.#dropInterfaces(plan);
    this.#plan = plan;

    for (const key of lost) this.#announcer.lose(ifindexOf(key), addressOf(key));
    const isGained = new Set(gained);
    for (const [key, isOwned] of anew.size > 0 ? plan.entries : []) {
      if (!isOwned || !anew.has(ifindexOf(key)) || isGained.has(key)) continue;
      if (adopted.has(ifindexOf(key))) this.#announcer.keep(ifindexOf(key), addressOf(key));
      else this.#announcer.gain(ifindexOf(key), addressOf(key));
    }
    for (const key of gained) this.#announcer.gain(ifindexOf(key), addressOf(key));
    if (written + removed > 0) {
      const { owned, managed } = this.counts;
      this.#log.info({ written, removed, gained: gained.length, lost: lost.length, owned, managed }, "entries applied");
    }
    this.#tick();
    this.#announcer.run();
  }

  /** Entries owned here, and all. */
  get counts(): { owned: number; managed: number } {
    let owned = 0;
    for (const isOwned of this.#table.entries.values()) if (isOwned) owned += 1;
    return { owned, managed: this.#table.entries.size };
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) if (!this.#warnings.has(warning)) this.#log.warn(warning);
    this.#warnings = new Set(warnings);
  }

  #writeInterface(link: Link, { config: { fence }, entries }: Plan): void {
    const { interfaces, verdicts } = this.#kernel.maps;
    const pinned = interfaces.get(link.ifindex);
    // The guard gives a request this sender address: one that is a VIP itself would be a claim.
    const own = link.addresses.find(({ address }) => !entries.has(entryKey(link.ifindex, address)));
    const entry: InterfaceEntry = interfaceEntry.of({
      name: link.name,
      mac_text: formatMac(link.mac),
      mac: link.mac,
      address: addressBytes(own?.address ?? 0),
      netns: this.#netns,
      vlan_strip_off: pinned?.vlan_strip_off ?? false,
      // Hooks that are swapped in from another layout meet this entry before its first tick: without one they would let
      // everything pass.
      tick_ns: pinned?.tick_ns ?? bootTime(),
      fence_ns: BigInt(fence * NANOSECONDS),
      gone_ns: BigInt(goneAfter(fence) * NANOSECONDS),
    });
    this.#entries.set(link.ifindex, entry);
    interfaces.set(link.ifindex, entry);
    verdicts.add(link.ifindex, { ...NO_VERDICTS, interface: link.name });
  }

  #newlyAttached: [Link, Point][] = [];

  #attach(link: Link, point: Point): "adopted" | "attached" {
    if (point.direction === "ingress") this.#keepVlanTags(link);
    const how = this.#kernel.attach(link.ifindex, point);
    if (how === "attached") this.#newlyAttached.push([link, point]);
    if (point.kind === "xdp") {
      this.#log.info({ interface: link.name }, `probing whether what XDP sends leaves ${link.name}`);
      const transmitted = () => this.#links.read().find(isSame)?.transmitted ?? link.transmitted;
      const isSame = ({ ifindex }: Link) => ifindex === link.ifindex;
      if (requireXdpAnswers({ ...link, transmitted }, this.#kernel.xdpProbe) === "unknown") {
        this.#log.warn(
          { interface: link.name },
          `${link.name}: this kernel cannot probe whether XDP answers leave the NIC (Linux >= 5.18 can)`,
        );
      }
    }
    return how;
  }

  /** XDP is blind to tags that the NIC strips, so for XDP it is told not to; for the others, as it was. */
  #keepVlanTags({ name, ifindex }: Link): void {
    const entry = this.#entries.get(ifindex)!;
    const isXdp = this.hook === "xdp";
    if (isXdp ? !stripsVlanTags(name) : !entry.vlan_strip_off) return;
    if (!stripVlanTags(name, !isXdp) && isXdp) {
      throw new Error(
        `Cannot answer by XDP on ${name} as the NIC strips VLAN tags and cannot be told not to: a tagged ARP would look` +
          " untagged. Set hook: tcx or tc",
      );
    }
    this.#log.info(
      { interface: name },
      `told ${name} to ${isXdp ? "leave VLAN tags in: XDP is blind to stripped ones" : "strip VLAN tags again"}`,
    );
    entry.vlan_strip_off = isXdp;
    this.#kernel.maps.interfaces.set(ifindex, entry);
  }

  /** Detaches from interfaces that are gone, or no longer meant. */
  #dropInterfaces(plan: Plan): void {
    const kept = new Set(plan.links.map(({ ifindex }) => ifindex));
    const { interfaces, verdicts } = this.#kernel.maps;
    for (const [ifindex, entry] of [...interfaces.entries()]) {
      if (kept.has(ifindex)) continue;
      this.#kernel.detachAllBut(ifindex, []);
      if (entry.vlan_strip_off) stripVlanTags(entry.name, true);
      this.#announcer.remove(ifindex);
      this.#entries.delete(ifindex);
      interfaces.deleteMany([ifindex]);
      verdicts.deleteMany([ifindex]);
      this.#log.warn(
        { interface: entry.name },
        `interface ${entry.name} is gone, or no longer meant: nothing is answered on it`,
      );
    }
  }

  /**
   * Verifies what the kernel holds, mends it, and stamps the tick where all was well, with the clock as read at the
   * start: the kernel then knows that all was well at that moment, at least.
   */
  #tick(): void {
    const started = bootTime();
    if (!this.#table.verify()) {
      this.#log.error("the kernel's map does not hold what was written (changed by another program?): writing it anew");
      this.#table.apply(this.#plan.entries, namesOf(this.#plan.links));
      return;
    }
    for (const link of this.#plan.links) this.#round(() => this.#stamp(link, started));
  }

  #stamp({ ifindex, name }: Link, started: bigint): void {
    const detached = this.#points.filter((point) => !this.#kernel.isAttached(ifindex, point));
    for (const point of detached) {
      const { kind, direction } = point;
      this.#fail(new Error(`isat is no longer attached to ${name} at ${kind} ${direction}: attaching again`));
      this.#kernel.attach(ifindex, point);
      this.#log.info({ interface: name }, `attached to ${name} at ${kind} ${direction} again`);
    }
    if (detached.length > 0) return;
    const { interfaces, verdicts } = this.#kernel.maps;
    const entry = this.#entries.get(ifindex)!;
    entry.tick_ns = started;
    interfaces.set(ifindex, entry);
    verdicts.add(ifindex, { ...NO_VERDICTS, interface: name });
  }

  /** Looks whether links changed, and if any that matters did, plans anew; a plan that failed is tried again. */
  #watch(): void {
    const { config, links } = this.#plan;
    const known = new Set(links.map(({ ifindex }) => ifindex));
    const concerns = (name: string, ifindex: number) => known.has(ifindex) || matches(name, config.interfaces);
    this.#isStale ||= this.#links.changed(concerns);
    if (!this.#isStale) return;
    const plan = makePlan(config, this.#links.read(), "lenient");
    if (plan.links.map(describe).join() !== links.map(describe).join()) this.#commit(plan, "lenient");
    this.#isStale = false;
  }

  /** Stops the loop. The kernel goes on answering. */
  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#announcer[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
    this.#links[Symbol.dispose]();
    this.#kernel[Symbol.dispose]();
  }
}

const namesOf = (links: readonly Link[]) => new Map(links.map(({ ifindex, name }) => [ifindex, name]));

/** What of a link matters here. */
function describe(link: Link | undefined): string {
  if (!link) return "";
  const addresses = link.addresses.map(({ address, prefix }) => `${formatAddress(address)}/${prefix}`).join(" ");
  return `${link.name} (ifindex ${link.ifindex}, ${formatMac(link.mac)}, ${addresses || "no address"}, ${link.isUp ? "up" : "down"})`;
}
