import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../kernel/process.ts";
import { Namespaces } from "../namespaces.ts";
import { nodeByMac, ownerOf } from "../topology.ts";
import { Cluster, type ClusterOptions } from "./cluster.ts";
import { RULES, Speakers } from "./speakers.ts";

/** A generous limit for anything that should take a second or two, ms. */
export const PATIENCE = 60_000;
/** Limit for reaching a web server, ms: a kube-proxy that lost its API may wait a minute before it reads again. */
const SERVED = 180_000;
/** A VIP that does not move for this long counts as staying, ms. */
const CALM = 400;

export const NODES = ["n1", "n2", "n3"] as const;

/** The node with the lowest hash, computed without isat's own code. */
export const best = (vip: string, nodes: readonly string[] = NODES): string =>
  ownerOf(
    vip,
    nodes.map((name) => ({ name, port: 0, mac: "", ip: "" })),
  ).name;

/** VIPs out of 10.9.SUBNET.0/24 for which the node has the lowest hash. */
export function vipsOf(node: string, subnet: number, count: number): string[] {
  const all = Array.from({ length: 254 }, (_, index) => `10.9.${subnet}.${index + 1}`);
  return all.filter((vip) => best(vip) === node).slice(0, count);
}

/** A cluster with a speaker on each node, and a client and a switch that know where a VIP is. */
export class Scene implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly speakers: Speakers;
  readonly #stack: AsyncDisposableStack;

  private constructor(cluster: Cluster, speakers: Speakers, stack: AsyncDisposableStack) {
    this.cluster = cluster;
    this.speakers = speakers;
    this.#stack = stack;
  }

  /** @param grants the rights of the speakers at the start: all that they need, or none */
  static async start(
    prefix: string,
    { grants = "all", ...options }: ClusterOptions & { grants?: "all" | "none" } = {},
  ): Promise<Scene> {
    await using stack = new AsyncDisposableStack();
    const namespaces = stack.use(new Namespaces(prefix));
    const cluster = stack.use(await Cluster.start(namespaces, options));
    if (grants === "all") await cluster.grant(RULES);
    const speakers = stack.use(new Speakers(cluster));
    return new Scene(cluster, speakers, stack.move());
  }

  /** Pulls the node's plug, and kills its speaker. */
  async die(node: string): Promise<void> {
    this.cluster.unplug(node);
    this.speakers.unreachable.add(node);
    await this.speakers.of(node).signal("SIGKILL");
  }

  /** Boots the node: its kernel remembers nothing. */
  async revive(node: string): Promise<void> {
    const speaker = this.speakers.of(node);
    speaker.isat("clean");
    this.cluster.plug(node);
    this.speakers.unreachable.delete(node);
    speaker.start();
    await speaker.ready(PATIENCE);
  }

  /** The node to which the client sends packets for the VIP. */
  clientSends(vip: string): string | undefined {
    const namespace = this.cluster.namespaces.full(this.cluster.client.name);
    const text = execFileSync("ip", ["-netns", namespace, "neigh", "show", vip], { encoding: "utf8" });
    const mac = /lladdr (\S+)/.exec(text)?.[1];
    return mac && nodeByMac(mac)?.name;
  }

  /** Empties the client's neighbour table, so that it has to ask again. */
  forget(): void {
    this.cluster.namespaces.ip(this.cluster.client.name, ["neigh flush dev eth0"]);
  }

  /** The node to which the simulated switch would send; or MAC and port, if they do not belong together. */
  switchSends(vip: string): string | undefined {
    const row = this.cluster.gateway.arpRows(performance.now()).find(({ ip }) => ip === vip);
    if (!row) return undefined;
    const node = nodeByMac(row.mac)?.name;
    return this.cluster.nodes.find(({ name }) => name === node)?.port === row.port
      ? node
      : `${row.mac} on p${row.port}`;
  }

  /** Waits until the VIP is at this node only, by the kernels' maps, the client's table and curl, and the switch. */
  async at(vip: string, node: string): Promise<void> {
    const found = () => ({ owners: this.speakers.owners(vip).join(), client: this.clientSends(vip) });
    await until(
      `${vip} is at ${node}`,
      async () => {
        const isServed = (await this.cluster.curl(vip)).node !== undefined;
        const { owners, client } = found();
        return isServed && owners === node && client === node;
      },
      SERVED,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(found())}`);
    });
    if (!this.cluster.hasSwitch) return;
    this.cluster.ping([vip]); // without an entry it asks
    await until(`the switch has ${vip} at ${node}`, () => this.switchSends(vip) === node, PATIENCE).catch((error) => {
      throw new Error(`${error.message}: ${this.switchSends(vip)}`);
    });
  }

  /** Waits until no kernel answers for the VIP, and asserts that the client gets no answer either. */
  async silent(vip: string): Promise<void> {
    await until(`nobody has ${vip}`, () => this.speakers.owners(vip).length === 0, PATIENCE);
    this.forget();
    const { node, error } = await this.cluster.curl(vip);
    assert.equal(node, undefined);
    assert.match(error!, /timed out|No route to host/i, "no refusal: nobody said where it is");
  }

  /** Asserts that the VIP stays at the node. */
  async stays(vip: string, node: string): Promise<void> {
    await sleep(CALM);
    assert.deepEqual(this.speakers.owners(vip), [node]);
  }

  /** Waits until each VIP is at the node with the lowest hash. */
  async shared(vips: readonly string[], nodes: readonly string[] = NODES): Promise<void> {
    const wrong = () => vips.filter((vip) => this.speakers.owners(vip).join() !== best(vip, nodes));
    await until(`${vips.length} VIPs are with their owners among ${nodes}`, () => wrong().length === 0, PATIENCE).catch(
      (error: Error) => {
        const [vip] = wrong();
        throw new Error(
          `${error.message}: ${vip} is at ${this.speakers.owners(vip!)}, and should be at ${best(vip!, nodes)}`,
        );
      },
    );
  }

  /** Asserts that `read` returns what is expected, now or soon. */
  async becomes<T>(read: () => T, expected: T): Promise<void> {
    const isSo = () => JSON.stringify(read()) === JSON.stringify(expected);
    await until("as expected", isSo, PATIENCE).catch(() => {});
    assert.deepEqual(read(), expected);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
