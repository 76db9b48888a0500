/**
 * Runs the checks (types, lint and format) and every test file, each in a child of its own with a time limit, and ends
 * with one line: N passed, N failed, N skipped. uvu itself neither limits time nor notices a file that forgot `test.run()`.
 *
 * Arguments choose test files by a part of their path; without any, everything runs.
 */
import { spawn } from "node:child_process";
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { styleText } from "node:util";

const BIN = "node_modules/.bin";
/** For a file that names no limit of its own in a line `// limit: 300 s`. */
const LIMIT_S = 120;
/** Kubernetes compiles for four minutes on two cores. */
const BINARIES_LIMIT_S = 1800;

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** What went wrong besides failed tests. */
  trouble: string[];
  output: string;
}

/** @param echo where to show the output as it comes */
function execute(
  command: string,
  args: string[],
  limitSeconds: number,
  echo?: NodeJS.WritableStream,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    // A group of its own, so that what hangs is killed with all that it started.
    const child = spawn(command, args, {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0" },
    });
    let output = "";
    const timer = setTimeout(() => {
      output += `\nkilled after ${limitSeconds} s: the file's limit\n`;
      kill();
    }, limitSeconds * 1000);
    const kill = () => {
      try {
        process.kill(-child.pid!, "SIGKILL");
      } catch {
        // it ended by itself
      }
    };
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

const namespaces = () => (existsSync("/run/netns") ? readdirSync("/run/netns") : []);

async function runFile(file: string): Promise<Result> {
  const before = new Set(namespaces());
  const limit = Number(/^\/\/ limit: (\d+) s$/m.exec(readFileSync(file, "utf8"))?.[1] ?? LIMIT_S);
  const args = ["--no-warnings", "--import", "./scripts/ts.mjs", file];
  const { code, output } = await execute(`${BIN}/node`, args, limit);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: uvu colours its summary whatever it is told
  const plain = output.replace(/\x1b\[\d+m/g, "");
  // uvu leaves what is skipped out of the total.
  const count = (label: string) => Number(new RegExp(`^\\s+${label}:\\s+(\\d+)`, "m").exec(plain)?.[1] ?? 0);
  const [total, passed, skipped] = [count("Total"), count("Passed"), count("Skipped")];
  const trouble: string[] = [];
  if (total + skipped === 0) trouble.push("reports no test");
  if (code !== 0 && total === passed) trouble.push(`exit status ${code}, though every test passed`);
  const reasons = plain.split("\n").filter((line) => line.startsWith("SKIPPED ")).length;
  if (reasons < skipped) trouble.push(`skips ${skipped} tests and gives ${reasons} reasons: use skip() of lab/skip.ts`);
  const left = namespaces().filter((name) => name.startsWith("isat-t-") && !before.has(name));
  if (left.length > 0) trouble.push(`leaves network namespaces behind: ${left.join(", ")}`);
  return { passed, skipped, failed: total - passed + trouble.length, trouble, output: plain };
}

async function runCheck(command: string, args: string[]): Promise<Result> {
  const { code, output } = await execute(`${BIN}/${command}`, args, 300);
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, trouble: [], output };
}

/** Some minutes the first time, so it shows how it gets on. Where it cannot work here (status 3), its tests are skipped. */
async function bringClusterBinaries(): Promise<Result> {
  const { code, output } = await execute("sh", ["scripts/cluster-binaries"], BINARIES_LIMIT_S, process.stdout);
  const isImpossible = code === 3 && !process.env.CI;
  const counts = { passed: +(code === 0), skipped: +isImpossible, failed: +(code !== 0 && !isImpossible) };
  const reason = output.trim().split("\n").at(-1);
  return { ...counts, trouble: [], output: isImpossible ? `SKIPPED test/cluster: ${reason}` : output };
}

const wanted = process.argv.slice(2);
const files = globSync("test/**/*.test.ts").sort();
const chosen = wanted.length === 0 ? files : files.filter((file) => wanted.some((part) => file.includes(part)));
if (chosen.length === 0) {
  console.error(`isat: no test file matches ${wanted.join(" ")}. There are:\n${files.join("\n")}`);
  process.exit(1);
}
const checks: [string, () => Promise<Result>][] = [
  ["types (tsc)", () => runCheck("tsc", ["-p", "."])],
  [
    "lint, format, directions of imports (biome)",
    () => runCheck("biome", ["ci", "--colors=off", "--error-on-warnings", "."]),
  ],
];
const clusterBinaries: typeof checks = [["what the cluster runs (scripts/cluster-binaries)", bringClusterBinaries]];
const jobs: [string, () => Promise<Result>][] = [
  ...(wanted.length === 0 ? checks : []),
  ...(chosen.some((file) => file.startsWith("test/cluster/")) ? clusterBinaries : []),
  ...chosen.map((file): [string, () => Promise<Result>] => [file, () => runFile(file)]),
];

const sum = { passed: 0, failed: 0, skipped: 0 };
for (const [name, job] of jobs) {
  const started = performance.now();
  const result = await job();
  for (const key of ["passed", "failed", "skipped"] as const) sum[key] += result[key];
  const isGood = result.failed === 0;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const counts = `${result.passed} passed${result.failed ? `, ${result.failed} failed` : ""}${result.skipped ? `, ${result.skipped} skipped` : ""}`;
  console.log(`${isGood ? styleText("green", "ok  ") : styleText("red", "FAIL")} ${name}: ${counts} (${seconds} s)`);
  for (const line of result.output.split("\n").filter((line) => /^(SKIPPED|MEASURED) /.test(line)))
    console.log(`     ${line}`);
  for (const line of result.trouble) console.log(`     ${name} ${line}`);
  if (!isGood) console.log(result.output.replace(/^/gm, "     | "));
}
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(sum.failed === 0 ? 0 : 1);
