import { type Bar, type Chart, renderChart } from "./chart.ts";
import { digits, type Figure, formatValue } from "./figure.ts";
import { spread } from "./statistics.ts";

/** A chart with a ratio above this has a logarithmic axis. */
const LOG_FROM = 12;

/** Draws the charts for which there are figures. @returns SVG documents by file name */
export function drawCharts(figures: readonly Figure[], where: string): Map<string, string> {
  const charts: [string, Chart | undefined][] = [
    [
      "cost.svg",
      ratioChart(figures, where, {
        title: "What an answer costs under a flood of ARP requests",
        groups: [["1 VIP", "cost of an answer, 1 VIP"]],
      }),
    ],
    [
      "answers.svg",
      ratioChart(figures, where, {
        title: "ARP answers a second under a full flood",
        groups: [
          ["1 VIP", "answers a second, 1 VIP"],
          ["60,000 VIPs", "answers a second, 60,000 VIPs"],
        ],
      }),
    ],
    [
      "latency.svg",
      ratioChart(figures, where, {
        title: "How late the slowest hundredth of ARP answers is (p99)",
        groups: [
          ["idle", "p99, idle"],
          ["2 busy loops a core", "p99, 2 busy loops a core"],
          ["50k/s ARP for others", "p99, beside 50k/s for others"],
        ],
      }),
    ],
    ["programs.svg", programsChart(figures, where)],
    ["failover.svg", failoverChart(figures, where)],
  ];
  return new Map(charts.flatMap(([name, chart]) => (chart ? [[name, renderChart(chart)]] : [])));
}

interface Wanted {
  title: string;
  /** Labels, and the `what` of the figures. */
  groups: [label: string, what: string][];
}

/** Draws ratios to the kernel's own responder as bars, with the values behind them. */
function ratioChart(figures: readonly Figure[], where: string, { title, groups }: Wanted): Chart | undefined {
  const drawn = groups.map(([label, what]) => ({
    label,
    bars: figures.filter((f) => f.what === what).flatMap(ratioBar),
  }));
  const bars = drawn.flatMap(({ bars }) => bars);
  if (bars.length === 0) return undefined;
  return {
    title,
    subtitle: where,
    axis: "ratio to the Linux kernel's own responder in the same rounds; lines from the least round to the greatest",
    scale: Math.max(...bars.map(({ value }) => value)) > LOG_FROM ? "log" : "linear",
    reference: { value: 1, label: "the kernel's own = 1" },
    groups: drawn,
  };
}

function ratioBar({ subject, values, ratios, unit }: Figure): Bar[] {
  const ratio = ratios.find(({ to }) => to === "kernel");
  if (!ratio) return [];
  const { median, min, max } = spread(ratio.values);
  const text = `${formatValue(spread(values).median, unit)} (${digits(median)} x)`;
  return [{ label: subject, value: median, min, max, text }];
}

function programsChart(figures: readonly Figure[], where: string): Chart | undefined {
  const ours = figures.filter(({ section, what }) => section === "programs" && !what.includes("above"));
  if (ours.length === 0) return undefined;
  const subjects = [...new Set(ours.map(({ subject }) => subject))];
  const bar = ({ what, values, unit }: Figure): Bar => {
    const found = spread(values);
    return { label: what, value: found.median, min: found.min, max: found.max, text: formatValue(found.median, unit) };
  };
  const empty = ours.find(({ what }) => what === "an empty program");
  return {
    title: "One run of a kernel program",
    subtitle: where,
    axis: "ns a run (BPF_PROG_TEST_RUN), the test run's own time included",
    ...(empty ? { reference: { value: spread(empty.values).median, label: "an empty program" } } : {}),
    groups: subjects.map((label) => ({ label, bars: ours.filter(({ subject }) => subject === label).map(bar) })),
  };
}

/** The end of the `what` of a figure that is an event's silence. */
const SILENCE = ": silence";

/** Draws the longest silence of any VIP for each event. */
function failoverChart(figures: readonly Figure[], where: string): Chart | undefined {
  const ours = figures.filter(({ section, what }) => section === "failover" && what.endsWith(SILENCE));
  if (ours.length === 0) return undefined;
  const bar = ({ subject, values }: Figure): Bar => {
    const { median, min, max } = spread(values.map((value) => value / 1e6));
    const text = median === 0 && max === 0 ? "none" : formatValue(median * 1e6, "ns");
    return { label: subject, value: median, min, max, text };
  };
  const events = [...new Set(ours.map(({ what }) => what))];
  return {
    title: "For how long a VIP is silent",
    subtitle: where,
    axis: "ms without an answer, the longest of any VIP; lines from the least round to the greatest",
    groups: events.map((what) => ({
      label: what.slice(0, -SILENCE.length),
      bars: ours.filter((figure) => figure.what === what).map(bar),
    })),
  };
}
