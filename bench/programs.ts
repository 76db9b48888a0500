import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseMac } from "../lab/mac.ts";
import { interfaceEntry, nodeState, vip, vipState, wireType } from "../src/core/abi.ts";
import { addressBytes, parseAddress } from "../src/core/address.ts";
import { announcement } from "../src/core/arp.ts";
import { checkOf } from "../src/core/vip.ts";
import { clusterId, encodeWire, keyring, wireKeyOf } from "../src/core/wire.ts";
import { ffi } from "../src/ffi/ffi.ts";
import { bootTime, errno } from "../src/ffi/libc.ts";
import { check, type Fd, libbpf } from "../src/kernel/libbpf.ts";
import { findObject, type LoadedObject, loadObject } from "../src/kernel/object.ts";
import { CLIENT_MAC, NODE_INTERFACE, NODE_IP, NODE_MAC, otherAt, question, vipAt } from "./addresses.ts";
import type { Figure } from "./figure.ts";
import { type Context, interleave, type Section } from "./section.ts";
import { differences, ratios } from "./statistics.ts";
import { pin, processorTime, SENDER_CPU } from "./system.ts";

const BUILD = fileURLToPath(new URL("../scripts/build-bpf", import.meta.url));
/** Without a context, a test run happens on `lo`, which has this number everywhere. */
const IFINDEX = 1;
const VIPS = 1000;
/** A key of the peer protocol, and the values that an echo has to repeat. */
const RING = keyring([wireKeyOf("bench")], clusterId("bench"), false);
const INCARNATION = 3n;
const HOUR = 3_600_000_000_000n;
/** A nonce from the future, which is never too old. */
const NONCE = bootTime() + HOUR;

interface Job {
  what: string;
  subject: string;
  program: Fd;
  frame: Uint8Array;
  /** The job that measures the empty program. */
  empty?: Job;
  /** Targets in ns: for the whole, or above the empty program. */
  limit?: number;
  above?: number;
  /** The counter of the verdict that this job expects; each run must increase it. */
  counted?: () => bigint;
  /** Time for a run, ns, by round. */
  values: number[];
}

export const programs: Section = {
  name: "programs",
  about: "one run of a kernel program (BPF_PROG_TEST_RUN)",
  async run(context) {
    context.progress("programs: compiling with ISAT_BENCH");
    const { folder, bpffs, bench } = context.ground;
    const output = join(folder, "isat-bench.bpf.o");
    // An answer turns the request into a reply, which a second run would not answer. This build keeps the request.
    execFileSync("sh", [BUILD, output, "-DISAT_BENCH"], { stdio: ["ignore", "ignore", "inherit"] });
    using object = loadObject(output, `${bpffs}/programs`);
    fillMaps(object);
    const jobs = jobsOf(object, bench.programs);
    await measure(context, "programs", jobs);
    return jobs.map(figureOf);
  },
};

async function measure(context: Context, what: string, jobs: readonly Job[]): Promise<void> {
  const [rounds, repeat] = context.isQuick ? [5, 200_000] : [15, 500_000];
  using _pinned = pin(SENDER_CPU);
  await interleave(context, what, rounds, jobs, async (job) => {
    const before = job.counted?.();
    job.values.push(run(job, repeat));
    if (before !== undefined && job.counted!() - before < BigInt(repeat)) {
      throw new Error(`${job.what} by ${job.subject}: the program took the frame for something else`);
    }
  });
}

/**
 * Measures the cost of a meaningless frame of isat's EtherType at TC. It must cost no more than ARP for someone else
 * and the computation of a tag, which a program that does nothing else measures.
 */
export async function wireCost(context: Context): Promise<Figure[]> {
  const { bpffs, bench } = context.ground;
  using object = loadObject(findObject(), `${bpffs}/wire-cost`);
  fillMaps(object);
  const { maps, programs } = object;
  const subject = "tc, tcx";
  const counter = (name: "not_managed" | "wire_refused" | "wire_stale") => () => maps.verdicts.get(IFINDEX)![name];
  const now = bootTime();
  maps.interfaces.set(IFINDEX, { ...maps.interfaces.get(IFINDEX)!, heard_ns: now });
  const echo = { type: wireType.WIRE_ECHO, destination: parseMac(NODE_MAC), node: 2n, to: INCARNATION };
  const [old, replayed] = [now - HOUR, now].map((nonce) => encodeWire({ ...echo, nonce }, RING)) as [
    Uint8Array,
    Uint8Array,
  ];
  const forged = replayed.slice();
  forged[forged.length - 1]! ^= 1;
  const ours = { subject, program: programs.isat_ingress };
  const job = (what: string, frame: Uint8Array, name: Parameters<typeof counter>[0]): Job => ({
    ...ours,
    what,
    frame,
    counted: counter(name),
    values: [],
  });
  const empty: Job = { what: "empty", subject, program: bench.programs.bench_pass, frame: replayed, values: [] };
  const tag: Job = { what: "tag", subject, program: bench.programs.bench_tag, frame: replayed, values: [] };
  const arp = job("ARP for someone else", question(otherAt(0)), "not_managed");
  const meaningless = [
    job("forged or mutated", forged, "wire_refused"),
    job("replayed", replayed, "wire_stale"),
    job("recorded long ago", old, "wire_stale"),
  ];
  await measure(context, "cost of a frame", [empty, tag, arp, ...meaningless]);
  const to = "ARP for someone else + a tag";
  const references = differences(tag.values, empty.values).map((value, round) => value + arp.values[round]!);
  return meaningless.map(({ what, values }) => ({
    section: "programs",
    what: `one run for a frame that is ${what}`,
    subject,
    unit: "ns",
    values,
    ratios: [{ to, values: ratios(values, references) }],
    target: { is: "at most", limit: 1, ratioTo: to },
  }));
}

