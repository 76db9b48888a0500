// Figures from the reports of the watching client.
import { type Report, sumOf } from "../../lab/watch/watch.ts";
import type { Figure, Target } from "../figure.ts";

/** The result of one round of an event, over all VIPs. */
export interface Outcome {
  /** The longest time between two answered requests for a VIP with an unanswered one between them, ms. */
  silence: number;
  /** Requests without an answer. */
  unanswered: number;
  /** Changes of the answering MAC, for the VIP that had most of them. */
  moves: number;
  /** Requests with two answers. */
  doubled: number;
  /** VIPs that were still silent when the watch ended. */
  mute: number;
}

/** Upper limits. A value without a limit is reported, and not judged. */
export type Wanted = Partial<Omit<Outcome, "mute">>;

const MS = 1e6;

export function outcomeOf(report: Report): Outcome {
  const { silence, unanswered, mostMoves, doubled, mute } = sumOf(report);
  return { silence, unanswered, moves: Math.max(0, mostMoves), doubled, mute };
}

/** The figures of an event and a subject. The worst round is judged. */
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
      ...(isCutOff
        ? { note: `${event}, ${subject}: VIPs were still silent when the watch ended, so the silence was longer` }
        : {}),
    };
  };
  return [
    figure("silence", "silence", "ns"),
    figure("unanswered", "unanswered", "count"),
    figure("moves", "moves of a VIP", "count"),
    figure("doubled", "double answers", "count"),
  ];
}

/** Time from a death until every VIP was announced by another node, ms; infinite if one never was. */
export function announcedAfter({ vips }: Report, deadMac: string, diedAt: number): number {
  const times = vips.map(({ announced }) => {
    const later = announced.filter(({ mac, at }) => mac !== deadMac && at >= diedAt).map(({ at }) => at - diedAt);
    return Math.min(...later);
  });
  return Math.max(...times);
}
