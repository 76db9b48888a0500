import { nodeState } from "../core/abi.ts";
import type { Address } from "../core/address.ts";
import type { NodeEntry } from "../core/demand.ts";
import type { AnnouncingInterface } from "../core/ownership.ts";
import { nodeId } from "../core/wire.ts";
import { bootTime } from "../ffi/libc.ts";
import type { Link } from "../link/links.ts";
import type { PacketSocket } from "../link/packet.ts";
import { whoHas } from "../link/who-has.ts";
import type { SelfStanding, WireMembership } from "./wire.ts";

const SECOND = 1_000_000_000n;
/** How often nodes that are not heard are asked for by ARP, ms. */
const ASK = 1_000;
/** Questions without any answer until a node takes itself for the only one. */
const ASKS = 3;
/** Where nodes' addresses are not known: for so long it waits to hear a peer, ns. */
const WAIT = 10n * SECOND;

/** What is known of an interface on which no peer has been heard yet. */
interface Loneliness {
  asks: number;
  /** Those that answered the last question. */
  answered: ReadonlySet<Address>;
  isAlone: boolean;
}

/**
 * Which nodes may own on an interface. Where no peer has been heard since it came up, that may mean that there is none,
 * or that the wire swallows isat's own frames: until it is known which, a node takes what the election among all of the
 * source's nodes gives it, and no more, lest everyone owns everything.
 */
export class Members implements Disposable {
  readonly #wire: WireMembership;
  readonly #socket: PacketSocket;
  readonly #self: (ifindex: number) => SelfStanding;
  readonly #changed: () => void;
  readonly #node: string;
  #timer: NodeJS.Timeout | undefined;
  readonly #lonely = new Map<number, Loneliness>();
  readonly #links = new Map<number, Link>();
  #nodes: readonly NodeEntry[] = [];
  #names = new Map<bigint, string>();

  constructor(
    node: string,
    wire: WireMembership,
    socket: PacketSocket,
    self: (ifindex: number) => SelfStanding,
    changed: () => void,
  ) {
    this.#node = node;
    this.#wire = wire;
    this.#socket = socket;
    this.#self = self;
    this.#changed = changed;
  }

  /** The nodes that the source names now. */
  set nodes(nodes: readonly NodeEntry[]) {
    this.#nodes = nodes;
    this.#names = new Map(nodes.map(({ name }) => [nodeId(name), name]));
  }

  /** The links on which this node announces now. One that is down has no peers, and begins anew when it is up again. */
  set links(links: readonly Link[]) {
    const up = new Map(links.filter(({ isUp }) => isUp).map((link) => [link.ifindex, link]));
    for (const ifindex of this.#links.keys()) {
      if (up.has(ifindex)) continue;
      this.#links.delete(ifindex);
      this.#lonely.delete(ifindex);
      this.#wire.remove(ifindex);
    }
    for (const [ifindex, link] of up) {
      if (this.#links.has(ifindex)) this.#wire.update(link);
      else this.#wire.add(link);
      this.#links.set(ifindex, link);
    }
    if (this.#mayBeLonely) this.#timer ??= setInterval(() => void this.#askAll(), ASK);
  }

  /** Nobody has been heard on some link so far. */
  get #mayBeLonely(): boolean {
    return [...this.#links.keys()].some((ifindex) => !this.#wire.hasHeard(ifindex));
  }

  /** The nodes that may own on the link; undefined while this node does not know its peers there. */
  candidates({ ifindex, isUp }: Link): Pick<AnnouncingInterface, "candidates" | "held"> {
    if (!isUp) return { candidates: [], held: [] };
    if (!this.#wire.isSettled(ifindex)) return { candidates: undefined, held: [] };
    if (!this.#wire.hasHeard(ifindex)) return { candidates: this.#unheard(ifindex), held: [] };
    const named = this.#wire.candidates(ifindex).flatMap(({ node, isHeld }) => {
      const name = this.#names.get(node);
      return name === undefined ? [] : [{ name, isHeld: isHeld && name !== this.#node }];
    });
    return {
      candidates: named.map(({ name }) => name),
      held: named.filter(({ isHeld }) => isHeld).map(({ name }) => name),
    };
  }

  #unheard(ifindex: number): string[] {
    const isOut = this.#self(ifindex).state === nodeState.DRAINED;
    const all = this.#isAlone(ifindex) ? [this.#node] : this.#nodes.map(({ name }) => name);
    return isOut ? all.filter((name) => name !== this.#node) : all;
  }

  #isAlone(ifindex: number): boolean {
    return this.#nodes.length <= 1 || (this.#lonely.get(ifindex)?.isAlone ?? false);
  }

  /** What a person should know of how nodes hear each other. */
  get warnings(): string[] {
    return [...this.#links.values()].flatMap(({ ifindex, name }) => {
      if (this.#nodes.length <= 1 || !this.#wire.isJoined(ifindex) || this.#wire.hasHeard(ifindex)) return [];
      const lonely = this.#lonely.get(ifindex);
      const there = this.#nodes.filter(({ address }) => address !== undefined && lonely?.answered.has(address));
      const names = there.map(({ name }) => name).join(", ");
      if (names) {
        return `no peer is heard on ${name}, though ${names} ${there.length === 1 ? "answers" : "answer"} ARP there: let the switch pass EtherType 0x88b5, start isat there, and give all nodes the same key. Until then the nodes that are listed count as alive`;
      }
      if (lonely?.isAlone) return `no peer is heard on ${name}: this node takes itself for the only one alive`;
      return [];
    });
  }

  async #askAll(): Promise<void> {
    if (!this.#mayBeLonely) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    for (const [ifindex, link] of this.#links) {
      if (!this.#wire.isJoined(ifindex) || this.#wire.hasHeard(ifindex)) continue;
      try {
        await this.#ask(ifindex, link);
      } catch {
        // the link went away meanwhile, of which the links tell
      }
    }
  }

  async #ask(ifindex: number, link: Link): Promise<void> {
    const others = this.#nodes.filter(({ name }) => name !== this.#node);
    const targets = others.flatMap(({ address }) => address ?? []);
    const answered = targets.length > 0 ? await whoHas(this.#socket, link, targets) : new Set<Address>();
    if (this.#isDisposed) return;
    const before = this.#lonely.get(ifindex);
    const asks = answered.size > 0 ? 0 : (before?.asks ?? 0) + 1;
    const hasWaited = targets.length === others.length || bootTime() - this.#wire.since(ifindex) >= WAIT;
    const isAlone = answered.size === 0 && asks >= ASKS && hasWaited;
    this.#lonely.set(ifindex, { asks, answered, isAlone });
    if (isAlone !== (before?.isAlone ?? false) || answered.size !== (before?.answered.size ?? 0)) this.#changed();
  }

  #isDisposed = false;

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    clearInterval(this.#timer);
  }
}
