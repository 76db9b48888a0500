/** `npm run bench`: measures isat beside the kernel's own responder and others in one run. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { METALLB_FILES } from "../lab/cluster/binaries.ts";
import { Namespaces } from "../lab/namespaces.ts";
import { drawCharts } from "./charts.ts";
import { controlPlane } from "./control-plane.ts";
import { failover } from "./failover/failover.ts";
import { type Failure, type Figure, isMet } from "./figure.ts";
import { flood } from "./flood.ts";
import { kubernetes } from "./kubernetes/kubernetes.ts";
import { latency } from "./latency.ts";
import { memory } from "./memory.ts";
import { neighbour } from "./neighbour.ts";
import { BenchPrograms } from "./object.ts";
import { programs } from "./programs.ts";
import type { Context, Section } from "./section.ts";
import type { Responder } from "./stand.ts";
import { spread } from "./statistics.ts";
import { describeMachine } from "./system.ts";
import { renderTable } from "./table.ts";
import { throughput } from "./throughput.ts";

const PREFIX = "isat-bench-";
const TOP = fileURLToPath(new URL("..", import.meta.url));
/** The sections of a run in which none is named: some minutes. */
const USUAL: readonly Section[] = [flood, neighbour, latency, programs, throughput, controlPlane, memory];
/** Sections that run only if they are named, as they take long, or need a cluster. */
const APART: readonly Section[] = [failover, kubernetes];
const SECTIONS: readonly Section[] = [...USUAL, ...APART];

const HELP = `\
npm run bench: measures isat, as built in dist/, beside the kernel's own responder, over veth pairs between network
namespaces. Rounds are interleaved, so that each figure stands beside the one that it is compared with. At the end, the
targets that are not met are listed. It needs root, and a machine that does nothing else meanwhile. It ends by itself,
with status 0 if everything was measured, even if a target is not met.

  npm run bench [-- SECTION...] [options]

${USUAL.map(({ name, about }) => `  ${name.padEnd(14)} ${about}`).join("\n")}

These run only if they are named, as they take ten minutes or more:

${APART.map(({ name, about }) => `  ${name.padEnd(14)} ${about}`).join("\n")}

  --peer NAME=COMMAND   also measures another responder (flood, latency) or other speakers (failover). sh runs the
                        command in the node's network namespace. It must answer for the addresses from $ISAT_BENCH_FIRST to
                        $ISAT_BENCH_LAST on $ISAT_BENCH_INTERFACE until it is killed. The option may be repeated.
                        For failover the command runs on each of three nodes, which must share the addresses; all
                        processes of a node receive SIGKILL, SIGTERM, SIGSTOP and SIGCONT. It also gets $ISAT_BENCH_NODE
                        (n1, n2 or n3), $ISAT_BENCH_ADDRESS (the node's), $ISAT_BENCH_PEERS (the others' addresses) and
                        $ISAT_BENCH_FOLDER (a folder to write to). Events that only isat knows (drain, forged frames)
                        are left out. Ready to use: --peer keepalived=bench/peers/keepalived
  --peer metallb        measures MetalLB's own speaker, beside a real API server (failover)
  --quick               makes fewer and shorter rounds, in about a minute: for a look, not for comparisons
  --help                prints this text

A full run without sections writes bench/results/latest.json and charts beside it; a full run of failover or kubernetes
alone writes bench/results/failover.json or kubernetes.json. All other runs write to dist/bench/.`;

interface Options {
  sections: readonly Section[];
  peers: readonly Responder[];
  isQuick: boolean;
}

const METALLB_PEER: Responder = {
  name: "MetalLB",
  kind: "peer",
  command: `exec ${join(METALLB_FILES, "speaker")} --port=0 --log-level=error`,
  cluster: true,
};

/** Reads the arguments; undefined for --help. @throws Error for unknown ones */
function readOptions(): Options | undefined {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      peer: { type: "string", multiple: true, default: [] },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const names = SECTIONS.map(({ name }) => name);
  const unknown = positionals.find((name) => !names.includes(name));
  if (unknown) throw new Error(`Cannot measure "${unknown}": the sections are ${names.join(", ")}`);
  const peers = values.peer.map((text): Responder => {
    if (text === "metallb") return METALLB_PEER;
    const [, name, command] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    if (!name || !command) throw new Error(`Cannot read --peer ${text}: NAME=COMMAND is needed`);
    return { name, kind: "peer", command };
  });
  const sections = positionals.length === 0 ? USUAL : SECTIONS.filter(({ name }) => positionals.includes(name));
  return { sections, peers, isQuick: values.quick };
}

