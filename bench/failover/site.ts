import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Namespaces } from "../../lab/namespaces.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { CLIENT, type LabNode, NODES, nodeByMac, PREFIX_LENGTH } from "../../lab/topology.ts";
import { Trio } from "../../lab/trio/trio.ts";
import { whoHas } from "../../lab/who-has.ts";
import { ARP_REPLY, decodeArp, formatMac } from "../../src/core/arp.ts";
import { PeerCluster } from "./peer-cluster.ts";

/** Limit for each VIP to be answered by one node, ms. */
const PATIENCE = 90_000;
/** Interval between two questions for all VIPs, ms. */
const SWEEP = 80;
/** The answers must stay the same for this long, ms: longer than isat's hand-over, and VRRP's dead interval. */
const CALM = { isat: 1_200, peer: 5_000 };

/** The speaker of one node, isat or another. */
export interface Member {
  readonly node: LabNode;
  start(): void;
  /** Resolves when it answers for its VIPs, as far as it reports that. */
  ready(): Promise<void>;
  signal(name: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<void>;
  /** Removes everything that a reboot would remove. The speaker must not run. */
  reboot(): void;
  /** Processor time of its processes, ms. */
  readonly processorTime: number;
  /** Resident memory, bytes. */
  readonly memory: number;
}

/** The kind of speaker that is measured. */
export type Subject = { name: string; kind: "isat"; hold?: string; interval?: string } | Peer;

/** Another speaker: a command of sh for each node. */
export interface Peer {
  name: string;
  kind: "peer";
  command: string;
  /** It is MetalLB's, and needs a cluster. */
  cluster?: boolean;
}

function keysOf({ hold, interval }: Extract<Subject, { kind: "isat" }>): string {
  const membership = interval ? `membership: { keys: none, interval: ${interval} }` : "";
  return [hold ? `hold: ${hold}` : "", membership].join("\n").trim();
}

/** Three nodes with a speaker each, and a client that watches, on one bridge. isat and others get the same place. */
export class Site implements AsyncDisposable {
  readonly subject: Subject;
  readonly vips: readonly string[];
  readonly trio: Trio;
  readonly members: readonly Member[];
  cluster: PeerCluster | undefined;
  /** The number of events so far. Each has another node as its victim. */
  turn = 0;

  /** @param name begins the names of its namespaces @param vips a range without gaps, unless the subject is isat */
  constructor(namespaces: Namespaces, name: string, subject: Subject, vips: readonly string[]) {
    this.subject = subject;
    this.vips = vips;
    this.trio = new Trio(namespaces, name, { vips, more: subject.kind === "isat" ? keysOf(subject) : "" });
    this.members =
      subject.kind === "isat"
        ? this.trio.speakers.map((speaker) => new IsatMember(speaker))
        : NODES.map((node) => new PeerMember(this, node, subject.command));
  }

  member({ name }: LabNode): Member {
    return this.members.find(({ node }) => node.name === name)!;
  }

  /** isat's own speaker on the node. */
  speaker({ name }: LabNode): Speaker {
    return this.trio.speakers.find(({ node }) => node.name === name)!;
  }

  async start(): Promise<void> {
    if (this.subject.kind === "peer" && this.subject.cluster)
      this.cluster = await PeerCluster.start(this.trio, this.vips);
    for (const member of this.members) member.start();
    await Promise.all(this.members.map((member) => member.ready()));
    await this.settle();
  }

  /** Waits until each VIP has been answered by one and the same node for a while. @returns the nodes that answer */
  async settle(): Promise<LabNode[]> {
    using port = new PacketPort(this.trio.namespaces.full(this.trio.place(CLIENT.name)), "eth0");
    let before = "";
    let unsettled: string[] = [];
    let changed = performance.now();
    for (const end = changed + PATIENCE; performance.now() < end; ) {
      const answerers = await this.#sweep(port);
      const found = JSON.stringify([...answerers.values()].map((macs) => [...macs].sort()));
      unsettled = [...answerers].filter(([, macs]) => macs.size !== 1).map(([vip]) => vip);
      if (unsettled.length > 0 || found !== before) changed = performance.now();
      before = found;
      if (performance.now() - changed < CALM[this.subject.kind]) continue;
      const macs = new Set([...answerers.values()].flatMap((macs) => [...macs]));
      return [...macs].sort().flatMap((mac) => nodeByMac(mac) ?? []);
    }
    throw new Error(`${unsettled.length} of ${this.vips.length} VIPs have no one answerer after ${PATIENCE / 1000} s`);
  }

