/** What the watching client saw of events, and the figures that this comes to. Nothing here measures. */
import { type Report, sumOf } from "../../lab/watch/watch.ts";
import type { Figure, Target } from "../figure.ts";

/** What one round of an event came to, over all VIPs. */
export interface Outcome {
  /** The longest time between two answered requests for a VIP with an unanswered one between them, ms. */
  silence: number;
  /** Requests without an answer. */
  unanswered: number;
  /** Changes of the answering MAC, of the VIP that had most. */
  moves: number;
  /** Requests with two answers. */
  doubled: number;
  /** VIPs that nobody answered any more when the watch ended. */
  mute: number;
}

/** The most that each may be; undefined: it is told, and not judged. */
export type Wanted = Partial<Omit<Outcome, "mute">>;

const MS = 1e6;

export function outcomeOf(report: Report): Outcome {
  const { silence, unanswered, mostMoves, doubled, mute } = sumOf(report);
  return { silence, unanswered, moves: Math.max(0, mostMoves), doubled, mute };
}

/** An event's figures, of one subject; each is judged by its worst round. */
export function figuresOf(event: string, subject: string, outcomes: readonly Outcome[], wanted: Wanted): Figure[] {
  const mute = outcomes.some(({ mute }) => mute > 0);
  const figure = (name: keyof Wanted, what: string, unit: "ns" | "count"): Figure => {
    const scale = unit === "ns" ? MS : 1;
    const plain: Figure = {
      section: "failover",
      what: `${event}: ${what}`,
      subject,
      unit,
      values: outcomes.map((outcome) => outcome[name] * scale),
      ratios: [],
    };
    const limit = wanted[name];
    const target: Target | undefined =
      limit === undefined ? undefined : { is: "at most", limit: limit * scale, inEachRound: true };
    const isCutOff = mute && name === "silence";
    return {
      ...plain,
      ...(target ? { target } : {}),
      ...(isCutOff ? { note: `${event}, ${subject}: VIPs were silent to the end of the watch, so it was longer` } : {}),
    };
  };
  return [
    figure("silence", "silence", "ns"),
    figure("unanswered", "unanswered", "count"),
    figure("moves", "moves of a VIP", "count"),
    figure("doubled", "double answers", "count"),
  ];
}

/** ms from a death until every VIP was first announced by somebody else; infinite where one never was. */
export function announcedAfter({ vips }: Report, deadMac: string, diedAt: number): number {
  const times = vips.map(({ announced }) => {
    const later = announced.filter(({ mac, at }) => mac !== deadMac && at >= diedAt).map(({ at }) => at - diedAt);
    return Math.min(...later);
  });
  return Math.max(...times);
}
