import TinyQueue from "tinyqueue";
import { randomOf } from "../../lab/random.ts";
import { vipState, wireClaim, wireHeader, wireType } from "../../src/core/abi.ts";
import { type Address, formatAddress, parseAddress, plus } from "../../src/core/address.ts";
import type { NodeEntry, VipRange } from "../../src/core/demand.ts";
import type { Question } from "../../src/core/step.ts";
import { isAbout } from "../../src/core/wire.ts";
import type { Message } from "../bpf/model.ts";
import {
  acts,
  type Deed,
  type Happening,
  Machine,
  MS,
  macIndex,
  macOf,
  nodesOf,
  type Speaker,
  type Wire,
} from "./machine.ts";

/*
 * Nodes on one wire, in time that passes as fast as it can be computed: the shipped segments (src/core/segment.ts) over the
 * model of the kernel's programs that test/bpf holds against the compiled ones. After each event it is checked that no VIP
 * is answered twice, and from time to time that none is silent for too long.
 */

const SECOND = 1000 * MS;
const START = 1000 * SECOND;

export interface Settings {
  nodes: number;
  vips: number;
  /** Of all chance. */
  seed: number;
  /** ms that a frame travels, from and to. */
  latency: readonly [number, number];
  /** Of claims, replies and notices, how many are lost; probes and echoes are not, for then who is alive is a matter of luck. */
  loss: number;
  /**
   * How often a control plane is interrupted between two effects of a step, and for how long at most, ms. Chance 1 and no
   * time: each write and each claim is an event of its own.
   */
  stalls: { chance: number; most: number };
  /** ms */
  hold: number;
  /** ms */
  fence: number;
  interval: number;
  dead: number;
  /**
   * For so long after the last thing that happened, a VIP may be silent where a node is there to answer, ms: until that is
   * noticed, and for another second where it was lost to a claim meanwhile.
   */
  silence: number;
  /**
   * For so long after two nodes hear each other again, both may answer, ms: where they have never met, until one sends its
   * next broadcast probe.
   */
  heal: number;
  /** For so long after both count each other as alive, both may answer, ms. */
  exchange: number;
  /**
   * For so long after the last thing that happened, two nodes that do not hear each other may both answer where a third one
   * hears both, ms.
   */
  between: number;
  /** Whether no client sends anything. */
  isQuiet: boolean;
  /** The first so many nodes run a speaker, and own VIPs; the others are only kernels that look alive. */
  speakers: number;
  /** Of those, which may own VIPs, by index; undefined: all. */
  eligible: readonly number[] | undefined;
  /** Whether the source gives the nodes' addresses. */
  hasAddresses: boolean;
  /** Those that are on the wire by another interface than the one for which the VIPs are, by index. */
  lacking: readonly number[];
  /** Nobody may take a VIP from a node whose control plane is down and whose kernel goes on. */
  isKept: boolean;
  /** For so long a node whose source is stale may answer where one with a fresh source is to, ms. */
  outdated: number;
}

export const DEFAULTS: Settings = {
  nodes: 3,
  vips: 12,
  seed: 1,
  latency: [0.05, 0.2],
  loss: 0,
  stalls: { chance: 0, most: 0 },
  hold: 30_000,
  fence: 300_000,
  interval: 100,
  dead: 3,
  silence: 1_500,
  heal: 1_500,
  exchange: Number.POSITIVE_INFINITY,
  between: 3_000,
  isQuiet: false,
  speakers: Number.POSITIVE_INFINITY,
  eligible: undefined,
  hasAddresses: true,
  lacking: [],
  isKept: false,
  outdated: 20_000,
};

export type Scheduled = Happening & { at: number; order: number };

/** What was found that must not be. */
export class Violation extends Error {}

