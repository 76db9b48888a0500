import TinyQueue from "tinyqueue";
import {
  type InterfaceEntry,
  interfaceEntry,
  nodeState,
  type Peer,
  type PeerKey,
  type Probe,
  peer as peerLayout,
  vipState,
  type WireClaim,
  type WireHeader,
  wireClaim,
  wireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { formatAddress, parseAddress } from "../../src/core/address.ts";
import type { VipRange } from "../../src/core/demand.ts";
import { difference, type Held, LEAVE, UNOWNED } from "../../src/core/difference.ts";
import { hash, hashNumber } from "../../src/core/election.ts";
import { addressOf, type Entries, type EntryKey, entriesOf, entryKey, type View } from "../../src/core/ownership.ts";
import { encodeWire, KNOWN, type Message, nodeId, PUBLIC_KEY, SOURCE_STALE } from "../../src/core/wire.ts";
import type { Maps } from "../../src/kernel/object.ts";
import type { Link } from "../../src/link/links.ts";
import { Claims } from "../../src/membership/claims.ts";
import type { Clock } from "../../src/membership/clock.ts";
import { type Frame, type SelfStanding, WireMembership } from "../../src/membership/wire.ts";
import { ModelKernel } from "../membership/kernel.ts";

/*
 * Nodes on one wire, in time that passes as fast as it can be computed: the control plane's own liveness, election, claims
 * and frames, over a model of the kernel's programs (bpf/speak.h), of the wire, and of the speaker's loop (src/speaker.ts).
 * After each event it is checked that no VIP is answered twice, and from time to time that none is silent for too long.
 */

export const IFINDEX = 2;
/** Times inside are numbers: ns, from a machine's boot. */
export const MS = 1e6;
export const SECOND = 1e9;
const START = 1000 * SECOND;
/** SPEAKER: src/speaker.ts. */
const TICK = 500;
const WATCH = 100;
const ALONE = 3_000;
const BOOT = { live: 3 * SECOND, fence: 300 * SECOND };

export interface Settings {
  nodes: number;
  vips: number;
  /** Of all chance. */
  seed: number;
  /** ms that a frame travels, from and to. */
  latency: readonly [number, number];
  /** Of claims, replies and notices, how many are lost; probes and echoes are not, for then who is alive is a matter of luck. */
  loss: number;
  /** How often a control plane is interrupted between two of its steps, and for how long at most, ms. */
  stalls: { chance: number; most: number };
  hold: number;
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
  /** The first so many nodes run a speaker, and own VIPs; the others are only kernels that look alive. */
  speakers: number;
}

export const DEFAULTS: Settings = {
  nodes: 3,
  vips: 12,
  seed: 1,
  latency: [0.05, 0.2],
  loss: 0,
  stalls: { chance: 0, most: 0 },
  hold: 30_000,
  interval: 100,
  dead: 3,
  silence: 1_500,
  heal: 1_500,
  speakers: Number.POSITIVE_INFINITY,
};

interface Event {
  at: number;
  seq: number;
  body: () => void;
  /** Whose process it is that does it; undefined: kernels, the wire, and whoever pulls the strings. */
  speaker: Speaker | undefined;
}

/** What was found that must not be. */
export class Violation extends Error {}

/** The process was killed in the middle of a step. */
class Killed extends Error {}

type WireFrame = WireHeader & { claims: WireClaim[] };

export class Simulation {
  readonly settings: Settings;
  now = START;
  readonly machines: Machine[] = [];
  readonly keys: EntryKey[];
  readonly range: VipRange;
  readonly names: string[];
  /** What was done, and when: the way to a violation. */
  readonly diary: string[] = [];
  readonly frames = { probes: 0, hellos: 0, echoes: 0, claims: 0, bytes: 0 };
  /** Since when each VIP is answered by nobody on a side where a node is there to, and the longest silence there was. */
  readonly #silent = new Map<string, number>();
  longestSilence = 0;
  /** Since when each VIP is answered twice on one side, and the longest that one was. */
  readonly #double = new Map<EntryKey, number>();
  longestDouble = 0;
  /** How often another node came to answer a VIP. */
  moves = 0;
  readonly #lastOwner = new Map<EntryKey, Machine>();
  #disturbed = START;
  isDirty = true;
  readonly #queue = new TinyQueue<Event>([], (a, b) => a.at - b.at || a.seq - b.seq);
  #seq = 0;
  #state: number;

  constructor(settings: Partial<Settings> = {}) {
    this.settings = { ...DEFAULTS, ...settings };
    const { nodes, vips, seed, speakers } = this.settings;
    this.#state = seed * 2654435761;
    const first = parseAddress("10.9.0.1");
    this.range = { first, last: first + vips - 1, nodes: undefined, interfaces: undefined, hashAs: undefined };
    if (speakers < nodes) this.range.nodes = Array.from({ length: speakers }, (_, i) => `n${i + 1}`);
    this.keys = Array.from({ length: vips }, (_, i) => entryKey(IFINDEX, first + i));
    this.names = Array.from({ length: nodes }, (_, i) => `n${i + 1}`);
    for (const [i, name] of this.names.entries()) this.machines.push(new Machine(this, name, i));
    this.#look();
  }

  /** mulberry32: small, fast, and good enough. */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  between(from: number, to: number): number {
    return from + (to - from) * this.random();
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)]!;
  }

  at(delay: number, body: () => void, speaker?: Speaker): Event {
    const event = { at: this.now + Math.max(0, Math.round(delay)), seq: this.#seq++, body, speaker };
    this.#queue.push(event);
    return event;
  }

  /** Lets so many ms pass. */
  run(milliseconds: number): void {
    const end = this.now + Math.round(milliseconds * MS);
    for (let next = this.#queue.peek(); next && next.at <= end; next = this.#queue.peek()) {
      this.#queue.pop();
      if (next.at > this.now) this.now = next.at;
      const { speaker } = next;
      if (!speaker) next.body();
      else if (!speaker.isDead) speaker.perform(next);
      if (this.isDirty) this.check();
    }
    this.now = Math.max(this.now, end);
  }

  /**
   * Something is done to the nodes.
   * @param more for so long they cannot know of it, ns
   */
  note(what: string, more = 0): void {
    this.diary.push(`${((this.now - START) / SECOND).toFixed(4)} s: ${what}`);
    this.#disturbed = Math.max(this.#disturbed, this.now + more);
    this.isDirty = true;
  }

  #look(): void {
    this.check();
    this.at(20 * MS, () => this.#look());
  }

  fail(what: string): never {
    const { seed, nodes } = this.settings;
    const lines = this.diary.slice(-30).join("\n  ");
    throw new Violation(
      `seed ${seed}, ${nodes} nodes, at ${((this.now - START) / SECOND).toFixed(4)} s: ${what}\n  ${lines}`,
    );
  }

  /** No VIP twice among those who hear each other, and none silent for too long where somebody could answer. */
  check(): void {
    this.isDirty = false;
    const now = BigInt(this.now);
    const { silence } = this.settings;
    const able = new Set(this.machines.filter(({ isAble }) => isAble).map(({ side }) => side));
    const up = this.machines.filter(({ isUp }) => isUp);
    for (const key of this.keys) {
      const answering = up.filter(({ kernel }) => kernel.isAnswered(key, now));
      let isDouble = false;
      for (const [i, one] of answering.entries()) {
        for (const other of answering.slice(i + 1)) if (this.#isPair(key, one, other)) isDouble = true;
      }
      const since = this.#double.get(key) ?? this.now;
      if (isDouble) this.#double.set(key, since);
      else this.#double.delete(key);
      this.longestDouble = Math.max(this.longestDouble, this.now - since);
      for (const side of able) {
        const name = `${side} ${key}`;
        const owner = answering.find((machine) => machine.side === side);
        const silentSince = this.#silent.get(name);
        if (owner) {
          this.#silent.delete(name);
          if (silentSince !== undefined) this.longestSilence = Math.max(this.longestSilence, this.now - silentSince);
          if (this.#lastOwner.get(key) !== owner) this.moves += 1;
          this.#lastOwner.set(key, owner);
        } else if (silentSince === undefined) this.#silent.set(name, this.now);
        else if (this.now - Math.max(silentSince, this.#disturbed) > silence * MS) {
          this.fail(
            `${formatAddress(addressOf(key))} is silent on side ${side} since ${((silentSince - START) / SECOND).toFixed(4)} s\n${this.describe(key)}`,
          );
        }
      }
    }
    for (const name of this.#silent.keys()) if (!able.has(Number(name.split(" ")[0]))) this.#silent.delete(name);
  }

  #isPair(key: EntryKey, one: Machine, other: Machine): boolean {
    if (one.side !== other.side) return false;
    const since = Math.max(one.since, other.since, Math.min(one.idleUntil, other.idleUntil));
    if (this.now - since <= this.settings.heal * MS) return true;
    if (this.now - Math.max(one.woke, other.woke) <= WAKE) return true;
    this.fail(`${formatAddress(addressOf(key))} is answered by ${one.name} and ${other.name}\n${this.describe(key)}`);
  }

  /** Of one VIP, what each node knows. */
  describe(key: EntryKey): string {
    const stateName = (states: Record<string, number>, state: number | undefined) =>
      Object.entries(states).find(([, value]) => value === state)?.[0];
    return this.machines
      .map(({ name, kernel, side, isUp, speaker, nodeState: state }) => {
        const held = kernel.vips.get(key);
        const own = speaker?.entries.get(key);
        const answers = kernel.isAnswered(key, BigInt(this.now)) ? "answers" : "is silent";
        return `    ${name} (${isUp ? `side ${side}` : "off"}, ${stateName(nodeState, state)}${speaker ? "" : ", no speaker"}) ${answers}: kernel ${stateName(vipState, held?.state)} claimed ${held?.claimNs} released ${kernel.released.get(key)}, speaker ${stateName(vipState, own?.state)}, wish ${speaker?.wishOf(key)}`;
      })
      .join("\n");
  }

  /** Who answers the VIP now. */
  owners(key: EntryKey): string[] {
    return this.machines
      .filter(({ isUp, kernel }) => isUp && kernel.isAnswered(key, BigInt(this.now)))
      .map(({ name }) => name);
  }

  /** A frame leaves a machine. */
  transmit(from: Machine, frame: WireFrame, size: number): void {
    const { latency, loss } = this.settings;
    const { type } = frame;
    const isBroadcast = frame.destination[0] === 255;
    if (type === wireType.WIRE_PROBE) this.frames[isBroadcast ? "hellos" : "probes"] += 1;
    else if (type === wireType.WIRE_ECHO) this.frames.echoes += 1;
    else this.frames.claims += 1;
    this.frames.bytes += size;
    for (const to of isBroadcast ? this.machines : [this.machines[macIndex(frame.destination)]!]) {
      if (to === from || (type >= wireType.WIRE_CLAIM && this.random() < loss)) continue;
      this.at(this.between(...latency) * MS, () => {
        if (from.side === to.side && to.isUp) to.hear(frame);
      });
    }
  }
}

/**
 * A peer that was silent for longer is news to its control plane, ns. More than the interval of a thousand peers, or each
 * echo would be: half of a core went into looking at them.
 */
export const ECHO_PAUSE = BigInt(5 * SECOND);

/**
 * A speaker that was frozen acts at first on what it knew then: it may own what nobody had asked its kernel for, until its
 * first probes are answered, ns.
 */
const WAKE = 0 * MS;

const macOf = (index: number) => Uint8Array.of(2, 0, 0, 0, index >> 8, index & 255);
const macIndex = (mac: Uint8Array) => (mac[4]! << 8) | mac[5]!;

const keyName = ({ node }: Pick<PeerKey, "node">) => node;

/** A node: its kernel, its place on the wire, and its speaker, if one runs. */
export class Machine {
  readonly simulation: Simulation;
  readonly name: string;
  readonly index: number;
  readonly id: bigint;
  kernel = new ModelKernel(IFINDEX);
  entry: InterfaceEntry | undefined;
  peers = new Map<bigint, Peer>();
  probes = new Map<bigint, Probe>();
  speaker: Speaker | undefined;
  isUp = true;
  isDrained = false;
  isSourceStale = false;
  /** Nodes of one side hear each other. */
  side = 0;
  /** Since when it is on that side. */
  since = START;
  /** When its speaker was let go on last. */
  woke = 0;
  /** Until when no speaker worked here. */
  #idleUntil = START;

  constructor(simulation: Simulation, name: string, index: number) {
    this.simulation = simulation;
    this.name = name;
    this.index = index;
    this.id = nodeId(name);
    if (index >= simulation.settings.speakers) this.#pretend();
  }

  /** A kernel that says that it is alive, without a speaker. */
  #pretend(): void {
    this.entry = interfaceEntry.of({
      node: this.id,
      node_name: this.name,
      incarnation: this.id,
      state: nodeState.LIVE,
      mac: macOf(this.index),
      tick_ns: BigInt(this.simulation.now),
      live_ns: 2n ** 62n,
      hold_ns: 2n ** 62n,
    });
  }

  get isWorking(): boolean {
    const { speaker } = this;
    return this.isUp && speaker !== undefined && !speaker.isDead && !speaker.isFrozen && speaker.wire.isJoined(IFINDEX);
  }

  /** Whether it could answer for a VIP that nobody else answers. */
  get isAble(): boolean {
    return this.isWorking && !this.isDrained && this.speaker!.hasCompany;
  }

  get idleUntil(): number {
    if (!this.isWorking) this.#idleUntil = this.simulation.now;
    return this.#idleUntil;
  }

  start(): void {
    if (this.speaker || !this.isUp) return;
    this.simulation.note(`${this.name}'s speaker starts`);
    this.#idleUntil = this.simulation.now;
    this.speaker = new Speaker(this);
    this.speaker.begin();
  }

  /** kill -9; a SIGTERM leaves the kernel as it is, too. */
  kill(): void {
    if (!this.speaker) return;
    this.simulation.note(`${this.name}'s speaker is killed`, BOOT.live);
    this.speaker.isDead = true;
    this.speaker = undefined;
  }

  freeze(): void {
    if (!this.speaker || this.speaker.isFrozen) return;
    this.simulation.note(`${this.name}'s speaker is frozen`, BOOT.live);
    this.speaker.isFrozen = true;
  }

  thaw(): void {
    if (!this.speaker?.isFrozen) return;
    this.simulation.note(`${this.name}'s speaker thaws`);
    this.#idleUntil = this.simulation.now;
    this.woke = this.simulation.now;
    this.speaker.isFrozen = false;
    this.speaker.catchUp();
  }

  drain(isDrained: boolean): void {
    if (this.isDrained === isDrained) return;
    this.simulation.note(`${this.name} is ${isDrained ? "drained" : "undrained"}`);
    this.isDrained = isDrained;
    const { speaker } = this;
    if (speaker) this.simulation.at(0, () => speaker.replan(), speaker);
  }

  setSourceStale(isStale: boolean): void {
    if (this.isSourceStale === isStale) return;
    this.simulation.note(`${this.name}'s source is ${isStale ? "stale" : "fresh"}`);
    this.isSourceStale = isStale;
    const { speaker } = this;
    if (speaker) this.simulation.at(0, () => speaker.replan(), speaker);
  }

  /** The power goes: what stood in the kernel goes with it. */
  die(): void {
    if (!this.isUp) return;
    this.simulation.note(`${this.name} dies`);
    this.isUp = false;
    if (this.speaker) this.speaker.isDead = true;
    this.speaker = undefined;
    this.kernel = new ModelKernel(IFINDEX);
    this.entry = undefined;
    this.peers = new Map();
    this.probes = new Map();
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

  get nodeState(): number {
    const { entry } = this;
    if (!entry || entry.tick_ns === 0n) return nodeState.JOINING;
    const age = BigInt(this.simulation.now) - entry.tick_ns;
    if (entry.state === nodeState.DRAINED || entry.state === nodeState.LAGGING) return entry.state;
    if (age >= entry.hold_ns) return nodeState.PAST_HOLD;
    if (entry.state === nodeState.LIVE && age >= entry.live_ns) return nodeState.HEADLESS;
    return entry.state;
  }

  /** hear() of bpf/speak.h. */
  hear(frame: WireFrame): void {
    const { entry, simulation } = this;
    if (!entry || frame.node === entry.node) return;
    const now = BigInt(simulation.now);
    const known = this.peers.get(frame.node);
    const isFresh =
      frame.to === entry.incarnation && frame.stamp !== 0n && frame.stamp <= now && now - frame.stamp < 5n * 10n ** 9n;
    switch (frame.type) {
      case wireType.WIRE_PROBE: {
        if (isFresh) this.#hearProbe(frame, now);
        const isPretending = this.index >= simulation.settings.speakers;
        const knows = isPretending || this.probes.get(frame.node)?.incarnation === frame.incarnation;
        this.#answer(frame, { type: wireType.WIRE_ECHO, claims: [] }, knows ? KNOWN : 0);
        return;
      }
      case wireType.WIRE_ECHO:
        this.#takeEcho(frame, entry, now);
        return;
      case wireType.WIRE_REPLY:
        if (frame.to === entry.incarnation && known) this.#pass(frame);
        return;
      default: {
        // Whatever speaker of the peer's it is: where none runs here, nothing tells this kernel that it is a new one.
        if (!isFresh || !known) return;
        const { taken_stamp_ns: stamp, taken_nonce: nonce } = known;
        if (frame.stamp < stamp || (frame.stamp === stamp && frame.nonce <= nonce)) return;
        known.taken_stamp_ns = frame.stamp;
        known.taken_nonce = frame.nonce;
        if (frame.type === wireType.WIRE_NOTICE) {
          this.#pass(frame);
          return;
        }
        const isHeld = this.nodeState === nodeState.HEADLESS || this.nodeState === nodeState.PAST_HOLD;
        const isDefending = this.nodeState === nodeState.LIVE;
        this.kernel.stance = isDefending ? "defends" : isHeld ? "holds" : "releases";
        const claims = this.kernel.claim(frame.claims, now);
        simulation.isDirty = true;
        this.#answer(frame, { type: wireType.WIRE_REPLY, claims }, 0);
      }
    }
  }

  /** A probe that gives back a late stamp of this clock proves that its sender lives: its claims are taken from then on. */
  #hearProbe(frame: WireFrame, now: bigint): void {
    const { name, state, source, incarnation } = frame;
    const unknown = peerLayout.of({ node: name, state, mac: source, incarnation });
    this.peers.set(frame.node, { ...(this.peers.get(frame.node) ?? unknown), heard_ns: now });
  }

  #takeEcho(frame: WireFrame, entry: InterfaceEntry, now: bigint): void {
    const { node, nonce } = frame;
    const probe = this.probes.get(node);
    const nonces = [entry.hello_nonce, entry.last_hello_nonce, probe?.nonce, probe?.last_nonce];
    if (frame.to !== entry.incarnation || nonce === 0n || !nonces.includes(nonce)) return;
    const before = this.peers.get(node);
    if (before && nonce < before.echo_nonce) return;
    const isNews =
      !before ||
      now - before.echoed_ns > ECHO_PAUSE ||
      before.state !== frame.state ||
      before.incarnation !== frame.incarnation ||
      before.source_stale !== (frame.flags & SOURCE_STALE) > 0 ||
      before.knows_us !== (frame.flags & KNOWN) > 0;
    this.peers.set(node, {
      ...(before ?? peerLayout.of({})),
      node: frame.name,
      state: frame.state,
      source_stale: (frame.flags & SOURCE_STALE) > 0,
      knows_us: (frame.flags & KNOWN) > 0,
      mac: frame.source,
      incarnation: frame.incarnation,
      echo_nonce: nonce,
      stamp_ns: frame.stamp,
      echoed_ns: now,
      heard_ns: now,
    });
    if (isNews) this.#pass(frame);
  }

  #answer(asked: WireFrame, { type, claims }: Pick<WireFrame, "type" | "claims">, flags: number): void {
    const { entry, simulation } = this;
    const frame = {
      ...asked,
      destination: asked.source,
      source: macOf(this.index),
      type,
      claims,
      state: this.nodeState,
      flags: flags | (entry!.source_stale ? SOURCE_STALE : 0),
      node: this.id,
      incarnation: entry!.incarnation,
      to: asked.incarnation,
      stamp: BigInt(simulation.now),
      name: this.name,
    };
    simulation.transmit(this, frame, SIZE + claims.length * wireClaim.size);
  }

  /** On to user space, where the frame is read as if it came by a socket. */
  #pass(frame: WireFrame): void {
    const { speaker } = this;
    if (!speaker) return;
    const bytes = encodeWire({ ...frame, type: frame.type as Message["type"] }, PUBLIC_KEY);
    this.simulation.at(0.05 * MS, () => speaker.listener?.({ ifindex: IFINDEX, frame: bytes }), speaker);
  }
}

