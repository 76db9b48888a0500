import { randomBytes } from "node:crypto";
import { nodeState, type Peer, wireType } from "../core/abi.ts";
import { formatMac } from "../core/arp.ts";
import { candidates, Freshness, type Heard, Liveness } from "../core/liveness.ts";
import { decodeWire, ETH_P_ISAT, encodeWire, type Message, nodeId, SOURCE_STALE, type WireKey } from "../core/wire.ts";
import type { Maps } from "../kernel/object.ts";
import type { Link } from "../link/links.ts";
import { ListeningSocket, type PacketSocket, type Received } from "../link/packet.ts";
import { type Clock, machineClock } from "./clock.ts";

/** A frame that came in and is authentic. */
export type Frame = NonNullable<ReturnType<typeof decodeWire>>;

export interface WireOptions {
  /** This node's name. */
  node: string;
  /** The first signs, all verify. */
  keys: readonly WireKey[];
  /** ms between two probes of a peer. */
  interval: number;
  /** Probes sent and unanswered until a peer is dead. */
  dead: number;
  /** ms after which a tick counts as past hold. */
  hold: number;
}

/** A peer as the kernel knows it, with its id. */
export interface Neighbour extends Peer {
  id: bigint;
}

/** What this node is, as it says itself with each probe. */
export interface SelfStanding {
  state: number;
  sourceStale: boolean;
}

/** What the membership needs of the speaker, and tells it. */
export interface WireEvents {
  /** What this node is on the interface now. */
  self(ifindex: number): SelfStanding;
  /** A broadcast probe goes out: the kernel is to take its echoes. */
  hello(ifindex: number, nonce: bigint): void;
  /** A round of probes begins. */
  round(): void;
  /** Who is alive, or may own, is different from before. */
  changed(): void;
  /** A claim was answered, or taken notice of. */
  frame(ifindex: number, frame: Frame): void;
  /** Another machine has this node's name. */
  namesake(ifindex: number, frame: Frame): void;
  /** Our own frames came in by this interface; they went out by the other one, if that is another. */
  looped(ifindex: number, from: number): void;
  /** Whether only one's own frames are listened for on the interface, as another one announces on its wire. */
  isBarred(ifindex: number): boolean;
}

const BROADCAST = new Uint8Array(6).fill(255);
const MS = 1_000_000n;
/** A peer that has been dead for so long is forgotten, ns; until then it is probed, so that its return is soon seen. */
const FORGET = 600_000n * MS;
/** For so long a joining node waits at most for its peers to count with it, ns. */
const PATIENCE = 5_000n * MS;

/** Between two rounds at most, ms: the speaker ticks with them. */
const LONGEST = 500;

/** Between two looks at the peers for the sake of their news, ms. */
const REST = 5;

/** Where frames come in that kernels pass on. */
type Listening = Pick<ListeningSocket, "listen"> & Disposable;

/** One interface on which peers are looked for. */
interface Wire {
  link: Link;
  liveness: Liveness;
  began: bigint;
  /** When it had joined, ns. */
  joined: bigint | undefined;
  /** Peers have had the time to learn that it has, and it to learn the same of them: it takes its share. */
  isSettled: boolean;
  /** Somebody was heard since the interface came up. */
  hasHeard: boolean;
  peers: Map<bigint, Neighbour>;
  freshness: Freshness;
  /** How often each live peer had come when newcomers were asked for last. */
  met: ReadonlyMap<bigint, number>;
  /** Rounds in which peers are still to be told that the MAC is another. */
  tell: number;
  /** The nonces of the last two broadcast probes. */
  hellos: readonly bigint[];
}

/**
 * Who is alive, asked of the kernels that answer: probes go out from here, kernels echo them, this node's kernel verifies
 * the echoes and stamps its map `peers`, which is read here.
 */
