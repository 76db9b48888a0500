import { type Family, vipAt } from "./addresses.ts";
import { type Figure, withRatio } from "./figure.ts";
import { BusyLoops, Others } from "./load.ts";
import { type Context, interleave, type Section, startStands } from "./section.ts";
import { isatResponders, KERNEL, type Responder, type Stand } from "./stand.ts";
import { median, quantile } from "./statistics.ts";
import { pin, SENDER_CPU } from "./system.ts";

const OTHERS_RATE = 50_000;
const LOOPS = 2;
/** A missing answer counts as one that took a second, ns. */
const LOST = 1e9;

const CONDITIONS = ["idle", `${LOOPS} busy loops a core`, "beside 50k/s for others"] as const;
type Condition = (typeof CONDITIONS)[number];
/** Targets for the p99, as a ratio to the kernel's own. */
const LIMITS: Record<Condition, number> = { idle: 1.2, "2 busy loops a core": 2, "beside 50k/s for others": 1.5 };
const QUANTILES = { p50: 0.5, p99: 0.99, "p99.9": 0.999 } as const;
type Quantile = keyof typeof QUANTILES;

/** Quantiles, a value for each round. */
type Quantiles = Record<Quantile, number[]>;

export const latency: Section = {
  name: "latency",
  about: "how long an answer takes, idle and under load",
  async run(context) {
    const responders = [KERNEL, ...isatResponders(), ...context.peers];
    const figures = await measureFamily(context, "IPv4", responders);
    return [...figures, ...(await measureFamily(context, "IPv6", [KERNEL, ...isatResponders()]))];
  },
};

async function measureFamily(context: Context, family: Family, responders: readonly Responder[]): Promise<Figure[]> {
  const stands = await startStands(
    context,
    "latency",
    responders.map((each) => [each, 1]),
    family,
  );
  using _pinned = pin(SENDER_CPU);
  const figures: Figure[] = [];
  for (const condition of CONDITIONS) figures.push(...(await measureCondition(context, condition, stands, family)));
  for (const stand of stands) stand.stop();
  return figures;
}

async function measureCondition(
  context: Context,
  condition: Condition,
  stands: readonly Stand[],
  family: Family,
): Promise<Figure[]> {
  const rounds = context.isQuick ? 3 : 9;
  const found = new Map<Stand, Quantiles>(stands.map((stand) => [stand, { p50: [], p99: [], "p99.9": [] }]));
  const rates: number[] = [];
  let lost = 0;
  const probe = async (stand: Stand) => {
    const began = performance.now();
    const { times, lost: missed } = stand.prober.pingPong(vipAt(0, stand.family), ...sizes(context));
    lost += missed;
    const sorted = Float64Array.from([...times, ...Array<number>(missed).fill(LOST)]).sort();
    for (const name of Object.keys(QUANTILES) as Quantile[]) {
      found.get(stand)![name].push(quantile(sorted, QUANTILES[name]));
    }
    return (sorted.length / (performance.now() - began)) * 1000; // requests a second
  };

  using stack = new DisposableStack();
  const others = new Map<Stand, Others>();
  if (condition === CONDITIONS[1]) stack.use(new BusyLoops(LOOPS));
  if (condition === CONDITIONS[2]) {
    for (const stand of stands) {
      const flood = await Others.start(context.ground.namespaces, stand, OTHERS_RATE);
      stack.defer(() => flood.stop());
      others.set(stand, flood);
    }
  }
  await interleave(context, `latency, ${family}, ${condition}`, rounds, stands, async (stand) => {
    await stand.measure(async () => {
      const flood = others.get(stand);
      if (!flood) return void (await probe(stand));
      const { result: own, rate } = await flood.beside(() => probe(stand));
      rates.push(rate - own);
    });
  });
  const note = [
    ...(rates.length > 0 ? [`${Math.round(median(rates))} frames a second for others`] : []),
    ...(lost > 0 ? [`requests without an answer within a second: ${lost}`] : []),
  ].join("; ");
  return (Object.keys(QUANTILES) as Quantile[]).flatMap((name) =>
    figuresOf(condition, name, family, found).map((figure) => (note ? { ...figure, note } : figure)),
  );
}

/** The most requests of a round, and the longest time, ms. */
const sizes = ({ isQuick }: Context): [number, number] => (isQuick ? [5_000, 150] : [20_000, 500]);

function figuresOf(
  condition: Condition,
  name: Quantile,
  family: Family,
  found: ReadonlyMap<Stand, Quantiles>,
): Figure[] {
  const kernel = [...found].find(([{ responder }]) => responder.kind === "kernel")?.[1];
  if (!kernel) throw new Error("without the kernel's own responder there is nothing to compare with");
  return [...found].map(([{ responder }, quantiles]) => {
    const figure: Figure = {
      section: "latency",
      what: `${name}${family === "IPv4" ? "" : `, ${family}`}, ${condition}`,
      subject: responder.name,
      unit: "ns",
      values: quantiles[name],
      ratios: [],
    };
    if (name === "p99" && responder.kind === "isat") {
      figure.target = { is: "at most", limit: LIMITS[condition], ratioTo: "kernel" };
    }
    return withRatio(figure, "kernel", kernel[name]);
  });
}
