import { ratios, spread } from "./statistics.ts";

/** ns; a second's count; MB are 10^6 bytes; % of one core. */
export type Unit = "ns" | "/s" | "bit/s" | "MB" | "MB/min" | "%" | "count";

/** What a figure is to be. */
export interface Target {
  is: "at most" | "at least";
  limit: number;
  /** The ratio that is meant, by what it is to; without one, the value itself. */
  ratioTo?: string;
  /** Not the median is meant, but each round: what must never be. */
  inEachRound?: boolean;
}

/** One measured thing of one subject, a value a round. */
export interface Figure {
  section: string;
  what: string;
  subject: string;
  unit: Unit;
  values: readonly number[];
  /** By round, what it is compared with in the same run. */
  ratios: readonly { to: string; values: readonly number[] }[];
  target?: Target;
  note?: string;
}

/** What could not be measured, and why. */
export interface Failure {
  section: string;
  what: string;
  reason: string;
}

/** The figure with one more ratio: its values by another's, round by round. */
export function withRatio(figure: Figure, to: string, references: readonly number[]): Figure {
  return { ...figure, ratios: [...figure.ratios, { to, values: ratios(figure.values, references) }] };
}

/** Whether the median (or each round) is where the target wants it; undefined without a target. */
export function isReached({ target, values, ratios }: Figure): boolean | undefined {
  if (!target) return undefined;
  const meant = target.ratioTo === undefined ? values : ratios.find(({ to }) => to === target.ratioTo)?.values;
  if (!meant) return false;
  const { median, min, max } = spread(meant);
  const { limit, inEachRound } = target;
  return target.is === "at most" ? (inEachRound ? max : median) <= limit : (inEachRound ? min : median) >= limit;
}

/** `310 ns`, `2.1 us`, `480 k/s`, `63.2 MB`, `0.8 %`, `3`. */
export function formatValue(value: number, unit: Unit): string {
  if (!Number.isFinite(value)) return "none";
  if (unit === "MB") return `${value.toFixed(1)} MB`;
  if (unit === "%" || unit === "MB/min") return `${value.toFixed(2)} ${unit}`;
  if (unit === "count") return `${Number(value.toFixed(1))}`;
  const steps =
    unit === "ns"
      ? ([
          [1e9, "s"],
          [1e6, "ms"],
          [1e3, "us"],
          [1, "ns"],
        ] as const)
      : ([
          [1e9, "G"],
          [1e6, "M"],
          [1e3, "k"],
          [1, ""],
        ] as const);
  const [size, name] = steps.find(([size]) => Math.abs(value) >= size) ?? steps.at(-1)!;
  return `${digits(value / size)} ${name}${unit === "ns" ? "" : unit}`;
}

/** Three digits that count. */
export function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** `<= 0.6 x kernel`, `<= 150 ns`. */
export function formatTarget({ is, limit, ratioTo }: Target, unit: Unit): string {
  const sign = is === "at most" ? "<=" : ">=";
  if (ratioTo !== undefined) return `${sign} ${limit} x ${ratioTo}`;
  return `${sign} ${formatValue(limit, unit).replace(/\.0+(?= )/, "")}`;
}
