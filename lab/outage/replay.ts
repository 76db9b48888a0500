import { setTimeout as sleep } from "node:timers/promises";
import type { Behaviour } from "../switch/settings.ts";
import { MOVING } from "../topology.ts";
import type { Lab } from "./lab.ts";
import { type Cell, judge, type Row } from "./verdict.ts";

/** Milliseconds from the first ping, at 600 s of the switch a second. */
const PING_EVERY = 100;
/** ARP entries age at 2000; then come some more pings. */
const END = 2800;
/** The FDB ages at 500. */
const QUIET_FROM = 300;
const QUIET_UNTIL = 1200;
const MOVE_AT = 600;
/** isat announces at 0 and 1.1 s: by then the switch must have taken the new owner, and ARP must not have aged. */
const MOVED_AT = 1800;
/** A changed configuration is applied within 50 ms. */
const APPLY = 150;
/** Between the steps at the start, and from the last ping to the count. */
const STEP = 50;
const GRACE = 200;

export interface ReplayOptions {
  signal: AbortSignal;
  /** When the last ping is sent, in milliseconds. @default 2800 */
  end?: number;
  /** Called before each further round of pings and after the last, with the milliseconds since the first. */
  onRound?: (elapsed: number) => void;
}

/**
 * Plays one behaviour of the switch on both labs at the same time: empty tables, nodes that talk, announcements, then a
 * ping of each VIP from the switch every 100 ms, past the ageing of its ARP entries.
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

/** The same on one lab. */
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

/** Whether the switch has taken the new owner; the pings that are under way do not count yet. */
function judgeMove(lab: Lab): Cell {
  const view = lab.view();
  return judge({ ...view, vips: view.vips.map((vip) => ({ ...vip, sent: 1, answered: 1 })) });
}
