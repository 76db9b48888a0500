import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Namespaces } from "../namespaces.ts";
import type { LabNode } from "../topology.ts";
import { binary } from "./binaries.ts";
import { ADDRESS, PORT } from "./control-plane.ts";
import { Daemon } from "./daemon.ts";
import { curl, inside, mustInside } from "./inside.ts";

/** The port of each node's web server. */
export const ENDPOINT_PORT = 8080;

const ENDPOINT = fileURLToPath(new URL("./endpoint.mjs", import.meta.url));
/** The nftables table with our drop rules. */
const CUT = "isat-lab-cut";

/** A node. Its name is also the short name of its namespace. */
export interface ClusterNode extends LabNode {
  /** Its address on the management network, for the API server. */
  management: string;
}

/** The node with a number from 1, by which its addresses, its MAC and its port are chosen. */
export function clusterNode(number: number): ClusterNode {
  return {
    name: `n${number}`,
    port: number,
    mac: `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`,
    ip: `10.9.255.${number}`,
    management: `10.90.0.${10 + number}`,
  };
}

/** The programs of one node. */
export class Host {
  readonly node: ClusterNode;
  readonly #namespaces: Namespaces;
  readonly #folder: string;
  #proxy: Daemon | undefined;
  #endpoint: Daemon | undefined;

  constructor(namespaces: Namespaces, node: ClusterNode) {
    this.#namespaces = namespaces;
    this.node = node;
    this.#folder = namespaces.folder();
  }

  /** Starts the web server, and waits until it answers. */
  async startEndpoint(signal?: AbortSignal): Promise<void> {
    const { name } = this.node;
    this.#endpoint = this.#run("endpoint", [process.execPath, "--no-warnings", ENDPOINT, name, `${ENDPOINT_PORT}`]);
    await this.#endpoint.ready(() => this.#answers(`http://127.0.0.1:${ENDPOINT_PORT}/`), signal);
  }

  async stopEndpoint(): Promise<void> {
    await this.#endpoint?.end();
  }

  /** Starts kube-proxy, and waits until it has read all Services and written its rules. */
  async startProxy(kubeconfig: string, signal?: AbortSignal): Promise<void> {
    const config = join(this.#folder, "kube-proxy.yaml");
    writeFileSync(
      config,
      JSON.stringify({
        apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
        kind: "KubeProxyConfiguration",
        mode: "nftables",
        clientConnection: { kubeconfig },
        hostnameOverride: this.node.name,
        healthzBindAddress: "127.0.0.1:10256",
        metricsBindAddress: "127.0.0.1:10249",
        // nf_conntrack_max belongs to the machine, not to a namespace.
        conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
        nftables: { minSyncPeriod: "100ms" },
      }),
    );
    this.#proxy = this.#run("kube-proxy", [binary("kube-proxy"), `--config=${config}`]);
    await this.#proxy.ready(() => this.#answers("http://127.0.0.1:10256/healthz"), signal);
  }

  async stopProxy(): Promise<void> {
    await this.#proxy?.end();
  }

  async stop(): Promise<void> {
    await Promise.all([this.stopProxy(), this.stopEndpoint()]);
  }

  /** Drops all packets between this node and the API server. */
  async cut(): Promise<void> {
    await this.#drop(`ip daddr ${ADDRESS} drop`, `ip saddr ${ADDRESS} drop`);
  }

  /**
   * Silently drops all packets of the connections to the API server that are open now, as a firewall does that has lost
   * its state. New connections pass.
   */
  async halfOpen(): Promise<void> {
    const lines = await mustInside(
      this.#namespaces,
      this.node.name,
      "ss",
      "-tnH",
      "state",
      "established",
      "dst",
      `${ADDRESS}:${PORT}`,
    );
    const ports = lines.match(/(?<=:)\d+(?=\s+10\.)/g) ?? [];
    if (ports.length === 0)
      throw new Error(`Cannot cut connections of ${this.node.name}: it has none to the API server`);
    const set = `{ ${ports.join(", ")} }`;
    await this.#drop(`ip daddr ${ADDRESS} tcp sport ${set} drop`, `ip saddr ${ADDRESS} tcp dport ${set} drop`);
  }

  /** Undoes cut() or halfOpen(). */
  async mend(): Promise<void> {
    await inside(this.#namespaces, this.node.name, "nft", "delete", "table", "inet", CUT);
  }

  async #drop(out: string, into: string): Promise<void> {
    await this.mend();
    const rules = `table inet ${CUT} {
      chain out { type filter hook output priority -300; ${out}; }
      chain into { type filter hook input priority -300; ${into}; }
    }`;
    const file = join(this.#folder, "cut.nft");
    writeFileSync(file, rules);
    await mustInside(this.#namespaces, this.node.name, "nft", "-f", file);
  }

  /** Process ids, by name. */
  pids(): Record<string, number> {
    const daemons = [this.#endpoint, this.#proxy].filter((daemon) => daemon !== undefined);
    return Object.fromEntries(daemons.map(({ name, pid }) => [name, pid]));
  }

  #run(name: string, command: [string, ...string[]]): Daemon {
    const log = join(this.#folder, `${name}.log`);
    return new Daemon(this.#namespaces, this.node.name, log, `${name} on ${this.node.name}`, command);
  }

  async #answers(url: string): Promise<boolean> {
    return (await curl(this.#namespaces, this.node.name, "--fail", url)).status === 0;
  }
}
