import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { inNamespace, type Namespaces } from "../lab/namespaces.ts";
import { formatAddress } from "../src/core/address.ts";
import { type HookKind, Hooks, hasTcx } from "../src/kernel/hooks.ts";
import type { Fd } from "../src/kernel/libbpf.ts";
import {
  CLIENT_INTERFACE,
  CLIENT_IP,
  CLIENT_MAC,
  type Family,
  NODE_INTERFACE,
  NODE_IP,
  NODE_MAC,
  vipAt,
  vipRange,
} from "./addresses.ts";
import type { BenchPrograms } from "./object.ts";
import { Prober } from "./prober.ts";
import { Speaker } from "./speaker.ts";
import { ifindexOf } from "./system.ts";

/** Limit for a responder to answer for all of its VIPs, ms. */
const PATIENCE = 30_000;
/** Pause before a resumed responder is measured, ms, in which it does the work that has piled up. */
const SETTLE = 60;

/**
 * The responder of a stand. `nobody` drops every frame at the hook, `empty` has a program that lets everything pass,
 * and `bare` has a program that answers every request and does nothing else.
 */
export type Responder =
  | { name: string; kind: "nobody" | "kernel" | "bare" }
  | { name: string; kind: "empty"; hook: HookKind }
  | { name: string; kind: "isat"; hook: HookKind }
  | { name: string; kind: "peer"; command: string; cluster?: boolean };

export const NOBODY: Responder = { name: "nobody", kind: "nobody" };
export const KERNEL: Responder = { name: "kernel", kind: "kernel" };
export const BARE: Responder = { name: "bare program", kind: "bare" };

/** isat, with each hook that this kernel has. */
export function isatResponders(): Responder[] {
  const hooks: HookKind[] = hasTcx() ? ["tcx", "tc", "xdp"] : ["tc", "xdp"];
  return hooks.map((hook) => ({ name: `isat ${hook}`, kind: "isat", hook }));
}

/** The things that all stands share. */
export interface Ground {
  namespaces: Namespaces;
  bench: BenchPrograms;
  folder: string;
  bpffs: string;
}

let wires = 0;

/** Makes a namespace for a node and one for a client, joined by a veth pair. @returns their short names */
export function layWire(namespaces: Namespaces, family: Family = "IPv4"): { node: string; client: string } {
  const id = `${++wires}`;
  const [node, client] = [`n${id}`, `c${id}`];
  for (const name of [node, client]) {
    namespaces.add(name);
    if (family === "IPv6") enableIPv6(namespaces, name);
  }
  namespaces.link(
    { namespace: node, name: NODE_INTERFACE, mac: NODE_MAC },
    { namespace: client, name: CLIENT_INTERFACE, mac: CLIENT_MAC },
  );
  // Permanent neighbour entries: only the requests that are measured are on the wire.
  namespaces.ip(node, [
    `addr add ${NODE_IP}/16 dev ${NODE_INTERFACE}`,
    `neigh add ${CLIENT_IP} lladdr ${CLIENT_MAC} dev ${NODE_INTERFACE} nud permanent`,
  ]);
  namespaces.ip(client, [
    `addr add ${CLIENT_IP}/16 dev ${CLIENT_INTERFACE}`,
    `neigh add ${NODE_IP} lladdr ${NODE_MAC} dev ${CLIENT_INTERFACE} nud permanent`,
  ]);
  return { node, client };
}

/** Lets a namespace's interfaces have IPv6, with link-local addresses that count at once. */
function enableIPv6(namespaces: Namespaces, name: string): void {
  for (const which of ["all", "default"]) {
    namespaces.sysctl(name, `net/ipv6/conf/${which}/accept_dad`, 0);
    namespaces.sysctl(name, `net/ipv6/conf/${which}/disable_ipv6`, 0);
  }
}

/** A node and a client, joined by a veth pair, and a responder on the node, which runs only while it is measured. */
export class Stand {
  readonly responder: Responder;
  readonly vips: number;
  readonly family: Family;
  /** The full name of the client's namespace. */
  readonly client: string;
  /** The short name of the node's namespace. */
  readonly node: string;
  readonly prober: Prober;
  readonly #shortClient: string;
  readonly #ground: Ground;
  /** Hooks by namespace: pins are named by ifindex, which may be the same at both ends. */
  readonly #hooks: ReadonlyMap<string, Hooks>;
  #speaker: Speaker | undefined;
  #peer: ChildProcess | undefined;
  /** The end of a peer's output. */
  #said = "";

  private constructor(ground: Ground, responder: Responder, vips: number, family: Family) {
    this.#ground = ground;
    this.responder = responder;
    this.vips = vips;
    this.family = family;
    const { node, client } = layWire(ground.namespaces, family);
    this.node = node;
    this.#shortClient = client;
    this.client = ground.namespaces.full(client);
    this.#hooks = new Map([node, client].map((name) => [name, new Hooks(`${ground.bpffs}/hooks-${name}`, () => true)]));
    this.#attach(client, CLIENT_INTERFACE, hasTcx() ? "tcx" : "tc", ground.bench.programs.bench_sink);
    this.prober = new Prober(this.client, family);
  }

  /** Builds a stand, and waits until its responder answers for its first and its last VIP. */
  static async start(ground: Ground, responder: Responder, vips: number, family: Family = "IPv4"): Promise<Stand> {
    const stand = new Stand(ground, responder, vips, family);
    try {
      await stand.#begin();
      if (responder.kind !== "nobody" && responder.kind !== "empty") await stand.#answers();
    } catch (error) {
      stand.stop();
      throw new Error(`${responder.name} with ${vips} VIPs: ${(error as Error).message}`);
    }
    stand.freeze();
    return stand;
  }

