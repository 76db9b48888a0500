import { type Figure, withRatio } from "./figure.ts";
import { cost, floodAll, type Toll } from "./flood.ts";
import { type Section, startStands } from "./section.ts";
import { isatResponders, KERNEL, NOBODY, type Responder, type Stand } from "./stand.ts";

/** The most that an answer may cost, as a part of what the kernel's own costs, by the number of the node's addresses. */
const LIMITS = new Map([
  [1, 0.25],
  [1_000, 0.07],
  [10_000, 0.01],
]);

export const neighbour: Section = {
  name: "neighbour",
  about: "the cost of a Neighbour Advertisement",
  async run(context) {
    const responders = [KERNEL, ...isatResponders()];
    const counts = [...LIMITS.keys()];
    const stands = await startStands(
      context,
      "neighbour",
      [[NOBODY, 1], ...counts.flatMap((count) => responders.map((each): [Responder, number] => [each, count]))],
      "IPv6",
    );
    const tolls = await floodAll(context, "neighbour", stands);
    for (const stand of stands) stand.stop();
    return counts.flatMap((count) => figuresOf(tolls, count));
  },
};

function figuresOf(all: ReadonlyMap<Stand, Toll[]>, count: number): Figure[] {
  const tolls = [...all].filter(([{ responder, vips }]) => vips === count && responder.kind !== "nobody");
  const kernel = tolls.find(([{ responder }]) => responder.kind === "kernel")?.[1];
  if (!kernel) throw new Error("without the kernel's own responder there is nothing to compare with");
  return tolls.map(([{ responder }, toll]) => {
    const figure: Figure = {
      section: "neighbour",
      what: `cost of an Advertisement, ${count.toLocaleString("en")} address${count === 1 ? "" : "es"}`,
      subject: responder.name,
      unit: "ns",
      values: cost(toll),
      ratios: [],
    };
    const share = Math.min(...toll.map(({ share }) => share));
    if (share < 0.9999) figure.note = `${((1 - share) * 100).toFixed(1)} % were unanswered in its worst round`;
    if (responder.kind === "isat") figure.target = { is: "at most", limit: LIMITS.get(count)!, ratioTo: "kernel" };
    return withRatio(figure, "kernel", cost(kernel));
  });
}
