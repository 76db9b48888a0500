import { vipState, wireType } from "../../src/core/abi.ts";
import { isAbout } from "../../src/core/wire.ts";
import { type Act, describe, type Machine, MS } from "../core/machine.ts";
import { type Scheduled, Simulation, Violation } from "../core/simulation.ts";
import { copy, textOf } from "./copy.ts";

/*
 * A bounded, exhaustive search over what can go wrong: from a start, time goes on in the nodes' own order, and wherever
 * there is a choice, each fault of the menu is tried, up to `faults` of them on one path. States that were seen are not
 * explored again.
 */

const SECOND = 1000 * MS;
/** ms; short, so that a path may be longer than both. */
const [HOLD, FENCE] = [6_000, 8_000];
/** For so long the peer protocol is lost and ARP is not, ms; undefined: for ever. */
const DEAF = [500, 3_000, undefined];

/** `beside`: another speaker answers on all nodes, and the VIP's node is the last one on which isat does not run. */
export const starts = ["converged", "cold", "restart", "lagging", "headless", "beside"] as const;

export interface Options {
  nodes: number;
  /** How many faults one path has at most. */
  faults: number;
  start: (typeof starts)[number];
  /** For so long from the start, faults begin, ms. */
  window: number;
  /** For so long after a fault's end, the next one may begin, ms. */
  after: number;
  /** For so long after it could have been noticed, the VIP may be silent, ms. */
  silence: number;
  /** Faults of frames and processes are tried while VIPs are claimed only, or at each event. */
  isFine: boolean;
  /** The nodes that may own the VIP, by index; undefined: all. */
  eligible: readonly number[] | undefined;
  /** Whether the source gives the nodes' addresses. */
  hasAddresses: boolean;
  /** Those that are on the wire by another interface than the one for which the VIP is, by index. */
  lacking: readonly number[];
  /** Nobody may take the VIP from a headless node. */
  isKept: boolean;
  /** Which faults there are. */
  menu: readonly Kind[];
  /** States after which the search gives up. */
  most: number;
}

export const kinds = [
  "frames",
  "delays",
  "processes",
  "kills",
  "power",
  "links",
  "sources",
  "drains",
  "shutdowns",
  "outages",
  "demands",
  "deafness",
  "gaps",
  "islands",
] as const;
export type Kind = (typeof kinds)[number];

export const DEFAULTS: Options = {
  nodes: 2,
  faults: 1,
  start: "converged",
  window: 300,
  after: 500,
  silence: 2_500,
  isFine: false,
  eligible: undefined,
  hasAddresses: true,
  lacking: [],
  isKept: false,
  menu: kinds.slice(0, kinds.indexOf("outages")),
  most: Number.POSITIVE_INFINITY,
};

/** Something that goes wrong: with the next event, or with a machine for a while. */
type Fault =
  | { what: "lose" | "repeat" | "delay"; ms: number }
  /** `end` after `ms`; undefined: never. */
  | { what: "act"; machine: number; other?: number; act: Act; end: Act; ms: number | undefined };

/** A fault, after so many events from the start. */
interface Turn {
  events: number;
  fault: Fault;
}

export interface Found {
  states: number;
  paths: number;
  /** Whether all that the options allow was seen. */
  isComplete: boolean;
  /** How the first rule that was broken came to be. */
  story: string | undefined;
}

/** Fields that have no bearing on what happens next: links back, settings, what is only counted or told, announcements. */
const LEFT = new Set([
  ...[
    "simulation",
    "machine",
    "settings",
    "nodes",
    "ranges",
    "addresses",
    "plan",
    "random",
    "diary",
    "isTold",
    "frames",
  ],
  ...[
    "longestSilence",
    "longestDouble",
    "moves",
    "lastOwner",
    "queue",
    "order",
    "announcer",
    "name",
    "node_name",
    "ranked",
  ],
  ...[
    "names",
    "electorate",
    "seen",
    "seenAtFirst",
    "answeredFor",
    "isStillHeard",
    "silentSince",
    "message",
    "echoes",
    "timerAt",
    "heard_ns",
    "own_ns",
    "isDirty",
    "isReported",
    "announcements",
  ],
]);

/** Where the search is on one path. */
interface Place {
  simulation: Simulation;
  /** Events since the start. */
  events: number;
  /** When the path ends if no other fault comes, and until when one may. */
  end: number;
  until: number;
  turns: readonly Turn[];
  /** The last state on the path. */
  last: string;
  nextGrid: number;
}

