import { setTimeout as sleep } from "node:timers/promises";
import type { LabNode } from "../../lab/topology.ts";
import { tellDrain } from "../../src/control/socket.ts";
import { BusyLoops } from "../load.ts";
import type { Wanted } from "./outcome.ts";
import { calmDown, calmOf, die, type Event, FINE, QUICK, reboot, startAgain, type Times } from "./play.ts";
import type { Site } from "./site.ts";

/** Nothing happens that a client could see. */
export const STILL: Wanted = { unanswered: 0, moves: 0, doubled: 0 };
/** Each VIP moves once, while its old owner lives. */
export const HAND_OVER: Wanted = { silence: 20, moves: 1, doubled: 0 };
/** Each VIP moves once, as its owner's hold is over. */
const AFTER_HOLD: Wanted = { silence: 50, moves: 1, doubled: 0 };

const seconds = (count: number) => sleep(count * 1_000);

/** The events, in the order in which they are played; "forged frames" and "port back" are measured in their own way. */
export function eventsOf(site: Site, times: Times): (Event | "forged frames" | "port back")[] {
  const isIsat = site.subject.kind === "isat";
  const restarts = (signal: "SIGKILL" | "SIGTERM") => times.pauses.map((pause) => restart(site, signal, pause));
  return [
    busy(times),
    killedForGood(site, times),
    // Between the two long events, so that all nodes have run for longer than hold before the next one goes.
    ...restarts("SIGKILL"),
    frozen(site, times),
    ...(isIsat ? (["forged frames"] as const) : []),
    // With a short hold it shows no more than "killed for good".
    ...(times === QUICK ? [] : [frozenForGood(site, times)]),
    ...restarts("SIGTERM"),
    allKilled(site, times),
    nodeDies(site, times),
    nodeJoins(site, times),
    ...(isIsat ? [drain(site, times), "port back" as const] : []),
  ];
}

function busy(times: Times): Event {
  return {
    name: `4 busy loops a core, ${times.busy} s`,
    wanted: { moves: 0, doubled: 0 },
    rounds: 1,
    async play() {
      using _load = new BusyLoops(4);
      await seconds(times.busy);
    },
  };
}

/** The time until the hold of a node without a control plane is over and others have taken its VIPs, ms. */
const afterHold = (site: Site, { hold }: Times) =>
  site.subject.kind === "isat" ? hold * 1_000 + calmOf(site) + 1_000 : calmOf(site);

function killedForGood(site: Site, times: Times): Event {
  return {
    name: "killed for good",
    wanted: AFTER_HOLD,
    rounds: 1,
    async play(victim) {
      await site.member(victim).signal("SIGKILL");
      await sleep(afterHold(site, times));
    },
    restore: (victim) => startAgain(site, victim),
  };
}

function restart(site: Site, signal: "SIGKILL" | "SIGTERM", pause: number): Event {
  return {
    name: `${signal === "SIGKILL" ? "kill -9" : signal}, back after ${pause} s`,
    wanted: STILL,
    rounds: 1,
    async play(victim) {
      await site.member(victim).signal(signal);
      await seconds(pause);
      await startAgain(site, victim);
      await calmDown(site);
    },
  };
}

function frozen(site: Site, times: Times): Event {
  return {
    name: `frozen for ${times.frozen} s`,
    wanted: STILL,
    rounds: 1,
    async play(victim) {
      await site.member(victim).signal("SIGSTOP");
      await seconds(times.frozen);
      await site.member(victim).signal("SIGCONT");
      await calmDown(site);
    },
  };
}

function frozenForGood(site: Site, times: Times): Event {
  return {
    name: "frozen for good",
    wanted: AFTER_HOLD,
    rounds: 1,
    async play(victim) {
      await site.member(victim).signal("SIGSTOP");
      await sleep(afterHold(site, times));
    },
    restore: (victim) => site.member(victim).signal("SIGCONT"),
  };
}

function allKilled(site: Site, times: Times): Event {
  return {
    name: `all three killed, back after ${times.away} s`,
    wanted: STILL,
    rounds: 1,
    async play() {
      await Promise.all(site.members.map((member) => member.signal("SIGKILL")));
      await seconds(times.away);
      await Promise.all(site.members.map(({ node }) => startAgain(site, node)));
      await calmDown(site);
    },
  };
}

/** @param changes what is measured otherwise than usual */
export function nodeDies(site: Site, times: Times, changes: Partial<Event> = {}): Event {
  return {
    name: "node dies",
    wanted: { silence: 500, moves: 1, doubled: 0 },
    rounds: times.deaths,
    ...changes,
    async play(victim) {
      await die(site, victim);
      await calmDown(site);
    },
    async restore(victim) {
      reboot(site, victim);
      await startAgain(site, victim);
    },
  };
}

function nodeJoins(site: Site, times: Times): Event {
  return {
    name: "a node joins",
    wanted: HAND_OVER,
    rounds: times.moves,
    interval: FINE,
    async prepare(victim) {
      await die(site, victim);
      reboot(site, victim);
      await site.settle();
    },
    async play(victim) {
      await startAgain(site, victim);
      await calmDown(site);
    },
  };
}

function drain(site: Site, times: Times): Event {
  const drained = async (victim: LabNode, isDrained: boolean) => {
    await tellDrain(site.speaker(victim).runDir, isDrained);
    await calmDown(site);
  };
  return {
    name: "drain",
    wanted: HAND_OVER,
    rounds: times.moves,
    interval: FINE,
    play: (victim) => drained(victim, true),
    restore: (victim) => drained(victim, false),
  };
}
