import { claimVerdict, nodeState, wireHeader, wireType } from "../../src/core/abi.ts";
import { type Address, parseAddress, parseRange } from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { Nonces } from "../../src/core/claims.ts";
import type { VipRange } from "../../src/core/demand.ts";
import { Segment, type SegmentEvent, type SegmentOptions, type SegmentPlan } from "../../src/core/segment.ts";
import type { Effects, Entry, Frame, Heard, Outgoing, Question } from "../../src/core/step.ts";
import { MS, SECOND } from "../../src/core/time.ts";
import { isAbout, nodeId } from "../../src/core/wire.ts";
import type { Link } from "../../src/link/links.ts";
import type { Network } from "../../src/plan.ts";

/** Not zero, like the clock of a machine that has been running for a while. */
export const START = 1_000n * SECOND;
const TICK = 500n * MS;

export const range = (text: string, more: Partial<VipRange> = {}): VipRange => ({
  ...parseRange(text),
  nodes: undefined,
  interfaces: undefined,
  hashAs: undefined,
  ...more,
});

/** A machine with these links, of which none was ever announced on. */
/** A made-up link: an Ethernet interface that is up. */
export function linkOf(ifindex: number, name: string, changes: Partial<Link> = {}): Link {
  return {
    ifindex,
    name,
    altnames: [],
    kind: "",
    over: undefined,
    mac: Uint8Array.of(2, 0, 0, 0, 0, ifindex),
    isEthernet: true,
    mtu: 1500,
    isUp: true,
    portOf: undefined,
    addresses: [{ address: parseAddress("10.9.255.1"), prefix: 16 }],
    linkLocal: undefined,
    transmitted: { packets: 0n, dropped: 0n },
    ...changes,
  };
}

export const networkOf = (links: readonly Link[]): Network => ({
  links,
  gateways: new Set(),
  device: undefined,
  device6: undefined,
  served: new Map(),
  barred: new Map(),
});

/** A peer as the kernel's map has it. */
export const heardOf = (name: string, more: Partial<Heard> = {}): Heard => ({
  node: nodeId(name),
  name,
  mac: Uint8Array.of(2, 0, 0, 0, 1, name.charCodeAt(0)),
  state: nodeState.LIVE,
  sourceStale: false,
  onlyIPv4: false,
  knowsUs: true,
  incarnation: nodeId(name) ^ 1n,
  maxVersion: 2,
  keyId: 1,
  interfaceName: "eth0",
  stamp: 1n,
  echoedNs: 0n,
  heardNs: 0n,
  ...more,
});

/**
 * One segment of node `a`, with peers that the test scripts. Like the speaker, it does what each step asks for and feeds
 * back what came of it; all steps are kept as values.
 */
export class Stage {
  now = START;
  readonly segment: Segment;
  readonly steps: Effects[] = [];
  plan: SegmentPlan;
  /** Peers that answer probes, by name. */
  readonly answering = new Set<string>();
  /** The kernel's map of peers. */
  readonly peers = new Map<bigint, Heard>();
  /** What the kernel has released, and how many it says that it has. */
  readonly released = new Set<Address>();
  releases = 0n;
  /** Whether frames leave; `refused`: this machine itself drops those of the peer protocol. */
  isSending: boolean | "refused" = true;
  /** Who answers ARP for an address, by name: whoever is asked, or all. */
  readonly arp = new Map<Address, string>();
  /** The kernel's count of frames of others. */
  seen = 0n;
  /** The verdict with which peers answer a claim at once; undefined: they do not answer. */
  verdict: number | undefined = claimVerdict.FREE;
  private wakeAt: bigint | undefined;
  private tickedAt = 0n;

  constructor(plan: Partial<SegmentPlan> = {}, options: Partial<SegmentOptions> = {}) {
    this.plan = {
      name: "eth0",
      mac: "02:00:00:00:00:01",
      mtu: 1500,
      isUp: true,
      node: "a",
      nodes: ["a", "b", "c"].map((name) => ({ name, address: undefined })),
      ranges: [range("10.9.0.1", { nodes: ["a"] })],
      gateways: [],
      isDrained: false,
      isEnding: false,
      isSourceStale: false,
      isOldSpoken: false,
      probes: { interval: 100n * MS, dead: 3 },
      hold: 30n * SECOND,
      pace: { refresh: 95_000, rate: 1_000 },
      ...plan,
    };
    const defaults = { nonces: new Nonces(), random: () => 0.5, began: START, entries: new Map() };
    const earlier = { pinned: undefined, isRightful: false };
    this.segment = new Segment({ ...defaults, ...earlier, ...options }, START);
  }

