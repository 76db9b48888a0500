import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { inNamespace, type Namespaces } from "../lab/namespaces.ts";
import { type HookKind, Hooks, hasTcx } from "../src/kernel/hooks.ts";
import type { Fd } from "../src/kernel/libbpf.ts";
import {
  CLIENT_INTERFACE,
  CLIENT_IP,
  CLIENT_MAC,
  NODE_INTERFACE,
  NODE_IP,
  NODE_MAC,
  vipBytes,
  vipRange,
} from "./addresses.ts";
import type { BenchPrograms } from "./object.ts";
import { Prober } from "./prober.ts";
import { Speaker } from "./speaker.ts";
import { ifindexOf } from "./system.ts";

/** How long a responder may take to answer for all of its VIPs, ms. */
const PATIENCE = 30_000;
/** Between being let run and being measured, ms: what piled up meanwhile is done. */
const SETTLE = 60;

/**
 * Who answers on a stand; `nobody` drops every frame at once where the others begin to read it, `empty` has a program that
 * lets everything pass, `bare` one that answers everything and does nothing else.
 */
export type Responder =
  | { name: string; kind: "nobody" | "kernel" | "bare" }
  | { name: string; kind: "empty"; hook: HookKind }
  | { name: string; kind: "isat"; hook: HookKind }
  | { name: string; kind: "peer"; command: string };

export const NOBODY: Responder = { name: "nobody", kind: "nobody" };
export const KERNEL: Responder = { name: "kernel", kind: "kernel" };
export const BARE: Responder = { name: "bare program", kind: "bare" };

/** isat on each hook that this kernel has. */
export function isatResponders(): Responder[] {
  const hooks: HookKind[] = hasTcx() ? ["tcx", "tc", "xdp"] : ["tc", "xdp"];
  return hooks.map((hook) => ({ name: `isat ${hook}`, kind: "isat", hook }));
}

/** What all stands share. */
export interface Ground {
  namespaces: Namespaces;
  bench: BenchPrograms;
  folder: string;
  bpffs: string;
}

let wires = 0;

/** A node and a client in namespaces of their own, joined by a veth pair. Short names. */
export function layWire(namespaces: Namespaces): { node: string; client: string } {
  const id = `${++wires}`;
  const [node, client] = [`n${id}`, `c${id}`];
  for (const name of [node, client]) namespaces.add(name);
  namespaces.link(
    { namespace: node, name: NODE_INTERFACE, mac: NODE_MAC },
    { namespace: client, name: CLIENT_INTERFACE, mac: CLIENT_MAC },
  );
  // Each knows the other's MAC for good: nothing but what is measured is asked.
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

/** A node and a client on one wire (a veth pair), and one responder on the node. It runs only while it is measured. */
export class Stand {
  readonly responder: Responder;
  readonly vips: number;
  /** The client's namespace, by its full name. */
  readonly client: string;
  /** The node's, by its short name. */
  readonly node: string;
  readonly prober: Prober;
  readonly #shortClient: string;
  readonly #ground: Ground;
  /** By namespace: pins are named by ifindexes, which the two ends may share. */
  readonly #hooks: ReadonlyMap<string, Hooks>;
  #speaker: Speaker | undefined;
  #peer: ChildProcess | undefined;
  /** The last words of a peer. */
  #said = "";

  private constructor(ground: Ground, responder: Responder, vips: number) {
    this.#ground = ground;
    this.responder = responder;
    this.vips = vips;
    const { node, client } = layWire(ground.namespaces);
    this.node = node;
    this.#shortClient = client;
    this.client = ground.namespaces.full(client);
    this.#hooks = new Map([node, client].map((name) => [name, new Hooks(`${ground.bpffs}/hooks-${name}`)]));
    this.#attach(client, CLIENT_INTERFACE, hasTcx() ? "tcx" : "tc", ground.bench.programs.bench_sink);
    this.prober = new Prober(this.client);
  }

  /** Builds the wire, starts the responder, and waits until it answers for its first and last VIP. */
  static async start(ground: Ground, responder: Responder, vips: number): Promise<Stand> {
    const stand = new Stand(ground, responder, vips);
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
      this.#hooks.get(namespace)!.ensure(ifindexOf(name), { kind, direction: "ingress" }, program, () => true);
    });
  }

  async #begin(): Promise<void> {
    const { namespaces, bench } = this.#ground;
    const { first, last } = vipRange(this.vips);
    const { responder } = this;
    if (responder.kind === "nobody" || responder.kind === "bare") {
      const program = responder.kind === "bare" ? bench.programs.bench_answer : bench.programs.bench_drop;
      this.#attach(this.node, NODE_INTERFACE, hasTcx() ? "tcx" : "tc", program);
    } else if (responder.kind === "empty") {
      const isXdp = responder.hook === "xdp";
      this.#attach(this.node, NODE_INTERFACE, responder.hook, bench.programs[isXdp ? "bench_xdp_pass" : "bench_pass"]);
      this.countAtXdp(false);
    } else if (responder.kind === "kernel") {
      // ARP asks the routing table. Each address's own entry there is what is added: of addresses, the kernel keeps a
      // list that it walks for each new one, and 60,000 take minutes.
      const addresses = Array.from({ length: this.vips }, (_, i) => vipBytes(i).join("."));
      const line = (vip: string) =>
        this.vips === 1 ? `addr add ${vip}/32 dev ${NODE_INTERFACE}` : `route add local ${vip}/32 dev lo`;
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
      while (this.prober.ask(vipBytes(place), 100) === undefined) {
        if (performance.now() > end) throw new Error(`no answer within ${PATIENCE / 1000} s. ${this.#said}`);
        if (this.#peer?.exitCode != null) throw new Error(`it has ended. ${this.#said}`);
        await sleep(50);
      }
    }
  }

  /** Whether answers that XDP sends are counted and dropped by XDP, or passed on to the client's other ears. */
  countAtXdp(isCounted: boolean): void {
    if (!("hook" in this.responder) || this.responder.hook !== "xdp") return;
    const { bench_xdp_sink, bench_xdp_pass } = this.#ground.bench.programs;
    this.#attach(this.#shortClient, CLIENT_INTERFACE, "xdp", isCounted ? bench_xdp_sink : bench_xdp_pass);
  }

  /** Closes the prober: its ear and timestamps would be a part of what each frame costs, on every stand. */
  stopProbing(): void {
    this.prober[Symbol.dispose]();
  }

  /** Processes on the node. */
  #pids(): number[] {
    if (this.#speaker) return [this.#speaker.pid];
    return this.#peer ? [this.#peer.pid!, ...descendants(this.#peer.pid!)] : [];
  }

  /** Nanoseconds of processor time that the node's processes have had. */
  processTime(): number {
    return this.#pids()
      .flatMap((pid) => threads(pid))
      .reduce((sum, path) => sum + schedulerTime(path), 0);
  }

  /** Lets the responder run while `body` measures it, and stops it again. */
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
        // it has ended, which the measurement shows
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

/** Nanoseconds that a thread has run (proc_pid_schedstat); 0 where it has ended. */
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
