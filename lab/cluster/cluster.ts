import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";
import { type Observer, SwitchPorts } from "../switch/ports.ts";
import { PLAIN, type Settings } from "../switch/settings.ts";
import { Switch } from "../switch/switch.ts";
import { GATEWAY, PREFIX_LENGTH } from "../topology.ts";
import type { Api, KubeObject } from "./api.ts";
import { ADDRESS, NAMESPACE as API, ControlPlane, USERS, type User } from "./control-plane.ts";
import { curl, mustInside } from "./inside.ts";
import { DEFINITIONS, METALLB, METALLB_RULES } from "./metallb.ts";
import { type ClusterNode, clusterNode, Host } from "./node.ts";
import {
  type EndpointOptions,
  endpointSlice,
  type Ingress,
  node as nodeObject,
  nodeStatus,
  type Rule,
  role,
  roleBinding,
  type ServiceOptions,
  service,
  status,
} from "./objects.ts";

const SWITCH = "switch";
const CLIENT = { name: "client", mac: "02:00:00:00:00:64", ip: "10.9.255.100" } as const;
const MANAGEMENT_PREFIX_LENGTH = 24;
/** A speaker lets a deleted object of MetalLB count for 0.5 s more. */
const LINGER_MS = 1_000;
/** Limit for a custom resource to appear or disappear, ms. */
const SERVED_MS = 30_000;

export interface ClusterOptions {
  /** @default 3 */
  nodes?: number;
  /**
   * The nodes and the client are joined by the simulated gateway switch, or by a bridge of the kernel. @default
   * "switch"
   */
  wire?: "switch" | "bridge";
  /** The switch's behaviour. @default a switch on which nothing goes wrong, in real time */
  settings?: Settings;
  /** Is called with each frame that crosses the switch. */
  observe?: Observer;
  /** True if kube-proxy runs on each node. @default true */
  proxy?: boolean;
  /** True if MetalLB's custom resources exist from the start. @default false */
  metallb?: boolean;
  signal?: AbortSignal;
}

/** The result of the client's curl. */
export interface Fetched {
  /** The node whose web server answered; undefined if none did. */
  node: string | undefined;
  /** The client's address, as the web server saw it. */
  seenFrom: string | undefined;
  /** The reason why nobody answered, in curl's words. */
  error: string | undefined;
}

/**
 * A cluster without containers. etcd and a real API server have a network namespace of their own; each node is a
 * namespace with a real kube-proxy and a web server. A node's `eth0` is on the switch, its `mgmt0` on a separate
 * network with the API server, so that either can be cut alone. No controllers run: tests write what they would write.
 * A `Namespaces` holds one cluster.
 */
export class Cluster implements AsyncDisposable {
  readonly namespaces: Namespaces;
  readonly nodes: readonly ClusterNode[];
  readonly client: { name: string; mac: string; ip: string; port: number };
  /** The simulated switch. It carries frames only if `wire` is "switch". */
  readonly gateway: Switch;
  readonly #stack = new AsyncDisposableStack();
  readonly #hosts: ReadonlyMap<string, Host>;
  #plane!: ControlPlane;
  #ports: SwitchPorts | undefined;

  private constructor(namespaces: Namespaces, { nodes = 3, settings = { ...PLAIN, timeScale: 1 } }: ClusterOptions) {
    this.namespaces = namespaces;
    this.nodes = Array.from({ length: nodes }, (_, index) => clusterNode(index + 1));
    this.client = { ...CLIENT, port: nodes + 1 };
    this.gateway = new Switch(nodes + 1, GATEWAY.mac, GATEWAY.ip, settings);
    this.#hosts = new Map(this.nodes.map((node) => [node.name, new Host(namespaces, node)]));
  }

