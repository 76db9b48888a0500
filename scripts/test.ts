/**
 * Runs the checks (types, lint and format) and the test files, each in a process of its own with a time limit, and ends
 * with one line: N passed, N failed, N skipped. uvu does none of this: it has no time limits, and it does not notice a
 * file that forgot `test.run()`, or processes and network namespaces that a file leaves behind.
 */
import { spawn } from "node:child_process";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, styleText } from "node:util";
import { leftovers, RUN, sweep, tryLock } from "../lab/namespaces.ts";

const HELP = `\
npm test: prepares what is missing or stale, checks types, lint and format, and runs every test file. It needs root.
Several runs can go on at once; tests of timing may fail under the load.

  npm test                       everything
  npm test -- core kernel/lock   only the test files whose path contains one of these words, without the checks
  npm test -- --list [WORD...]   lists the test files and their time limits, and runs nothing
  npm test -- --help             prints this text

A test file names its time limit in a line "// limit: 300 s"; without one it has 120 s. A test that cannot run on this
machine is skipped, and the reason is printed.`;

const BIN = "node_modules/.bin";
/** For a file without a line `// limit: 300 s`. */
const LIMIT_S = 120;
/** Kubernetes compiles for four minutes on two cores. */
const BINARIES_LIMIT_S = 1800;
/** A process that was killed may take this long to be gone, ms. */
const DEATH_MS = 2000;

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** Failures besides failed tests, a line each. */
  trouble: string[];
  output: string;
}

/** Ends a process, or with a negative number a process group; one that has ended by itself is left alone. */
function endProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Runs a command to its end. @param echo receives the output as it comes */
function execute(
  command: string,
  args: string[],
  limitSeconds: number,
  { env = {}, echo }: { env?: NodeJS.ProcessEnv; echo?: NodeJS.WritableStream } = {},
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    // A process group of its own, so that a command that hangs is killed with its children.
    const child = spawn(command, args, {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ...env },
    });
    let output = "";
    const timer = setTimeout(() => {
      output += `\nkilled after ${limitSeconds} s: the file's limit\n`;
      kill();
    }, limitSeconds * 1000);
    const kill = () => endProcess(-child.pid!);
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        output += chunk;
        echo?.write(chunk);
      });
    }
    child.on("close", (code) => {
      clearTimeout(timer);
      kill();
      resolve({ code: code ?? 1, output });
    });
  });
}

/**
 * Takes the lowest number that no other run on this machine has. Names of test namespaces begin with it, so runs do not
 * meet, and the next run with the number sweeps what a crashed one has left.
 */
function takeRun(): string {
  for (let number = 1; ; number++) {
    const run = `r${number}-`;
    if (tryLock(join(tmpdir(), `isat-test-${run}lock`)) === undefined) continue;
    sweep(run);
    process.on("exit", () => {
      for (const { pid } of processesOf(run)) endProcess(pid); // there are some where Ctrl-C ends the run
      sweep(run);
    });
    return run;
  }
}

/** Processes that were started by this run's test files: they have inherited its name in their environment. */
function processesOf(run: string): { pid: number; command: string }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`${RUN}=${run}`)) return [];
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim().slice(0, 80);
        return command === "" ? [] : [{ pid: Number(pid), command }]; // a zombie has no command
      } catch {
        return []; // it has ended, or is a thread of the kernel
      }
    });
}

/** Ends and removes everything that a test file has left behind. @returns a line for each kind of thing found */
async function clearUp(run: string): Promise<string[]> {
  let processes = processesOf(run);
  for (const end = performance.now() + DEATH_MS; processes.length > 0 && performance.now() < end; ) {
    await sleep(50);
    processes = processesOf(run);
  }
  for (const { pid } of processes) endProcess(pid);
  const { namespaces, mounts, folders } = leftovers(run);
  sweep(run);
  const line = (what: string, found: readonly string[]) =>
    found.length > 0 ? [`leaves ${what} behind: ${found.join(", ")}`] : [];
  return [
    ...line(
      "processes",
      processes.map(({ pid, command }) => `${command} (${pid})`),
    ),
    ...line("network namespaces", namespaces),
    ...line("mounts", mounts),
    ...line("folders", folders),
  ];
}

const limitOf = (file: string) => Number(/^\/\/ limit: (\d+) s$/m.exec(readFileSync(file, "utf8"))?.[1] ?? LIMIT_S);