export class Simulation implements Wire {
  readonly settings: Settings;
  now = START;
  readonly machines: Machine[] = [];
  readonly addresses: readonly Address[];
  /** What a source says that can be read. */
  demand: readonly VipRange[];
  readonly nodes: readonly NodeEntry[];
  /** From 0 to 1. */
  readonly random: () => number;
  /** What was done, and when: the way to a violation. */
  readonly diary: string[] = [];
  /** Whether the diary has what the nodes do and believe, too. */
  isTold = false;
  readonly frames = { probes: 0, hellos: 0, echoes: 0, claims: 0, bytes: 0 };
  /** Since when each VIP is answered by nobody on a side where a node is there to, and the longest silence there was. */
  private readonly silent = new Map<string, number>();
  longestSilence = 0;
  /** Since when each VIP is answered twice on one side, and the longest that one was. */
  private readonly double = new Map<Address, number>();
  longestDouble = 0;
  /** Since when two nodes that both answer count each other as alive. */
  private readonly known = new Map<string, number>();
  /** How often another node came to answer a VIP. */
  moves = 0;
  private readonly lastOwner = new Map<Address, Machine>();
  /** Who announced each VIP last on side 0, where the clients are: the machine's index. */
  readonly believed = new Map<Address, number>();
  /** How many announcements left. */
  announcements = 0;
  /** Directions in which no frame gets through: `from>to`. */
  readonly cuts = new Set<string>();
  /** Directions in which no frame of the peer protocol gets through, though ARP does. */
  readonly hushes = new Set<string>();
  /** Until when the nodes cannot know of what was done to them last. */
  disturbed = START;
  /** When something was done to them last, or to a frame that is on its way. */
  noted = START;
  isDirty = true;
  readonly queue = new TinyQueue<Scheduled>([], (a, b) => a.at - b.at || a.order - b.order);
  private order = 0;

  constructor(settings: Partial<Settings> = {}, random?: () => number) {
    this.settings = { ...DEFAULTS, ...settings };
    const { nodes, vips, seed, speakers, eligible, lacking, hasAddresses } = this.settings;
    this.random = random ?? randomOf(seed * 2654435761);
    const first = parseAddress("10.9.0.1");
    const names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
    this.nodes = hasAddresses ? nodesOf(names) : names.map((name) => ({ name, address: undefined }));
    const range = {
      first,
      last: plus(first, vips - 1),
      interfaces: lacking.length > 0 ? ["eth0"] : undefined,
      hashAs: undefined,
    };
    this.demand = [
      { ...range, nodes: eligible?.map((i) => names[i]!) ?? (speakers < nodes ? names.slice(0, speakers) : undefined) },
    ];
    this.addresses = Array.from({ length: vips }, (_, i) => plus(first, i));
    for (const [i, name] of names.entries()) this.machines.push(new Machine(this, name, i));
    this.at(0, { kind: "look" });
  }

  /** Now, as the nodes read it. */
  get clock(): bigint {
    return BigInt(this.now);
  }