/** Bytes of a frame without claims. */
export const SIZE = wireHeader.size + 8;

/** The loop of src/speaker.ts, as far as peers matter to it. */
class Speaker {
  readonly machine: Machine;
  readonly simulation: Simulation;
  readonly wire: WireMembership;
  readonly claims: Claims;
  readonly entries = new Map<EntryKey, Held>();
  listener: ((received: { ifindex: number; frame: Uint8Array }) => void) | undefined;
  isDead = false;
  isFrozen = false;
  /** It is in the middle of a step. */
  #isBusy = false;
  readonly #backlog: Event[] = [];
  #isAdopted = false;
  #entry: InterfaceEntry | undefined;
  #plan: { view: View; entries: Entries } | undefined;
  #releases: bigint;
  #isAlone = false;
  #cancelLeaving: (() => void) | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
    this.simulation = machine.simulation;
    const { simulation } = machine;
    const { interval, dead, hold } = simulation.settings;
    const clock: Clock = {
      now: () => BigInt(simulation.now),
      after: (milliseconds, body) => this.#after(milliseconds, body),
      random: () => simulation.random(),
    };
    this.#releases = machine.kernel.releases;
    for (const [key, held] of machine.kernel.vips) this.entries.set(key, held);
    this.write(machine.kernel.releasedOf(this.entries).map((key) => [key, UNOWNED]));
    this.wire = new WireMembership(
      this.#maps(),
      { send: (_, frame) => this.#send(frame) },
      { node: machine.name, keys: [PUBLIC_KEY], interval, dead, hold },
      {
        self: () => this.#standing(),
        hello: (_, nonce) => this.#hello(nonce),
        round: () => {},
        changed: () => this.replan(),
        frame: (_, frame) => this.#frame(frame),
        namesake: () => simulation.fail(`${machine.name} hears a namesake`),
        looped: () => simulation.fail(`${machine.name} hears itself`),
        isBarred: () => false,
      },
      clock,
      {
        listen: async (listener) => {
          this.listener = listener;
        },
        [Symbol.dispose]: () => undefined,
      },
    );
    this.claims = new Claims(
      {
        has: (ifindex) => this.wire.has(ifindex),
        isSure: (ifindex) => this.wire.isSure(ifindex),
        alive: (ifindex) => this.wire.alive(ifindex),
        refresh: () => this.wire.refresh(),
        send: (ifindex, to, message) => this.wire.send(ifindex, to, message),
        nextNonce: () => this.wire.nextNonce(),
        hash: (key) => this.#hash(key),
        entries: this.entries,
        released: (keys) => machine.kernel.releasedOf(new Map(keys.map((key) => [key, this.entries.get(key)!]))),
        write: (set) => this.write(set),
        won: () => undefined,
        lost: () => undefined,
        contested: () => undefined,
      },
      clock,
    );
  }

