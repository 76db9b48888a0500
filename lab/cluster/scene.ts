import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../kernel/process.ts";
import { Namespaces } from "../namespaces.ts";
import { nodeByMac, ownerOf } from "../topology.ts";
import { Cluster, type ClusterOptions } from "./cluster.ts";
import { RULES, Speakers } from "./speakers.ts";

/** How long anything here may take that takes a second or two, ms. */
export const PATIENCE = 60_000;
/** Until a web server is reached: kube-proxy, whose API was away, waits for up to a minute before it reads again, ms. */
const SERVED = 180_000;
/** For so long nothing may have happened until it counts as not happening, ms. */
const CALM = 400;

export const NODES = ["n1", "n2", "n3"] as const;

/** The node with the best hash, worked out apart from isat's own code. */
export const best = (vip: string, nodes: readonly string[] = NODES): string =>
  ownerOf(
    vip,
    nodes.map((name) => ({ name, port: 0, mac: "", ip: "" })),
  ).name;

/** The VIPs of which a node has the best hash, out of 10.9.SUBNET.0/24. */
export function vipsOf(node: string, subnet: number, count: number): string[] {
  const all = Array.from({ length: 254 }, (_, index) => `10.9.${subnet}.${index + 1}`);
  return all.filter((vip) => best(vip) === node).slice(0, count);
}

/** A cluster whose nodes have speakers, and a client and a switch that are asked where a VIP is. */
export class Scene implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly speakers: Speakers;
  readonly #stack: AsyncDisposableStack;

  private constructor(cluster: Cluster, speakers: Speakers, stack: AsyncDisposableStack) {
    this.cluster = cluster;
    this.speakers = speakers;
    this.#stack = stack;
  }

  /** @param grants what the speakers may do from the start: what they need, or nothing */
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

  /** The node's plug is pulled, and its speaker is no more. */
  async die(node: string): Promise<void> {
    this.cluster.unplug(node);
    this.speakers.unreachable.add(node);
    await this.speakers.of(node).signal("SIGKILL");
  }

  /** It has booted: its kernel remembers nothing. */
  async revive(node: string): Promise<void> {
    const speaker = this.speakers.of(node);
    speaker.isat("clean");
    this.cluster.plug(node);
    this.speakers.unreachable.delete(node);
    speaker.start();
    await speaker.ready(PATIENCE);
  }

  /** The node to which the client sends what is for the VIP. */
  clientSends(vip: string): string | undefined {
    const namespace = this.cluster.namespaces.full(this.cluster.client.name);
    const text = execFileSync("ip", ["-netns", namespace, "neigh", "show", vip], { encoding: "utf8" });
    const mac = /lladdr (\S+)/.exec(text)?.[1];
    return mac && nodeByMac(mac)?.name;
  }

  /** The client forgets where VIPs are: what it is to find, it has to ask for. */
  forget(): void {
    this.cluster.namespaces.ip(this.cluster.client.name, ["neigh flush dev eth0"]);
  }

  /** The node that the simulated gateway switch would send to, if port and MAC agree; else what is wrong with them. */
  switchSends(vip: string): string | undefined {
    const row = this.cluster.gateway.arpRows(performance.now()).find(({ ip }) => ip === vip);
    if (!row) return undefined;
    const node = nodeByMac(row.mac)?.name;
    return this.cluster.nodes.find(({ name }) => name === node)?.port === row.port
      ? node
      : `${row.mac} on p${row.port}`;
  }

  /** Waits until the VIP is at the node, and no other: by its kernel, the client's table, its curl, and the switch. */
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
    this.cluster.ping([vip]); // where it has no entry it asks
    await until(`the switch has ${vip} at ${node}`, () => this.switchSends(vip) === node, PATIENCE).catch((error) => {
      throw new Error(`${error.message}: ${this.switchSends(vip)}`);
    });
  }

  /** Waits until no kernel answers for the VIP; then the client, which asks anew, gets no answer. */
  async silent(vip: string): Promise<void> {
    await until(`nobody has ${vip}`, () => this.speakers.owners(vip).length === 0, PATIENCE);
    this.forget();
    const { node, error } = await this.cluster.curl(vip);
    assert.equal(node, undefined);
    assert.match(error!, /timed out|No route to host/i, "no refusal: nobody said where it is");
  }

  /** The VIP stays at the node. */
  async stays(vip: string, node: string): Promise<void> {
    await sleep(CALM);
    assert.deepEqual(this.speakers.owners(vip), [node]);
  }

  /** Waits until each VIP has the owner that the hashes among the nodes give it. */
  async shared(vips: readonly string[], nodes: readonly string[] = NODES): Promise<void> {
    const wrong = () => vips.filter((vip) => this.speakers.owners(vip).join() !== best(vip, nodes));
    await until(`${vips.length} VIPs are where ${nodes} hash for them`, () => wrong().length === 0, PATIENCE).catch(
      (error: Error) => {
        const [vip] = wrong();
        throw new Error(
          `${error.message}: ${vip} is at ${this.speakers.owners(vip!)}, and should be at ${best(vip!, nodes)}`,
        );
      },
    );
  }

  /** Waits until what is read is as expected. */
  async becomes<T>(read: () => T, expected: T): Promise<void> {
    const isSo = () => JSON.stringify(read()) === JSON.stringify(expected);
    await until("as expected", isSo, PATIENCE).catch(() => {});
    assert.deepEqual(read(), expected);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