  /** Asks once for each VIP. @returns the MACs that answer */
  async #sweep(port: PacketPort): Promise<Map<string, Set<string>>> {
    const answerers = new Map(this.vips.map((vip) => [vip, new Set<string>()]));
    for (const vip of this.vips) port.send(whoHas(vip, CLIENT));
    await sleep(SWEEP);
    for (let frame = port.receive(); frame; frame = port.receive()) {
      const arp = decodeArp(frame);
      if (arp?.op === ARP_REPLY) answerers.get(arp.spa.join("."))?.add(formatMac(arp.sha));
    }
    return answerers;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const member of this.members) if (member instanceof PeerMember) await member.signal("SIGKILL");
    await this.cluster?.[Symbol.asyncDispose]();
    await this.trio[Symbol.asyncDispose]();
  }
}

class IsatMember implements Member {
  readonly node: LabNode;
  readonly #speaker: Speaker;

  constructor(speaker: Speaker) {
    this.#speaker = speaker;
    this.node = speaker.node;
  }

  start(): void {
    this.#speaker.start();
  }

  ready(): Promise<void> {
    return this.#speaker.ready();
  }

  async signal(name: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<void> {
    await this.#speaker.signal(name);
  }

  reboot(): void {
    this.#speaker.isat("clean");
  }

  get processorTime(): number {
    return this.#speaker.processorTime;
  }

  get memory(): number {
    return this.#speaker.memory;
  }
}

/** USER_HZ is 100 on Linux, and a page has 4096 bytes on the machines that this runs on. */
const TICK_MS = 10;
const PAGE = 4096;
/** Limit for the processes to end, ms. */
const END = 10_000;

class PeerMember implements Member {
  readonly node: LabNode;
  readonly #site: Site;
  readonly #command: string;
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #said = "";

  constructor(site: Site, node: LabNode, command: string) {
    this.#site = site;
    this.node = node;
    this.#command = command;
    this.#folder = join(site.trio.folder, `peer-${node.name}`);
    mkdirSync(this.#folder);
  }

  start(): void {
    const { trio, vips } = this.#site;
    const env = {
      ...process.env,
      ISAT_BENCH_NODE: this.node.name,
      ISAT_BENCH_ADDRESS: this.node.ip,
      ISAT_BENCH_PEERS: NODES.filter((node) => node !== this.node)
        .map(({ ip }) => ip)
        .join(" "),
      ISAT_BENCH_INTERFACE: "eth0",
      ISAT_BENCH_FIRST: vips[0],
      ISAT_BENCH_LAST: vips.at(-1),
      ISAT_BENCH_FOLDER: this.#folder,
      ...this.#site.cluster?.environment(this.node),
    };
    const child = trio.namespaces.spawn(trio.place(this.node.name), "sh", ["-c", this.#command], {
      stdio: ["ignore", "pipe", "pipe"],
      env,
    });
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on("data", (chunk) => (this.#said = `${this.#said}${chunk}`.slice(-1000)));
    }
    this.#child = child;
  }

  /** Only its answers show that it is ready. But if it has ended at once, it will never be. */
  async ready(): Promise<void> {
    await sleep(500);
    if (this.#child?.exitCode != null) throw new Error(`it has ended. ${this.#said}`);
  }

  async signal(name: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): Promise<void> {
    // Only the first process gets SIGTERM, as from an init system. All processes die at the same time, so that none
    // sees another one die and cleans up.
    if (name === "SIGKILL") this.#send("SIGSTOP", this.#pids());
    this.#send(name, name === "SIGTERM" ? [this.#child!.pid!] : this.#pids());
    if (name !== "SIGKILL" && name !== "SIGTERM") return;
    for (const end = performance.now() + END; this.#pids().length > 0 && performance.now() < end; ) await sleep(5);
  }

  reboot(): void {
    const { trio } = this.#site;
    const address = `${this.node.ip}/${PREFIX_LENGTH}`;
    trio.namespaces.ip(trio.place(this.node.name), ["addr flush dev eth0", `addr add ${address} dev eth0`]);
  }

  #send(name: NodeJS.Signals, pids: readonly number[]): void {
    for (const pid of pids) {
      try {
        process.kill(pid, name);
      } catch {
        // it has ended by itself
      }
    }
  }

  /** All processes on the node: other speakers are often several processes, in groups of their own. */
  #pids(): number[] {
    const { trio } = this.#site;
    return trio.namespaces.pids(trio.place(this.node.name));
  }

  /** For each process, the fields of proc_pid_stat(5) behind the name. */
  #processes(): string[][] {
    return this.#pids().flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ")];
      } catch {
        return []; // it has ended
      }
    });
  }

  get processorTime(): number {
    return this.#processes().reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0) * TICK_MS;
  }

  get memory(): number {
    return this.#processes().reduce((sum, fields) => sum + Number(fields[21]), 0) * PAGE;
  }
}
