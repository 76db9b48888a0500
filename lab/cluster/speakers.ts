import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { askStatus } from "../../src/control/socket.ts";
import { vipState } from "../../src/core/abi.ts";
import { formatAddress } from "../../src/core/address.ts";
import { readEntries } from "../../src/kernel/vips.ts";
import type { Status } from "../../src/report/status.ts";
import { until } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";
import { Speaker } from "../speaker.ts";
import { type Report, Watch } from "../watch/watch.ts";
import type { Cluster } from "./cluster.ts";
import type { Rule } from "./objects.ts";

/** The keys of the source, as YAML; `addresses` covers all tests. */
const SOURCE = "addresses: [10.9.0.0/18], interfaces: [eth0]";

/** The rights that a speaker needs in the whole cluster: those that deploy/isat.yaml grants. */
export const RULES: readonly Rule[] = [
  { apiGroups: [""], resources: ["services", "nodes"], verbs: ["list", "watch"] },
  { apiGroups: [""], resources: ["namespaces"], verbs: ["list", "watch"] },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
  { apiGroups: ["apiextensions.k8s.io"], resources: ["customresourcedefinitions"], verbs: ["list", "watch"] },
  { apiGroups: [""], resources: ["events"], verbs: ["create"] },
];

/** The rights that a controller needs besides, and speakers to answer it: those that the chart grants, in its namespace. */
export const CONTROLLER_RULES: readonly Rule[] = [
  { apiGroups: [""], resources: ["services/status"], verbs: ["patch"] },
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"] },
  { apiGroups: [""], resources: ["configmaps"], verbs: ["list", "watch", "create", "patch"] },
];

/** The speakers of a cluster: one on each node, which reads the cluster's API. */
export class Speakers implements AsyncDisposable {
  readonly namespaces: Namespaces;
  readonly all: readonly Speaker[];
  /** Unplugged nodes. Their kernels cannot be reached by the client. */
  readonly unreachable = new Set<string>();
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.namespaces = cluster.namespaces;
    const places = { folder: this.namespaces.folder(), bpffs: this.namespaces.bpffs() };
    this.all = cluster.nodes.map((node) => new Speaker(this, node, places));
    for (const speaker of this.all) {
      speaker.env = cluster.speakerEnv(speaker.node.name);
      this.configure(speaker);
    }
  }

  place(host: string): string {
    return host;
  }

  of(node: string): Speaker {
    return this.all.find((speaker) => speaker.node.name === node)!;
  }

  /** @param source keys of the source, as YAML in braces takes them @param more top-level keys */
  configure(speaker: Speaker, source = SOURCE, more = ""): void {
    const keys = /^membership:/m.test(more) ? "" : "membership: { keys: none }";
    speaker.write(`${more}\n${keys}\nsource: { kind: kubernetes${source && `, ${source}`} }\n`);
  }

  configureAll(source?: string, more?: string): void {
    for (const speaker of this.all) this.configure(speaker, source, more);
  }

  /** Starts all, and waits until each answers for its VIPs. */
  async startAll(): Promise<void> {
    for (const speaker of this.all) speaker.start();
    await Promise.all(this.all.map((speaker) => speaker.ready(60_000)));
  }

  /** Kills a speaker and starts it again, as an upgrade does. */
  async restart(speaker: Speaker): Promise<void> {
    await speaker.signal("SIGKILL");
    speaker.start();
    await speaker.ready(60_000);
  }

  /**
   * A speaker's status, with an explanation for the VIP. By its socket: to wait for a process would stall the switch.
   */
  async ask(node: string, vip?: string): Promise<Status> {
    const found = await askStatus(this.of(node).runDir, vip);
    if (!found) throw new Error(`no speaker runs on ${node}`);
    return found;
  }

  /** Waits until a speaker has saved a snapshot of the cluster that contains the VIP. */
  async saved(node: string, vip: string): Promise<void> {
    const file = join(this.of(node).runDir, "cluster.json");
    const isIn = () => existsSync(file) && readFileSync(file, "utf8").includes(`"${vip}"`);
    await until(`${node} has saved ${vip}`, isIn, 60_000);
  }

  /** Writes a wire key to a file that only root may read. */
  keyFile(text: string): string {
    const file = join(this.namespaces.folder(), "wire.key");
    writeFileSync(file, text, { mode: 0o400 });
    return file;
  }

  /** A kubeconfig whose server does not exist. */
  nowhere(): string {
    const text = readFileSync(this.#cluster.speakerEnv("n1").KUBECONFIG, "utf8");
    const file = join(this.namespaces.folder(), "nowhere.kubeconfig");
    writeFileSync(file, text.replace(/(?<=https:\/\/[\d.]+):\d+/, ":1"));
    return file;
  }

  /** The nodes whose kernels answer for the VIP. */
  owners(vip: string): string[] {
    const reachable = this.all.filter(({ node }) => !this.unreachable.has(node.name));
    return reachable.flatMap((speaker) => (this.vips(speaker).get(vip) === "owned" ? [speaker.node.name] : []));
  }

  /** The VIPs in a node's map, and their states. No process is asked. */
  vips(speaker: Speaker): Map<string, "owned" | "leaving" | "other"> {
    if (!existsSync(speaker.pinDir)) return new Map();
    return speaker.maps((maps) => {
      const word = (state: number) =>
        state === vipState.OWNED ? "owned" : state === vipState.LEAVING ? "leaving" : "other";
      const entries = [...readEntries(maps).values()].flatMap((its) => [...its]);
      const all = new Map<string, "owned" | "leaving" | "other">();
      for (const [address, { state }] of entries) {
        const vip = formatAddress(address);
        // Where an interface is only guarded, its entry says that nobody answers there.
        if (word(state) !== "other" || !all.has(vip)) all.set(vip, word(state));
      }
      return all;
    });
  }

  /** Lets the client ask for every VIP every `interval` ms, until the watch is stopped. */
  watch(vips: readonly string[], interval = 20): Promise<Watch> {
    return Watch.start(this.namespaces, this.#cluster.client.name, vips, interval);
  }

  /** Runs `body` while the client watches. */
  async watched(vips: readonly string[], body: () => Promise<void>, interval = 20): Promise<Report> {
    await using watch = await this.watch(vips, interval);
    await body();
    return await watch.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((speaker) => speaker.end()));
  }
}