  /** Does a step of its own, unless it is in the middle of one, or frozen: then it comes later. */
  perform(event: Event): void {
    if (this.#isBusy || this.isFrozen) {
      this.#backlog.push(event);
      return;
    }
    this.#isBusy = true;
    try {
      event.body();
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    } finally {
      this.#isBusy = false;
      this.catchUp();
    }
  }

  catchUp(): void {
    if (this.isFrozen) return;
    for (const { body } of this.#backlog.splice(0)) this.simulation.at(0, body, this);
  }

  #after(milliseconds: number, body: () => void): () => void {
    // As late as timers are: up to 2 ms, as the other work of a process has it.
    const event = this.simulation.at((milliseconds + 2 * this.simulation.random()) * MS, () => event.body(), this);
    event.body = body;
    return () => {
      event.body = () => undefined;
      for (const waiting of this.#backlog) if (waiting === event) waiting.body = event.body;
    };
  }

  /** The process is put aside for a while, in the middle of a step, and the world goes on. */
  #stall(): void {
    const { chance, most } = this.simulation.settings.stalls;
    if (this.#isBusy && chance > 0 && this.simulation.random() < chance) {
      this.simulation.run(most * this.simulation.random() ** 3);
    }
    if (this.isDead) throw new Killed();
  }

  #maps(): Maps {
    const { machine } = this;
    const list = <V>(map: () => Map<bigint, V>) => ({
      *entries(): Generator<[PeerKey, V]> {
        for (const [node, value] of map()) yield [{ node, ifindex: IFINDEX, zero: 0 }, value];
      },
      set: (key: PeerKey, value: V) => {
        map().set(keyName(key), value);
      },
      deleteMany: (keys: PeerKey[]) => {
        for (const key of keys) map().delete(keyName(key));
      },
    });
    const maps = {
      keys: { set: () => undefined },
      peers: list(() => machine.peers),
      probes: list(() => machine.probes),
    };
    return maps as unknown as Maps;
  }

  #send(bytes: Uint8Array): "sent" {
    this.#stall();
    const header = wireHeader.decode(bytes);
    const claims = Array.from({ length: header.count }, (_, i) =>
      wireClaim.decode(bytes.subarray(wireHeader.size + i * wireClaim.size)),
    );
    this.simulation.transmit(this.machine, { ...header, claims }, bytes.length);
    return "sent";
  }

  write(set: readonly (readonly [EntryKey, Held])[]): void {
    if (set.length === 0) return;
    this.#stall();
    for (const [key, held] of set) this.entries.set(key, held);
    this.machine.kernel.write(set);
    this.simulation.isDirty = true;
  }

  begin(): void {
    const link = { ifindex: IFINDEX, name: "eth0", mac: macOf(this.machine.index), isUp: true, addresses: [] };
    const every = (milliseconds: number, body: () => void) => {
      this.#after(milliseconds, () => {
        every(milliseconds, body);
        body();
      });
    };
    const first = () => {
      this.wire.add(link as unknown as Link);
      this.#commit();
      every(TICK, () => this.#tick());
      every(WATCH, () => this.#watch());
      this.#after(ALONE, () => {
        this.#isAlone = !this.wire.hasHeard(IFINDEX);
        if (this.#isAlone) this.replan();
      });
    };
    this.simulation.at(0, first, this);
  }

  get hasCompany(): boolean {
    return this.wire.hasHeard(IFINDEX) || this.#isAlone || this.simulation.machines.length === 1;
  }

  wishOf(key: EntryKey): number | undefined {
    return this.#plan?.entries.get(key);
  }

  #candidates(): readonly string[] | undefined {
    const { names, machines } = this.simulation;
    if (!this.wire.isSettled(IFINDEX)) return undefined;
    if (this.wire.hasHeard(IFINDEX)) {
      const ids = this.wire.candidates(IFINDEX).map(({ node }) => node);
      return machines.filter(({ id }) => ids.includes(id)).map(({ name }) => name);
    }
    const all = this.#isAlone ? [this.machine.name] : names;
    return this.machine.isDrained ? all.filter((name) => name !== this.machine.name) : all;
  }

  #held(): string[] {
    const ids = this.wire.candidates(IFINDEX).flatMap(({ node, isHeld }) => (isHeld ? [node] : []));
    return this.simulation.machines.filter(({ id }) => ids.includes(id)).map(({ name }) => name);
  }

  replan(): void {
    this.#commit();
    this.#greet();
  }

  #commit(): void {
    const { machine, simulation } = this;
    const view: View = {
      self: machine.name,
      vips: [simulation.range],
      interfaces: [{ ifindex: IFINDEX, name: "eth0", candidates: this.#candidates(), held: this.#held() }],
    };
    const entries = entriesOf(view, this.#plan);
    this.#writeInterface();
    const { set, claim, stead } = difference(entries, this.entries, {
      now: BigInt(simulation.now),
      mustAsk: (key) => this.wire.isAccompanied(IFINDEX) || this.claims.isPausing(key),
      hash: (key) => this.#hash(key),
    });
    this.#plan = { view, entries };
    this.write(set);
    this.#tick();
    this.claims.want(claim, stead);
    this.#cancelLeaving?.();
    if ([...this.entries.values()].some(({ state }) => state === vipState.LEAVING)) {
      simulation.at(Number(LEAVE), () => (simulation.isDirty = true)); // when a kernel stops by itself
      this.#cancelLeaving = this.#after(Number(LEAVE) / MS, () => this.replan());
    }
  }

  #greet(): void {
    this.claims.defend(IFINDEX, this.wire.newcomers(IFINDEX));
  }

  #hash(key: EntryKey): bigint {
    return hashNumber(hash(this.machine.name, formatAddress(addressOf(key))));
  }

  /** What this node is to its own election: what it says with the tick that ends each commit. */
  #standing(): SelfStanding {
    return { state: this.#stateOf(), sourceStale: this.machine.isSourceStale };
  }

  #stateOf(): number {
    if (this.machine.isDrained) return nodeState.DRAINED;
    if (this.wire.isLagging(IFINDEX)) return nodeState.LAGGING;
    return this.wire.isJoined(IFINDEX) || this.#isAdopted ? nodeState.LIVE : nodeState.JOINING;
  }

  #writeInterface(): void {
    const pinned = this.machine.entry;
    if (!this.#entry && pinned?.state === nodeState.LIVE && pinned.tick_ns > 0n) this.#isAdopted = true;
    this.#entry = interfaceEntry.of({
      name: "eth0",
      mac: macOf(this.machine.index),
      source_stale: this.machine.isSourceStale,
      state: this.#stateOf(),
      node_name: this.machine.name,
      node: this.machine.id,
      incarnation: this.wire.incarnation,
      hello_nonce: this.#entry?.hello_nonce ?? 0n,
      last_hello_nonce: this.#entry?.last_hello_nonce ?? 0n,
      tick_ns: pinned?.tick_ns ?? BigInt(this.simulation.now),
      live_ns: BigInt(BOOT.live),
      hold_ns: BigInt(this.simulation.settings.hold * MS),
      fence_ns: BigInt(BOOT.fence),
    });
    this.machine.entry = { ...this.#entry };
  }

  #hello(nonce: bigint): void {
    const entry = this.#entry;
    if (!entry) return;
    entry.last_hello_nonce = entry.hello_nonce;
    entry.hello_nonce = nonce;
    this.machine.entry = { ...entry };
  }

  #tick(): void {
    const started = BigInt(this.simulation.now);
    const entry = this.#entry!;
    if (this.#isAdopted && !this.machine.isDrained) {
      if (!this.wire.isJoined(IFINDEX)) return;
      this.#isAdopted = false;
    }
    entry.tick_ns = started;
    entry.state = this.#stateOf();
    entry.source_stale = this.machine.isSourceStale;
    this.machine.entry = { ...entry };
  }

  #frame(frame: Frame): void {
    if (frame.type === wireType.WIRE_REPLY) this.claims.reply(IFINDEX, frame);
    else this.#checkReleases();
  }

  #watch(): void {
    const { releases } = this.machine.kernel;
    if (releases !== this.#releases) this.#checkReleases();
    this.#releases = releases;
  }

  #checkReleases(): void {
    const keys = this.machine.kernel.releasedOf(this.entries);
    if (keys.length === 0) return;
    this.write(keys.map((key) => [key, UNOWNED]));
    this.claims.pause(keys);
    this.replan();
  }
}
