import { setTimeout as sleep } from "node:timers/promises";
import type { Namespaces } from "../namespaces.ts";
import { SwitchPorts } from "../switch/ports.ts";
import { PLAIN, type Settings } from "../switch/settings.ts";
import { Switch } from "../switch/switch.ts";
import { CLIENT, GATEWAY, type LabNode, NODES, ownerOf, PORTS, PREFIX_LENGTH, VIPS } from "../topology.ts";
import { Isat, type Trouble } from "./isat.ts";
import { OpenElb } from "./openelb.ts";
import { Pinger } from "./pinger.ts";
import { type LabView, look } from "./view.ts";
import { Witness } from "./witness.ts";

/** The two ways of answering that are compared. */
export type Way = "isat" | "openelb";

/** After a VIP was given to another node, either of the two may claim it for this long, ms. */
const HAND_OVER_MS = 1200;

/** The time in which every VIP must reach its owner after the start, ms. It is generous, for busy machines. */
const SETTLE_MS = 20_000;

/** OpenELB's elected leader: every wrong entry of the incident named the leader's port. */
export const LEADER = NODES[0]!;

/** Three nodes and a client in real namespaces, around a simulated gateway switch. */
export class Lab implements Disposable {
  readonly way: Way;
  readonly gateway = new Switch(PORTS, GATEWAY.mac, GATEWAY.ip, PLAIN);
  readonly witness = new Witness(GATEWAY.mac);
  /** Undefined in the OpenELB lab. */
  readonly isat: Isat | undefined;
  readonly #openelb: OpenElb | undefined;
  readonly #owners = new Map(VIPS.map((vip) => [vip, ownerOf(vip)]));
  readonly #ports: SwitchPorts;
  readonly #pingers: readonly Pinger[];
  readonly #client: Pinger;
  readonly #stack = new DisposableStack();

  /**
   * @param name begins the names of the lab's namespaces, `NAME-n1` and so on
   * @param trouble is called with each warning and error of a speaker
   */
  constructor(namespaces: Namespaces, name: string, way: Way, trouble: Trouble) {
    this.way = way;
    const place = (host: string) => namespaces.full(`${name}-${host}`);
    build(namespaces, name, way);
    // The first node to start answers for everything until the others take over.
    for (const vip of VIPS) this.witness.expect(vip, NODES);

    this.#ports = this.#stack.use(
      new SwitchPorts(this.gateway, place("switch"), (...seen) => {
        if (way === "isat") this.witness.see(...seen);
      }),
    );
    this.#pingers = NODES.map((node) => this.#stack.use(new Pinger(place(node.name))));
    this.#client = this.#stack.use(new Pinger(place(CLIENT.name)));
    if (way === "isat") this.isat = this.#stack.use(new Isat(namespaces, name, trouble));
    else this.#openelb = this.#stack.use(new OpenElb(place(LEADER.name), "eth0", LEADER.mac));
  }

  /** Waits until each VIP is answered by its owner. From then on, an answer by anybody else breaks the promise. */
  async ready(signal: AbortSignal): Promise<void> {
    await this.isat?.ready(signal);
    const isOwned = () => [...this.#owners].every(([vip, owner]) => this.isat!.owns(vip, owner));
    const end = performance.now() + SETTLE_MS;
    while (this.isat && !isOwned()) {
      if (performance.now() > end) throw new Error(`the VIPs were not with their owners within ${SETTLE_MS / 1000} s`);
      await sleep(20, undefined, { signal });
    }
    if (this.isat) await sleep(HAND_OVER_MS, undefined, { signal }); // by now every earlier frame has arrived
    for (const [vip, owner] of this.#owners) this.witness.expect(vip, [owner]);
  }

  /** Empties the switch's tables, and gives it other settings. */
  reset(settings: Settings): void {
    this.gateway.reset(settings);
  }

  /** Each node sends a packet, so that the FDB learns it. */
  talk(): void {
    for (const pinger of this.#pingers) pinger.send(GATEWAY.ip);
  }

  /** Lets OpenELB announce every VIP, as it does when a VIP is new. isat announces by itself. */
  announce(): void {
    for (const [vip, owner] of this.#owners) this.#openelb?.assign(vip, owner.mac);
  }

  /** The switch pings each VIP once. */
  ping(): void {
    this.#ports.ping(VIPS);
  }

  /** Gives a VIP to another node. */
  move(vip: string, to: LabNode): void {
    const from = this.#owners.get(vip)!;
    this.#owners.set(vip, to);
    this.witness.expect(vip, [from, to]);
    setTimeout(() => this.witness.expect(vip, [this.#owners.get(vip)!]), HAND_OVER_MS).unref();
    this.isat?.move(vip, to);
    this.#openelb?.assign(vip, to.mac);
  }

  owner(vip: string): LabNode {
    return this.#owners.get(vip)!;
  }

  view(): LabView {
    return look(this.gateway, this.#owners, performance.now());
  }

  /** Lets the client, an ordinary host, ping each VIP once. @returns the VIPs that did not answer within a second */
  async pingFromClient(): Promise<string[]> {
    const silent = new Set(VIPS);
    this.#client.answers();
    for (const vip of VIPS) this.#client.send(vip);
    const end = performance.now() + 1000;
    while (silent.size > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      for (const ip of this.#client.answers()) silent.delete(ip);
    }
    return [...silent];
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Builds the hosts. VIPs stand on `lo`, as kube-proxy in IPVS mode has them, so that a wrong answerer would answer. */
function build(namespaces: Namespaces, lab: string, way: Way): void {
  namespaces.add(`${lab}-switch`);
  // isat gets the kernel's defaults, with which the kernel would answer for all VIPs. OpenELB gets kube-proxy's
  // strictARP, with which it answers for none.
  const [ignore, announce] = way === "isat" ? [0, 0] : [1, 2];
  for (const host of [...NODES, CLIENT]) {
    const namespace = `${lab}-${host.name}`;
    namespaces.add(namespace);
    for (const scope of ["all", "default"]) {
      namespaces.sysctl(namespace, `net/ipv4/conf/${scope}/arp_ignore`, ignore!);
      namespaces.sysctl(namespace, `net/ipv4/conf/${scope}/arp_announce`, announce!);
    }
    const port = { namespace: `${lab}-switch`, name: `p${host.port}` };
    namespaces.link({ namespace, name: "eth0", mac: host.mac }, port);
    const vips = host === CLIENT ? [] : VIPS.map((vip) => `addr add ${vip}/32 dev lo`);
    namespaces.ip(namespace, [`addr add ${host.ip}/${PREFIX_LENGTH} dev eth0`, ...vips]);
  }
}
