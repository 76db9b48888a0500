import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { NODE_IP } from "./addresses.ts";
import { type Figure, withRatio } from "./figure.ts";
import { interleave, type Section, startStands } from "./section.ts";
import { isatResponders, KERNEL, type Responder, type Stand } from "./stand.ts";
import { OTHER_CPU, SENDER_CPU } from "./system.ts";

const BARE: Responder = { ...KERNEL, name: "no hook" };
const EMPTY_XDP: Responder = { name: "empty xdp", kind: "empty", hook: "xdp" };
const LIMIT = 0.99;

export const throughput: Section = {
  name: "throughput",
  about: "TCP from the client to the node, through the hook and without it (iperf3)",
  async run(context) {
    const stands = await startStands(
      context,
      "throughput",
      [BARE, ...isatResponders(), EMPTY_XDP].map((each) => [each, 1]),
    );
    for (const stand of stands) stand.stopProbing();
    for (const { node } of stands) {
      context.ground.namespaces.spawn(node, "iperf3", ["--server"], { stdio: "ignore" });
    }
    await sleep(300);
    const found = new Map<Stand, number[]>(stands.map((stand) => [stand, []]));
    const [rounds, seconds] = context.isQuick ? [3, 1] : [9, 1];
    await interleave(context, "throughput", rounds, stands, async (stand) => {
      await stand.measure(async () => found.get(stand)!.push(await transfer(stand, seconds)));
    });
    for (const stand of stands) stand.stop();
    return figuresOf(found);
  },
};

/** Transfers from the client to the node. @returns bits a second that arrived */
async function transfer({ client }: Stand, seconds: number): Promise<number> {
  const affinity = CPU_PAIR;
  const args = ["--client", NODE_IP, "--time", `${seconds}`, "--affinity", affinity, "--json"];
  const { stdout } = await promisify(execFile)("nsenter", [`--net=${join("/run/netns", client)}`, "iperf3", ...args], {
    timeout: 20_000,
  });
  return JSON.parse(stdout).end.sum_received.bits_per_second;
}

/** The client's CPU and the server's. */
const CPU_PAIR = `${SENDER_CPU},${OTHER_CPU}`;

function figuresOf(found: ReadonlyMap<Stand, number[]>): Figure[] {
  const rates = new Map([...found].map(([{ responder }, values]) => [responder.name, values]));
  const bare = rates.get(BARE.name);
  const emptyXdp = rates.get(EMPTY_XDP.name);
  if (!bare) throw new Error("without a wire that has no hook there is nothing to compare with");
  const about = { section: "throughput", what: "iperf3, TCP", unit: "bit/s", ratios: [] } as const;
  const figures = [...found].flatMap(([{ responder }, values]): Figure[] => {
    const figure: Figure = { ...about, subject: responder.name, values };
    const isXdp = "hook" in responder && responder.hook === "xdp";
    if (isXdp) figure.note = "any XDP program turns segmentation offload off on a veth: see the empty one";
    if (responder.kind !== "isat") return [withRatio(figure, "no hook", bare)];
    const target = { is: "at least", limit: LIMIT } as const;
    const judged = withRatio({ ...figure, target: { ...target, ratioTo: "no hook" } }, "no hook", bare);
    if (!isXdp || !emptyXdp) return [judged];
    const other = {
      ...figure,
      what: "iperf3, TCP, beside an empty program",
      target: { ...target, ratioTo: "empty xdp" },
    };
    return [judged, withRatio(other, "empty xdp", emptyXdp)];
  });
  return figures.sort((a, b) => a.what.length - b.what.length); // figures beside the empty program come last
}