  /** Starts everything, and waits until it is ready. All programs end at the latest with `namespaces`. */
  static async start(namespaces: Namespaces, options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(namespaces, options);
    try {
      await cluster.#start(options);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start({ wire = "switch", observe, proxy = true, metallb = false, signal }: ClusterOptions): Promise<void> {
    this.#build(wire);
    await this.#turnOffloadsOff();
    if (wire === "switch") {
      this.#ports = this.#stack.use(new SwitchPorts(this.gateway, this.namespaces.full(SWITCH), observe ?? (() => {})));
    }
    for (const host of this.#hosts.values()) this.#stack.defer(() => host.stop());
    this.#plane = this.#stack.use(await ControlPlane.start(this.namespaces, signal));
    await this.#fill(metallb);
    const kubeconfig = this.#plane.kubeconfig("proxy", "node");
    await Promise.all(
      [...this.#hosts.values()].flatMap((host) => [
        host.startEndpoint(signal),
        ...(proxy ? [host.startProxy(kubeconfig, signal)] : []),
      ]),
    );
  }

  #build(wire: "switch" | "bridge"): void {
    const { namespaces } = this;
    namespaces.add(API);
    namespaces.ip(API, [
      "link add mgmt type bridge",
      `addr add ${ADDRESS}/${MANAGEMENT_PREFIX_LENGTH} dev mgmt`,
      "link set mgmt up",
    ]);
    namespaces.add(SWITCH);
    if (wire === "bridge") {
      const gateway = [`link set wire address ${GATEWAY.mac}`, `addr add ${GATEWAY.ip}/${PREFIX_LENGTH} dev wire`];
      namespaces.ip(SWITCH, ["link add wire type bridge", ...gateway, "link set wire up"]);
    }
    for (const host of [...this.nodes, this.client]) {
      const { name, mac, ip, port } = host;
      namespaces.add(name);
      namespaces.link({ namespace: name, name: "eth0", mac }, { namespace: SWITCH, name: `p${port}` });
      if (wire === "bridge") namespaces.ip(SWITCH, [`link set p${port} master wire`]);
      namespaces.ip(name, [`addr add ${ip}/${PREFIX_LENGTH} dev eth0`, `route add default via ${GATEWAY.ip}`]);
    }
    for (const { name, management } of this.nodes) {
      namespaces.sysctl(name, "net/ipv4/ip_forward", 1);
      // ICMP redirects would use up the kernel's rate limit, so that kube-proxy's "connection refused" is not sent.
      for (const scope of ["all", "eth0"]) namespaces.sysctl(name, `net/ipv4/conf/${scope}/send_redirects`, 0);
      namespaces.link({ namespace: name, name: "mgmt0" }, { namespace: API, name });
      namespaces.ip(API, [`link set ${name} master mgmt`]);
      namespaces.ip(name, [`addr add ${management}/${MANAGEMENT_PREFIX_LENGTH} dev mgmt0`]);
    }
  }

