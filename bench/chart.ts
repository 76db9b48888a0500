/** One bar: a value with its spread, in the axis's unit. */
export interface Bar {
  label: string;
  value: number;
  min: number;
  max: number;
  /** The text behind the bar. */
  text: string;
}

export interface Chart {
  title: string;
  subtitle: string;
  /** The label of the axis, with its unit. */
  axis: string;
  /** @default "linear" */
  scale?: "linear" | "log";
  /** A value that is marked by a line across all bars, and its label. */
  reference?: { value: number; label: string };
  groups: readonly { label: string; bars: readonly Bar[] }[];
}

const WIDTH = 860;
const LEFT = 190;
const RIGHT = 170;
const TOP = 84;
const BAR = 20;
const GAP = 6;
const GROUP_GAP = 16;
const GROUP_TITLE = 22;
const FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";
const COLOURS = ["#6b7280", "#2563eb", "#0891b2", "#7c3aed", "#d97706", "#be185d", "#4d7c0f"];

/** Renders a chart of horizontal bars as an SVG document with a light background. */
export function renderChart({ title, subtitle, axis, scale = "linear", reference, groups }: Chart): string {
  const bars = groups.flatMap(({ bars }) => bars);
  const values = [...bars.flatMap(({ value, min, max }) => [value, min, max]), ...(reference ? [reference.value] : [])];
  const ticks = scale === "log" ? logTicks(values) : linearTicks(values);
  const [low, high] = [ticks[0]!, ticks.at(-1)!];
  const position = scale === "log" ? Math.log : (value: number) => value;
  const x = (value: number) => {
    const share = (position(value) - position(low)) / (position(high) - position(low));
    return LEFT + (WIDTH - LEFT - RIGHT) * Math.min(1, Math.max(0, share));
  };
  const colours = new Map(
    [...new Set(bars.map(({ label }) => label))].map((label, i) => [label, COLOURS[i % COLOURS.length]!]),
  );

  const parts: string[] = [];
  let y = TOP;
  for (const group of groups) {
    y += GROUP_TITLE;
    parts.push(text(LEFT - 10, y - 7, group.label, { anchor: "end", weight: 600 }));
    for (const bar of group.bars) parts.push(...drawBar(bar, x, (y += BAR + GAP) - BAR - GAP, colours.get(bar.label)!));
    y += GROUP_GAP;
  }
  const bottom = y;
  const grid = ticks.flatMap((tick) => [
    line(x(tick), TOP, x(tick), bottom, "#e5e7eb"),
    text(x(tick), bottom + 16, tickLabel(tick), { anchor: "middle", fill: "#4b5563" }),
  ]);
  const marked = reference
    ? [
        line(x(reference.value), TOP - 4, x(reference.value), bottom, "#111827", "4 3"),
        text(x(reference.value), TOP - 9, reference.label, { anchor: "middle" }),
      ]
    : [];
  const height = bottom + 44;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" font-family="${FONT}" font-size="13">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(16, 26, title, { size: 17, weight: 600 }),
    text(16, 46, subtitle, { fill: "#4b5563" }),
    ...grid,
    ...parts,
    ...marked,
    text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, axis, { anchor: "middle", fill: "#4b5563" }),
    "</svg>",
  ].join("\n")}\n`;
}

function drawBar(
  { label, value, min, max, text: behind }: Bar,
  x: (value: number) => number,
  y: number,
  colour: string,
) {
  const middle = y + BAR / 2;
  const end = x(value);
  return [
    text(LEFT - 10, middle + 4.5, label, { anchor: "end" }),
    `<rect x="${LEFT}" y="${y}" width="${round(Math.max(1, end - LEFT))}" height="${BAR}" rx="2" fill="${colour}"/>`,
    line(x(min), middle, x(max), middle, "#111827"),
    line(x(min), middle - 4, x(min), middle + 4, "#111827"),
    line(x(max), middle - 4, x(max), middle + 4, "#111827"),
    text(Math.max(end, x(max)) + 8, middle + 4.5, behind, {}),
  ];
}

interface TextLook {
  anchor?: "middle" | "end";
  weight?: number;
  size?: number;
  fill?: string;
}

function text(x: number, y: number, content: string, { anchor, weight, size, fill = "#111827" }: TextLook): string {
  const look = [
    anchor ? ` text-anchor="${anchor}"` : "",
    weight ? ` font-weight="${weight}"` : "",
    size ? ` font-size="${size}"` : "",
  ].join("");
  return `<text x="${round(x)}" y="${round(y)}" fill="${fill}"${look}>${escapeXml(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, dashes?: string): string {
  const ends = `x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}"`;
  return `<line ${ends} stroke="${colour}"${dashes ? ` stroke-dasharray="${dashes}"` : ""}/>`;
}

const round = (value: number) => Math.round(value * 10) / 10;

function escapeXml(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** Ticks from 0 to the greatest value or just above it, in steps of 1, 2 or 5 times a power of ten. */
export function linearTicks(values: readonly number[]): number[] {
  const greatest = Math.max(...values, 0) || 1;
  const rough = greatest / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough)!;
  return Array.from({ length: Math.ceil(greatest / step - 1e-9) + 1 }, (_, i) => i * step);
}

/** Powers of ten, from the last one below the least value to the first one above the greatest. */
export function logTicks(values: readonly number[]): number[] {
  const positive = values.filter((value) => value > 0);
  const first = Math.floor(Math.log10(Math.min(...positive)) - 1e-9);
  const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...positive)) - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

/** `0.5`, `20`, `1k`, `2M`. */
function tickLabel(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (value >= 1e3) return `${Number((value / 1e3).toPrecision(3))}k`;
  return `${Number(value.toPrecision(3))}`;
}
