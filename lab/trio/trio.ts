import { type ChildProcess, execFileSync } from "node:child_process";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { LAYOUT } from "../../src/core/abi.ts";
import { type Maps, readPinnedMaps } from "../../src/kernel/object.ts";
import type { Status } from "../../src/report/status.ts";
import { ISAT, requireBundle } from "../bundle.ts";
import type { Namespaces } from "../namespaces.ts";
import { CLIENT, type LabNode, NODES, PREFIX_LENGTH } from "../topology.ts";
import { type Report, Watch } from "../watch/watch.ts";

/** What differs from one trio to the next. */
export interface TrioSettings {
  /** Ranges, as a file takes them. */
  vips: readonly string[];
  /** More top-level keys, as YAML. */
  more?: string;
  /** Of this node only, as YAML: instead of {@link more}. */
  moreOf?: Readonly<Record<string, string>>;
  /** Nodes of the source; the three by default. */
  nodes?: readonly string[];
}

/** One line of a speaker's log. */
export interface Line {
  level: string;
  msg: string;
  [key: string]: unknown;
}

/** Where speakers stand. */
export interface Site {
  namespaces: Namespaces;
  /** A host's namespace, by its short name. */
  place(host: string): string;
}

/** A node's speaker: the bundle, in the node's namespace. */
export class Speaker {
  readonly node: LabNode;
  readonly config: string;
  readonly pinDir: string;
  readonly runDir: string;
  readonly log: Line[] = [];
  /** What its environment has besides the machine's; NODE_NAME must not come from there. */
  env: NodeJS.ProcessEnv = { NODE_NAME: "" };
  readonly #site: Site;
  #child: ChildProcess | undefined;
  #ready: Promise<void> = Promise.resolve();
  #closed: Promise<number | null> = Promise.resolve(0);

  constructor(site: Site, node: LabNode, places: { folder: string; bpffs: string }) {
    this.#site = site;
    this.node = node;
    this.config = join(places.folder, `${node.name}.yaml`);
    this.pinDir = join(places.bpffs, node.name);
    this.runDir = join(places.folder, node.name);
  }

  get pid(): number {
    return this.#child!.pid!; // nsenter becomes the program that it runs
  }

  /** With a source that is a file. */
  configure({ vips, more = "", moreOf = {}, nodes = NODES.map(({ name }) => name) }: TrioSettings): void {
    const known = (name: string) => NODES.find((node) => node.name === name);
    const listed = nodes.map((name) => (known(name) ? `{ name: ${name}, address: ${known(name)!.ip} }` : name));
    this.write(`node: ${this.node.name}
${moreOf[this.node.name] ?? more}
source:
  kind: file
  nodes: [${listed.join(", ")}]
  vips: [${vips.map((vip) => (vip.startsWith("{") ? vip : `{ address: ${vip} }`)).join(", ")}]
`);
  }

