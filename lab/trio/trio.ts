import type { Namespaces } from "../namespaces.ts";
import { Speaker, type SpeakerSettings } from "../speaker.ts";
import { CLIENT, ip6Of, type LabNode, NODES, PREFIX_LENGTH } from "../topology.ts";
import { type Report, Watch } from "../watch/watch.ts";

/** Three nodes with a speaker each, and a client that watches, on one real Linux bridge. */
export class Trio implements AsyncDisposable {
  readonly namespaces: Namespaces;
  readonly speakers: readonly Speaker[];
  readonly folder: string;
  readonly #name: string;
  #settings: SpeakerSettings;

  /**
   * @param name begins the names of its namespaces, so that several trios fit into one `namespaces`
   * @param ipv6 the hosts that speak IPv6, by name
   */
  constructor(namespaces: Namespaces, name: string, settings: SpeakerSettings, ipv6: readonly string[] = []) {
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
      if (ipv6.includes(host.name)) this.#allowIPv6(host.name);
      const port = { namespace: this.place("switch"), name: `p${host.port}` };
      namespaces.link({ namespace: this.place(host.name), name: "eth0", mac: host.mac }, port);
      namespaces.ip(this.place("switch"), [`link set p${host.port} master br0`]);
      namespaces.ip(this.place(host.name), [`addr add ${host.ip}/${PREFIX_LENGTH} dev eth0`]);
      if (ipv6.includes(host.name)) namespaces.ip(this.place(host.name), [`addr add ${ip6Of(host)}/64 dev eth0 nodad`]);
    }
    this.speakers = NODES.map((node) => new Speaker(this, node, places));
    this.configure({});
  }

  /** The short name of a host's namespace. */
  place(host: string): string {
    return `${this.#name}-${host}`;
  }

  #allowIPv6(host: string): void {
    for (const scope of ["all", "default", "lo"]) {
      this.namespaces.sysctl(this.place(host), `net/ipv6/conf/${scope}/disable_ipv6`, 0);
      this.namespaces.sysctl(this.place(host), `net/ipv6/conf/${scope}/accept_dad`, 0);
    }
  }

  configure(settings: Partial<SpeakerSettings>): void {
    this.#settings = { ...this.#settings, ...settings };
    for (const speaker of this.speakers) speaker.configure(this.#settings);
  }

  /** Starts all three, and waits until each answers for its VIPs. */
  async start(): Promise<void> {
    for (const speaker of this.speakers) speaker.start();
    await Promise.all(this.speakers.map((speaker) => speaker.ready()));
  }

  /** Takes a node's link to the switch down, or brings it up. */
  link(node: LabNode, state: "up" | "down"): void {
    this.namespaces.ip(this.place("switch"), [`link set p${node.port} ${state}`]);
  }

  /** Takes a node's port out of the bridge, or puts it back: its link stays up, but no frame gets through. */
  isolate(node: LabNode, isIsolated: boolean): void {
    const bridge = isIsolated ? "nomaster" : "master br0";
    this.namespaces.ip(this.place("switch"), [`link set p${node.port} ${bridge}`]);
  }

  /** Lets the client ask for every VIP every `interval` ms, until the watch is stopped. */
  watch(vips: readonly string[], interval = 10): Promise<Watch> {
    return Watch.start(this.namespaces, this.place(CLIENT.name), vips, interval);
  }

  /** Runs `body` while the client watches. */
  async watched(vips: readonly string[], body: () => Promise<void>, interval = 10): Promise<Report> {
    await using watch = await this.watch(vips, interval);
    await body();
    return await watch.stop();
  }

  /** The nodes that own the VIP, as their kernels' maps have it. */
  owners(vip: string): string[] {
    return this.speakers.flatMap((speaker) => {
      const owns = speaker.status().vips.some(({ address, state }) => address === vip && state === "owned");
      return owns ? [speaker.node.name] : [];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.speakers.map((speaker) => speaker.end()));
    for (const host of ["switch", ...NODES.map(({ name }) => name), CLIENT.name])
      this.namespaces.remove(this.place(host));
  }
}
