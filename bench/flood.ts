import { setTimeout as sleep } from "node:timers/promises";
import { CLIENT_INTERFACE, question, vipAt } from "./addresses.ts";
import { type Figure, withRatio } from "./figure.ts";
import { type Context, interleave, type Section, startStands } from "./section.ts";
import { Sender } from "./sender.ts";
import { BARE, isatResponders, KERNEL, NOBODY, type Responder, type Stand } from "./stand.ts";
import { ratios } from "./statistics.ts";
import { pin, SENDER_CPU } from "./system.ts";

const MANY = 60_000;
/** Steps of this length, coprime to MANY, visit every VIP, each far from the one before. */
const STRIDE = 48_271;
/** Late answers, as from a process that has to be woken, are waited for this long, ms. */
const PATIENCE = 500;

/** The result of one round. */
export interface Toll {
  /** Time for a request, ns. */
  request: number;
  /** Time for a request that is dropped at once, measured right before as the machine's pace changes, ns; NaN: it was not. */
  nobody: number;
  /** Answers a second during the flood. */
  rate: number;
  /** The part of the requests that was answered in the end. */
  share: number;
  /** Processor time of the node's processes for an answer, if they are what answers, ns. */
  process: number;
}

export const flood: Section = {
  name: "flood",
  about: "the cost of an answer, and answers a second",
  async run(context) {
    const responders = [KERNEL, ...isatResponders(), ...context.peers];
    const stands = await startStands(context, "flood", [
      [NOBODY, 1],
      ...responders.map((each): [Responder, number] => [each, 1]),
      [BARE, 1],
      ...responders.map((each): [Responder, number] => [each, MANY]),
    ]);
    const tolls = await floodAll(context, "flood", stands);
    for (const stand of stands) stand.stop();
    const find = (name: string, vips: number) =>
      [...tolls].find(([{ responder, vips: count }]) => responder.name === name && count === vips)?.[1];
    const [nobody, kernel] = [find(NOBODY.name, 1), find(KERNEL.name, 1)];
    if (!nobody || !kernel) throw new Error("without the kernel's own responder there is nothing to compare with");
    return [
      ...nobodys(nobody),
      ...costs(tolls, 1, kernel),
      ...costs(tolls, MANY, find(KERNEL.name, MANY) ?? []),
      ...rates(tolls, 1, () => kernel, kernel),
      ...rates(tolls, MANY, (name) => find(name, 1), find(KERNEL.name, MANY) ?? []),
    ];
  },
};

/** Floods each stand in turn. @returns what each round of each stand took */
export async function floodAll(context: Context, what: string, stands: readonly Stand[]): Promise<Map<Stand, Toll[]>> {
  const [rounds, duration] = context.isQuick ? [5, 100] : [11, 300];
  // One VIP gets as many frames as many VIPs, so that the sender reads the same amount of memory.
  const frames = new Map<string, Uint8Array[]>();
  const framesOf = ({ vips, family }: Stand) => {
    const key = `${family} ${vips}`;
    const make = () => Array.from({ length: MANY }, (_, i) => question(vipAt((i * STRIDE) % vips, family)));
    if (!frames.has(key)) frames.set(key, make());
    return frames.get(key)!;
  };
  const tolls = new Map<Stand, Toll[]>(stands.map((stand) => [stand, []]));
  const nobody = stands.find(({ responder }) => responder.kind === "nobody");
  using stack = new DisposableStack();
  const senders = new Map(
    stands.map((stand) => [stand, stack.use(new Sender(stand.client, CLIENT_INTERFACE, framesOf(stand)))]),
  );
  stack.use(pin(SENDER_CPU));
  for (const stand of stands) {
    stand.countAtXdp(true);
    stand.stopProbing();
  }
  await interleave(context, what, rounds, stands, async (stand) => {
    const before = nobody && stand !== nobody ? senders.get(nobody)!.flood(duration / 3).frame : Number.NaN;
    await stand.measure(async () => {
      tolls.get(stand)!.push({ ...(await floodOne(context, stand, senders.get(stand)!, duration)), nobody: before });
    });
  });
  return tolls;
}