  between(from: number, to: number): number {
    return from + (to - from) * this.random();
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)]!;
  }

  at(delay: number, happening: Happening): void {
    this.queue.push({ ...happening, at: this.now + Math.max(0, Math.round(delay)), order: this.order++ });
  }

  /** Lets so many ms pass. */
  run(milliseconds: number): void {
    const end = this.now + Math.round(milliseconds * MS);
    for (let next = this.queue.peek(); next && next.at <= end; next = this.queue.peek()) {
      this.queue.pop();
      this.perform(next);
    }
    this.now = Math.max(this.now, end);
  }

  perform(happening: Scheduled): void {
    this.now = Math.max(this.now, happening.at);
    this.happen(happening);
    if (this.isDirty) this.check();
  }

  private happen(happening: Happening): void {
    if (happening.kind === "check") this.isDirty = true;
    else if (happening.kind === "look") {
      this.isDirty = true;
      this.at(20 * MS, happening);
    } else {
      const machine = this.machines[happening.machine]!;
      if (happening.kind === "arrive") {
        const from = this.machines[happening.from]!;
        const isHushed = this.hushes.has(`${from.index}>${machine.index}`);
        if (machine.isUp && this.hears(from, machine) && !isHushed) machine.hear(happening.message);
        return;
      }
      if (happening.kind === "ask") {
        this.answer(happening, machine);
        return;
      }
      if (happening.kind === "act") {
        acts[happening.act](machine, this.machines[happening.other ?? 0]!);
        return;
      }
      const { speaker, starts } = machine;
      if (!speaker || starts !== happening.process) return;
      if (happening.kind === "resume") speaker.resume(true);
      else speaker.receive(happening.cause);
    }
  }

  /** Whether what one sends comes to the other. */
  hears(from: Machine, to: Machine): boolean {
    return from.side === to.side && !this.cuts.has(`${from.index}>${to.index}`);
  }

  /** Cuts one direction between two machines, or heals it. */
  cut(from: Machine, to: Machine, isCut: boolean): void {
    const name = `${from.index}>${to.index}`;
    if (this.cuts.has(name) === isCut) return;
    this.note(isCut ? `${to.name} no longer hears ${from.name}` : `${to.name} hears ${from.name} again`);
    if (isCut) this.cuts.add(name);
    else this.cuts.delete(name);
    if (!isCut) from.since = to.since = this.now;
  }

  allow(nodes: readonly string[] | undefined): void {
    this.note(`${nodes?.join(" ") ?? "every node"} may own the VIPs`);
    this.demand = [{ ...this.demand[0]!, nodes }];
    for (const machine of this.machines) machine.speaker?.replan();
  }

  /** Loses the peer protocol's frames in these directions, and lets ARP pass; or lets both pass again. */
  hush(pairs: readonly (readonly [from: Machine, to: Machine])[], isHushed: boolean): void {
    for (const [from, to] of pairs) {
      const name = `${from.index}>${to.index}`;
      if (this.hushes.has(name) === isHushed) continue;
      this.note(`${to.name} ${isHushed ? "is deaf to" : "is no longer deaf to"} ${from.name}`);
      if (isHushed) this.hushes.add(name);
      else this.hushes.delete(name);
      if (!isHushed) from.since = to.since = this.now;
    }
  }

  get clientFrames(): number {
    return this.settings.isQuiet ? 0 : Math.floor(this.now / SECOND);
  }

  /** A question by ARP leaves a machine. */
  ask(from: Machine, { target, mac }: Question): void {
    for (const to of mac ? [this.machines[macIndex(mac)]!] : this.machines) {
      if (to === from) continue;
      const question = { from: from.index, process: from.starts, machine: to.index, target };
      this.at(this.between(...this.settings.latency) * MS, { kind: "ask", ...question });
    }
  }

  private answer({ from, process, target }: Happening & { kind: "ask" }, machine: Machine): void {
    const asker = this.machines[from]!;
    if (!this.hears(asker, machine) || !this.hears(machine, asker) || !machine.answersFor(target)) return;
    const { speaker, starts } = asker;
    const answer = { kind: "answered", address: target, mac: macOf(machine.index) } as const;
    if (speaker && starts === process) speaker.post(answer, this.between(...this.settings.latency) * MS);
  }

  /** Whether the process is put aside before it does that: the world goes on, and it does so later. */
  isPutAside(speaker: Speaker, deed: Deed): boolean {
    const { chance, most } = this.settings.stalls;
    const { machine } = speaker;
    const isSeen =
      deed.kind === "write" || (deed.kind === "send" && (most > 0 || deed.frame.type >= wireType.WIRE_CLAIM));
    if (!isSeen || chance === 0 || (chance < 1 && this.random() >= chance)) return false;
    speaker.isAside = true;
    const pause = most * this.random() ** 3 * MS;
    this.at(pause, { kind: "resume", machine: machine.index, process: machine.starts });
    return true;
  }

  /**
   * Something is done to the nodes.
   * @param more for so long they cannot know of it, ns
   */
  note(what: string, more = 0): void {
    this.write(what);
    this.disturbed = Math.max(this.disturbed, this.now + more);
    this.noted = Math.max(this.noted, this.now);
    this.isDirty = true;
  }

  /** Something that a node does or believes. */
  tell(what: () => string): void {
    if (this.isTold) this.write(`  ${what()}`);
  }

  private write(what: string): void {
    this.diary.push(`${((this.now - START) / SECOND).toFixed(4)} s: ${what}`);
  }

  fail(what: string): never {
    const { seed, nodes } = this.settings;
    const lines = (this.isTold ? this.diary : this.diary.slice(-30)).join("\n  ");
    throw new Violation(
      `seed ${seed}, ${nodes} nodes, at ${((this.now - START) / SECOND).toFixed(4)} s: ${what}\n  ${lines}`,
    );
  }

  /** No VIP twice among those who hear each other, and none silent for too long where somebody could answer. */
  check(): void {
    this.isDirty = false;
    const able = new Set(this.machines.filter(({ isAble }) => isAble).map(({ side }) => side));
    const up = this.machines.filter(({ isUp }) => isUp);
    for (const address of this.addresses) {
      const answering = up.filter((machine) => machine.serves(address));
      for (const machine of answering) if (machine.isPastFence) this.fail(`${machine.name} answers past its fence`);
      for (const machine of answering) this.checkOutdated(address, machine);
      let isDouble = false;
      for (const [i, one] of answering.entries()) {
        for (const other of answering.slice(i + 1)) {
          if (this.isPair(address, one, other)) isDouble = true;
          this.checkBetween(address, one, other);
        }
      }
      const since = this.double.get(address) ?? this.now;
      if (isDouble) this.double.set(address, since);
      else this.double.delete(address);
      if (this.double.size === 0) this.known.clear();
      this.longestDouble = Math.max(this.longestDouble, this.now - since);
      for (const side of able)
        this.checkSilence(
          address,
          side,
          answering.find((machine) => machine.side === side),
        );
    }
    for (const name of this.silent.keys()) if (!able.has(Number(name.split(" ")[0]))) this.silent.delete(name);
  }

  /** Who goes by an old demand leaves the VIP to who knows the new one. */
  private checkOutdated(address: Address, machine: Machine): void {
    const since = Math.max(machine.sourceSince, this.disturbed);
    if (!machine.isSourceStale || !machine.isWorking || this.now - since <= this.settings.outdated * MS) return;
    const isBeside = (other: Machine) => other.isFresh && this.hears(other, machine) && this.hears(machine, other);
    const better = this.machines.find(isBeside);
    if (better)
      this.fail(
        `${formatAddress(address)} is answered by ${machine.name}, whose source is stale, beside ${better.name}\n${this.describe(address)}`,
      );
  }

  private checkSilence(address: Address, side: number, owner: Machine | undefined): void {
    const name = `${side} ${address}`;
    const since = this.silent.get(name);
    if (owner) {
      this.silent.delete(name);
      if (since !== undefined) this.longestSilence = Math.max(this.longestSilence, this.now - since);
      const before = this.lastOwner.get(address);
      if (before !== owner) this.moves += 1;
      if (this.settings.isKept && before !== owner && before?.isHeadless)
        this.fail(`${formatAddress(address)} was taken from ${before.name}, which is headless, by ${owner.name}`);
      this.lastOwner.set(address, owner);
    } else if (since === undefined) this.silent.set(name, this.now);
    else if (this.isConnected(side) && this.now - Math.max(since, this.disturbed) > this.settings.silence * MS) {
      const seconds = ((since - START) / SECOND).toFixed(4);
      this.fail(`${formatAddress(address)} is silent on side ${side} since ${seconds} s\n${this.describe(address)}`);
    }
  }

  private areMutual(one: Machine, other: Machine): boolean {
    return this.hears(one, other) && this.hears(other, one);
  }

  /** A node that hears both. */
  private thirdOf(one: Machine, other: Machine): Machine | undefined {
    const isIt = (third: Machine) => third.isWorking && this.areMutual(one, third) && this.areMutual(other, third);
    return this.machines.find((third) => third !== one && third !== other && isIt(third));
  }

  /** Whether all of a side hear each other, or are both heard by a third node. */
  private isConnected(side: number): boolean {
    if (this.cuts.size === 0) return true;
    const up = this.machines.filter((machine) => machine.isUp && machine.side === side);
    const isPair = (one: Machine, other: Machine) => this.areMutual(one, other) || this.thirdOf(one, other);
    return up.every((one, i) => up.slice(i + 1).every((other) => isPair(one, other)));
  }

  /** Two nodes that do not hear each other learn from a third one that they are both alive. */
  private checkBetween(address: Address, one: Machine, other: Machine): void {
    if (this.areMutual(one, other) || this.hushes.size > 0) return;
    const third = this.thirdOf(one, other);
    const areWell = [one, other].every(({ isWorking, isDrained }) => isWorking && !isDrained);
    if (!third || !areWell || this.now - this.disturbed <= this.settings.between * MS) return;
    this.fail(
      `${formatAddress(address)} is answered by ${one.name} and ${other.name}, both of which ${third.name} hears\n${this.describe(address)}`,
    );
  }

  private isPair(address: Address, one: Machine, other: Machine): boolean {
    if (!this.hears(one, other) || !this.hears(other, one)) return false;
    const { heal, exchange } = this.settings;
    const since = Math.max(one.since, other.since, Math.min(one.idleUntil, other.idleUntil));
    const pair = `${one.index} ${other.index}`;
    if (!one.knows(other) || !other.knows(one)) this.known.delete(pair);
    else if (!this.known.has(pair)) this.known.set(pair, this.now);
    const met = Math.max(this.known.get(pair) ?? this.now, this.noted);
    if (this.now - since <= heal * MS && this.now - met <= exchange * MS) return true;
    this.fail(`${formatAddress(address)} is answered by ${one.name} and ${other.name}\n${this.describe(address)}`);
  }

  /** Of one VIP, what each node knows. */
  describe(address: Address): string {
    const stateName = (state: number | undefined) =>
      Object.entries(vipState).find(([, value]) => value === state)?.[0] ?? "nothing";
    return this.machines
      .map(({ name, kernel, side, isUp, speaker }) => {
        const vip = kernel.vips.get(formatAddress(address));
        const { segment } = speaker ?? {};
        const candidates = segment?.electorate?.candidates?.join(" ") ?? "unknown";
        const belief = segment
          ? `its speaker${speaker!.isFrozen ? " (frozen)" : ""} has ${stateName(segment.entries.get(address)?.state)}, wish ${segment.wish(address)}, candidates ${candidates}`
          : "no speaker";
        const released = kernel.releases.get(formatAddress(address));
        const answers = kernel.answers(address, this.clock) ? "answers" : "is silent";
        return `    ${name} (${isUp ? `side ${side}` : "off"}) ${answers}: kernel ${stateName(vip?.state)} claimed ${vip?.claim_ns} released ${released}; ${belief}`;
      })
      .join("\n");
  }

  /** Who answers the VIP now. */
  owners(address: Address): string[] {
    return this.machines.filter((machine) => machine.serves(address)).map(({ name }) => name);
  }

  /** A machine announces a VIP. */
  announce({ side, index, name }: Machine, address: Address): void {
    this.announcements += 1;
    this.tell(() => `${name} announces ${formatAddress(address)}`);
    if (side === 0) this.believed.set(address, index);
  }

  /** VIPs that somebody answers on side 0, and that were announced by somebody else last. */
  get misled(): string[] {
    return this.addresses
      .filter((address) => {
        const owners = this.machines.filter(
          ({ isUp, side, kernel }) => isUp && side === 0 && kernel.answers(address, this.clock),
        );
        return owners.length > 0 && !owners.some(({ index }) => index === this.believed.get(address));
      })
      .map(formatAddress);
  }

  /** A frame leaves a machine. */
  transmit(from: Machine, message: Message): void {
    const { latency, loss } = this.settings;
    const { type, destination } = message.header;
    const isBroadcast = destination[0] === 255;
    if (type === wireType.WIRE_PROBE) this.frames[isBroadcast ? "hellos" : "probes"] += 1;
    else if (type === wireType.WIRE_ECHO) this.frames.echoes += 1;
    else if (!message.claims.some(isAbout)) this.frames.claims += 1;
    this.frames.bytes += SIZE + message.claims.length * wireClaim.size;
    for (const to of isBroadcast ? this.machines : [this.machines[macIndex(destination)]!]) {
      if (to === from || (type >= wireType.WIRE_CLAIM && this.random() < loss)) continue;
      const delay = this.between(...latency) * MS;
      this.at(delay, { kind: "arrive", from: from.index, machine: to.index, message });
    }
  }
}

/** Bytes of a frame without claims. */
export const SIZE = wireHeader.size + 8;