export class Exploration {
  private readonly options: Options;
  private readonly seen = new Set<string>();
  private paths = 0;
  private readonly progress: (states: number, paths: number) => void;

  constructor(options: Partial<Options>, progress: (states: number, paths: number) => void = () => undefined) {
    this.options = { ...DEFAULTS, ...options };
    this.progress = progress;
  }

  /** Searches paths of one fault, then of two, and so on: the first story that is found is of the fewest. */
  run(): Found {
    const { faults, most } = this.options;
    let isComplete = true;
    for (let budget = Math.min(1, faults); budget <= faults; budget++) {
      try {
        isComplete = this.follow(this.begin(), budget) && isComplete;
      } catch (error) {
        const end = { states: this.seen.size, paths: this.paths, isComplete: false };
        if (error instanceof Broken) return { ...end, story: this.tell(error.place) };
        // Where a rule is left out, the start may go wrong already.
        if (error instanceof Violation) return { ...end, story: error.message };
        throw error;
      }
      if (this.seen.size >= most) isComplete = false;
    }
    return { states: this.seen.size, paths: this.paths, isComplete, story: undefined };
  }

  private begin(): Place {
    const { nodes, start, window, silence, eligible, lacking, isKept, hasAddresses } = this.options;
    const simulation = new Simulation(
      {
        ...{
          nodes,
          eligible,
          hasAddresses,
          lacking,
          isKept,
          outdated: start === "lagging" ? 4_000 : 17_000,
          vips: 1,
          latency: [0.1, 0.1],
          stalls: { chance: 1, most: 0 },
        },
        ...{ hold: HOLD, fence: FENCE, heal: 1_500, exchange: 250, between: 2_500, silence: DEFAULTS.silence },
      },
      half,
    );
    const { machines } = simulation;
    const isOthers = ({ name }: Machine) =>
      start === "beside" && simulation.owners(simulation.addresses[0]!).includes(name);
    for (const machine of machines) machine.hasOther = start === "beside";
    for (const machine of machines.filter((machine) => !isOthers(machine))) machine.start();
    if (start !== "cold") simulation.run(70_000);
    if (start === "restart") {
      for (const machine of machines) machine.kill();
      simulation.run(4_000);
      for (const machine of machines) machine.start();
    }
    if (start === "headless") {
      machines.at(-1)!.kill();
      simulation.run(4_000);
    }
    if (start === "lagging") {
      for (const machine of machines.slice(0, -1)) machine.setSourceStale(true);
      simulation.run(15_000);
    }
    simulation.settings.silence = silence;
    simulation.diary.length = 0;
    const { now } = simulation;
    return {
      simulation,
      events: 0,
      end: now + window * MS + 3 * SECOND,
      until: now + window * MS,
      turns: [],
      last: "",
      nextGrid: now,
    };
  }

  /** Follows a path to its end, and from each choice on it all others. @returns whether everything on it was explored */
  private follow(place: Place, budget: number): boolean {
    const { simulation } = place;
    try {
      for (;;) {
        const next = simulation.queue.peek()!;
        if (next.at > place.end) break;
        const isGrid = next.at >= place.nextGrid;
        if (isGrid) place.nextGrid = next.at + (budget === 0 ? 1_000 : place.turns.length > 0 ? 250 : 100) * MS;
        const menu = budget > 0 && next.at <= place.until ? this.menu(simulation, next, isGrid) : [];
        if (isGrid || menu.length > 0) {
          const text = this.text(place, budget);
          // An event that changes nothing leads to where it began.
          if (text !== place.last && this.seen.has(text)) return true;
          place.last = text;
          if (this.seen.size >= this.options.most) return false;
          this.seen.add(text);
          if (this.seen.size % 1000 === 0) this.progress(this.seen.size, this.paths);
        }
        for (const fault of menu) if (!this.branch(place, fault, budget)) return false;
        place.events += 1;
        simulation.perform(simulation.queue.pop()!);
      }
      this.paths += 1;
      this.judge(simulation);
    } catch (error) {
      if (error instanceof Violation) throw new Broken(place);
      throw error;
    }
    return true;
  }

  private branch(place: Place, fault: Fault, budget: number): boolean {
    const other: Place = {
      ...place,
      simulation: copy(place.simulation),
      turns: [...place.turns, { events: place.events, fault }],
    };
    this.commit(other, fault);
    return this.follow(other, budget - 1);
  }

