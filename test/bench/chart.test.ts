import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Bar, type Chart, linearTicks, logTicks, renderChart } from "../../bench/chart.ts";
import { drawCharts } from "../../bench/charts.ts";
import type { Figure } from "../../bench/figure.ts";

const bar = (label: string, value: number, min = value, max = value): Bar => ({
  label,
  value,
  min,
  max,
  text: `${value} x`,
});
const chart: Chart = {
  title: "Answers & <costs>",
  subtitle: 'on a "quiet" machine',
  axis: "times the kernel's own",
  reference: { value: 1, label: "the kernel's own = 1" },
  groups: [{ label: "idle", bars: [bar("kernel", 1), bar("isat tcx", 0.5, 0.4, 0.6)] }],
};

/** Widths of the bars, in the order of the drawing. */
const widths = (svg: string) =>
  [...svg.matchAll(/<rect x="[^>]*width="([\d.]+)" height="20"/g)].map(([, width]) => Number(width));

for (const [values, expected] of [
  [
    [0.5, 1, 1.1],
    [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2],
  ],
  [[120], [0, 20, 40, 60, 80, 100, 120]],
  [[0], [0, 0.2, 0.4, 0.6, 0.8, 1]],
] as const) {
  test(`linear ticks for ${values} are ${expected}`, () => {
    assert.equal(
      linearTicks(values)
        .map((tick) => Number(tick.toFixed(6)))
        .slice(0, expected.length),
      [...expected],
    );
    assert.ok(linearTicks(values).at(-1)! >= Math.max(...values));
  });
}

test("logarithmic ticks are the powers of ten around the values", () => {
  assert.equal(logTicks([0.5, 30]), [0.1, 1, 10, 100]);
  assert.equal(logTicks([1, 1000]), [0.1, 1, 10, 100, 1000]);
});

test("every element is closed, and text is escaped", () => {
  const svg = renderChart(chart);
  const open: string[] = [];
  for (const [, close, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (close) assert.is(open.pop(), name);
    else if (!self) open.push(name!);
  }
  assert.equal(open, []);
  assert.ok(svg.includes("Answers &amp; &lt;costs&gt;"));
  assert.ok(svg.includes("on a &quot;quiet&quot; machine"));
});

test("title, axis, reference, groups, labels and values are drawn", () => {
  const svg = renderChart(chart);
  for (const text of ["times the kernel's own", "the kernel's own = 1", "idle", "kernel", "isat tcx", "1 x", "0.5 x"]) {
    assert.ok(svg.includes(`>${text}</text>`), text);
  }
});

test("bars are as long as their values, and on a logarithmic axis as their powers", () => {
  const [one, half] = widths(renderChart(chart));
  assert.ok(Math.abs(one! / half! - 2) < 0.01);
  const log = renderChart({ ...chart, scale: "log", groups: [{ label: "", bars: [bar("a", 1), bar("b", 100)] }] });
  const [first, second] = widths(log);
  assert.ok(Math.abs(second! / first! - 3) < 0.01); // from 0.1: one power and three
});

test("a value below the axis does not draw backwards", () => {
  for (const width of widths(renderChart({ ...chart, groups: [{ label: "", bars: [bar("a", -3), bar("b", 1)] }] }))) {
    assert.ok(width > 0);
  }
});

test("only charts with measured figures are drawn", () => {
  const figure: Figure = {
    section: "flood",
    what: "cost of an answer, 1 VIP",
    subject: "isat tcx",
    unit: "ns",
    values: [136],
    ratios: [{ to: "kernel", values: [0.44] }],
  };
  const charts = drawCharts([figure], "somewhere");
  assert.equal([...charts.keys()], ["cost.svg"]);
  assert.ok(charts.get("cost.svg")!.includes("136 ns (0.44 x)"));
});

test("a chart with a responder that is many times slower has a logarithmic axis", () => {
  const figure = (subject: string, ratio: number): Figure => ({
    section: "latency",
    what: "p99, idle",
    subject,
    unit: "ns",
    values: [ratio],
    ratios: [{ to: "kernel", values: [ratio] }],
  });
  const svg = drawCharts([figure("kernel", 1), figure("other", 1000)], "").get("latency.svg")!;
  assert.ok(svg.includes(">0.1</text>") && svg.includes(">1k</text>"));
});

test("silences are drawn event by event, in ms, and an event without silence says none", () => {
  const figure = (event: string, subject: string, ms: number): Figure => ({
    section: "failover",
    what: `${event}: silence`,
    subject,
    unit: "ns",
    values: [ms * 1e6],
    ratios: [],
  });
  const figures = [figure("node dies", "isat", 350), figure("node dies", "other", 3200), figure("drain", "isat", 0)];
  const svg = drawCharts(figures, "").get("failover.svg")!;
  for (const text of ["node dies", "drain", "350 ms", "3.20 s", "none"])
    assert.ok(svg.includes(`>${text}</text>`), text);
});

test.run();