  /** A packet socket would pass on checksums and segments that are left for the NIC to complete. */
  async #turnOffloadsOff(): Promise<void> {
    for (const { name } of [...this.nodes, this.client]) {
      await mustInside(this.namespaces, name, "ethtool", "--offload", "eth0", "tx", "off");
    }
  }

  /** Creates the objects that exist from the start. */
  async #fill(metallb: boolean): Promise<void> {
    for (const name of ["isat-system", METALLB]) {
      await this.api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
    }
    for (const { name } of this.nodes) await this.addNode(name);
    if (metallb) await this.installMetallb();
  }

  // Reading and writing the API
  // ----------------------------------------------------------------------------------------

  /** The API server as the administrator sees it. */
  get api(): Api {
    return this.apiAs("admin");
  }

  apiAs(user: User): Api {
    return this.#plane.api(user);
  }

  /** A node by its name. */
  node(name: string): ClusterNode {
    return this.#host(name).node;
  }

  /** Creates or changes a Service. Its addresses stay. */
  async applyService(name: string, options: ServiceOptions = {}): Promise<KubeObject> {
    return await this.api.apply(service(name, options));
  }

  /** Writes a Service's addresses, as MetalLB's controller does. */
  async setIngress(name: string, ingress: readonly Ingress[], namespace = "default"): Promise<void> {
    await this.api.patch(service(name, { namespace }), status(ingress), "status");
  }

  /** Sets a Service's endpoints: nodes by name, which are ready, or with their conditions. */
  async setEndpoints(
    name: string,
    endpoints: readonly (string | EndpointOptions)[],
    namespace = "default",
  ): Promise<void> {
    const entries = endpoints.map((entry) => (typeof entry === "string" ? { node: entry } : entry));
    const resolved = entries.map((entry) => ({ ...entry, node: this.node(entry.node) }));
    await this.api.apply(endpointSlice(name, resolved, namespace));
  }

  /** Creates a Service with endpoints, by default on all nodes, and then gives it an address. */
  async serve(
    name: string,
    ingress: Ingress | readonly Ingress[],
    { endpoints, ...options }: ServiceOptions & { endpoints?: readonly (string | EndpointOptions)[] } = {},
  ): Promise<void> {
    await this.applyService(name, options);
    await this.setEndpoints(name, endpoints ?? this.nodes.map((node) => node.name), options.namespace);
    await this.setIngress(name, Array.isArray(ingress) ? ingress : [ingress as Ingress], options.namespace);
  }

  async deleteService(name: string, namespace = "default"): Promise<void> {
    await this.api.delete(service(name, { namespace }));
    // No controller deletes the EndpointSlice here.
    const slice = endpointSlice(name, [], namespace);
    const { items } = await this.api.list(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`);
    if (items.some(({ metadata }) => metadata.name === slice.metadata.name)) await this.api.delete(slice);
  }

  /** See ControlPlane.seed(). */
  async seed(objects: readonly (readonly [place: string, object: object])[]): Promise<void> {
    await this.#plane.seed(objects);
  }

  /** Creates the Node object of a host, as its kubelet would. All Nodes exist from the start. */
  async addNode(name: string): Promise<void> {
    const node = this.node(name);
    await this.api.apply(nodeObject(node));
    await this.api.patch(nodeObject(node), nodeStatus(node), "status");
  }

  /** Deletes the Node object; the host runs on. */
  async removeNode(name: string): Promise<void> {
    await this.api.delete(nodeObject(this.node(name)));
  }

  /** Changes labels of a Node; null removes one. */
  async labelNode(name: string, labels: Record<string, string | null>): Promise<void> {
    await this.api.patch(nodeObject(this.node(name)), { metadata: { labels } });
  }

  /** Sets one condition of a Node, and keeps the others. */
  async setNodeCondition(
    name: string,
    type: string,
    status: "True" | "False" | "Unknown",
    why: { reason: string; message?: string } = { reason: "Lab" },
  ): Promise<void> {
    const found = await this.api.get(nodeObject(this.node(name)));
    const others = found.status.conditions.filter((condition: { type: string }) => condition.type !== type);
    const conditions = [...others, { type, status, ...why }];
    await this.api.patch(found, { status: { conditions } }, "status");
  }

  /** Sets a Node's own addresses. */
  async setNodeAddresses(name: string, ips: readonly string[]): Promise<void> {
    const addresses = ips.map((address) => ({ type: "InternalIP", address }));
    await this.api.patch(nodeObject(this.node(name)), { status: { addresses } }, "status");
  }

  /** Installs MetalLB's custom resources, and waits until they are served. */
  async installMetallb(): Promise<void> {
    for (const definition of DEFINITIONS) {
      await this.api.apply(definition);
      await this.#served(definition.metadata.name, true);
    }
  }

  /** Removes MetalLB's objects, and then their definitions: for a speaker, they are gone for good. */
  async removeMetallb(): Promise<void> {
    for (const { spec } of DEFINITIONS) {
      const path = `/apis/metallb.io/v1beta1/namespaces/${METALLB}/${spec.names.plural}`;
      await this.api.request("DELETE", path);
    }
    await sleep(LINGER_MS);
    await this.deleteDefinitions();
  }

  /** Deletes the definitions of MetalLB's custom resources, with all their objects. */
  async deleteDefinitions(): Promise<void> {
    for (const definition of DEFINITIONS) {
      await this.api.delete(definition);
      await this.#served(definition.metadata.name, false);
    }
  }

  async #served(resource: string, wanted: boolean): Promise<void> {
    const path = `/apis/metallb.io/v1beta1/${resource.split(".")[0]}`;
    const isSo = async () => ((await this.api.request("GET", path)).status === 200) === wanted;
    await until(`${path} is ${wanted ? "" : "no longer "}served`, isSo, SERVED_MS);
  }

  // Speakers -------------------------------------------------------------------------------------------------------

  /** The environment of a node's speaker. Its user may do nothing before grant(). */
  speakerEnv(name: string): { NODE_NAME: string; KUBECONFIG: string } {
    return { NODE_NAME: this.node(name).name, KUBECONFIG: this.#plane.kubeconfig("speaker", "node") };
  }

  /** See ControlPlane.requests(). */
  speakersRequests(): { verb: string; uri: string }[] {
    return this.#plane.requests();
  }

  /** Allows the speakers what these rules say in the whole cluster, to read MetalLB's namespace, and nothing else. */
  async grant(rules: readonly Rule[]): Promise<void> {
    for (const [at, its] of [
      [undefined, rules],
      [METALLB, METALLB_RULES],
    ] as const) {
      await this.api.apply(role("isat-speaker", its, at));
      await this.api.apply(roleBinding("isat-speaker", USERS.speaker.user, at));
    }
  }

  /** Makes a namespace, and gives the tenant all rights in it. @param rules what he may do there */
  async addTenant(namespace: string, rules: readonly Rule[]): Promise<void> {
    await this.api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    await this.api.apply(role("tenant", rules, namespace));
    await this.api.apply(roleBinding("tenant", USERS.tenant.user, namespace));
  }

  /** A kubeconfig for use in a node's namespace, or here while this process lives. */
  kubeconfig(user: User, from: "node" | "here"): string {
    return this.#plane.kubeconfig(user, from);
  }

  // The client and the switch -----------------------------------------------------------------------------------------

  /** Lets the client fetch `http://VIP/` over the wire. */
  async curl(vip: string, port = 80): Promise<Fetched> {
    const { status, stdout, stderr } = await curl(this.namespaces, this.client.name, `http://${vip}:${port}/`);
    const [, node, seenFrom] = /^(\S+), asked by (\S+)/.exec(stdout) ?? [];
    return { node, seenFrom, error: status === 0 ? undefined : stderr.trim() };
  }

  /** True if the nodes are joined by the simulated switch. */
  get hasSwitch(): boolean {
    return this.#ports !== undefined;
  }

  /** The switch pings each address once. */
  ping(ips: readonly string[]): void {
    if (!this.#ports) throw new Error("Cannot ping from the switch as the wire is a bridge");
    this.#ports.ping(ips);
  }

  // Faults ------------------------------------------------------------------------------------------------------------

  /** Kills the API server, with SIGKILL. */
  async killServer(): Promise<void> {
    await this.#plane.killServer();
  }

  /** Starts the API server again on the same data and port, and waits until it is ready. */
  async startServer(signal?: AbortSignal): Promise<void> {
    await this.#plane.startServer(signal);
  }

  /** Freezes the API server: its connections stay open and silent. */
  freezeServer(): void {
    this.#plane.freezeServer();
  }

  resumeServer(): void {
    this.#plane.resumeServer();
  }

  /** See ControlPlane.compact(). */
  async compact(): Promise<void> {
    await this.#plane.compact();
  }

  /** Cuts a node off from the API server alone: packets are lost without an error. */
  async cut(name: string): Promise<void> {
    await this.#host(name).cut();
  }

  /** See Host.halfOpen(). */
  async halfOpen(name: string): Promise<void> {
    await this.#host(name).halfOpen();
  }

  /** Undoes cut() or halfOpen(). */
  async mend(name: string): Promise<void> {
    await this.#host(name).mend();
  }

  /** Pulls a node's plug out of the switch: its eth0 loses its carrier. */
  unplug(name: string): void {
    this.namespaces.ip(SWITCH, [`link set p${this.node(name).port} down`]);
  }

  plug(name: string): void {
    this.namespaces.ip(SWITCH, [`link set p${this.node(name).port} up`]);
  }

  async stopEndpoint(name: string): Promise<void> {
    await this.#host(name).stopEndpoint();
  }

  async startEndpoint(name: string): Promise<void> {
    await this.#host(name).startEndpoint();
  }

  /** Process ids, by name: `etcd`, `kube-proxy on n1`. */
  pids(): Record<string, number> {
    return Object.assign({}, this.#plane.pids(), ...[...this.#hosts.values()].map((host) => host.pids()));
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name);
    if (!host) throw new Error(`Cannot find node ${name}: there are ${[...this.#hosts.keys()].join(", ")}`);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
