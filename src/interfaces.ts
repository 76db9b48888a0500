import { programsInFront } from "./chain.ts";
import { type InterfaceEntry, interfaceEntry, MAX_SUBNETS, nodeState } from "./core/abi.ts";
import { addressBytes, isIPv4 } from "./core/address.ts";
import { formatMac } from "./core/arp.ts";
import { LIVE_FOR } from "./core/liveness.ts";
import { isFenced } from "./core/state.ts";
import type { Self } from "./core/step.ts";
import { toNs } from "./core/time.ts";
import { nodeId } from "./core/wire.ts";
import { bootTime } from "./ffi/libc.ts";
import { type HookKind, hasTcx, type Point } from "./kernel/hooks.ts";
import { type Kernel, networkNamespace, pointsOf } from "./kernel/kernel.ts";
import { requireXdpAnswers } from "./kernel/xdp.ts";
import { stripsVlanTags, stripVlanTags } from "./link/ethtool.ts";
import { leaveGroups } from "./link/groups.ts";
import { hasIngressQdisc } from "./link/hooked.ts";
import { cannotSpeakIPv6, type Link, type Links } from "./link/links.ts";
import type { Log } from "./log.ts";

/** The least age of the last tick at which isat counts as gone for good, ms. */
const GONE = 5 * 60_000;

/** The programs' knowledge of this node, beside what the node says of itself. Durations in ms. */
export interface Facts {
  node: string;
  /** Random, of this run of the speaker. */
  incarnation: bigint;
  /** The interface's own addresses that are no VIPs: the egress filter puts them into requests. */
  addresses: Link["addresses"];
  hold: number;
  fence: number;
}

/** The interfaces that are served: what the kernel's maps say of each, and the programs at its hooks. */
export class Interfaces {
  readonly #points: readonly Point[];
  /** XDP would have some NICs drop frames for a while, which a guard is not worth. */
  readonly #guardPoints: readonly Point[];
  readonly #kernel: Kernel;
  readonly #links: Links;
  readonly #log: Log;
  readonly #netns = networkNamespace();
  readonly #entries = new Map<number, InterfaceEntry>();
  /** The interfaces where nothing is announced: the programs leave peers' frames unread there. */
  readonly #guards = new Set<number>();
  #attached: [Link, Point][] = [];
  /** The reasons why nothing may be owned on an interface: others' programs run before isat's. */
  readonly blocked = new Map<number, string>();
  /** The programs that isat went before when it met them last, by hook. */
  readonly #passed = new Map<string, string>();

  constructor(kernel: Kernel, links: Links, hook: HookKind | "auto", log: Log) {
    this.#kernel = kernel;
    this.#links = links;
    this.#log = log;
    const tc = hasTcx() ? "tcx" : "tc";
    this.#points = pointsOf(hook === "auto" ? tc : hook);
    this.#guardPoints = hook === "xdp" ? pointsOf(tc) : this.#points;
  }

  /** The points where the programs attach. */
  points(ifindex: number): readonly Point[] {
    return this.#guards.has(ifindex) ? this.#guardPoints : this.#points;
  }

  hook(ifindex: number): HookKind {
    return this.points(ifindex).at(-1)!.kind;
  }

  /** The kernel's entry, which may be an earlier speaker's. */
  pinned(ifindex: number): InterfaceEntry | undefined {
    return this.#kernel.maps.interfaces.get(ifindex);
  }

