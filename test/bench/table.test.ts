import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Figure, formatTarget, formatValue, isMet, type Unit, withRatio } from "../../bench/figure.ts";
import { renderTable } from "../../bench/table.ts";

const figure: Figure = {
  section: "flood",
  what: "cost of an answer",
  subject: "isat tcx",
  unit: "ns",
  values: [150, 100, 300],
  ratios: [],
};

for (const [value, unit, expected] of [
  [310, "ns", "310 ns"],
  [0.5, "ns", "0.50 ns"],
  [-27.3, "ns", "-27.3 ns"],
  [2100, "ns", "2.10 us"],
  [49_600_000, "ns", "49.6 ms"],
  [1_730_000_000, "ns", "1.73 s"],
  [480_000, "/s", "480 k/s"],
  [1_000_000, "/s", "1.00 M/s"],
  [42, "/s", "42.0 /s"],
  [4_250_000_000, "bit/s", "4.25 Gbit/s"],
  [63.24, "MB", "63.2 MB"],
  [0.83, "%", "0.83 %"],
  [-0.25, "MB/min", "-0.25 MB/min"],
  [0, "count", "0"],
  [124.5, "count", "124.5"],
  [Number.NaN, "ns", "none"],
] as [number, Unit, string][]) {
  test(`${value} (${unit}) reads ${expected}`, () => assert.is(formatValue(value, unit), expected));
}

test("a target reads as a bound on the value, or on a ratio", () => {
  assert.is(formatTarget({ is: "at most", limit: 150 }, "ns"), "<= 150 ns");
  assert.is(formatTarget({ is: "at most", limit: 65 }, "MB"), "<= 65 MB");
  assert.is(formatTarget({ is: "at least", limit: 1.05, ratioTo: "kernel" }, "/s"), ">= 1.05 x kernel");
});

test("a target of the value is judged by its median", () => {
  assert.is(isMet({ ...figure, target: { is: "at most", limit: 150 } }), true);
  assert.is(isMet({ ...figure, target: { is: "at most", limit: 149 } }), false);
  assert.is(isMet({ ...figure, target: { is: "at least", limit: 151 } }), false);
});

test("a target of each round is judged by the worst one", () => {
  assert.is(isMet({ ...figure, target: { is: "at most", limit: 299, inEachRound: true } }), false);
  assert.is(isMet({ ...figure, target: { is: "at most", limit: 300, inEachRound: true } }), true);
  assert.is(isMet({ ...figure, target: { is: "at least", limit: 101, inEachRound: true } }), false);
});

test("a target of a ratio is judged by the median of the rounds' ratios, not by the medians' ratio", () => {
  const target = { is: "at most", limit: 0.6, ratioTo: "kernel" } as const;
  assert.is(isMet(withRatio({ ...figure, target }, "kernel", [300, 200, 300])), true);
  assert.is(isMet(withRatio({ ...figure, target }, "kernel", [200, 125, 1000])), false);
});

test("a target of a ratio that was not measured is not met", () => {
  assert.is(isMet({ ...figure, target: { is: "at most", limit: 0.6, ratioTo: "kernel" } }), false);
});

test("a figure without a target is neither met nor missed", () => assert.is(isMet(figure), undefined));

test("the table says which targets are met, which are not, and which measurements failed", () => {
  const target = { is: "at most", limit: 0.6, ratioTo: "kernel" } as const;
  const good = withRatio({ ...figure, target, note: "a word on it" }, "kernel", [300, 200, 600]);
  const bad = withRatio({ ...figure, subject: "isat tc", target }, "kernel", [150, 100, 300]);
  const text = renderTable([good, bad], [{ section: "memory", what: "the section", reason: "no /proc" }]);
  const lines = text.split("\n");
  assert.ok(
    lines.some((line) => /isat tcx +150 ns +100 ns\.\.300 ns +0\.50 x kernel \(.*<= 0\.6 x kernel +met/.test(line)),
  );
  assert.ok(lines.some((line) => /isat tc +150 ns.* 1 x kernel +<= 0\.6 x kernel +NOT met/.test(line)));
  assert.ok(lines.includes("flood: a word on it"));
  assert.ok(lines.includes("FAILED memory, the section: no /proc"));
  assert.equal(lines.slice(-3), [
    "Targets met: 1 of 2. Not met, the largest miss first:",
    "  flood: cost of an answer, isat tc: 1.00 x kernel; target: at most 0.60 x kernel",
    "Measurements that failed: 1. Their reasons are above.",
  ]);
});

test("targets that are not met are sorted by how far they are missed", () => {
  const missing = (subject: string, limit: number, change: Partial<Figure> = {}): Figure => {
    return { ...figure, subject, target: { is: "at most", limit }, ...change };
  };
  const some = missing("b", 100, { target: { is: "at least", limit: 200, inEachRound: true } });
  const unknown = missing("d", 1, { target: { is: "at most", limit: 1, ratioTo: "nobody" } });
  const text = renderTable([missing("a", 140), some, missing("c", 150), missing("e", 0), unknown], []);
  const found = text.slice(text.indexOf("Targets met")).split("\n");
  assert.equal(
    found.map((line) => /(?<=answer, )./.exec(line)?.[0]),
    [undefined, "e", "d", "b", "a"],
  );
  assert.match(found[3]!, /worst round 100 ns; target: at least 200 ns$/);
});

test("columns are aligned", () => {
  const text = renderTable([figure, { ...figure, what: "a much longer thing that was measured" }], []);
  const at = (line: string) => line.indexOf("isat tcx");
  const [first, second] = text.split("\n").filter((line) => line.includes("isat tcx"));
  assert.is(at(first!), at(second!));
});

test.run();