async function runFile(file: string, run: string): Promise<Result> {
  const args = ["--no-warnings", "--import", "./scripts/ts.mjs", file];
  const { code, output } = await execute(`${BIN}/node`, args, limitOf(file), { env: { [RUN]: run } });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: uvu colours its summary whatever it is told
  const plain = output.replace(/\x1b\[\d+m/g, "");
  // uvu does not count skipped tests in the total.
  const count = (label: string) => Number(new RegExp(`^\\s+${label}:\\s+(\\d+)`, "m").exec(plain)?.[1] ?? 0);
  const [total, passed, skipped] = [count("Total"), count("Passed"), count("Skipped")];
  const trouble: string[] = [];
  if (total + skipped === 0) trouble.push("reports no test");
  if (code !== 0 && total === passed) trouble.push(`ended with status ${code}, though every test passed`);
  const reasons = plain.split("\n").filter((line) => line.startsWith("SKIPPED ")).length;
  if (reasons < skipped) trouble.push(`skips ${skipped} tests and gives ${reasons} reasons: use skip() of lab/skip.ts`);
  trouble.push(...(await clearUp(run)));
  return { passed, skipped, failed: total - passed + trouble.length, trouble, output: plain };
}

async function runCheck(command: string, args: string[]): Promise<Result> {
  const { code, output } = await execute(`${BIN}/${command}`, args, 300);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, trouble: [], output };
}

/** Shows its output, as it takes minutes the first time. Status 3: it cannot work here, and the tests are skipped. */
async function bringClusterBinaries(): Promise<Result> {
  const { code, output } = await execute("sh", ["scripts/cluster-binaries"], BINARIES_LIMIT_S, {
    echo: process.stdout,
  });
  const isImpossible = code === 3 && !process.env.CI;
  const counts = { passed: +(code === 0), skipped: +isImpossible, failed: +(code !== 0 && !isImpossible) };
  const reason = output.trim().split("\n").at(-1);
  const skipped = "SKIPPED test/cluster, test/kubelet, test/ship";
  return { ...counts, trouble: [], output: isImpossible ? `${skipped}: ${reason}` : output };
}

type Job = [name: string, run: () => Promise<Result>];

/** Everything, or the test files that were asked for and what they need. */
function jobsOf(files: readonly string[], isEverything: boolean): Job[] {
  const checks: Job[] = [
    ["types (tsc)", () => runCheck("tsc", ["-p", "."])],
    [
      "lint, format, directions of imports (biome)",
      () => runCheck("biome", ["ci", "--colors=off", "--error-on-warnings", "."]),
    ],
  ];
  const binaries: Job = ["programs for the cluster (scripts/cluster-binaries)", bringClusterBinaries];
  const run = takeRun();
  return [
    ...(isEverything ? checks : []),
    ...(files.some((file) => /^test\/(cluster|kubelet|ship)\//.test(file)) ? [binaries] : []),
    ...files.map((file): Job => [file, () => runFile(file, run)]),
  ];
}

function report(name: string, { passed, failed, skipped, trouble, output }: Result, seconds: number): void {
  const counts = `${passed} passed${failed ? `, ${failed} failed` : ""}${skipped ? `, ${skipped} skipped` : ""}`;
  const verdict = failed === 0 ? styleText("green", "ok  ") : styleText("red", "FAIL");
  console.log(`${verdict} ${name}: ${counts} (${seconds.toFixed(1)} s)`);
  for (const line of output.split("\n").filter((line) => /^(SKIPPED|MEASURED) /.test(line)))
    console.log(`     ${line}`);
  for (const line of trouble) console.log(`     ${name} ${line}`);
  if (failed > 0) console.log(output.replace(/^/gm, "     | "));
}

async function main(): Promise<number> {
  const options = { list: { type: "boolean" }, help: { type: "boolean", short: "h" } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const all = globSync("test/**/*.test.ts").sort();
  const isEverything = positionals.length === 0;
  const files = isEverything ? all : all.filter((file) => positionals.some((word) => file.includes(word)));
  if (files.length === 0)
    throw new Error(`no test file matches ${positionals.join(" ")}. There are:\n${all.join("\n")}`);
  if (values.list) {
    for (const file of files) console.log(`${file} (limit: ${limitOf(file)} s)`);
    return 0;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, job] of jobsOf(files, isEverything)) {
    const started = performance.now();
    const result = await job();
    for (const key of ["passed", "failed", "skipped"] as const) sum[key] += result[key];
    report(name, result, (performance.now() - started) / 1000);
  }
  console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
  return sum.failed === 0 ? 0 : 1;
}

main().then(
  (status) => process.exit(status),
  (error: Error) => {
    console.error(`isat: ${error.message}`);
    process.exit(1);
  },
);
