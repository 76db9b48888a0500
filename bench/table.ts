import { digits, type Failure, type Figure, formatTarget, formatValue, isReached } from "./figure.ts";
import { spread } from "./statistics.ts";

const HEADING = ["measured", "of", "median", "min..max", "ratio (min..max)", "to reach", ""];

/** The figures as lines of text, a line each, under their sections' names. */
export function renderTable(figures: readonly Figure[], failures: readonly Failure[]): string {
  const rows = figures.map(cells);
  const widths = HEADING.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    ` ${row.map((cell, i) => (i >= 2 && i <= 4 ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join("  ")}`.trimEnd();
  const lines = [line(HEADING)];
  let section = "";
  let what = "";
  figures.forEach((figure, i) => {
    if (figure.section !== section) lines.push("", `${figure.section}`);
    const isSame = figure.section === section && figure.what === what;
    lines.push(line(isSame ? ["", ...rows[i]!.slice(1)] : rows[i]!));
    ({ section, what } = figure);
  });
  const notes = new Set(figures.flatMap(({ section, note }) => (note ? `${section}: ${note}` : [])));
  if (notes.size > 0) lines.push("", ...notes);
  for (const { section, what, reason } of failures) lines.push("", `FAILED ${section}, ${what}: ${reason}`);
  lines.push("", summary(figures, failures));
  return lines.join("\n");
}

function cells(figure: Figure): string[] {
  const { what, subject, unit, values, ratios, target } = figure;
  const { median, min, max } = spread(values);
  const compared = ratios.map(({ to, values }) => {
    const { median, min, max } = spread(values);
    if (min === 1 && max === 1) return `1 x ${to}`; // by itself
    return `${digits(median)} x ${to} (${digits(min)}..${digits(max)})`;
  });
  const reached = isReached(figure);
  return [
    what,
    subject,
    formatValue(median, unit),
    values.length > 1 ? `${formatValue(min, unit)}..${formatValue(max, unit)}` : "",
    compared.join(", "),
    target ? formatTarget(target, unit) : "",
    reached === undefined ? "" : reached ? "reached" : "NOT reached",
  ];
}

function summary(figures: readonly Figure[], failures: readonly Failure[]): string {
  const verdicts = figures.map(isReached);
  const count = (verdict: boolean) => verdicts.filter((each) => each === verdict).length;
  return `${count(true)} reached, ${count(false)} NOT reached, ${failures.length} failed to be measured`;
}
