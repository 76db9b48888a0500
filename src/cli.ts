import { hostname } from "node:os";
import process from "node:process";
import { Command } from "commander";
import { readConfig } from "./config/config.ts";
import { KEYS, RUN_DIR } from "./config/schema.ts";
import { isDrained, writeDrained } from "./control/drain.ts";
import { type RunFile, readRunFile } from "./control/runfile.ts";
import { askStatus, tellDrain } from "./control/socket.ts";
import { parseAddress } from "./core/address.ts";
import { examineMachine } from "./doctor/examine.ts";
import { formatFindings } from "./doctor/judge.ts";
import { layoutFolder, markDrained } from "./kernel/kernel.ts";
import { readPinnedMaps } from "./kernel/object.ts";
import { pinnedStatus, VERSION } from "./report/collect.ts";
import { formatMaps, MAP_NAMES } from "./report/dump.ts";
import { formatDuration, formatStatus, type Status } from "./report/status.ts";
import { cleanUp, run } from "./run.ts";
import { UNDRAINABLE } from "./speaker.ts";

const DEFAULT_CONFIG = "/etc/isat/isat.yaml";

interface Where {
  config?: string;
  runDir: string;
}

/** Finds the speaker that --config or --run-dir means. @throws Error where no speaker ever ran there */
function locate({ config, runDir }: Where): RunFile {
  if (config !== undefined) {
    // A speaker is found without its node's name: outside of a pod there is no NODE_NAME, which a cluster's file needs.
    const NODE_NAME = process.env.NODE_NAME || hostname();
    const { node, pinDir, runDir, stateDir, membership } = readConfig(config, { ...process.env, NODE_NAME });
    return { node, pid: 0, pinDir, runDir, stateDir, membership: membership.kind };
  }
  const found = readRunFile(runDir);
  if (!found) {
    throw new Error(
      `Cannot find a speaker by ${runDir} as none has run there. Say which by --config FILE or --run-dir DIR`,
    );
  }
  return found;
}

async function status(vip: string | undefined, options: Where & { json?: boolean }): Promise<void> {
  const only = vip === undefined ? undefined : parseAddress(vip);
  const where = locate(options);
  const found = (await askStatus(where.runDir, vip)) ?? pinnedStatus(where, isDrained(where), only);
  if (!found)
    throw new Error(
      `no speaker runs on ${where.runDir}, and nothing is pinned under ${where.pinDir}: nothing is answered`,
    );
  if (only !== undefined && found.vips.length === 0 && !(options.json && found.absent)) {
    throw new Error(`${vip} is ${found.absent ?? "no VIP on this node. See: isat status"}`);
  }
  console.log(options.json ? JSON.stringify(found, null, 2) : formatStatus(found));
}

/** How long `drain` waits for the peers to take the VIPs of this node, ms. */
const DRAIN = 10_000;