/** The machine, in a line. */
function place(): string {
  const { processor, cpus, kernel } = describeMachine();
  return `Linux ${kernel}, ${processor}, ${cpus} CPUs, veth`;
}

function versions(): Record<string, string> {
  const firstLine = (command: string, ...args: string[]) =>
    execFileSync(command, args, { encoding: "utf8" }).split("\n")[0]!.trim();
  const { version, dependencies } = JSON.parse(readFileSync(join(TOP, "package.json"), "utf8"));
  return {
    isat: version,
    koffi: dependencies.koffi,
    clang: firstLine("clang", "--version"),
    iperf3: firstLine("iperf3", "--version"),
  };
}

/** The file in bench/results for a run's results; undefined for a run that is not kept. */
function keptAs({ sections, isQuick }: Options): string | undefined {
  if (isQuick) return undefined;
  if (sections === USUAL) return "latest.json";
  const [only, ...others] = sections;
  return only && others.length === 0 && APART.includes(only) ? `${only.name}.json` : undefined;
}

function write(
  folder: string,
  file: string,
  { sections, isQuick }: Options,
  figures: readonly Figure[],
  failures: readonly Failure[],
) {
  mkdirSync(folder, { recursive: true });
  const results = {
    date: new Date().toISOString(),
    isQuick,
    sections: sections.map(({ name }) => name),
    machine: describeMachine(),
    versions: versions(),
    figures: figures.map((figure) => ({
      ...figure,
      ...spread(figure.values),
      rounds: figure.values.length,
      ratios: figure.ratios.map((ratio) => ({ ...ratio, ...spread(ratio.values) })),
      isMet: isMet(figure),
    })),
    failures,
  };
  writeFileSync(join(folder, file), `${JSON.stringify(results, null, 1)}\n`);
  for (const [name, svg] of drawCharts(figures, place())) writeFileSync(join(folder, name), svg);
}

/** Shows progress on stderr: redrawn on a terminal, else at most one line a second. */
function makeProgress(): (text: string) => void {
  const began = performance.now();
  let last = Number.NEGATIVE_INFINITY;
  return (text) => {
    const now = performance.now();
    const line = `[${((now - began) / 1000).toFixed(0).padStart(3)} s] ${text}`;
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
    else if (now - last > 1000) {
      console.error(line);
      last = now;
    }
  };
}

async function main(): Promise<number> {
  const options = readOptions();
  if (!options) {
    console.log(HELP);
    return 0;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
  const progress = makeProgress();
  const figures: Figure[] = [];
  const failures: Failure[] = [];
  using namespaces = new Namespaces(PREFIX);
  const folder = namespaces.folder();
  progress("compiling the benchmarks' own programs");
  using bench = new BenchPrograms(folder);
  const context: Context = {
    ground: { namespaces, bench, folder, bpffs: namespaces.bpffs() },
    peers: options.peers,
    isQuick: options.isQuick,
    progress,
    fail: (failure) => failures.push(failure),
  };
  for (const section of options.sections) {
    try {
      for (const figure of await section.run(context)) {
        if ([figure.values, ...figure.ratios.map(({ values }) => values)].flat().every(Number.isFinite))
          figures.push(figure);
        else
          failures.push({ section: section.name, what: `${figure.what}, ${figure.subject}`, reason: "no answer came" });
      }
    } catch (error) {
      failures.push({ section: section.name, what: "the section", reason: (error as Error).message });
    }
  }
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  console.log(`${place()}\n\n${renderTable(figures, failures)}`);
  const kept = keptAs(options);
  const [folderOfResults, file] = kept ? ["bench/results", kept] : ["dist/bench", "latest.json"];
  write(join(TOP, folderOfResults), file, options, figures, failures);
  console.log(`\nResults are in ${folderOfResults}/${file}, with charts beside it.`);
  return failures.length === 0 ? 0 : 1;
}

main().then(
  (status) => process.exit(status),
  (error: Error) => {
    console.error(`bench: ${error.message}`);
    process.exit(1);
  },
);
