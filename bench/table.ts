import { digits, type Failure, type Figure, formatTarget, formatValue, isMet, judgedValue, missOf } from "./figure.ts";
import { spread } from "./statistics.ts";

const HEADING = ["measured", "of", "median", "min..max", "ratio (min..max)", "target", ""];

/** Renders the figures, a line each, under the names of their sections; then notes, failures and targets. */
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
  lines.push("", ...summary(figures, failures));
  return lines.join("\n");
}

function cells(figure: Figure): string[] {
  const { what, subject, unit, values, ratios, target } = figure;
  const { median, min, max } = spread(values);
  const compared = ratios.map(({ to, values }) => {
    const { median, min, max } = spread(values);
    if (min === 1 && max === 1) return `1 x ${to}`; // its own reference
    return `${digits(median)} x ${to} (${digits(min)}..${digits(max)})`;
  });
  const met = isMet(figure);
  return [
    what,
    subject,
    formatValue(median, unit),
    values.length > 1 ? `${formatValue(min, unit)}..${formatValue(max, unit)}` : "",
    compared.join(", "),
    target ? formatTarget(target, unit) : "",
    met === undefined ? "" : met ? "met" : "NOT met",
  ];
}

/** Counts the targets that are met, and lists those that are not, the largest miss first. */
function summary(figures: readonly Figure[], failures: readonly Failure[]): string[] {
  const judged = figures.filter(({ target }) => target);
  const missed = judged.filter((figure) => !isMet(figure)).sort((a, b) => missOf(b) - missOf(a));
  const met = `Targets met: ${judged.length - missed.length} of ${judged.length}.`;
  return [
    missed.length > 0 ? `${met} Not met, the largest miss first:` : met,
    ...missed.map(missLine),
    ...(failures.length > 0 ? [`Measurements that failed: ${failures.length}. Their reasons are above.`] : []),
  ];
}

/** ` flood: cost of an answer, isat xdp: 0.68 x kernel; target: at most 0.6 x kernel` */
function missLine(figure: Figure): string {
  const { section, what, subject, unit } = figure;
  const target = figure.target!;
  const format = (value: number) =>
    target.ratioTo === undefined ? formatValue(value, unit) : `${digits(value)} x ${target.ratioTo}`;
  const found = `${target.inEachRound ? "worst round " : ""}${format(judgedValue(figure)!)}`;
  return `  ${section}: ${what}, ${subject}: ${found}; target: ${target.is} ${format(target.limit)}`;
}
