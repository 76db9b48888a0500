import { setTimeout as sleep } from "node:timers/promises";
import type { Behaviour } from "../switch/settings.ts";
import { MOVING } from "../topology.ts";
import type { Lab } from "./lab.ts";
import { type Cell, judge, type Row } from "./verdict.ts";

// Times are ms from the first ping. One second of ours is 600 s of the switch.

const PING_EVERY = 100;
/** ARP entries age at 2000 ms, and some pings must follow. */
const END = 2800;
/** The FDB ages 500 ms after the last frame, so this spell without pings is long enough. */
const QUIET_FROM = 300;
const QUIET_UNTIL = 1200;
const MOVE_AT = 600;
/** By now isat has announced twice, at 0 and 1.1 s after the move, and the ARP entry has not aged yet. */
const MOVED_AT = 1800;
/** A changed configuration is applied within 50 ms; this leaves room. */
const APPLY = 150;
/** Pauses between the steps at the start, and from the last ping to the count. */
const STEP = 50;
const GRACE = 200;

export interface ReplayOptions {
  signal: AbortSignal;
  /** The time of the last ping, ms. @default 2800 */
  end?: number;
  /** Called before each further round of pings and after the last, with the time since the first, ms. */
  onRound?: (elapsed: number) => void;
}

/**
 * Plays one behaviour of the switch on both labs at the same time: the tables are emptied, the nodes talk and announce,
 * then the switch pings each VIP every 100 ms until its ARP entries have aged.
 */
export async function replay(
  labs: Record<"isat" | "openelb", Lab>,
  behaviour: Behaviour,
  options: ReplayOptions,
): Promise<Row> {
  const [isat, openelb] = await Promise.all([
    play(labs.isat, behaviour, options),
    play(labs.openelb, behaviour, { ...options, onRound: () => {} }),
  ]);
  return { behaviour, isat, openelb };
}

/** Plays one behaviour of the switch on one lab. */
export async function play(lab: Lab, behaviour: Behaviour, options: ReplayOptions): Promise<Cell> {
  const { signal, end = END, onRound } = options;
  lab.isat?.pace(behaviour.garp);
  if (behaviour.garp !== undefined) await sleep(APPLY, undefined, { signal });
  lab.reset(behaviour.settings);
  lab.talk();
  await sleep(STEP, undefined, { signal });
  lab.announce();
  await sleep(STEP, undefined, { signal });

  const home = lab.owner(MOVING.vip);
  const start = performance.now();
  let afterMove: Cell | undefined;
  for (let due = 0; due <= end; due += PING_EVERY) {
    await sleep(Math.max(0, start + due - performance.now()), undefined, { signal });
    if (due > 0) onRound?.(due - PING_EVERY);
    const isQuiet = behaviour.play === "a quiet spell" && due >= QUIET_FROM && due < QUIET_UNTIL;
    if (!isQuiet) lab.ping();
    if (behaviour.play === "move a VIP" && due === MOVE_AT) lab.move(MOVING.vip, MOVING.to);
    if (behaviour.play === "move a VIP" && due === MOVED_AT) afterMove = judgeMove(lab);
  }
  await sleep(GRACE, undefined, { signal });
  onRound?.(end);
  const cell = judge(lab.view());
  if (afterMove) {
    lab.move(MOVING.vip, home);
    await sleep(APPLY, undefined, { signal });
  }
  return { ...cell, failure: cell.failure ?? afterMove?.failure };
}

/** Judges only the ARP entries after a move: pings are still on their way. */
function judgeMove(lab: Lab): Cell {
  const view = lab.view();
  return judge({ ...view, vips: view.vips.map((vip) => ({ ...vip, sent: 1, answered: 1 })) });
}