export class WireMembership implements Disposable {
  readonly #maps: Maps;
  readonly #socket: Pick<PacketSocket, "send">;
  readonly #clock: Clock;
  readonly #listening: Listening;
  readonly #events: WireEvents;
  readonly #id: bigint;
  readonly incarnation = randomBytes(8).readBigUInt64LE() || 1n;
  readonly #began: bigint;
  readonly #wires = new Map<number, Wire>();
  #options: WireOptions;
  #cancel: (() => void) | undefined;
  #nonce = 0n;

  constructor(
    maps: Maps,
    socket: Pick<PacketSocket, "send">,
    options: WireOptions,
    events: WireEvents,
    clock: Clock = machineClock,
    listening: Listening = new ListeningSocket(ETH_P_ISAT),
  ) {
    this.#clock = clock;
    this.#listening = listening;
    this.#began = clock.now();
    this.#maps = maps;
    this.#socket = socket;
    this.#options = options;
    this.#events = events;
    this.#id = nodeId(options.node);
    this.configure(options);
    void this.#listening.listen((received) => this.#receive(received));
    this.#schedule(0); // also while all links are down: rounds are when they are looked after
  }

  get id(): bigint {
    return this.#id;
  }

  configure(options: WireOptions): void {
    this.#options = options;
    for (const { liveness } of this.#wires.values()) liveness.options = this.#pace;
    // The array's places without a key are zeroed: a key that was taken out verifies nothing any more.
    for (let place = 0; place < 4; place++) {
      this.#maps.keys.set(place, options.keys[place] ?? { k0: 0n, k1: 0n, id: 0 });
    }
  }

  get options(): WireOptions {
    return this.#options;
  }

  get #pace() {
    const { interval, dead } = this.#options;
    return { interval: BigInt(interval) * MS, dead };
  }