function fillMaps({ maps }: LoadedObject): void {
  maps.interfaces.set(
    IFINDEX,
    interfaceEntry.of({
      ifindex: IFINDEX,
      name: NODE_INTERFACE,
      mac_text: NODE_MAC,
      mac: parseMac(NODE_MAC),
      address: addressBytes(parseAddress(NODE_IP)),
      incarnation: INCARNATION,
      hello_nonce: NONCE,
      tick_ns: bootTime(),
      live_ns: HOUR,
      hold_ns: HOUR,
      fence_ns: HOUR,
      gone_ns: HOUR,
    }),
  );
  maps.keys.set(0, RING.keys[0]!);
  const keys = Array.from({ length: VIPS }, (_, place) => ({ ip: addressBytes(vipAt(place)), ifindex: IFINDEX }));
  for (const key of keys)
    maps.vips.set(key, vip.of({ state: vipState.OWNED, claim_ns: bootTime(), check: checkOf(key) }));
}

function jobsOf({ maps, programs }: LoadedObject, bench: { bench_pass: Fd; bench_xdp_pass: Fd }): Job[] {
  const counter =
    (name: "answered" | "not_managed" | "nd_not_managed" | "egress_claimed" | "wire_refused" | "wire_taken") => () =>
      maps.verdicts.get(IFINDEX)![name];
  const ip = question(vipAt(0));
  ip.set([0x08, 0x00], 12); // IPv4's EtherType; isat's programs read no further
  const tcp = question(vipAt(0, "IPv6"));
  tcp[20] = 6; // the next header
  const echo = encodeWire(
    {
      destination: parseMac(NODE_MAC),
      source: parseMac(CLIENT_MAC),
      type: wireType.WIRE_ECHO,
      state: nodeState.LIVE,
      node: 5n,
      to: INCARNATION,
      nonce: NONCE,
      name: "peer",
    },
    RING,
  );
  const forged = echo.with(-1, echo.at(-1)! ^ 1);
  const claim = announcement(parseMac(NODE_MAC), addressBytes(vipAt(0)));
  const hooks = [
    ["tc, tcx", programs.isat_ingress, bench.bench_pass],
    ["xdp", programs.isat_xdp, bench.bench_xdp_pass],
  ] as const;
  const jobs: Job[] = [];
  for (const [subject, program, pass] of hooks) {
    const empty: Job = { what: "an empty program", subject, program: pass, frame: ip, values: [] };
    const ours = { subject, program, empty };
    jobs.push(
      empty,
      { ...ours, what: "a frame of IPv4", frame: ip, above: 3, values: [] },
      { ...ours, what: "a frame of TCP over IPv6", frame: tcp, above: 4, values: [] },
      {
        ...ours,
        what: "ARP for someone else",
        frame: question(otherAt(0)),
        limit: 60,
        counted: counter("not_managed"),
        values: [],
      },
      {
        ...ours,
        what: "a Solicitation for someone else",
        frame: question(otherAt(0, "IPv6")),
        counted: counter("nd_not_managed"),
        values: [],
      },
      { ...ours, what: "an answer", frame: question(vipAt(0)), limit: 150, counted: counter("answered"), values: [] },
      { ...ours, what: "peer protocol: a forged frame", frame: forged, counted: counter("wire_refused"), values: [] },
      { ...ours, what: "peer protocol: an echo", frame: echo, counted: counter("wire_taken"), values: [] },
    );
  }
  const egress = { subject: "tc, tcx", program: programs.isat_egress, empty: jobs[0]! };
  jobs.push(
    { ...egress, what: "egress filter: not ARP", frame: ip, values: [] },
    {
      ...egress,
      what: "egress filter: a claim of its own",
      frame: claim,
      counted: counter("egress_claimed"),
      values: [],
    },
  );
  return jobs;
}

/** Average processor time for a run, ns; it leaves out other processes that had the CPU meanwhile. */
function run({ what, program, frame }: Job, repeat: number): number {
  const options = new Uint8Array(80); // struct bpf_test_run_opts
  const view = new DataView(options.buffer);
  view.setBigUint64(0, BigInt(options.length), true);
  view.setBigUint64(8, ffi.address(frame), true);
  view.setUint32(24, frame.length, true);
  view.setInt32(60, repeat, true);
  for (let attempt = 1; ; attempt++) {
    const started = processorTime();
    const result = libbpf.bpf_prog_test_run_opts(program.number, options);
    const elapsed = Number(processorTime() - started);
    // A signal ends a test run, for example when a child of an earlier section ends.
    if (result === -errno.EINTR && attempt < 10) continue;
    check(`Cannot run a program on ${what}`, result);
    return elapsed / repeat;
  }
}

/** A job with a target above the empty program gets that difference as its value. */
function figureOf({ what, subject, values, empty, limit, above }: Job): Figure {
  const figure: Figure = { section: "programs", what, subject, unit: "ns", values, ratios: [] };
  if (empty) figure.ratios = [{ to: "empty", values: values.map((value, round) => value / empty.values[round]!) }];
  if (limit !== undefined) figure.target = { is: "at most", limit };
  if (above === undefined || !empty) return figure;
  return {
    ...figure,
    what: `${what}, above an empty program`,
    values: differences(values, empty.values),
    target: { is: "at most", limit: above },
  };
}