  /** Writes the file and renames it into place, as a configuration is replaced. @param rest all keys but those of its place */
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
        if (line.msg === "ready") resolve();
      });
      const words = () => this.log.slice(Math.max(from, this.log.length - 5)).map(({ msg }) => msg);
      child.once("close", () => reject(new Error(`isat on ${this.node.name} ended: ${words().join("; ")}`)));
    });
    this.#ready.catch(() => {}); // told to whoever waits for it
  }

  /** Waits until it has its share. @throws Error with its last words where it ends instead, or takes too long */
  async ready(milliseconds = 20_000): Promise<void> {
    const late = sleep(milliseconds, undefined, { ref: false }).then(() => {
      throw new Error(`isat on ${this.node.name} was not ready in ${milliseconds} ms`);
    });
    await Promise.race([this.#ready, late]);
  }

  /** Sends a signal, and for those that end it waits for the end. @returns its exit status */
  async signal(name: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<number | null> {
    process.kill(this.pid, name);
    return name === "SIGKILL" || name === "SIGTERM" ? await this.#closed : null;
  }

  get closed(): Promise<number | null> {
    return this.#closed;
  }

  /** Runs another command of `isat` for this speaker; its standard output. @throws Error where it fails */
  isat(...args: string[]): string {
    const place = `--net=/run/netns/${this.#site.namespaces.full(this.#site.place(this.node.name))}`;
    const command = [place, ...ISAT, ...args, "--config", this.config];
    const env = { ...process.env, ...this.env };
    return execFileSync("nsenter", command, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env });
  }

  status(...args: string[]): Status {
    return JSON.parse(this.isat("status", "--json", ...args));
  }

  /** Reads the pinned maps. @throws Error where they are not there */
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

function parse(text: string): Line {
  try {
    return JSON.parse(text);
  } catch {
    return { level: "none", msg: text };
  }
}

/** Three nodes with a speaker each, and a client that watches, on one real Linux bridge. */
export class Trio implements AsyncDisposable {
  readonly namespaces: Namespaces;
  readonly speakers: readonly Speaker[];
  readonly folder: string;
  readonly #name: string;
  #settings: TrioSettings;

  /** @param name tells it from others in the same `namespaces` */
  constructor(namespaces: Namespaces, name: string, settings: TrioSettings) {
    requireBundle();
    this.namespaces = namespaces;
    this.#name = name;
    this.#settings = settings;
    this.folder = namespaces.folder();
    const places = { folder: this.folder, bpffs: namespaces.bpffs() };
    namespaces.add(this.place("switch"));
    namespaces.ip(this.place("switch"), ["link add br0 type bridge", "link set br0 up"]);
    for (const host of [...NODES, CLIENT]) {
      namespaces.add(this.place(host.name));
      for (const scope of ["all", "default"])
        namespaces.sysctl(this.place(host.name), `net/ipv4/conf/${scope}/arp_ignore`, 0);
      const port = { namespace: this.place("switch"), name: `p${host.port}` };
      namespaces.link({ namespace: this.place(host.name), name: "eth0", mac: host.mac }, port);
      namespaces.ip(this.place("switch"), [`link set p${host.port} master br0`]);
      namespaces.ip(this.place(host.name), [`addr add ${host.ip}/${PREFIX_LENGTH} dev eth0`]);
    }
    this.speakers = NODES.map((node) => new Speaker(this, node, places));
    this.configure({});
  }

  /** A host's namespace, by its short name. */
  place(host: string): string {
    return `${this.#name}-${host}`;
  }

  configure(settings: Partial<TrioSettings>): void {
    this.#settings = { ...this.#settings, ...settings };
    for (const speaker of this.speakers) speaker.configure(this.#settings);
  }

  /** Starts all three, and waits until each has its share. */
  async start(): Promise<void> {
    for (const speaker of this.speakers) speaker.start();
    await Promise.all(this.speakers.map((speaker) => speaker.ready()));
  }

  /** A node's link to the switch goes down, or comes up. */
  link(node: LabNode, state: "up" | "down"): void {
    this.namespaces.ip(this.place("switch"), [`link set p${node.port} ${state}`]);
  }

  /** What goes between two nodes' ports is lost, or is no longer: a switch that is cut in two. */
  isolate(node: LabNode, isIsolated: boolean): void {
    const bridge = isIsolated ? "nomaster" : "master br0";
    this.namespaces.ip(this.place("switch"), [`link set p${node.port} ${bridge}`]);
  }

  /** Asks for every VIP from the client, each `interval` ms, until it is stopped. */
  watch(vips: readonly string[], interval = 10): Promise<Watch> {
    return Watch.start(this.namespaces, this.place(CLIENT.name), vips, interval);
  }

  /** Runs `body` while the client watches. */
  async watched(vips: readonly string[], body: () => Promise<void>, interval = 10): Promise<Report> {
    await using watch = await this.watch(vips, interval);
    await body();
    return await watch.stop();
  }

  /** The node that owns the VIP, by the kernels' maps; undefined where none or more than one does. */
  owners(vip: string): string[] {
    return this.speakers.flatMap((speaker) => {
      const owns = speaker.status().vips.some(({ address, state }) => address === vip && state === "owned");
      return owns ? [speaker.node.name] : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const speaker of this.speakers) {
      try {
        process.kill(speaker.pid, "SIGKILL");
      } catch {
        // it never ran, or has ended
      }
    }
    await Promise.all(this.speakers.map(({ closed }) => closed));
    for (const host of ["switch", ...NODES.map(({ name }) => name), CLIENT.name])
      this.namespaces.remove(this.place(host));
  }
}