  /** Does the wrong to the world. */
  private commit(place: Place, fault: Fault): void {
    const { simulation } = place;
    const { now } = simulation;
    if (fault.what === "act") {
      const { machine, other, act, end, ms } = fault;
      const target = other === undefined ? {} : { other };
      simulation.at(0, { kind: "act", machine, act, ...target });
      if (ms !== undefined) simulation.at(ms * MS, { kind: "act", machine, act: end, ...target });
      const last = now + (ms ?? 0) * MS;
      place.until = last + this.options.after * MS;
      place.end = Math.max(
        place.end,
        last + (ms === undefined || ms >= 3_000 ? FENCE * MS + 2.5 * SECOND : 4 * SECOND),
      );
      return;
    }
    const next = simulation.queue.peek()! as Scheduled & { kind: "arrive" };
    const { ms, what } = fault;
    const [from, to] = [simulation.machines[next.from]!.name, simulation.machines[next.machine]!.name];
    const how = { lose: "is lost", repeat: `comes again ${ms} ms later`, delay: `comes ${ms} ms late` }[what];
    simulation.note(`${describe(next.message)}, from ${from} to ${to}, ${how}`, ms * MS);
    simulation.noted = now + ms * MS;
    if (what !== "repeat") simulation.queue.pop();
    const { at: _at, order: _order, ...happening } = next;
    if (what !== "lose") simulation.at(next.at - now + ms * MS, happening);
    place.until = now + (ms + this.options.after) * MS;
    place.end = Math.max(place.end, now + ms * MS + 4 * SECOND);
  }

  /** What can go wrong just before the next event. */
  private menu(simulation: Simulation, next: Scheduled, isGrid: boolean): Fault[] {
    const { menu, isFine, nodes } = this.options;
    const has = (kind: Kind) => menu.includes(kind);
    const isActive = isFine || isBusy(simulation);
    const faults: Fault[] = [];
    const act = (machine: number, act: Act, end: Act, times: (number | undefined)[], other?: number) => {
      for (const ms of times)
        faults.push({ what: "act", machine, act, end, ms, ...(other !== undefined && { other }) });
    };
    if (next.kind === "arrive" && isActive) {
      if (has("frames")) faults.push({ what: "lose", ms: 0 });
      if (has("frames") && next.message.header.type >= wireType.WIRE_CLAIM) faults.push({ what: "repeat", ms: 40 });
      if (has("delays")) for (const ms of [30, 1_500]) faults.push({ what: "delay", ms });
    }
    const isStep = next.kind === "resume" || (next.kind === "cause" && isActive);
    for (let machine = 0; machine < nodes; machine++) {
      const { isUp, speaker, isDrained, isEnding, isSourceStale } = simulation.machines[machine]!;
      const isNear = isStep && next.machine === machine;
      if (!isUp) continue;
      if ((isGrid || isNear) && speaker && !speaker.isFrozen) {
        if (has("processes")) act(machine, "freeze", "thaw", [300, 1_500, 4_000, HOLD + 1_000]);
        if (has("kills")) act(machine, "kill", "start", [50, 4_000, HOLD + 500, undefined]);
      }
      if ((isGrid || (isActive && next.kind === "arrive" && next.machine === machine)) && has("power"))
        act(machine, "die", "boot", [500, 3_000, undefined]);
      if (!isGrid) continue;
      if (has("sources") && !isSourceStale) act(machine, "stale", "fresh", [9_000]);
      if (has("outages") && !isSourceStale) act(machine, "stale", "fresh", [20_000]);
      if (has("demands")) act(machine, "only", "all", [undefined]);
      if (has("shutdowns") && !isEnding) act(machine, "shut down", "go on", [30, 1_500]);
      if (has("drains") && !isDrained) act(machine, "drain", "undrain", [30, 1_500]);
      for (let other = 0; other < nodes && has("links"); other++) {
        if (other !== machine && simulation.cuts.size === 0) act(machine, "cut", "heal", [250, 2_000], other);
      }
      if (has("islands") && simulation.cuts.size === 0) act(machine, "isolate", "rejoin", [2_000]);
      for (let other = machine + 1; other < nodes && has("gaps"); other++) {
        if (simulation.cuts.size === 0) act(machine, "part", "meet", [300, 6_000], other);
      }
      if (!has("deafness") || simulation.hushes.size > 0) continue;
      act(machine, "deafen", "undeafen", DEAF);
      for (let other = 0; other < nodes; other++) if (other !== machine) act(machine, "hush", "unhush", DEAF, other);
    }
    return faults;
  }