async function drain(options: Where): Promise<void> {
  const where = locate(options);
  const { runDir, pinDir, membership } = where;
  let told = await tellDrain(runDir, true);
  if (!told) {
    if (membership === "static") throw new Error(UNDRAINABLE);
    writeDrained(where, true);
    const hasPins = markDrained(pinDir);
    console.log(
      hasPins
        ? "no speaker runs: the kernel now tells its peers that this node is drained, and releases what they claim"
        : "no speaker runs: the next one will own nothing until isat undrain",
    );
    return;
  }
  const count = ({ vips }: Status) => vips.filter(({ state }) => state !== "not owned").length;
  const end = performance.now() + DRAIN;
  for (let last = -1; count(told) > 0; ) {
    if (performance.now() > end)
      throw new Error(`after ${formatDuration(DRAIN)}, ${count(told)} VIPs are still here: see isat status`);
    if (count(told) !== last) console.log(`${(last = count(told))} VIPs left`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    told = (await askStatus(runDir, undefined)) ?? told;
  }
  console.log("drained: this node owns nothing, over restarts too, until isat undrain");
}

async function undrain(options: Where): Promise<void> {
  const where = locate(options);
  const told = await tellDrain(where.runDir, false);
  if (!told) writeDrained(where, false);
  console.log(told ? "this node takes its share again" : "the next speaker on this node takes its share");
}

function clean(options: Where & { goodbye: boolean }): void {
  const where = locate(options);
  const found = cleanUp(where, options.goodbye);
  console.log(
    found
      ? `detached, and removed everything under ${where.pinDir}`
      : `nothing to do: nothing is pinned under ${where.pinDir}`,
  );
}

function doctor(options: { config: string; json?: boolean }): void {
  const findings = examineMachine(options.config);
  console.log(options.json ? JSON.stringify(findings, null, 2) : formatFindings(findings));
  if (findings.some(({ level }) => level === "error")) process.exitCode = 1;
}

/** Prints the pinned maps. Nothing of a running speaker is asked: they are what its kernel goes by. */
function mapCommand(action: string, name: string | undefined, options: Where): void {
  if (action !== "dump") throw new Error(`Cannot ${action} a map. What can be done is: isat map dump [NAME]`);
  const names = MAP_NAMES.filter((each) => name === undefined || each === name);
  if (names.length === 0) throw new Error(`Cannot find a map ${name}. There are ${MAP_NAMES.join(", ")}`);
  const { pinDir } = locate(options);
  const text = readPinnedMaps(layoutFolder(pinDir), (maps) => formatMaps(maps, names));
  if (text === undefined) throw new Error(`Cannot find this isat's maps under ${pinDir}: nothing is pinned there`);
  console.log(text);
}

/** The table of the configuration's keys, read off the schema. */
function keysHelp(): string {
  const lines = Object.entries(KEYS).map(
    ([path, { about, default: value }]) => `  ${path.padEnd(26)} ${about}${value ? ` (default: ${value})` : ""}`,
  );
  return `\nThe configuration, in YAML:\n${lines.join("\n")}\n`;
}

const NO_GOODBYE = "clean without giving the VIPs to peers first, as another speaker of this node takes them";

const program = new Command("isat")
  .description(
    "A layer-2 speaker for service IPs (VIPs): the kernel answers ARP and Neighbour Discovery for those that this node owns.",
  )
  .version(VERSION)
  .showHelpAfterError("(isat --help lists the commands)");

program
  .command("run")
  .description("own and answer VIPs until SIGTERM or SIGINT; the kernel continues to answer after that")
  .option("-c, --config <file>", "the configuration", DEFAULT_CONFIG)
  .option("--clean-on-exit", "detach and remove everything at the end: to try isat out", false)
  .option("--no-goodbye", NO_GOODBYE)
  .option("--stand-by", "if another speaker serves this node, wait until it stops, and take over from it", false)
  .option("--ready <socket>", "serve readiness at this UNIX socket, for a probe")
  .addHelpText("after", keysHelp())
  .action(run);

program
  .command("controller")
  .description("give a cluster's Services their addresses until SIGTERM or SIGINT; of several, one does so at a time")
  .option("-c, --config <file>", "the configuration", DEFAULT_CONFIG)
  .option("--namespace <name>", "the namespace of the Lease by which one is chosen", "isat-system")
  .option("--metrics <address:port>", "serve Prometheus metrics there")
  .action(async (options) => (await import("./controller/controller.ts")).controller(options));

/** A command about a cluster's addresses. */
const aboutAddresses = (command: Command) =>
  command
    .option("-c, --config <file>", "the configuration", DEFAULT_CONFIG)
    .option("--kubeconfig <file>", "reach the API server by this file")
    .option("--namespace <name>", "the namespace in which the controllers run", "isat-system")
    .option("--json", "print JSON, for programs");

const ipam = aboutAddresses(program.command("ipam"))
  .description("the pools of addresses, used and free, and the Services that wait, with the reason")
  .action(async (options) => (await import("./controller/commands.ts")).showPools(options));

aboutAddresses(ipam.command("plan"))
  .description("what another configuration would change: which Services would get, keep or lose which addresses")
  .argument("<file>", "the other configuration")
  .action(async (file, _, command) =>
    (await import("./controller/commands.ts")).showPlan(file, command.optsWithGlobals()),
  );

program
  .command("import")
  .description("print the pools and annotations that say what another balancer's objects say, and what has no equal")
  .argument("<from>", "openelb")
  .option("--kubeconfig <file>", "reach the API server by this file")
  .action(async (from, options) => (await import("./controller/commands.ts")).importFrom(from, options));

/** A command about the speaker of this node. */
const aboutSpeaker = (name: string, description: string) =>
  program
    .command(name)
    .description(description)
    .option("-c, --config <file>", "find the speaker by its configuration")
    .option("--run-dir <dir>", "find the speaker by its runDir", RUN_DIR);

aboutSpeaker("status", "what this node owns and answers; with a VIP, why")
  .argument("[vip]", "one address")
  .option("--json", "print JSON, for programs")
  .action(status);

program
  .command("doctor")
  .description(
    "check this machine: what isat can use, what is in its way, and what to do; exit status 1 if there is an error",
  )
  .option("-c, --config <file>", "the configuration", DEFAULT_CONFIG)
  .option("--json", "print JSON, for programs")
  .action(doctor);

aboutSpeaker("map", "print the kernel's maps in words: map dump, or map dump NAME")
  .argument("<dump>", "dump")
  .argument("[name]", `one map: ${MAP_NAMES.join(", ")}`)
  .action(mapCommand);

aboutSpeaker("drain", "give every VIP to the other nodes and take none, over restarts too, until undrain").action(
  drain,
);
aboutSpeaker("undrain", "take a share of the VIPs again").action(undrain);
aboutSpeaker("clean", "detach from every interface and remove all pins; no speaker may be running")
  .option("--no-goodbye", NO_GOODBYE)
  .action(clean);

/** Runs one command. @throws Error whose message says in one line, or in several, what was found and what to do */
export async function main(): Promise<void> {
  await program.parseAsync();
}