  /** True if an earlier speaker had joined under that name, and its kernel has not gone silent since. */
  hadJoined(node: string): boolean {
    const id = nodeId(node);
    const isIts = (entry: InterfaceEntry) =>
      entry.node === id && entry.state !== nodeState.JOINING && entry.tick_ns > 0n && !isFenced(entry, bootTime());
    return [...this.#kernel.maps.interfaces.entries()].some(([, entry]) => isIts(entry));
  }

  write(link: Link, facts: Facts, self: Self, isGuard: boolean): void {
    if (isGuard) this.#guards.add(link.ifindex);
    else this.#guards.delete(link.ifindex);
    this.#set({
      ...interfaceEntry.of({}),
      ifindex: link.ifindex,
      name: link.name,
      mac_text: formatMac(link.mac),
      mac: link.mac,
      is_guard: isGuard,
      link_local: addressBytes(link.linkLocal ?? 0n),
      only_ipv4: cannotSpeakIPv6(link) !== undefined,
      ...subnets(facts),
      netns: this.#netns,
      vlan_strip_off: this.pinned(link.ifindex)?.vlan_strip_off ?? false,
      ...fields(self),
      node_name: facts.node,
      node: nodeId(facts.node),
      incarnation: facts.incarnation,
      live_ns: LIVE_FOR,
      hold_ns: toNs(facts.hold),
      fence_ns: toNs(facts.fence),
      gone_ns: toNs(Math.max(facts.fence, GONE)),
    });
  }

  /** Writes what this node says of itself. */
  say(ifindex: number, self: Self): void {
    const entry = this.#entries.get(ifindex)!;
    this.#set({ ...entry, ...fields(self) });
  }

  #set(entry: InterfaceEntry): void {
    this.#entries.set(entry.ifindex, entry);
    this.#kernel.writer.setInterface(entry);
  }

  /**
   * Attaches the programs, or adopts what is attached. @throws Error where one of them cannot stand there, or answer
   */
  attach(link: Link): "adopted" | "attached" {
    const how = this.points(link.ifindex).map((point) => this.#attach(link, point));
    return how.includes("attached") ? "attached" : "adopted";
  }

  #attach(link: Link, point: Point): "adopted" | "attached" {
    if (point.direction === "ingress") this.#keepVlanTags(link);
    const how = this.#attachAt(link, point);
    if (how === "attached") this.#attached.push([link, point]);
    if (point.kind === "xdp") this.#requireXdp(link);
    return how;
  }

  /** @throws Error where isat's two filters would replace each other */
  #attachAt({ ifindex, name }: Pick<Link, "ifindex" | "name">, point: Point): "adopted" | "attached" {
    if (point.kind === "tc" && hasIngressQdisc(ifindex)) {
      throw new Error(
        `Cannot attach isat to ${name} at clsact as a qdisc ingress has its place, which knows no egress. Remove that one` +
          ` (tc qdisc del dev ${name} ingress), or set hook: tcx`,
      );
    }
    return this.#kernel.attach(ifindex, point);
  }

  #requireXdp(link: Link): void {
    this.#log.info({ interface: link.name }, `probing whether what XDP sends leaves ${link.name}`);
    const isSame = ({ ifindex }: Link) => ifindex === link.ifindex;
    const transmitted = () => this.#links.read().find(isSame)?.transmitted ?? link.transmitted;
    if (requireXdpAnswers({ ...link, transmitted }, this.#kernel.xdpProbe) === "answers") return;
    this.#log.warn(
      { interface: link.name },
      `${link.name}: this kernel cannot probe whether XDP answers leave the NIC (Linux >= 5.18 can)`,
    );
  }

  /** XDP is blind to tags that the NIC strips, so for XDP it is told not to; for the others, as it was. */
  #keepVlanTags({ name, ifindex }: Link): void {
    const entry = this.#entries.get(ifindex)!;
    const isXdp = this.hook(ifindex) === "xdp";
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
    this.#set({ ...entry, vlan_strip_off: isXdp });
  }

  isAttached(ifindex: number, point: Point): boolean {
    return this.#kernel.isAttached(ifindex, point);
  }

  /** Attaches what another program has detached. @returns whether all were attached @throws Error if it cannot */
  reattach({ ifindex, name }: Link, fail: (message: string) => void): boolean {
    const missing = this.points(ifindex).filter((point) => !this.isAttached(ifindex, point));
    for (const point of missing) {
      const { kind, direction } = point;
      this.#attachAt({ ifindex, name }, point);
      fail(`isat was no longer attached to ${name} at ${kind} ${direction}: it is again`);
    }
    const front = this.points(ifindex).flatMap((point) => this.#goFirst({ ifindex, name }, point, fail));
    if (front.length > 0) this.blocked.set(ifindex, front.join("\n"));
    else this.blocked.delete(ifindex);
    return missing.length === 0;
  }

  /**
   * Puts isat's program before the others at a hook, once: one that insists on being the first would do the same.
   * @returns what an operator has to do where that did not help
   */
  #goFirst({ ifindex, name }: Pick<Link, "ifindex" | "name">, point: Point, fail: (message: string) => void): string[] {
    const find = () => programsInFront(ifindex, point, this.#kernel.programId(point), this.#kernel.isOurs).join(", ");
    const { kind, direction } = point;
    const before = find();
    const place = `${ifindex} ${kind} ${direction}`;
    if (before === "") return [];
    if (this.#passed.get(place) === before) return [standsInFront(name, point, before)];
    this.#passed.set(place, before);
    this.#kernel.detach(ifindex, point);
    this.#kernel.attach(ifindex, point);
    if (find() !== "") return [standsInFront(name, point, before)];
    fail(`${before} ran before isat on ${name} at ${kind} ${direction}: isat is the first again`);
    return [];
  }

  /** Makes pins again that somebody has removed, and says so, or why not. */
  repin(fail: (message: string) => void): void {
    try {
      const count = this.#kernel.repin();
      if (count > 0) fail(`${count} of isat's pins were gone, or out of reach: they are there again`);
    } catch (error) {
      fail((error as Error).message);
    }
  }

  /** Detaches from all others. */
  keep(ifindexes: readonly number[]): void {
    const gone = [...this.#kernel.maps.interfaces.entries()].filter(([each]) => !ifindexes.includes(each));
    const links = gone.length > 0 ? this.#links.read() : [];
    for (const [ifindex, { name, vlan_strip_off, is_guard }] of gone) {
      this.#kernel.detachAllBut(ifindex, []);
      if (vlan_strip_off) stripVlanTags(name, true);
      // By the name that it has now: another one may have had its old name since.
      const link = links.find((each) => each.ifindex === ifindex);
      if (link) leaveGroups(link.name);
      this.#entries.delete(ifindex);
      this.#guards.delete(ifindex);
      this.blocked.delete(ifindex);
      this.#kernel.writer.removeInterface(ifindex);
      if (!is_guard)
        this.#log.warn({ interface: name }, `interface ${name} is gone, or no longer meant: nothing is answered on it`);
    }
  }

  /** A start that failed: what it attached goes, what an earlier speaker left stays. */
  undo(): void {
    for (const [{ ifindex }, point] of this.#attached) this.#kernel.detach(ifindex, point);
    for (const { name, vlan_strip_off } of this.#entries.values()) {
      if (vlan_strip_off && this.#kernel.isFresh) stripVlanTags(name, true);
    }
    this.#kernel.discard();
  }
}

function standsInFront(name: string, { kind, direction }: Point, who: string): string {
  const advice =
    kind === "tc" ? "Detach it, or set hook: tcx where the kernel has it" : "Detach it, or attach it after isat";
  return (
    `${name}: ${who} runs before isat at ${kind} ${direction} and may keep ARP from it, so this node owns nothing there.` +
    ` ${advice} (bpftool net show; isat doctor)`
  );
}

/** The first address of IPv4, and one of each subnet, the smallest subnets first. */
function subnets({ addresses: all }: Pick<Link, "addresses">): Pick<InterfaceEntry, "address" | "own" | "masks"> {
  const addresses = all.flatMap(({ address, prefix }) => (isIPv4(address) ? [{ address, prefix }] : []));
  const maskOf = (prefix: number) => (prefix === 0 ? 0 : (-1 << (32 - prefix)) >>> 0);
  const bySubnet = Map.groupBy(addresses, ({ address, prefix }) => `${(address & maskOf(prefix)) >>> 0}/${prefix}`);
  const firsts = [...bySubnet.values()].map(([first]) => first!).sort((a, b) => b.prefix - a.prefix);
  const bytes = (values: number[]) =>
    Uint8Array.from(values.slice(0, MAX_SUBNETS).flatMap((each) => [...addressBytes(each)]));
  return {
    address: addressBytes(addresses[0]?.address ?? 0),
    own: bytes(firsts.map(({ address }) => address)),
    masks: bytes(firsts.map(({ prefix }) => maskOf(prefix))),
  };
}

const fields = ({ state, sourceStale, tick, helloNonce, lastHelloNonce }: Self) => ({
  state,
  source_stale: sourceStale,
  tick_ns: tick,
  hello_nonce: helloNonce,
  last_hello_nonce: lastHelloNonce,
});
