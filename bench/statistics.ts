/** What becomes of measured values: medians and spreads. Nothing here measures. */

export interface Spread {
  median: number;
  min: number;
  max: number;
}

/** The value at or below which the part `q` (0 to 1) of the values lies, by nearest rank. NaN of none. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))]!;
}

/** The middle value; of an even number, the mean of the two in the middle. NaN of none. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Round by round: what was measured in the same round shares that round's noise. */
export function ratios(values: readonly number[], references: readonly number[]): number[] {
  return values.map((value, round) => value / references[round]!);
}

/** Round by round, `values` less `references`. */
export function differences(values: readonly number[], references: readonly number[]): number[] {
  return values.map((value, round) => value - references[round]!);
}

/** By how much `y` rises with each `x`: the line of least squares. NaN of fewer than two points. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanX, meanY] = [mean(([x]) => x), mean(([, y]) => y)];
  const over = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return over / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
}
