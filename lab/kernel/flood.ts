import type { ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { must, until } from "./process.ts";
import { CLIENT_IP, CLIENT_MAC, type Rig, VIP } from "./rig.ts";

/** The counts of a finished flood. */
export interface Toll {
  /** Requests sent, as trafgen counts them. */
  sent: number;
  /** Frames that left the client, by its interface's counter. Nothing else sends there. */
  left: number;
  /** Requests a second, on average. */
  rate: number;
  /** ARP replies that reached the client, counted by pass.bpf.c at its ingress. */
  came: number;
}

/**
 * The gap between requests: about 20,000 a second on an idle machine, as trafgen sleeps some 25 us longer. (Its --rate
 * would send each second's requests at once, and then rest.)
 */
const GAP = "25us";

/** Sends who-has for the VIP from the client at a steady rate, until it is stopped. */
export class Flood implements AsyncDisposable {
  readonly #rig: Rig;
  readonly #programs: string;
  readonly #child: ChildProcess;
  readonly #before: Counters;
  readonly #began = performance.now();
  readonly #closed: Promise<unknown>;
  #output = "";

  private constructor(rig: Rig, programs: string, child: ChildProcess, before: Counters) {
    this.#rig = rig;
    this.#programs = programs;
    this.#child = child;
    this.#before = before;
    this.#closed = new Promise((resolve) => child.once("close", resolve));
    for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (chunk) => (this.#output += chunk));
  }

  /** Attaches the counter of replies to the client, as a clsact filter. Call it once. */
  static async prepare(rig: Rig, programs: string): Promise<void> {
    await rig.must("client", "tc", "qdisc", "add", "dev", "c0", "clsact");
    const program = ["bpf", "da", "pinned", join(programs, "count_replies")];
    await rig.must("client", "tc", "filter", "add", "dev", "c0", "ingress", ...program);
  }

  /** Starts a flood. @param programs the folder of pass.bpf.c's pins */
  static async start(rig: Rig, programs: string): Promise<Flood> {
    const file = join(rig.folder, "flood.cfg");
    const arp = `op=request, smac=${CLIENT_MAC}, sip=${CLIENT_IP}, tmac=00:00:00:00:00:00, tip=${VIP}`;
    writeFileSync(file, `{ eth(da=ff:ff:ff:ff:ff:ff, sa=${CLIENT_MAC}), arp(${arp}), fill(0, 18) }\n`);
    const before = await counters(rig, programs);
    const args = ["--dev", "c0", "--conf", file, "--gap", GAP, "--cpus", "1", "--no-sock-mem"];
    // trafgen sends from a child process. A process group of their own lets one signal end both.
    const child = rig.namespaces.spawn("client", "trafgen", args, {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const flood = new Flood(rig, programs, child, before);
    await until("trafgen sends", async () => (await counters(rig, programs)).left > before.left + 1000);
    return flood;
  }

  /** Stops the flood, and waits until the counters no longer change. */
  async stop(): Promise<Toll> {
    await this[Symbol.asyncDispose]();
    const seconds = (performance.now() - this.#began) / 1000;
    let last = await counters(this.#rig, this.#programs);
    await until("the counters stand still", async () => {
      const now = await counters(this.#rig, this.#programs);
      const isStill = now.left === last.left && now.came === last.came;
      last = now;
      return isStill;
    });
    return {
      sent: Number(/(\d+) packets outgoing/.exec(this.#output)?.[1] ?? Number.NaN),
      left: last.left - this.#before.left,
      rate: Math.round((last.left - this.#before.left) / seconds),
      came: last.came - this.#before.came,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) process.kill(-this.#child.pid!, "SIGINT");
    await this.#closed;
  }
}

type Counters = Pick<Toll, "left" | "came">;

async function counters(rig: Rig, programs: string): Promise<Counters> {
  const shown = await must("ip", "-netns", rig.namespaces.full("client"), "-s", "-j", "link", "show", "dev", "c0");
  const left: number = JSON.parse(shown)[0].stats64.tx.packets;
  return { left, came: await rig.counted(programs, "replies") };
}
