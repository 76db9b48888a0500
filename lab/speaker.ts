import { type ChildProcess, execFileSync } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { LAYOUT } from "../src/core/abi.ts";
import { type Maps, readPinnedMaps } from "../src/kernel/object.ts";
import type { Status } from "../src/report/status.ts";
import { ISAT, requireBundle } from "./bundle.ts";
import type { Namespaces } from "./namespaces.ts";
import { type LabNode, NODES } from "./topology.ts";

/** A speaker's configuration, as far as tests change it. */
export interface SpeakerSettings {
  /** Ranges, in the form that the file source takes. */
  vips: readonly string[];
  /** More top-level keys, as YAML. */
  more?: string;
  /** Top-level keys of one node only, as YAML: they replace {@link more} there. */
  moreOf?: Readonly<Record<string, string>>;
  /** The source's nodes. @default the three of the lab */
  nodes?: readonly string[];
}

/** One line of a speaker's log. */
export interface Line {
  level: string;
  msg: string;
  [key: string]: unknown;
}

/** The namespaces in which speakers run. */
export interface Site {
  namespaces: Namespaces;
  /** A host's namespace, by its short name. */
  place(host: string): string;
}

/** The speaker of one node: the bundle, run in the node's namespace. */
export class Speaker {
  readonly node: LabNode;
  readonly config: string;
  readonly pinDir: string;
  readonly runDir: string;
  readonly log: Line[] = [];
  /**
   * Variables added to this process's environment. NODE_NAME is emptied, so that the configuration alone names the
   * node.
   */
  env: NodeJS.ProcessEnv = { NODE_NAME: "" };
  /** Called with each line of the log. */
  onLine: (line: Line) => void = () => {};
  readonly #site: Site;
  #child: ChildProcess | undefined;
  #ready: Promise<void> = Promise.resolve();
  #closed: Promise<number | null> = Promise.resolve(0);

  /** @param places folders: for files, and on a bpffs */
  constructor(site: Site, node: LabNode, places: { folder: string; bpffs: string }) {
    requireBundle();
    this.#site = site;
    this.node = node;
    this.config = join(places.folder, `${node.name}.yaml`);
    this.pinDir = join(places.bpffs, node.name);
    this.runDir = join(places.folder, node.name);
  }

  get pid(): number {
    return this.#child!.pid!; // nsenter becomes the program that it runs
  }

  /** Writes a configuration whose source is the file itself. */
  configure({ vips, more = "", moreOf = {}, nodes = NODES.map(({ name }) => name) }: SpeakerSettings): void {
    const known = (name: string) => NODES.find((node) => node.name === name);
    const listed = nodes.map((name) => (known(name) ? `{ name: ${name}, address: ${known(name)!.ip} }` : name));
    const its = moreOf[this.node.name] ?? more;
    // Tests look into frames, and forge some.
    const keys = /^membership:/m.test(its) ? "" : "membership: { keys: none }";
    this.write(`node: ${this.node.name}
${its}
${keys}
source:
  kind: file
  nodes: [${listed.join(", ")}]
  vips: [${vips.map((vip) => (vip.startsWith("{") ? vip : `{ address: ${vip} }`)).join(", ")}]
`);
  }

  /**
   * Writes the configuration and renames it into place, so that no reader sees half of it. @param rest all other keys
   */
  write(rest: string): void {
    const text = `interfaces: [eth0]
pinDir: ${this.pinDir}
runDir: ${this.runDir}
${rest}`;
    writeFileSync(`${this.config}.new`, text);
    renameSync(`${this.config}.new`, this.config);
  }

  start(command: readonly string[] = ISAT): void {
    const [program, ...args] = [...command, "run", "--config", this.config];
    const child = this.#site.namespaces.spawn(this.#site.place(this.node.name), program!, args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...this.env },
    });
    this.#child = child;
    const from = this.log.length;
    this.#closed = new Promise((resolve) => child.once("close", (code) => resolve(code)));
    this.#ready = new Promise((resolve, reject) => {
      createInterface({ input: child.stderr! }).on("line", (text) => {
        const line = parse(text);
        this.log.push(line);
        this.onLine(line);
        if (line.msg === "ready") resolve();
      });
      const lastWords = () => this.log.slice(Math.max(from, this.log.length - 5)).map(({ msg }) => msg);
      child.once("error", reject);
      child.once("close", () => reject(new Error(`isat on ${this.node.name} ended: ${lastWords().join("; ")}`)));
    });
    this.#ready.catch(() => {}); // reported by ready()
  }

  /**
   * Waits until it answers for its VIPs. @throws Error with its last log lines where it ends instead, or takes too long
   */
  async ready(milliseconds = 20_000): Promise<void> {
    const late = sleep(milliseconds, undefined, { ref: false }).then(() => {
      throw new Error(`isat on ${this.node.name} was not ready in ${milliseconds} ms`);
    });
    await Promise.race([this.#ready, late]);
  }

  /** Sends a signal; waits for the end of the process where the signal ends it. @returns its exit status */
  async signal(name: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<number | null> {
    process.kill(this.pid, name);
    return name === "SIGKILL" || name === "SIGTERM" ? await this.#closed : null;
  }

  /** Kills it if it runs, and waits until it has ended. */
  async end(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#closed;
  }

  /** Resolves with the exit status when the process has ended. */
  get closed(): Promise<number | null> {
    return this.#closed;
  }

  /** Runs another `isat` command for this speaker. @returns its standard output @throws Error where it fails */
  isat(...args: string[]): string {
    const place = `--net=/run/netns/${this.#site.namespaces.full(this.#site.place(this.node.name))}`;
    const command = [place, ...ISAT, ...args, "--config", this.config];
    const env = { ...process.env, ...this.env };
    return execFileSync("nsenter", command, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env });
  }

  status(...args: string[]): Status {
    return JSON.parse(this.isat("status", "--json", ...args));
  }

  /** Reads the pinned maps. @throws Error where there are none */
  maps<T>(read: (maps: Maps) => T): T {
    const found = readPinnedMaps(join(this.pinDir, `v${LAYOUT}`), (maps) => ({ it: read(maps) }));
    if (!found) throw new Error(`Cannot find maps under ${this.pinDir}`);
    return found.it;
  }

  /** Processor time that it has used, ms. */
  get processorTime(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10; // USER_HZ is 100 on Linux
  }

  /** Resident memory, bytes. */
  get memory(): number {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))![1]) * 1024;
  }
}

/** A line that is not JSON is what `isat` prints when it cannot start. */
function parse(text: string): Line {
  try {
    return JSON.parse(text);
  } catch {
    return { level: "none", msg: text };
  }
}