  #attach(namespace: string, name: string, kind: HookKind, program: Fd): void {
    inNamespace(this.#ground.namespaces.full(namespace), () => {
      this.#hooks.get(namespace)!.ensure(ifindexOf(name), { kind, direction: "ingress" }, program);
    });
  }

  async #begin(): Promise<void> {
    const { namespaces, bench } = this.#ground;
    const { first, last } = vipRange(this.vips, this.family);
    const { responder } = this;
    if (responder.kind === "nobody" || responder.kind === "bare") {
      const program = responder.kind === "bare" ? bench.programs.bench_answer : bench.programs.bench_drop;
      this.#attach(this.node, NODE_INTERFACE, hasTcx() ? "tcx" : "tc", program);
    } else if (responder.kind === "empty") {
      const isXdp = responder.hook === "xdp";
      this.#attach(this.node, NODE_INTERFACE, responder.hook, bench.programs[isXdp ? "bench_xdp_pass" : "bench_pass"]);
      this.countAtXdp(false);
    } else if (responder.kind === "kernel") {
      // The kernel answers ARP by its routing table, so a route for each VIP is enough. To add 60,000 addresses would
      // take minutes, as the kernel walks the list of addresses for each new one. IPv6 is answered by addresses only.
      const addresses = Array.from({ length: this.vips }, (_, i) => formatAddress(vipAt(i, this.family)));
      const line = (vip: string) => {
        if (this.family === "IPv6") return `addr add ${vip}/128 dev ${NODE_INTERFACE} nodad`;
        return this.vips === 1 ? `addr add ${vip}/32 dev ${NODE_INTERFACE}` : `route add local ${vip}/32 dev lo`;
      };
      namespaces.ip(this.node, addresses.map(line));
    } else if (responder.kind === "isat") {
      if (responder.hook === "xdp") this.countAtXdp(false);
      this.#speaker = new Speaker(namespaces, this.node, this.#ground);
      this.#speaker.configure({ hook: responder.hook, vips: [`${first}-${last}`] });
      this.#speaker.start();
      await this.#speaker.ready();
    } else if (responder.kind === "peer") {
      const env = {
        ...process.env,
        ISAT_BENCH_INTERFACE: NODE_INTERFACE,
        ISAT_BENCH_FIRST: first,
        ISAT_BENCH_LAST: last,
      };
      const peer = namespaces.spawn(this.node, "sh", ["-c", responder.command], {
        stdio: ["ignore", "pipe", "pipe"],
        env,
      });
      for (const stream of [peer.stdout!, peer.stderr!]) {
        stream.on("data", (chunk) => (this.#said = `${this.#said}${chunk}`.slice(-500)));
      }
      this.#peer = peer;
    }
  }

  async #answers(): Promise<void> {
    const end = performance.now() + PATIENCE;
    for (const place of [0, this.vips - 1]) {
      while (this.prober.ask(vipAt(place, this.family), 100) === undefined) {
        if (performance.now() > end) throw new Error(`no answer within ${PATIENCE / 1000} s. ${this.#said}`);
        if (this.#peer?.exitCode != null) throw new Error(`it has ended. ${this.#said}`);
        await sleep(50);
      }
    }
  }

  /** Lets the client's XDP program count and drop the answers that XDP sends, or pass them on to the prober. */
  countAtXdp(isCounted: boolean): void {
    if (!("hook" in this.responder) || this.responder.hook !== "xdp") return;
    const { bench_xdp_sink, bench_xdp_pass } = this.#ground.bench.programs;
    this.#attach(this.#shortClient, CLIENT_INTERFACE, "xdp", isCounted ? bench_xdp_sink : bench_xdp_pass);
  }

  /** Closes the prober, whose socket and timestamps would add to the cost of each frame on every stand. */
  stopProbing(): void {
    this.prober[Symbol.dispose]();
  }

  /** The responder's processes. */
  #pids(): number[] {
    if (this.#speaker) return [this.#speaker.pid];
    return this.#peer ? [this.#peer.pid!, ...descendants(this.#peer.pid!)] : [];
  }

  /** Processor time of the responder's processes, ns. */
  processTime(): number {
    return this.#pids()
      .flatMap((pid) => threads(pid))
      .reduce((sum, path) => sum + schedulerTime(path), 0);
  }

  /** Resumes the responder while `body` measures it. */
  async measure<T>(body: () => T | Promise<T>): Promise<T> {
    this.#signal("SIGCONT");
    try {
      await sleep(SETTLE);
      return await body();
    } finally {
      this.freeze();
    }
  }

  freeze(): void {
    this.#signal("SIGSTOP");
  }

  #signal(signal: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    for (const pid of this.#pids()) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended, and the measurement will show that
      }
    }
  }

  stop(): void {
    this.#signal("SIGKILL");
    this.stopProbing();
  }
}

const threads = (pid: number): string[] => {
  const folder = `/proc/${pid}/task`;
  return existsSync(folder) ? readdirSync(folder).map((name) => `${folder}/${name}`) : [];
};

/** Time that a thread has run (proc_pid_schedstat), ns; 0 if it has ended. */
function schedulerTime(path: string): number {
  try {
    return Number(readFileSync(`${path}/schedstat`, "utf8").split(" ")[0]);
  } catch {
    return 0;
  }
}

function descendants(pid: number): number[] {
  const children = threads(pid).flatMap((path) => {
    try {
      return readFileSync(`${path}/children`, "utf8").split(" ").filter(Boolean).map(Number);
    } catch {
      return [];
    }
  });
  return children.flatMap((child) => [child, ...descendants(child)]);
}
