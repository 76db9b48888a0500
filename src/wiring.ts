import type { Config } from "./config/config.ts";
import { framesOfOthers, NO_VERDICTS, type WireHeader } from "./core/abi.ts";
import { type Address, having } from "./core/address.ts";
import { framesOf } from "./core/announcer.ts";
import { type Form, formatMac } from "./core/arp.ts";
import { Nonces } from "./core/claims.ts";
import type { Demand } from "./core/demand.ts";
import { countEntries } from "./core/difference.ts";
import { ranker } from "./core/ownership.ts";
import { Segment, type SegmentEvent } from "./core/segment.ts";
import { type Effects, type Frame, isOwned, type Notice, type Outgoing, type Reading } from "./core/step.ts";
import { earlier, MS, type Ns } from "./core/time.ts";
import type { FileKey } from "./core/wire.ts";
import { bootTime } from "./ffi/libc.ts";
import { Interfaces } from "./interfaces.ts";
import { Kernel } from "./kernel/kernel.ts";
import { forgetPeers, readPeers, writeProbe } from "./kernel/peers.ts";
import { VipTable } from "./kernel/vips.ts";
import { Keys } from "./keys.ts";
import { type Claimant, Claimants } from "./link/claimants.ts";
import { Groups } from "./link/groups.ts";
import { describeLink, type Link, type Links } from "./link/links.ts";
import { PacketSocket, type Sent } from "./link/packet.ts";
import { PeerFrames } from "./link/peers.ts";
import { type Answer, WhoHas } from "./link/who-has.ts";
import type { Log } from "./log.ts";
import { announcedOf, countAddresses, type Plan, type PlannedLink, sum } from "./plan.ts";
import type { Snapshot } from "./report/snapshot.ts";

/** A segment whose step failed is called again after this long. */
const RETRY: Ns = 100n * MS;

/** An interface that is served, or guarded. */
export interface Attached {
  link: Link;
  isGuard: boolean;
  readonly segment: Segment;
  /** When the segment is to be called again. */
  wakeAt: Ns | undefined;
  /** Frames of announcements that have left. */
  announcements: number;
}

/** An event that reaches an interface from outside. */
export type WiringEvent =
  | { kind: "frame"; ifindex: number; frame: Frame }
  /** A frame that this speaker sent came in. */
  | { kind: "own frame"; ifindex: number; frame: Frame }
  | { kind: "foreigner"; ifindex: number; header: WireHeader }
  | ({ kind: "answered" } & Answer)
  | ({ kind: "announced" } & Claimant);

/** The segments with everything that they act on: links, hooks, maps and sockets. It decides nothing. */
export class Wiring implements Disposable {
  readonly keys: Keys;
  readonly #interfaces: Interfaces;
  readonly #kernel: Kernel;
  readonly #socket: PacketSocket;
  readonly #attached = new Map<number, Attached>();
  readonly table: VipTable;
  /** undefined: static membership, without peers. */
  readonly #frames: PeerFrames | undefined;
  readonly #log: Log;
  readonly #whoHas: WhoHas;
  readonly #claimants: Claimants;
  readonly #groups: Groups;
  readonly #nonces = new Nonces();
  readonly #began = bootTime();
  /** An earlier speaker had joined under this node's name. */
  readonly #isRightful: boolean;
  readonly #resources: DisposableStack;
  #form: Form;

