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

/** Which of the two ways of answering a lab shows. */
export type Way = "isat" | "openelb";

/** For so long after a VIP was given to another node, in milliseconds, either of the two may claim it. */
const HAND_OVER_MS = 1200;

/** The nodes start within a moment of each other; on a busy machine that may be long. */
const SETTLE_MS = 20_000;

/** OpenELB's leader: every wrong entry of the incident named the port of the elected one. */
export const LEADER = NODES[0]!;

/** Three nodes, a client and a gateway switch, all of them real but the switch. */
export class Lab implements Disposable {
  readonly way: Way;
  readonly gateway = new Switch(PORTS, GATEWAY.mac, GATEWAY.ip, PLAIN);
  readonly witness = new Witness(GATEWAY.mac);
  /** undefined in the lab of the other way. */
  readonly isat: Isat | undefined;
  readonly #openelb: OpenElb | undefined;
  readonly #owners = new Map(VIPS.map((vip) => [vip, ownerOf(vip)]));
  readonly #ports: SwitchPorts;
  readonly #pingers: readonly Pinger[];
  readonly #client: Pinger;
  readonly #stack = new DisposableStack();

  /**
   * @param name tells the lab from others in the same `namespaces`: its nodes are `NAME-n1`, and so on
   * @param trouble hears of what a speaker has to complain about
   */
  constructor(namespaces: Namespaces, name: string, way: Way, trouble: Trouble) {
    this.way = way;
    const place = (host: string) => namespaces.full(`${name}-${host}`);
    build(namespaces, name, way);
    // While nodes come up, whoever is there first has what the others will take over from it; never two have it.
    for (const vip of VIPS) this.witness.expect(vip, NODES);

    this.#ports = this.#stack.use(
      new SwitchPorts(this.gateway, place("switch"), (...seen) => {
        if (way === "isat") this.witness.see(...seen);
      }),
    );
    this.#pingers = NODES.map((node) => this.#stack.use(new Pinger(place(node.name))));
    this.#client = this.#stack.use(new Pinger(place(CLIENT.name)));
    if (way === "isat") this.isat = new Isat(namespaces, name, trouble);
    else this.#openelb = this.#stack.use(new OpenElb(place(LEADER.name), "eth0", LEADER.mac));
  }

  /** Waits until each VIP is answered by its owner, and by nobody else from then on. */
  async ready(signal: AbortSignal): Promise<void> {
    await this.isat?.ready(signal);
    const isOwned = () => [...this.#owners].every(([vip, owner]) => this.isat!.owns(vip, owner));
    const end = performance.now() + SETTLE_MS;
    while (this.isat && !isOwned()) {
      if (performance.now() > end) throw new Error(`the VIPs were not with their owners within ${SETTLE_MS / 1000} s`);
      await sleep(20, undefined, { signal });
    }
    if (this.isat) await sleep(HAND_OVER_MS, undefined, { signal }); // what was sent before has arrived
    for (const [vip, owner] of this.#owners) this.witness.expect(vip, [owner]);
  }

  /** Behaves by `settings` from now on, with empty tables. */
  reset(settings: Settings): void {
    this.gateway.reset(settings);
  }

  /** Every node says something, as nodes do: the FDB gets to know them. */
  talk(): void {
    for (const pinger of this.#pingers) pinger.send(GATEWAY.ip);
  }

  /** OpenELB announces when a VIP is new; isat announces by itself. */
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

  /** The client, an ordinary host, pings each VIP once; returns those that did not answer in a second. */
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

/** The hosts: VIPs on `lo`, as kube-proxy in IPVS mode has them, so that a wrong answerer really would answer. */
function build(namespaces: Namespaces, lab: string, way: Way): void {
  namespaces.add(`${lab}-switch`);
  // Under isat the kernel's defaults: it would answer for all VIPs. Under OpenELB what strictARP sets: it answers for none.
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