async function floodOne(
  { ground: { bench } }: Context,
  stand: Stand,
  sender: Sender,
  duration: number,
): Promise<Omit<Toll, "nobody">> {
  sender.flood(5); // warms the caches
  await sleep(2);
  const before = bench.replies();
  const processBefore = stand.processTime();
  const { sent, elapsed, frame } = sender.flood(duration);
  const during = bench.replies() - before;
  let answers = during;
  for (const end = performance.now() + PATIENCE; performance.now() < end; ) {
    await sleep(10);
    const now = bench.replies() - before;
    if (now === answers) break;
    answers = now;
  }
  const isProcess = stand.responder.kind === "peer";
  return {
    request: frame,
    rate: (during / elapsed) * 1000,
    share: answers / sent,
    process: isProcess ? (stand.processTime() - processBefore) / answers : 0,
  };
}

const countOf = (vips: number): string => `${vips.toLocaleString("en")} VIP${vips === 1 ? "" : "s"}`;

/** The time that each round took for an answer, ns. */
export const cost = (all: readonly Toll[]): number[] =>
  all.map(({ request, nobody, share, process }) => (request - nobody) / share + process);

const nobodys = (nobody: readonly Toll[]): Figure[] => [
  {
    section: "flood",
    what: "a request that nobody hears",
    subject: "nobody",
    unit: "ns",
    values: nobody.map(({ request }) => request),
    ratios: [],
    note: "a program at the node's ingress drops the request that nobody hears at once. The cost of an answer is a request's time less this time, plus the time of processes that answer",
  },
];

/** The cost of an answer, as a ratio to the kernel's own with as many VIPs. */
function costs(tolls: ReadonlyMap<Stand, Toll[]>, count: number, kernel: readonly Toll[]): Figure[] {
  const figures: Figure[] = [];
  for (const [{ responder, vips }, toll] of tolls) {
    if (vips !== count || responder.kind === "nobody") continue;
    const figure: Figure = {
      section: "flood",
      what: `cost of an answer, ${countOf(vips)}`,
      subject: responder.name,
      unit: "ns",
      values: cost(toll),
      ratios: [],
    };
    if (responder.kind === "bare")
      figure.note = "the bare program answers and does nothing else: no program at that hook can cost less";
    if (responder.kind === "isat")
      figure.target = { is: "at most", limit: count === 1 ? 0.56 : 0.65, ratioTo: "kernel" };
    figures.push(withRatio(figure, "kernel", cost(kernel)));
  }
  return figures;
}

function rates(
  tolls: ReadonlyMap<Stand, Toll[]>,
  vips: number,
  one: (name: string) => readonly Toll[] | undefined,
  kernel: readonly Toll[],
): Figure[] {
  const figures: Figure[] = [];
  const rate = ({ rate }: Toll) => rate;
  for (const [stand, toll] of tolls) {
    const { name, kind } = stand.responder;
    if (stand.vips !== vips || kind === "nobody" || kind === "bare") continue;
    const share = Math.min(...toll.map(({ share }) => share));
    const figure: Figure = {
      section: "flood",
      what: `answers a second, ${countOf(vips)}`,
      subject: name,
      unit: "/s",
      values: toll.map(rate),
      ratios: [{ to: "kernel", values: ratios(toll.map(rate), kernel.map(rate)) }],
    };
    const own = one(name);
    if (vips !== 1 && own)
      figure.ratios = [...figure.ratios, { to: "1 VIP", values: ratios(toll.map(rate), own.map(rate)) }];
    if (kind === "isat") {
      figure.target = { is: "at least", limit: 1.05, ratioTo: "kernel" };
    }
    if (share < 0.9999) figure.note = `${name} left ${((1 - share) * 100).toFixed(1)} % unanswered in its worst round`;
    figures.push(figure);
  }
  return figures;
}