  /**
   * Opens the kernel's side, and takes over what an earlier speaker left there. Nothing is attached yet.
   * @param keys undefined: static membership
   * @param post takes what comes from outside; called from the event loop only
   * @throws Error in one line that says what to do
   */
  constructor(
    config: Config,
    demand: Demand,
    links: Links,
    keys: readonly FileKey[] | undefined,
    log: Log,
    post: (event: WiringEvent) => void,
  ) {
    using stack = new DisposableStack();
    this.#log = log;
    this.#form = config.garp.form;
    this.#kernel = stack.use(new Kernel(config.pinDir));
    this.#socket = stack.use(new PacketSocket());
    this.#whoHas = stack.use(new WhoHas(this.#socket, (answer) => post({ kind: "answered", ...answer })));
    const onClaimant = (claimant: Claimant) => post({ kind: "announced", ...claimant });
    const onError = ({ message }: Error) => log.error(message);
    this.#claimants = stack.use(new Claimants(onClaimant, onError));
    this.#groups = stack.use(new Groups(this.#socket, onError));
    this.table = new VipTable(this.#kernel.maps, this.#kernel.writer);
    this.#interfaces = new Interfaces(this.#kernel, links, config.hook, log);
    this.keys = new Keys(this.#kernel.maps.keys);
    if (keys) {
      this.#frames = stack.use(
        new PeerFrames(this.#socket, {
          node: config.node,
          keys: this.keys,
          onError,
          onFrame: (ifindex, frame) => post({ kind: "frame", ifindex, frame }),
          onOwnFrame: (ifindex, frame) => post({ kind: "own frame", ifindex, frame }),
          onForeigner: (ifindex, header) => post({ kind: "foreigner", ifindex, header }),
        }),
      );
      this.keys.set(keys, demand);
    }
    const former = this.#kernel.formerEntries();
    this.#isRightful = this.#interfaces.hadJoined(config.node) || former.some(({ isOwned }) => isOwned);
    // Another layout's programs answer until the hooks are swapped, and ours must know by then what they answered.
    const hashOf = keys ? ranker(config.node, demand.vips) : () => 0n;
    this.table.takeOver(former, this.#began, hashOf);
    this.#resources = stack.move();
  }

  get attached(): ReadonlyMap<number, Attached> {
    return this.#attached;
  }

  get hasPeers(): boolean {
    return this.#frames !== undefined;
  }

  get counts(): { owned: number; managed: number } {
    const all = [...this.#attached.values()].map(({ segment }) => segment);
    const owned = sum(all.map(({ entries }) => countEntries(entries).owned));
    return { owned, managed: sum(all.map(({ electorate }) => countAddresses(announcedOf(electorate)))) };
  }

  get isReady(): boolean {
    return [...this.#attached.values()].every(({ segment }) => segment.isReady);
  }

  /** Warnings about how the nodes hear each other. */
  get warnings(): string[] {
    return [
      ...this.blocked.values(),
      ...[...this.#attached.values()].flatMap(({ segment }) => segment.warnings(bootTime())),
    ];
  }

  /** By interface, why nothing may be owned there. */
  get blocked(): ReadonlyMap<number, string> {
    return this.#interfaces.blocked;
  }

  /** The interfaces to which not all programs are attached. */
  get bare(): string[] {
    const isBare = ([ifindex]: [number, Attached]) =>
      !this.#interfaces.points(ifindex).every((point) => this.#interfaces.isAttached(ifindex, point));
    return [...this.#attached].filter(isBare).map(([, { link }]) => link.name);
  }

  /** When the first segment is to be called again. */
  get wakeAt(): Ns | undefined {
    return [...this.#attached.values()].reduce<Ns | undefined>(
      (first, { wakeAt }) => (wakeAt === undefined ? first : earlier(wakeAt, first)),
      undefined,
    );
  }

  /** The part of a speaker's snapshot that is here. */
  snapshot(): Pick<Snapshot, "maps" | "segments" | "signs"> {
    const now = bootTime();
    const segments = [...this.#attached].map(([ifindex, { link, isGuard, segment, announcements }]) => ({
      link,
      isGuard,
      announcements,
      usurped: segment.usurped,
      hooks: this.#interfaces
        .points(ifindex)
        .map((point) => ({ ...point, isAttached: this.#interfaces.isAttached(ifindex, point) })),
      blocked: this.blocked.get(ifindex),
      state: segment.state(now),
      entries: segment.entries,
      electorate: segment.electorate,
      members: segment.members,
      contested: segment.contested(now),
      unanswered: segment.unanswered,
    }));
    return { maps: this.#kernel.maps, segments, signs: this.keys.ring.keys[0]?.id };
  }

  /** The start succeeded: pins that no start needs any more go. */
  settle(): void {
    const its = (ifindex: number) => [ifindex, this.#interfaces.points(ifindex)] as const;
    this.#kernel.removeLeftovers(new Map([...this.#attached.keys()].map(its)));
  }

  /** The start failed: what it attached goes, and what an earlier speaker left stays. */
  undo(): void {
    this.#interfaces.undo();
  }

  /**
   * Attaches to the plan's new links. Nothing else changes: a plan that fails here has moved no VIP.
   * @param isStrict {@link keep} or {@link undo} follows where a link cannot be attached; a guard keeps no VIP waiting
   * @param fail called for a link that cannot be attached; the ticks try on
   * @returns the links whose answers went on since an earlier speaker announced them
   * @throws Error where a link cannot be attached that is announced on, if `isStrict`
   */
  attach({ config, links }: Plan, isStrict: boolean, fail: (error: Error) => void): ReadonlySet<number> {
    const announced = new Set<number>();
    const isNew = ({ link, isGuard }: PlannedLink) => this.#attached.get(link.ifindex)?.isGuard !== isGuard;
    const added = links.filter(isNew);
    for (const planned of added) {
      const { link, isGuard } = planned;
      const isSameMac = this.#interfaces.pinned(link.ifindex)?.mac_text === formatMac(link.mac);
      this.#open(planned);
      this.#writeInterface(config, planned);
      try {
        const how = this.#interfaces.attach(link);
        if (how === "adopted" && isSameMac) announced.add(link.ifindex);
        const hook = this.#interfaces.hook(link.ifindex);
        const what = isGuard ? "guarded, nothing is announced there" : `${hook} ${how}`;
        this.#log.info({ interface: link.name, hook }, `interface ${describeLink(link)}: ${what}`);
      } catch (error) {
        if (isStrict && !isGuard) throw error;
        if (isSameMac) announced.add(link.ifindex);
        fail(error as Error);
      }
    }
    if (added.length > 0) this.table.release(this.#kernel.formerEntries());
    return announced;
  }

  #open({ link, isGuard }: PlannedLink): void {
    const known = this.#attached.get(link.ifindex);
    if (known) return void (known.isGuard = isGuard);
    const pinned = this.#interfaces.pinned(link.ifindex);
    const segment = new Segment(
      {
        nonces: this.#nonces,
        random: Math.random,
        began: this.#began,
        entries: this.table.entriesOf(link.ifindex),
        pinned: pinned && { state: pinned.state, tick: pinned.tick_ns },
        isRightful: this.#isRightful,
      },
      bootTime(),
    );
    this.#attached.set(link.ifindex, { link, isGuard, segment, wakeAt: undefined, announcements: 0 });
  }

  /** Makes the interfaces' entries and names those of the plan, and {@link keep}s its links only. */
  follow(plan: Plan): void {
    const { config, links } = plan;
    this.#form = config.garp.form;
    for (const planned of links) {
      const { link } = planned;
      const attached = this.#attached.get(link.ifindex)!;
      if (describeLink(attached.link) !== describeLink(link))
        this.#log.info({ interface: link.name }, `interface changed: ${describeLink(link)}`);
      attached.link = link;
      this.#writeInterface(config, planned);
    }
    this.keep(plan);
  }

  /** Lets go of the links that the plan does not have. */
  keep({ links }: Pick<Plan, "links">): void {
    const ifindexes = links.map(({ link }) => link.ifindex);
    const isKept = (ifindex: number) => ifindexes.includes(ifindex);
    for (const ifindex of this.table.entries.keys()) if (!isKept(ifindex)) this.table.drop(ifindex);
    for (const ifindex of this.#attached.keys()) {
      if (isKept(ifindex)) continue;
      forgetPeers(this.#kernel.maps, ifindex, "all");
      this.#attached.delete(ifindex);
    }
    this.#interfaces.keep(ifindexes);
    this.#frames?.listenOn(links.flatMap(({ link, isGuard }) => (isGuard ? [] : [link.ifindex])));
    this.#claimants.listenOn(links);
    this.#groups.follow(links);
  }

  #writeInterface({ node, hold, fence }: Config, { link, ranges, guarded, isGuard }: PlannedLink): void {
    const isVip = (address: Address) => [ranges, guarded].some((some) => some.some(having(address)));
    const addresses = link.addresses.filter((own) => !isVip(own.address));
    const incarnation = this.#frames?.incarnation ?? 0n;
    const { segment } = this.#attached.get(link.ifindex)!;
    this.#interfaces.write(link, { node, incarnation, addresses, hold, fence }, segment.said, isGuard);
  }

  /** Has a segment handle an event, applies what it decides, and feeds back what came of that. */
  step(ifindex: number, event: SegmentEvent): Pick<Effects, "notices" | "conflict"> {
    const notices: Notice[] = [];
    let conflict: string | undefined;
    const attached = this.#attached.get(ifindex);
    const events = [event];
    if (attached) attached.wakeAt = bootTime() + RETRY; // what is decided below replaces it, unless that fails
    for (let next = events.shift(); attached && next; next = events.shift()) {
      const effects = attached.segment.handle(next, bootTime());
      attached.wakeAt = effects.wakeAt;
      events.push(...this.#apply(effects, ifindex, attached, notices));
      notices.push(...effects.notices);
      conflict ??= effects.conflict;
    }
    return { notices, conflict };
  }

  /** Does what a segment decided, in the order of {@link Effects}. @returns what the segment has to know of that */
  #apply(effects: Effects, ifindex: number, attached: Attached, notices: Notice[]): SegmentEvent[] {
    if (effects.self) this.#interfaces.say(ifindex, effects.self);
    if (!this.table.replace(ifindex, [...effects.write], effects.remove)) return [];
    // A peer's claim may have been granted between the decision and the write: then the entry does not count.
    const owned = this.hasPeers ? [...effects.write].filter(([, entry]) => isOwned(entry)) : [];
    const lost = this.table.releasedOf(
      ifindex,
      owned.map(([address]) => address),
    );
    for (const probe of effects.probes) writeProbe(this.#kernel.maps, ifindex, probe);
    forgetPeers(this.#kernel.maps, ifindex, effects.forget);
    const at = bootTime();
    const left = (send: () => Sent) => this.#try(send, notices);
    const outcomes = effects.send.map((frame) => ({ frame, sent: left(() => this.#send(frame, attached)) }));
    const those = (which: Sent) => outcomes.flatMap(({ frame, sent }) => (sent === which ? [frame] : []));
    this.#groups.renew(ifindex, effects.announce);
    // Those that meet a link that is down or gone are not repeated: the link's return announces all anew.
    const refused = effects.announce.filter(
      (address) => left(() => this.#announce(ifindex, address, attached)) === "dropped",
    );
    const asked = effects.ask.filter((question) => left(() => this.#whoHas.ask(attached.link, question)) === "sent");
    const departure = { at, frames: those("sent"), refused: those("dropped"), asked };
    return [
      ...(effects.send.length + effects.ask.length > 0 ? [{ kind: "sent", ...departure } as const] : []),
      ...(refused.length > 0 ? [{ kind: "refused", addresses: refused } as const] : []),
      ...(lost.length > 0 ? [this.#lose(ifindex, lost)[1]] : []),
      ...(effects.look ? [{ kind: "reading", reading: this.#read(ifindex, effects.look) } as const] : []),
    ];
  }

  /** A frame that cannot leave must not keep the next one, and what the segment has to know of the others, from it. */
  #try(send: () => Sent, notices: Notice[]): Sent {
    try {
      return send();
    } catch (error) {
      notices.push({ level: "error", message: (error as Error).message });
      return "dropped";
    }
  }

  #send(frame: Outgoing, { link, segment }: Attached): Sent {
    const { sourceStale } = segment.said;
    return this.#frames!.send(link, frame, { state: segment.state(bootTime()), sourceStale });
  }

  /** @returns the first failure, where a frame of several did not leave */
  #announce(ifindex: number, address: Address, attached: Attached): Sent {
    const sent = framesOf(attached.link.mac, address, this.#form).map((frame) => this.#socket.send(ifindex, frame));
    attached.announcements += sent.filter((each) => each === "sent").length;
    return sent.find((each) => each !== "sent") ?? "sent";
  }

  #read(ifindex: number, look: NonNullable<Effects["look"]>): Reading {
    const peers = readPeers(this.#kernel.maps, ifindex);
    const verdicts = this.#kernel.maps.verdicts.get(ifindex) ?? NO_VERDICTS;
    const released = look === "all" ? this.table.released(ifindex) : this.table.releasedOf(ifindex, look);
    return { peers, releases: verdicts.released, released, seen: framesOfOthers(verdicts) };
  }

  /** The kernel's facts about VIPs that a segment holds, and that its kernel has released. */
  #lose(ifindex: number, released: readonly Address[]): readonly [ifindex: number, SegmentEvent] {
    return [ifindex, { kind: "reading", reading: this.#read(ifindex, new Set(released)) }];
  }

  /**
   * Verifies what the kernel holds and that the programs are attached, and mends what is not so.
   * @param fail called for each hook that was not attached any more
   * @returns what that means to each interface: all was well, or VIPs that are held here were released by the kernel
   */
  verify(now: Ns, fail: (message: string) => void): (readonly [ifindex: number, SegmentEvent])[] {
    const released = this.table.verify();
    if (!released) {
      this.table.mend((message) => this.#log.error(message));
      return [];
    }
    this.#interfaces.repin(fail);
    const lost = [...released].map(([ifindex, addresses]) => this.#lose(ifindex, addresses));
    const verified = [...this.#attached].flatMap(([ifindex, { link }]) => {
      try {
        return this.#interfaces.reattach(link, fail) ? [[ifindex, { kind: "verified", at: now }] as const] : [];
      } catch (error) {
        fail((error as Error).message);
        return [];
      }
    });
    return [...lost, ...verified];
  }

  /** Closes the sockets and this process's hold on the kernel's objects. The kernel goes on answering. */
  [Symbol.dispose](): void {
    this.#resources.dispose();
  }
}