  /** At a path's end, nothing is being asked any more where all nodes are well, and clients know who answers. */
  private judge(simulation: Simulation): void {
    const areWell = simulation.machines.every(({ isUp, isWorking }) => !isUp || isWorking);
    const before = simulation.frames.claims;
    simulation.run(1_000);
    const claims = simulation.frames.claims - before;
    // Who goes by an old demand asks for what others keep by a new one, and is refused.
    const agree = simulation.machines.every(({ demand }) => demand === simulation.demand);
    if (areWell && agree && claims > 0)
      simulation.fail(`${claims} claims, replies and notices in a second in which nothing happens`);
    const owners = simulation.owners(simulation.addresses[0]!);
    if (areWell && simulation.machines.some(({ isAble }) => isAble) && owners.length !== 1)
      simulation.fail(`the VIP is answered by ${owners.length} nodes in the end`);
    if (areWell && simulation.machines.every(({ isUp }) => isUp) && simulation.misled.length > 0)
      simulation.fail("the VIP was announced last by a node that does not answer it");
  }

  private text({ simulation, end, until }: Place, budget: number): string {
    const { now } = simulation;
    const waiting = [...simulation.queue.data].sort((a, b) => a.at - b.at || a.order - b.order);
    const isStale = (happening: Scheduled) => {
      if (happening.kind !== "cause" || happening.cause.kind !== "timer") return false;
      const { speaker, starts } = simulation.machines[happening.machine]!;
      return starts !== happening.process || speaker?.wakeAt !== happening.cause.at;
    };
    const live = waiting.filter((happening) => !isStale(happening) && happening.kind !== "look");
    const places = live.map((happening) => ("machine" in happening ? happening.machine : -1));
    const messages = live.map((happening) => ("message" in happening ? happening.message : undefined));
    const ends = [end - now, Math.max(0, until - now), budget];
    return digest(textOf([simulation, live, places, messages, ends], now, LEFT));
  }

  /** The path once more, with all that the nodes do and believe. */
  private tell({ turns, events }: Place): string {
    const place = this.begin();
    const { simulation } = place;
    simulation.isTold = turns.length > 0;
    try {
      for (const turn of turns) {
        for (; place.events < turn.events; place.events++) simulation.perform(simulation.queue.pop()!);
        this.commit(place, turn.fault);
      }
      for (; place.events < events + 1_000_000 && simulation.queue.peek()!.at <= place.end; place.events++) {
        simulation.isTold = true;
        simulation.perform(simulation.queue.pop()!);
      }
      this.judge(simulation);
    } catch (error) {
      if (error instanceof Violation) return error.message;
      throw error;
    }
    throw new Error("the path does not lead there a second time");
  }
}

/** A rule was broken at the end of this path. */
class Broken extends Error {
  readonly place: Place;
  constructor(place: Place) {
    super("broken");
    this.place = place;
  }
}

const half = () => 0.5;

/** Whether VIPs are on their way, or nodes are joining: the order of events matters then. */
function isBusy({ machines, queue, now }: Simulation): boolean {
  const { CLAIMING, LEAVING } = vipState;
  for (const { speaker, kernel } of machines) {
    if (speaker && (!speaker.segment.isJoined || speaker.deeds.length > 0)) return true;
    for (const { state, state_ns } of kernel.vips.values()) {
      if (state === CLAIMING || (state === LEAVING && state_ns > now)) return true;
    }
  }
  return queue.data.some(
    (happening) =>
      happening.kind === "arrive" &&
      happening.message.header.type >= wireType.WIRE_CLAIM &&
      !happening.message.claims.some(isAbout),
  );
}

/** A text in 106 bits or so. */
function digest(text: string): string {
  let [a, b, c, d] = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x5bd1e995);
    b ^= b >>> 15;
    c = Math.imul(c + code, 0x2c1b3c6d);
    c ^= c >>> 13;
    d = Math.imul(d ^ code ^ a, 0x297a2d39);
  }
  return `${a >>> 0} ${b >>> 0} ${c >>> 0} ${d >>> 0}`;
}

export const explore = (options: Partial<Options>, progress?: (states: number, paths: number) => void): Found =>
  new Exploration(options, progress).run();
