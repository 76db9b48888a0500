import {
  type InterfaceEntry,
  interfaceEntry,
  nodeState,
  type Peer,
  type Probe,
  probe as probeLayout,
  type Vip,
  vip,
  vipState,
  type WireHeader,
  wireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { type Address, addressBytes, formatAddress, having, parseAddress, plus } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { Nonces } from "../../src/core/claims.ts";
import type { NodeEntry, VipRange } from "../../src/core/demand.ts";
import { LIVE_FOR } from "../../src/core/liveness.ts";
import { elect } from "../../src/core/ownership.ts";
import { Segment, type SegmentEvent, type SegmentPlan } from "../../src/core/segment.ts";
import { isFenced, isGone, stateOf } from "../../src/core/state.ts";
import {
  type Effects,
  type Entry,
  type Heard,
  heardOf,
  type Outgoing,
  type ProbeEntry,
  type Question,
  type Reading,
  type Self,
  UNOWNED,
} from "../../src/core/step.ts";
import { checkOf, entryOf, fieldsOf } from "../../src/core/vip.ts";
import { isAbout, nodeId, SOURCE_STALE, VERSION, wordOf } from "../../src/core/wire.ts";
import { isAnswered, isOpen, type Message, take, type Kernel as World } from "../bpf/model.ts";
import { IFINDEX } from "../bpf/speech.ts";

/** Times of the simulation are numbers: ns, from a machine's boot. */
export const MS = 1e6;

/** What is to happen. Data only, so that all of a simulation can be copied in the middle of its run. */
export type Happening =
  /** A frame comes to a machine's NIC. */
  | { kind: "arrive"; from: number; machine: number; message: Message }
  /** A question by ARP comes to a machine's NIC. */
  | { kind: "ask"; from: number; process: number; machine: number; target: Address }
  /** A process gets to know something. */
  | { kind: "cause"; machine: number; process: number; cause: Cause }
  /** A process that was put aside, or frozen, goes on. */
  | { kind: "resume"; machine: number; process: number }
  /** Something is done to a machine. */
  | { kind: "act"; machine: number; act: Act; other?: number }
  /** Somebody may begin or stop to answer by the clock alone. */
  | { kind: "check" }
  /** Time for the next look at everything. */
  | { kind: "look" };

/**
 * What can be done to a machine; `cut` and `heal` are of what it sends to another one, and `hush` and `unhush` too, where only
 * the peer protocol is lost, and ARP passes; `deafen` and `undeafen` are that with all others, in both directions, and
 * `part` and `meet` are `cut` and `heal` in both, `isolate` and `rejoin` that with all others.
 */
export const acts = {
  kill: (machine: Machine) => machine.kill(),
  start: (machine: Machine) => machine.start(),
  freeze: (machine: Machine) => machine.freeze(),
  thaw: (machine: Machine) => machine.thaw(),
  die: (machine: Machine) => machine.die(),
  boot: (machine: Machine) => machine.boot(),
  drain: (machine: Machine) => machine.drain(true),
  undrain: (machine: Machine) => machine.drain(false),
  "shut down": (machine: Machine) => machine.setEnding(true),
  "go on": (machine: Machine) => machine.setEnding(false),
  stale: (machine: Machine) => machine.setSourceStale(true),
  fresh: (machine: Machine) => machine.setSourceStale(false),
  only: (machine: Machine) => machine.simulation.allow([machine.name]),
  all: (machine: Machine) => machine.simulation.allow(undefined),
  cut: (machine: Machine, other: Machine) => machine.simulation.cut(machine, other, true),
  heal: (machine: Machine, other: Machine) => machine.simulation.cut(machine, other, false),
  part: (machine: Machine, other: Machine) => machine.part(other, true),
  meet: (machine: Machine, other: Machine) => machine.part(other, false),
  isolate: (machine: Machine) => machine.isolate(true),
  rejoin: (machine: Machine) => machine.isolate(false),
  hush: (machine: Machine, other: Machine) => machine.simulation.hush([[machine, other]], true),
  unhush: (machine: Machine, other: Machine) => machine.simulation.hush([[machine, other]], false),
  deafen: (machine: Machine) => machine.simulation.hush(machine.pairs, true),
  undeafen: (machine: Machine) => machine.simulation.hush(machine.pairs, false),
} as const;
export type Act = keyof typeof acts;

/** What a machine needs of the wire that it is on, and of the time there (simulation.ts). */
export interface Wire {
  readonly settings: {
    speakers: number;
    lacking: readonly number[];
    hold: number;
    fence: number;
    interval: number;
    dead: number;
  };
  readonly machines: readonly Machine[];
  readonly nodes: readonly NodeEntry[];
  /** What a source says that can be read. */
  readonly demand: readonly VipRange[];
  /** The nodes that may own the VIPs are others; undefined: all are. */
  allow(nodes: readonly string[] | undefined): void;
  readonly random: () => number;
  readonly now: number;
  /** Now, as the nodes read it. */
  readonly clock: bigint;
  /** Something changed that may make a difference to who answers. */
  isDirty: boolean;
  at(delay: number, happening: Happening): void;
  transmit(from: Machine, message: Message): void;
  announce(from: Machine, address: Address): void;
  cut(from: Machine, to: Machine, isCut: boolean): void;
  hush(pairs: readonly (readonly [from: Machine, to: Machine])[], isHushed: boolean): void;
  ask(from: Machine, question: Question): void;
  /** How many frames a client has sent to all so far. */
  readonly clientFrames: number;
  isPutAside(speaker: Speaker, deed: Deed): boolean;
  note(what: string, more?: number): void;
  tell(what: () => string): void;
  fail(what: string): never;
}

/** ns between two verifications, as in src/speaker.ts. */
const TICK = 500 * MS;
/** ns that a frame takes from the kernel to the speaker. */
const PASS = 0.05 * MS;
const FOREVER = 2n ** 62n;

export const macOf = (index: number) => Uint8Array.of(2, 0, 0, 0, index >> 8, index & 255);
export const macIndex = (mac: Uint8Array) => (mac[4]! << 8) | mac[5]!;
export const addressOf = (index: number): Address => plus(parseAddress("10.10.0.0"), index);

/** How the model's entries of peers read to a segment; an entry is replaced, never changed. */
const portraits = new WeakMap<Peer, Heard>();

function portrait(node: bigint, peer: Peer): Heard {
  const known = portraits.get(peer);
  if (known) return known;
  const heard = Object.freeze(heardOf(node, peer));
  portraits.set(peer, heard);
  return heard;
}

/** The maps of one node's kernel. The rules that read and write them are those of test/bpf/model.ts. */
export class Kernel implements World {
  interface: InterfaceEntry | undefined;
  readonly vips = new Map<string, Vip>();
  readonly releases = new Map<string, bigint>();
  readonly peers = new Map<bigint, Peer>();
  readonly probes = new Map<bigint, Probe>();
  heard_ns = 0n;
  own_ns = 0n;
  strangers_ns = 0n;
  /** The counter `released` of the map `verdicts`. */
  released = 0n;
  /** Those of frames that others sent. */
  seen = 0n;

  write(address: Address, entry: Entry): void {
    const text = formatAddress(address);
    const key = { ip: addressBytes(address), ifindex: IFINDEX };
    const its = vip.of({ ...fieldsOf(entry), check: checkOf(key) });
    this.vips.set(text, Object.freeze(its));
    if (!this.releases.has(text)) this.releases.set(text, 0n);
  }

  remove(address: Address): void {
    this.vips.delete(formatAddress(address));
    this.releases.delete(formatAddress(address));
  }

  /** Whether a question for the VIP is answered. */
  answers(address: Address, now: bigint): boolean {
    const text = formatAddress(address);
    if (!this.vips.has(text) || !this.interface || !isAnswered(text, this, now)) return false;
    return !isGone(this.interface, this.heard_ns, now) && !isFenced(this.interface, now);
  }

  private wasReleased(address: Address): boolean {
    const vip = this.vips.get(formatAddress(address));
    if (!vip || vip.state === vipState.NOT_OWNED) return false;
    return (this.releases.get(formatAddress(address)) ?? 0n) >= entryOf(vip).claimNs;
  }

  get addresses(): Address[] {
    return [...this.vips.keys()].map(parseAddress);
  }

  read(look: ReadonlySet<Address> | "all", clientFrames = 0): Reading {
    return {
      seen: this.seen + BigInt(clientFrames),
      peers: [...this.peers].map(([node, peer]) => portrait(node, peer)),
      releases: this.released,
      released: (look === "all" ? this.addresses : [...look]).filter((address) => this.wasReleased(address)),
    };
  }

  /** What an earlier speaker left. What was released since counts as not owned, and is written so. */
  adopt(): Map<Address, Entry> {
    for (const address of this.addresses) if (this.wasReleased(address)) this.write(address, UNOWNED);
    return new Map(this.addresses.map((address) => [address, entryOf(this.vips.get(formatAddress(address))!)]));
  }

  /** Takes in a frame. @returns what becomes of it */
  hear(message: Message, now: bigint): { reply: Message | undefined; isPassed: boolean } {
    const { action, counters, reply, peer, released, heard_ns, own_ns } = take(message, this, now);
    if (peer) this.peers.set(message.header.node, Object.freeze(peer));
    for (const [address, at] of released ?? []) this.releases.set(address, at);
    this.released += BigInt(counters.released ?? 0);
    this.seen += 1n;
    this.heard_ns = heard_ns ?? this.heard_ns;
    this.own_ns = own_ns ?? this.own_ns;
    return { reply, isPassed: action === "pass" };
  }
}

/** A node: its kernel, its place on the wire, and its speaker, if one runs. */
export class Machine {
  readonly simulation: Wire;
  readonly name: string;
  readonly index: number;
  readonly id: bigint;
  kernel = new Kernel();
  speaker: Speaker | undefined;
  /** How many speakers ran here. */
  starts = 0;
  isUp = true;
  isDrained = false;
  isSourceStale = false;
  isEnding = false;
  /** Since when the source is what it is. */
  sourceSince = 0;
  /** What its source said last. */
  demand: readonly VipRange[];
  /** Nodes of one side hear each other. */
  side = 0;
  /** Since when it hears what it hears. */
  since: number;
  /** Another speaker runs here, as MetalLB's: it answers for what the node wins among all, where isat has no word in it. */
  hasOther = false;
  /** Until when no speaker worked here. */
  private idle: number;

  constructor(simulation: Wire, name: string, index: number) {
    this.simulation = simulation;
    this.name = name;
    this.index = index;
    this.id = nodeId(name);
    this.since = simulation.now;
    this.idle = simulation.now;
    this.demand = simulation.demand;
    if (index >= simulation.settings.speakers) this.pretend();
  }

  /** A kernel that says that it is alive, without a speaker. */
  private pretend(): void {
    this.kernel.interface = interfaceEntry.of({
      ...{ node: this.id, node_name: this.name, incarnation: this.id, state: nodeState.LIVE, mac: macOf(this.index) },
      ...{ tick_ns: this.simulation.clock, live_ns: FOREVER, hold_ns: FOREVER, fence_ns: FOREVER, gone_ns: FOREVER },
    });
  }

  /** That kernel counts this speaker among its peers. */
  acquaint({ machine: { id }, incarnation }: Speaker): void {
    this.kernel.probes.set(id, probeLayout.of({ incarnation }));
  }

  /** This machine with each other one, in both directions. */
  get pairs(): [from: Machine, to: Machine][] {
    const others = this.simulation.machines.filter((other) => other !== this);
    return others.flatMap((other): [Machine, Machine][] => [
      [this, other],
      [other, this],
    ]);
  }

  isolate(isCut: boolean): void {
    for (const other of this.simulation.machines) if (other !== this) this.part(other, isCut);
  }

  /** The two no longer hear each other, or do again. */
  part(other: Machine, isCut: boolean): void {
    this.simulation.cut(this, other, isCut);
    this.simulation.cut(other, this, isCut);
  }

  /** Whether it answers when it is asked by ARP: for its own address, or for a VIP. */
  answersFor(address: Address): boolean {
    return this.isUp && (address === addressOf(this.index) || this.serves(address));
  }

  /** Whether a question for the VIP is answered here, by isat's programs or by another speaker. */
  serves(address: Address): boolean {
    if (!this.isUp) return false;
    if (!this.hasOther) return this.kernel.answers(address, this.simulation.clock);
    const vip = this.kernel.vips.get(formatAddress(address));
    if (vip && !isOpen(formatAddress(address), this.kernel)) return this.kernel.answers(address, this.simulation.clock);
    const { nodes, demand } = this.simulation;
    const names = nodes.map(({ name }) => name);
    return demand.some(having(address)) && elect(names, formatAddress(address)) === this.name;
  }

  /** `isat clean`, without a goodbye: nothing of isat is left, and what another speaker says leaves again. */
  clean(): void {
    this.simulation.note(`${this.name} is cleaned`);
    this.speaker = undefined;
    this.kernel = new Kernel();
  }

  /** The VIPs are for eth0, where they are for one only. */
  get interfaceName(): string {
    return this.simulation.settings.lacking.includes(this.index) ? "eth1" : "eth0";
  }

  get isWorking(): boolean {
    return this.isUp && this.speaker !== undefined && !this.speaker.isFrozen && this.speaker.segment.isJoined;
  }

  /** Whether it could answer for a VIP that nobody else answers; not so where it cannot know that it is to. */
  get isAble(): boolean {
    if (!this.isWorking || this.isDrained || !this.speaker!.knowsPeers) return false;
    if (this.interfaceName !== "eth0") return false;
    return this.demand === this.simulation.demand && (this.demand[0]!.nodes?.includes(this.name) ?? true);
  }

  /** Whether it could, its source tells it that it is to, and it does not give its VIPs away as it is being shut down. */
  get isFresh(): boolean {
    return this.isAble && !this.isSourceStale && !this.isEnding;
  }

  /** Whether its speaker runs, and counts the other node as alive. */
  knows({ id }: Machine): boolean {
    return this.isWorking && this.speaker!.segment.members.some(({ isAlive, heard }) => isAlive && heard.node === id);
  }

  /** True if its control plane has been down for so long that a peer stands in for it, and its kernel goes on. */
  get isHeadless(): boolean {
    const entry = this.kernel.interface;
    return this.isUp && entry !== undefined && stateOf(entry, this.simulation.clock) === nodeState.HEADLESS;
  }

  /** Whether its control plane has been down for longer than `fence`. */
  get isPastFence(): boolean {
    const { clock, settings } = this.simulation;
    return Number(clock - (this.kernel.interface?.tick_ns ?? clock)) > settings.fence * MS;
  }

  get idleUntil(): number {
    if (!this.isWorking) this.idle = this.simulation.now;
    return this.idle;
  }

  start(): void {
    if (this.speaker || !this.isUp) return;
    this.simulation.note(`${this.name}'s speaker starts`);
    this.idle = this.simulation.now;
    this.starts += 1;
    this.speaker = new Speaker(this);
    this.speaker.begin();
  }

  /** kill -9; a SIGTERM leaves the kernel as it is, too. */
  kill(): void {
    if (!this.speaker) return;
    this.simulation.note(`${this.name}'s speaker is killed`, Number(LIVE_FOR));
    this.speaker = undefined;
  }

  freeze(): void {
    if (!this.speaker || this.speaker.isFrozen) return;
    this.simulation.note(`${this.name}'s speaker is frozen`, Number(LIVE_FOR));
    this.speaker.isFrozen = true;
  }

  thaw(): void {
    if (!this.speaker?.isFrozen) return;
    this.simulation.note(`${this.name}'s speaker thaws`);
    this.idle = this.simulation.now;
    this.speaker.isFrozen = false;
    this.simulation.at(0, { kind: "resume", machine: this.index, process: this.starts });
  }

  drain(isDrained: boolean): void {
    if (this.isDrained === isDrained) return;
    this.simulation.note(`${this.name} is ${isDrained ? "drained" : "undrained"}`);
    this.isDrained = isDrained;
    this.speaker?.replan();
  }

  setEnding(isEnding: boolean): void {
    if (!this.isUp || this.isEnding === isEnding) return;
    this.simulation.note(`${this.name} ${isEnding ? "is being shut down" : "goes on"}`);
    this.isEnding = isEnding;
    this.speaker?.replan();
  }

  setSourceStale(isStale: boolean): void {
    if (this.isSourceStale === isStale) return;
    this.simulation.note(`${this.name}'s source is ${isStale ? "stale" : "fresh"}`);
    this.isSourceStale = isStale;
    this.sourceSince = this.simulation.now;
    this.speaker?.replan();
  }

  /** The power goes: what the kernel's maps held goes with it. */
  die(): void {
    if (!this.isUp) return;
    this.simulation.note(`${this.name} dies`);
    this.isUp = false;
    this.isEnding = false;
    this.speaker = undefined;
    this.kernel = new Kernel();
  }

  boot(): void {
    if (this.isUp) return;
    this.simulation.note(`${this.name} is on again`);
    this.isUp = true;
    this.since = this.simulation.now;
    this.start();
  }

  moveTo(side: number): void {
    if (this.side === side) return;
    this.simulation.note(`${this.name} hears side ${side}`);
    this.side = side;
    for (const machine of this.simulation.machines) if (machine.side === side) machine.since = this.simulation.now;
  }

  /** A frame arrives. */
  hear(message: Message): void {
    const { simulation, kernel } = this;
    if (!kernel.interface) return;
    const { reply, isPassed } = kernel.hear(message, simulation.clock);
    if (message.header.type === wireType.WIRE_CLAIM) {
      simulation.isDirty = true;
      simulation.tell(() => `${this.name}'s kernel decides ${describe(reply ?? message)}`);
    }
    if (reply) simulation.transmit(this, Object.freeze(reply));
    if (isPassed && this.speaker)
      this.speaker.post({ kind: "frame", frame: { ...message.header, claims: [...message.claims] } }, PASS);
  }
}

/** A frame in words. */
export function describe({ header, claims }: Message): string {
  const nameOf = (names: Record<string, number>, value: number) =>
    Object.entries(names).find(([, its]) => its === value)?.[0] ?? `${value}`;
  const ages = claims.filter(isAbout).map((claim) => {
    const { age, state } = wordOf(claim);
    return header.type === wireType.WIRE_CLAIM
      ? "when was a node heard?"
      : `${nameOf(nodeState, state)}, heard ${age} ns ago`;
  });
  const verdicts = claims
    .filter((claim) => !isAbout(claim))
    .map(({ ip, verdict }) => `${ip.join(".")} ${["CLAIMED", "FREE", "RELEASED", "MINE"][verdict]}`);
  const said = `${nameOf(wireType, header.type)} of ${header.name} (${nameOf(nodeState, header.state)})`;
  return verdicts.length + ages.length > 0 ? `${said}: ${[...verdicts, ...ages].join(", ")}` : said;
}

/** What wakes the process. */
export type Cause = SegmentEvent | { kind: "tick" } | { kind: "timer"; at: bigint };

/** One effect, or what follows from those before it. The process may be put aside, or killed, before each. */
export type Deed =
  | { kind: "self"; self: Self }
  | { kind: "write"; address: Address; entry: Entry }
  | { kind: "remove"; address: Address }
  | { kind: "probe"; probe: ProbeEntry }
  | { kind: "forget"; nodes: readonly bigint[] | "all" }
  | { kind: "send"; frame: Outgoing }
  | { kind: "announce"; address: Address }
  | { kind: "ask"; question: Question }
  | { kind: "conflict"; text: string }
  /** What the segment has to know of the effects goes into the queue. */
  | { kind: "report"; look: Effects["look"] };

/** The effects one by one, in the order in which they are to be applied. */
function* deedsOf(effects: Effects): Generator<Deed> {
  const { self, write, remove, probes, forget, send, announce, ask, conflict, look } = effects;
  if (self) yield { kind: "self", self };
  for (const [address, entry] of write) yield { kind: "write", address, entry };
  for (const address of remove) yield { kind: "remove", address };
  for (const probe of probes) yield { kind: "probe", probe };
  if (forget.length > 0) yield { kind: "forget", nodes: forget };
  for (const frame of send) yield { kind: "send", frame };
  for (const address of announce) yield { kind: "announce", address };
  for (const question of ask) yield { kind: "ask", question };
  if (conflict !== undefined) yield { kind: "conflict", text: conflict };
  if (send.length + ask.length > 0 || look) yield { kind: "report", look };
}

/** A speaker process: the shipped segment, and what it has yet to do and to hear. */
export class Speaker {
  readonly machine: Machine;
  readonly segment: Segment;
  readonly incarnation: bigint;
  isFrozen = false;
  /** What is left of the step that is being applied. */
  deeds: Deed[] = [];
  /** What happened while it was busy or frozen. */
  private backlog: Cause[] = [];
  /** What the segment has to know of its effects, before anything else. */
  private events: SegmentEvent[] = [];
  /** The step's frames that left, and when the first one was about to. */
  private left: Outgoing[] = [];
  private asked: Question[] = [];
  private leftAt = 0n;
  wakeAt: bigint | undefined;
  private timerAt: bigint | undefined;
  /** The process waits for its turn in the middle of a step. */
  isAside = false;

  constructor(machine: Machine) {
    const { simulation, kernel, starts, id } = machine;
    this.machine = machine;
    this.incarnation = (id & ~0xffffn) | BigInt(starts);
    const pinned = kernel.interface;
    const options = {
      ...{ nonces: new Nonces(), random: simulation.random, began: simulation.clock, entries: kernel.adopt() },
      pinned: pinned && { state: pinned.state, tick: pinned.tick_ns },
      isRightful: pinned !== undefined && pinned.state !== nodeState.JOINING,
    };
    this.segment = new Segment(options, simulation.clock);
    this.say(this.segment.said);
    for (const other of simulation.machines) if (other.index >= simulation.settings.speakers) other.acquaint(this);
  }

  begin(): void {
    this.post({ kind: "tick" }, 0); // src/speaker.ts verifies before it plans
    this.replan();
  }

  private get id() {
    return { machine: this.machine.index, process: this.machine.starts };
  }

  /** It knows of each node whether it is there. */
  get knowsPeers(): boolean {
    // biome-ignore lint/complexity/useLiteralKeys: the key is private
    const joining = this.segment["peering"]?.joining;
    return this.machine.simulation.machines.length === 1 || joining?.unheard.isUndecided === false;
  }

  replan(): void {
    const { machine } = this;
    const { simulation, index, name, isSourceStale, isDrained, isEnding } = machine;
    if (!isSourceStale) machine.demand = simulation.demand;
    const { hold, interval, dead } = simulation.settings;
    const plan: SegmentPlan = {
      ...{ name: machine.interfaceName, mac: formatMac(macOf(index)), mtu: 1500, isUp: true },
      ...{ node: name, nodes: simulation.nodes, gateways: [] },
      ...{ isSourceStale, isDrained, isEnding, isOldSpoken: false, hold: BigInt(hold * MS) },
      ranges: machine.interfaceName === "eth0" ? machine.demand : [],
      probes: { interval: BigInt(interval * MS), dead },
      pace: { refresh: 120_000, rate: 1_000 },
    };
    this.post({ kind: "plan", plan: Object.freeze(plan) }, 0);
  }

  /** Something that the process gets to know, so many ns from now. */
  post(cause: Cause, delay: number): void {
    this.machine.simulation.at(delay, { kind: "cause", ...this.id, cause });
  }

  /** Takes in what happened, now or when it is let go on. */
  receive(cause: Cause): void {
    this.backlog.push(cause);
    this.resume();
  }

  private start(cause: Cause): void {
    const { simulation } = this.machine;
    if (cause.kind === "tick") {
      this.post(cause, TICK);
      this.handle({ kind: "verified", at: simulation.clock });
    } else if (cause.kind === "timer") {
      // A timer that was set anew since does not run out.
      if (cause.at !== this.wakeAt) return;
      this.timerAt = undefined;
      this.handle({ kind: "wake" });
    } else if (cause.kind !== "frame") this.handle(cause);
    else {
      const { frame } = cause;
      if (frame.node === this.machine.id && frame.incarnation === this.incarnation) simulation.fail("a loop");
      if (frame.to === this.incarnation) this.handle(cause);
    }
  }

  private handle(event: SegmentEvent): void {
    const { simulation, name } = this.machine;
    const effects = this.segment.handle(event, simulation.clock);
    for (const { message } of effects.notices) simulation.tell(() => `${name}'s speaker: ${message}`);
    this.deeds = [...deedsOf(effects)];
    this.wakeAt = effects.wakeAt;
  }

  /** Goes on with the step, and then with what happened meanwhile; until the process is put aside. */
  resume(isLetGo = false): void {
    const { simulation } = this.machine;
    if (isLetGo) this.isAside = false;
    let isFirst = isLetGo;
    for (;;) {
      if (this.isFrozen || this.isAside || this.machine.speaker !== this) return;
      const deed = this.deeds[0];
      if (!deed) {
        const event = this.events.shift();
        if (event) {
          this.handle(event);
          continue;
        }
        const cause = this.backlog.shift();
        if (!cause) break;
        this.start(cause);
        continue;
      }
      if (deed.kind === "send" && this.left.length === 0 && !isFirst) this.leftAt = simulation.clock;
      if (!isFirst && simulation.isPutAside(this, deed)) return;
      isFirst = false;
      this.deeds.shift();
      this.apply(deed);
    }
    this.setTimer();
  }

  private setTimer(): void {
    const { simulation } = this.machine;
    if (this.wakeAt === undefined || this.wakeAt === this.timerAt) return;
    this.timerAt = this.wakeAt;
    // As late as timers are: up to 2 ms, as the other work of a process has it.
    const delay = Math.max(0, Number(this.wakeAt - simulation.clock)) + 2 * MS * simulation.random();
    this.post({ kind: "timer", at: this.wakeAt }, delay);
  }

  private apply(deed: Deed): void {
    const { machine, left } = this;
    const { simulation, kernel } = machine;
    switch (deed.kind) {
      case "self":
        this.say(deed.self);
        break;
      case "write": {
        const { address, entry } = deed;
        kernel.write(address, entry);
        simulation.isDirty = true;
        const word = Object.entries(vipState).find(([, value]) => value === entry.state)![0];
        simulation.tell(() => `${machine.name} writes ${formatAddress(address)}: ${word}`);
        if (entry.untilNs > simulation.clock)
          simulation.at(Number(entry.untilNs - simulation.clock), { kind: "check" });
        break;
      }
      case "remove":
        kernel.remove(deed.address);
        simulation.isDirty = true;
        break;
      case "probe": {
        const { peer, nonce, lastNonce } = deed.probe;
        const { node, name, mac, incarnation } = peer;
        const entry = probeLayout.of({ node: name, mac, incarnation, nonce, last_nonce: lastNonce });
        kernel.probes.set(node, Object.freeze(entry));
        break;
      }
      case "forget":
        for (const node of deed.nodes === "all" ? [...kernel.peers.keys()] : deed.nodes) {
          kernel.peers.delete(node);
          kernel.probes.delete(node);
        }
        break;
      case "send":
        left.push(deed.frame);
        simulation.transmit(machine, this.frameOf(deed.frame));
        break;
      case "announce":
        // The egress filter drops what the kernel does not answer for.
        if (kernel.answers(deed.address, simulation.clock)) simulation.announce(machine, deed.address);
        break;
      case "ask":
        if (this.left.length + this.asked.length === 0) this.leftAt = simulation.clock;
        this.asked.push(deed.question);
        simulation.ask(machine, deed.question);
        break;
      case "conflict":
        simulation.fail(deed.text);
        break;
      case "report":
        if (left.length + this.asked.length > 0)
          this.events.push({ kind: "sent", at: this.leftAt, frames: left, refused: [], asked: this.asked });
        this.left = [];
        this.asked = [];
        if (deed.look) this.events.push({ kind: "reading", reading: kernel.read(deed.look, simulation.clientFrames) });
        break;
    }
  }

  private say({ state, sourceStale, tick, helloNonce, lastHelloNonce }: Self): void {
    const { machine } = this;
    const { hold, fence } = machine.simulation.settings;
    const before = machine.kernel.interface;
    machine.kernel.interface = interfaceEntry.of({
      ...{ name: machine.interfaceName, mac: macOf(machine.index), node_name: machine.name, node: machine.id },
      ...{ incarnation: this.incarnation, state, source_stale: sourceStale, tick_ns: tick },
      ...{ hello_nonce: helloNonce, last_hello_nonce: lastHelloNonce, address: addressBytes(addressOf(machine.index)) },
      ...{ live_ns: LIVE_FOR, hold_ns: BigInt(hold * MS), fence_ns: BigInt(fence * MS), gone_ns: BigInt(fence * MS) },
    });
    if (before?.state !== state) {
      const word = Object.entries(nodeState).find(([, value]) => value === state)![0];
      machine.simulation.tell(() => `${machine.name} says that it is ${word}`);
    }
  }

  /** The frame as it leaves: with what is the same in all frames of this speaker. */
  private frameOf({ node: _node, claims = [], ...frame }: Outgoing): Message {
    const { machine, segment, incarnation } = this;
    const header: WireHeader = wireHeader.of({
      ...frame,
      ...{ source: macOf(machine.index), version: VERSION, max_version: VERSION, count: claims.length },
      ...{ state: segment.state(machine.simulation.clock), flags: segment.said.sourceStale ? SOURCE_STALE : 0 },
      ...{ node: machine.id, incarnation, name: machine.name },
    });
    return Object.freeze({ header, claims });
  }
}

export const nodesOf = (names: readonly string[]) => names.map((name, i) => ({ name, address: addressOf(i) }));
