import { ratios, spread } from "./statistics.ts";

/** Units: `/s` is a count a second, MB are 10^6 bytes, % is of one core. */
export type Unit = "ns" | "/s" | "bit/s" | "MB" | "MB/min" | "%" | "count";

/** The goal of a figure. */
export interface Target {
  is: "at most" | "at least";
  limit: number;
  /** The target is for the ratio to this reference. @default it is for the value itself */
  ratioTo?: string;
  /** True if every round must meet the target, not only the median: for events that must never happen. */
  inEachRound?: boolean;
}

/** One measurement of one subject: a value for each round. */
export interface Figure {
  section: string;
  what: string;
  subject: string;
  unit: Unit;
  values: readonly number[];
  /** Ratios to references that were measured in the same rounds. */
  ratios: readonly { to: string; values: readonly number[] }[];
  target?: Target;
  note?: string;
}

/** A measurement that failed, and the reason. */
export interface Failure {
  section: string;
  what: string;
  reason: string;
}

/** Returns the figure with one more ratio: its values divided by the references, round by round. */
export function withRatio(figure: Figure, to: string, references: readonly number[]): Figure {
  return { ...figure, ratios: [...figure.ratios, { to, values: ratios(figure.values, references) }] };
}

/**
 * The value that the target judges: the median or the worst round, of the values or of their ratios. Undefined without
 * a target; NaN if the ratio was not measured.
 */
export function judgedValue({ target, values, ratios }: Figure): number | undefined {
  if (!target) return undefined;
  const meant = target.ratioTo === undefined ? values : ratios.find(({ to }) => to === target.ratioTo)?.values;
  const { median, min, max } = spread(meant ?? [Number.NaN]);
  if (!target.inEachRound) return median;
  return target.is === "at most" ? max : min;
}

/** True if the target is met; undefined without a target. */
export function isMet(figure: Figure): boolean | undefined {
  const value = judgedValue(figure);
  if (!figure.target || value === undefined) return undefined;
  const { is, limit } = figure.target;
  return is === "at most" ? value <= limit : value >= limit;
}

/** The distance of a value from its target, as a part of the target: 0.1 is 10 % off. */
export function missOf(figure: Figure): number {
  const value = judgedValue(figure);
  if (!figure.target || value === undefined || Number.isNaN(value)) return Number.POSITIVE_INFINITY;
  const { is, limit } = figure.target;
  return (is === "at most" ? value - limit : limit - value) / limit;
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

/** Formats with three significant digits. */
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