  /** A stage whose segment has joined these peers, and owns what it is to own. */
  static among(
    peers: readonly string[],
    plan: Partial<SegmentPlan> = {},
    options: Partial<SegmentOptions> = {},
  ): Stage {
    const stage = new Stage(plan, options);
    for (const name of peers) stage.answering.add(name);
    stage.replan();
    stage.run(3_000);
    stage.steps.length = 0;
    return stage;
  }

  replan(changes: Partial<SegmentPlan> = {}, isAnnounced = false): Effects[] {
    this.plan = { ...this.plan, ...changes };
    return this.handle({ kind: "plan", plan: this.plan, isAnnounced });
  }

  /** Handles an event and everything that follows from it at once. @returns the steps */
  handle(first: SegmentEvent): Effects[] {
    const events = [first];
    const steps: Effects[] = [];
    for (let event = events.shift(); event; event = events.shift()) {
      const step = this.segment.handle(event, this.now);
      steps.push(step);
      this.wakeAt = step.wakeAt;
      if (step.forget === "all") this.peers.clear();
      else for (const node of step.forget) this.peers.delete(node);
      const frames = this.isSending === true ? step.send : [];
      const refused = this.isSending === "refused" ? step.send : [];
      const asked = this.isSending ? step.ask : [];
      if (step.send.length + asked.length > 0) events.push({ kind: "sent", at: this.now, frames, refused, asked });
      for (const frame of frames) if (frame.type === wireType.WIRE_PROBE) this.echo(frame);
      if (step.look) events.push({ kind: "reading", reading: this.reading(step.look) });
      for (const frame of frames) events.push(...this.replies(frame));
      for (const question of asked) events.push(...this.answersTo(question));
    }
    this.steps.push(...steps);
    return steps;
  }

  private reading(look: ReadonlySet<Address> | "all") {
    const released = [...this.released].filter((address) => look === "all" || look.has(address));
    return { peers: [...this.peers.values()], releases: this.releases, released, seen: this.seen };
  }

  private answersTo({ target, mac }: Question): SegmentEvent[] {
    const name = this.arp.get(target);
    const its = name === undefined ? undefined : (this.peers.get(nodeId(name)) ?? heardOf(name)).mac;
    if (!its || (mac && formatMac(mac) !== formatMac(its))) return [];
    return [{ kind: "answered", address: target, mac: its }];
  }

  private echo({ node }: Outgoing): void {
    for (const name of this.answering) {
      const known = this.peers.get(nodeId(name)) ?? heardOf(name);
      if (node === undefined || node === known.node) this.peers.set(known.node, { ...known, echoedNs: this.now + 1n });
    }
  }

  private replies(frame: Outgoing): SegmentEvent[] {
    if (frame.type !== wireType.WIRE_CLAIM || this.verdict === undefined) return [];
    return [{ kind: "frame", frame: this.replyTo(frame, this.verdict) }];
  }

  /** A peer's answer to a claim. */
  replyTo({ node, nonce, claims = [] }: Outgoing, verdict: number): Frame {
    const header = { type: wireType.WIRE_REPLY, node: node!, name: this.peers.get(node!)!.name, nonce };
    return { ...wireHeader.of(header), claims: claims.map((claim) => ({ ...claim, verdict })) };
  }

  /** Lets so many milliseconds pass: the segment is woken when it asked for it, and verified twice a second. */
  run(milliseconds: number): void {
    const end = this.now + BigInt(milliseconds) * MS;
    for (;;) {
      const tickAt = this.tickedAt + TICK;
      const isTick = this.wakeAt === undefined || tickAt < this.wakeAt;
      const at = isTick ? tickAt : this.wakeAt!;
      if (at > end) break;
      if (at > this.now) this.now = at;
      if (isTick) this.tick();
      else this.handle({ kind: "wake" });
    }
    this.now = end;
  }

  tick(): Effects[] {
    this.tickedAt = this.now;
    return this.handle({ kind: "verified", at: this.now });
  }

  /** Frames of this type that left, of all steps or of these; without questions about nodes. */
  sent(type: number, steps: readonly Effects[] = this.steps): Outgoing[] {
    const isIts = (frame: Outgoing) => frame.type === type && !frame.claims?.some(isAbout);
    return steps.flatMap(({ send }) => send.filter(isIts));
  }

  /** The states that were written for the VIP, one after the other. */
  written(address: Address, steps: readonly Effects[] = this.steps): Entry["state"][] {
    return steps.flatMap(({ write }) => write.get(address)?.state ?? []);
  }

  notices(steps: readonly Effects[] = this.steps): string[] {
    return steps.flatMap(({ notices }) => notices.map(({ message }) => message));
  }
}