  /** Looks for peers on the interface from now on; anew, where it came up again. */
  add(link: Link): void {
    const now = this.#clock.now();
    const liveness = new Liveness(this.#pace, now, this.#clock.random);
    this.#wires.set(link.ifindex, {
      link,
      liveness,
      began: now,
      joined: undefined,
      isSettled: false,
      hasHeard: false,
      peers: new Map(),
      freshness: new Freshness(),
      met: new Map(),
      tell: 0,
      hellos: [],
    });
    this.#schedule(0);
  }

  /** The interface has another MAC or name, and is up as before. */
  update(link: Link): void {
    const wire = this.#wires.get(link.ifindex)!;
    if (formatMac(wire.link.mac) !== formatMac(link.mac)) wire.tell = this.#options.dead;
    wire.link = link;
  }

  remove(ifindex: number): void {
    this.#wires.delete(ifindex);
    const gone = [...this.#maps.probes.entries()].map(([key]) => key).filter((key) => key.ifindex === ifindex);
    this.#maps.probes.deleteMany(gone);
    this.#maps.peers.deleteMany(gone);
  }

  /** Whether this node knows its peers on the interface, and they know it. */
  isJoined(ifindex: number): boolean {
    return this.#wires.get(ifindex)?.joined !== undefined;
  }

  /**
   * Whether it takes its share: two intervals after it has joined. Where all nodes start together, the first to have joined
   * would otherwise take everything, and give most of it away at once.
   */
  isSettled(ifindex: number): boolean {
    return this.#wires.get(ifindex)?.isSettled ?? false;
  }

  /** Whether any peer was heard on the interface since it came up. */
  hasHeard(ifindex: number): boolean {
    return this.#wires.get(ifindex)?.hasHeard ?? false;
  }

  /** Since when peers are looked for on the interface, ns. */
  since(ifindex: number): bigint {
    return this.#wires.get(ifindex)?.began ?? this.#clock.now();
  }

  /** The nodes, by id, that may own on the interface, this one included where it may. */
  candidates(ifindex: number): { node: bigint; isHeld: boolean }[] {
    const wire = this.#wires.get(ifindex);
    if (!wire) return [];
    const others = wire.liveness.alive.map((heard) => [heard.node, heard] as const);
    return candidates([[this.#id, this.#events.self(ifindex)], ...others], this.#countsAge);
  }

  /** Whether this node's source is stale, and has been for some time beside a peer's that is fresh. */
  isLagging(ifindex: number): boolean {
    return this.#wires.get(ifindex)?.freshness.isLagging ?? false;
  }

  /**
   * Whoever has been here for less than `hold` cannot hold a peer's old tick against it: after all speakers were away,
   * the first to come back would take everything.
   */
  get #countsAge(): boolean {
    return this.#clock.now() - this.#began >= BigInt(this.#options.hold) * MS;
  }

  /** The peers whose kernels answer, whatever their state: whom a claim has to ask. None where none are looked for. */
  alive(ifindex: number): Neighbour[] {
    const wire = this.#wires.get(ifindex);
    return wire ? wire.liveness.alive.map(({ node }) => wire.peers.get(node)!) : [];
  }

  /** Whether what this node knows of its peers there is of now: not after a sleep, until they have been asked again. */
  isSure(ifindex: number): boolean {
    return this.#wires.get(ifindex)?.liveness.isSure(this.#clock.now()) ?? false;
  }

  /** Whether there is anybody to ask before something is owned there, or may be. */
  isAccompanied(ifindex: number): boolean {
    return this.has(ifindex) && (!this.isSure(ifindex) || this.alive(ifindex).length > 0);
  }

  /** Whether peers are looked for on the interface. */
  has(ifindex: number): boolean {
    return this.#wires.has(ifindex);
  }

  /** The live peers that came, or came back, since this was asked last: each may own what is owned here. */
  newcomers(ifindex: number): Neighbour[] {
    const wire = this.#wires.get(ifindex);
    if (wire?.joined === undefined) return [];
    const { members } = wire.liveness;
    const before = wire.met;
    wire.met = new Map([...members].flatMap(([node, { isAlive, comings }]) => (isAlive ? [[node, comings]] : [])));
    return this.alive(ifindex).filter(({ id }) => before.get(id) !== wire.met.get(id));
  }

  /** Everybody who is or was heard on the interface. */
  members(ifindex: number): { peer: Neighbour; isAlive: boolean }[] {
    const wire = this.#wires.get(ifindex);
    if (!wire) return [];
    return [...wire.liveness.members].map(([id, { isAlive }]) => ({ peer: wire.peers.get(id)!, isAlive }));
  }

  /** Reads the kernel's map now: what it knows counts from now on. What changed by that is told with the next round. */
  refresh(): void {
    if (this.#observe(this.#clock.now())) this.#isChanged = true;
  }

  #isChanged = false;

  /**
   * Sends to a peer, or where `to` is undefined to all.
   * @returns whether it left
   */
  send(ifindex: number, to: Neighbour | undefined, message: Message): boolean {
    return this.#socket.send(ifindex, this.#encode(ifindex, to, message)) === "sent";
  }

  #encode(ifindex: number, to: Neighbour | undefined, message: Message): Uint8Array {
    const { link } = this.#wires.get(ifindex)!;
    const { state, sourceStale } = this.#events.self(ifindex);
    return encodeWire(
      {
        destination: to?.mac ?? BROADCAST,
        source: link.mac,
        state,
        flags: sourceStale ? SOURCE_STALE : 0,
        node: this.#id,
        incarnation: this.incarnation,
        to: to?.incarnation ?? 0n,
        stamp: to?.stamp_ns ?? 0n,
        name: this.#options.node,
        ...message,
      },
      this.#options.keys[0]!,
    );
  }

  /** Tells the other machine with this node's name, which sent this, that it is not alone: by a notice to its speaker. */
  warnNamesake(ifindex: number, { source, incarnation, stamp }: Frame): void {
    const to = { destination: source, to: incarnation, stamp };
    this.send(ifindex, undefined, { type: wireType.WIRE_NOTICE, nonce: this.nextNonce(), ...to });
  }

  /** A nonce: the clock, and always more than the one before. */
  nextNonce(): bigint {
    const now = this.#clock.now();
    this.#nonce = now > this.#nonce ? now : this.#nonce + 1n;
    return this.#nonce;
  }

  #schedule(milliseconds: number): void {
    this.#cancel?.();
    this.#cancel = this.#clock.after(milliseconds, () => this.#round());
  }

  #round(): void {
    this.refresh();
    this.#events.round();
    for (const [ifindex, wire] of this.#wires) this.#probe(ifindex, wire);
    this.#tellChanges();
    // Each wake costs more than what is done in it, so one a round; more only where somebody's last chance is open, or where
    // the speaker would tick too seldom.
    const pauses = [...this.#wires.values()].map(({ liveness, joined }) => {
      const isUrgent = joined === undefined || liveness.isCloseToDeath;
      return Number((isUrgent ? liveness.patience : liveness.interval) / MS);
    });
    this.#schedule(Math.max(5, Math.min(...pauses, this.#options.interval, LONGEST)));
  }

  #tellChanges(): void {
    if (!this.#isChanged) return;
    this.#isChanged = false;
    this.#events.changed();
  }

  #observe(now: bigint): boolean {
    const heard = new Map<number, Heard[]>();
    for (const [{ node, ifindex }, peer] of this.#maps.peers.entries(64)) {
      const wire = this.#wires.get(ifindex);
      if (!wire || node === this.#id) continue;
      wire.peers.set(node, { ...peer, id: node });
      const list = heard.get(ifindex) ?? [];
      heard.set(ifindex, list);
      list.push({
        node,
        name: peer.node,
        state: peer.state,
        sourceStale: peer.source_stale,
        knowsUs: peer.knows_us,
        incarnation: peer.incarnation,
        echoedNs: peer.echoed_ns,
      });
    }
    let isChanged = false;
    const countsAge = this.#countsAge;
    if (countsAge !== this.#countedAge) isChanged = true;
    this.#countedAge = countsAge;
    for (const [ifindex, wire] of this.#wires) {
      if (wire.liveness.observe(heard.get(ifindex) ?? [], now)) isChanged = true;
      const { sourceStale } = this.#events.self(ifindex);
      if (wire.freshness.observe(sourceStale, wire.liveness.alive, now)) isChanged = true;
      if (!wire.hasHeard && wire.liveness.alive.length > 0) {
        wire.hasHeard = true;
        isChanged = true;
      }
      if (wire.joined === undefined && this.#mayJoin(wire, now)) {
        wire.joined = now;
        isChanged = true;
      }
      if (wire.joined !== undefined && !wire.isSettled && now - wire.joined >= 2n * wire.liveness.interval) {
        wire.isSettled = true;
        isChanged = true;
      }
      this.#forget(ifindex, wire, now);
    }
    return isChanged;
  }

  #countedAge = false;

  #mayJoin({ liveness, began }: Wire, now: bigint): boolean {
    if (liveness.hellos <= this.#options.dead || !liveness.hasWaited(now)) return false;
    const isActive = (state: number) => state === nodeState.LIVE || state === nodeState.JOINING;
    return now - began > PATIENCE || liveness.alive.every(({ state, knowsUs }) => knowsUs || !isActive(state));
  }

  #forget(ifindex: number, { liveness, peers }: Wire, now: bigint): void {
    for (const [node, { isAlive, alive }] of liveness.members) {
      if (isAlive || now - alive < FORGET) continue;
      const key = { node, ifindex, zero: 0 };
      this.#maps.peers.deleteMany([key]);
      this.#maps.probes.deleteMany([key]);
      liveness.forget(node);
      peers.delete(node);
    }
  }

  #probe(ifindex: number, wire: Wire): void {
    const { link, liveness, peers } = wire;
    if (!link.isUp) return;
    const now = this.#clock.now();
    if (wire.tell > 0) {
      // They ask for an old MAC, which is not answered.
      for (const peer of this.alive(ifindex)) {
        this.send(ifindex, peer, { type: wireType.WIRE_NOTICE, nonce: this.nextNonce() });
      }
      wire.tell -= 1;
    }
    if (liveness.isHelloDue(now)) {
      const nonce = this.nextNonce();
      wire.hellos = [nonce, ...wire.hellos].slice(0, 2);
      this.#events.hello(ifindex, nonce);
      if (this.send(ifindex, undefined, { type: wireType.WIRE_PROBE, nonce })) liveness.helloSent(now);
    }
    for (const node of liveness.due(now)) {
      const peer = peers.get(node)!;
      const key = { node, ifindex, zero: 0 };
      const before = this.#nonces.get(peerName(ifindex, node)) ?? 0n;
      const nonce = this.nextNonce();
      this.#maps.probes.set(key, {
        node: peer.node,
        mac_text: formatMac(peer.mac),
        mac: peer.mac,
        incarnation: peer.incarnation,
        nonce,
        last_nonce: before,
      });
      this.#nonces.set(peerName(ifindex, node), nonce);
      const sent = this.#clock.now();
      if (this.send(ifindex, peer, { type: wireType.WIRE_PROBE, nonce })) liveness.sent(node, sent);
    }
  }

  readonly #nonces = new Map<string, bigint>();

  /**
   * The kernel's programs have read what comes in here, but for what came before they stood, or comes past them on some
   * way of the stack's: so nothing counts that is not meant for this very speaker.
   */
  #receive({ ifindex, frame }: Received): void {
    const wire = this.#wires.get(ifindex);
    if (!wire && !this.#events.isBarred(ifindex)) return;
    const message = decodeWire(frame, this.#options.keys);
    if (!message) return;
    if (message.node === this.#id && message.incarnation === this.incarnation) this.#receiveOwn(ifindex, message);
    else if (!wire || message.to !== this.incarnation) return;
    else if (message.node === this.#id) this.#events.namesake(ifindex, message);
    else if (message.type === wireType.WIRE_ECHO) {
      this.#hasNews = true;
      if (!this.#cancelRest) this.#takeNews();
    } else if (message.type === wireType.WIRE_REPLY || message.type === wireType.WIRE_NOTICE) {
      const peer = wire.peers.get(message.node);
      if (peer && message.type === wireType.WIRE_NOTICE && formatMac(peer.mac) !== formatMac(message.source)) {
        // What its MAC is, its echo alone tells.
        wire.liveness.callAll();
        this.#schedule(0);
      }
      this.#events.frame(ifindex, message);
    }
  }

  /** At once; and what comes within the next milliseconds together, for each look is at all peers, and a thousand may come. */
  #takeNews(): void {
    this.#hasNews = false;
    this.refresh();
    this.#tellChanges();
    this.#cancelRest = this.#clock.after(REST, () => {
      this.#cancelRest = undefined;
      if (this.#hasNews) this.#takeNews();
    });
  }

  #hasNews = false;
  #cancelRest: (() => void) | undefined;

  /** Of what comes back, only a broadcast probe that has just been sent is no recording. */
  #receiveOwn(ifindex: number, { nonce }: Frame): void {
    const from = [...this.#wires].find(([, { hellos }]) => hellos.includes(nonce))?.[0];
    if (from !== undefined) this.#events.looped(ifindex, from);
  }

  [Symbol.dispose](): void {
    this.#cancel?.();
    this.#cancelRest?.();
    this.#wires.clear();
    this.#listening[Symbol.dispose]();
  }
}

const peerName = (ifindex: number, node: bigint) => `${ifindex} ${node}`;
