import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Api, KubeObject } from "../cluster/api.ts";
import { binary, noKubelets } from "../cluster/binaries.ts";
import { service, status } from "../cluster/objects.ts";
import { type Outcome, until } from "../kernel/process.ts";
import { Namespaces } from "../namespaces.ts";
import { CLIENT, GATEWAY, NODES, nodeByMac, PREFIX_LENGTH } from "../topology.ts";
import { type Report, Watch } from "../watch/watch.ts";
import { fillTemplate } from "./images.ts";
import { Machine, noCgroups, podsOf } from "./machine.ts";
import { PLANE, Plane } from "./plane.ts";

const SWITCH = "switch";
/** The limit for whatever normally takes seconds, ms. */
export const PATIENCE = 120_000;

/** Why there are no kubelets here; undefined where there are. */
export const noNodes = noKubelets ?? (process.arch === "x64" ? noCgroups : "the nodes are made for x86-64 alone");

/** Requests over HTTP that somebody made, one after the other. */
export interface Fetches {
  asked: number;
  failed: string[];
}

/** Three real nodes on one wire with a control plane and a client: what a small cluster of bare metal is. */
export class Kubelets implements AsyncDisposable {
  readonly namespaces: Namespaces;
  readonly machines: readonly Machine[];
  readonly plane: Plane;
  readonly #stack: AsyncDisposableStack;

  private constructor(namespaces: Namespaces, plane: Plane, machines: readonly Machine[], stack: AsyncDisposableStack) {
    this.namespaces = namespaces;
    this.plane = plane;
    this.machines = machines;
    this.#stack = stack;
  }

  /** Brings everything up, and returns when all nodes are Ready. */
  static async start(prefix: string, options: { metallb?: boolean } = {}): Promise<Kubelets> {
    await using stack = new AsyncDisposableStack();
    const namespaces = stack.use(new Namespaces(prefix));
    build(namespaces);
    const folder = namespaces.folder();
    const names = NODES.map(({ name }) => name);
    const [plane, template] = await Promise.all([
      Plane.start(namespaces, names).then((its) => stack.use(its)),
      fillTemplate(join(folder, "template"), options),
    ]);
    const machines = NODES.map((node) => {
      const own = join(folder, node.name);
      mkdirSync(own);
      return stack.use(new Machine(namespaces, node, own, template, plane));
    });
    await Promise.all(machines.map((machine) => machine.boot()));
    const cluster = new Kubelets(namespaces, plane, machines, stack.move());
    try {
      await cluster.nodesReady(names.length);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  get api(): Api {
    return this.plane.api;
  }

  machine(name: string): Machine {
    return this.machines.find(({ node }) => node.name === name)!;
  }

  async nodesReady(count: number): Promise<void> {
    const isReady = ({ status }: KubeObject) =>
      status?.conditions?.some(
        (each: { type: string; status: string }) => each.type === "Ready" && each.status === "True",
      );
    const ready = async () => (await this.api.list("/api/v1/nodes")).items.filter(isReady).length === count;
    await until(`${count} nodes are Ready`, ready, PATIENCE);
  }

  /** Runs kubectl or helm as the administrator, beside the API server. */
  run(program: "kubectl" | "helm", args: readonly string[], input?: string): Promise<Outcome> {
    return this.#run([binary(program), ...args], input);
  }

  #run(command: readonly string[], input?: string): Promise<Outcome> {
    const enter = [`--net=/run/netns/${this.namespaces.full(PLANE.name)}`, ...command];
    const direct = { NO_PROXY: "*", no_proxy: "*", PATH: `${dirname(binary("kubectl"))}:${process.env.PATH}` };
    const home = this.plane.path("home");
    const env = { ...process.env, ...direct, KUBECONFIG: this.plane.kubeconfig("admin"), HOME: home };
    return new Promise((resolve) => {
      const options = { env, timeout: PATIENCE, killSignal: "SIGKILL", maxBuffer: 2 ** 26 } as const;
      const child = execFile("nsenter", enter, options, (error, stdout, stderr) => {
        const status = error ? (typeof error.code === "number" ? error.code : -1) : 0;
        resolve({ status, stdout, stderr });
      });
      child.stdin!.on("error", () => {}); // it has ended before it read all
      child.stdin!.end(input);
    });
  }

  /** Runs a command line of a page unchanged, as the administrator, with kubectl and helm in PATH. */
  async shell(line: string): Promise<string> {
    const { status, stdout, stderr } = await this.#run(["sh", "-c", line]);
    if (status !== 0) throw new Error(`${line}: it ended with status ${status}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Runs kubectl or helm, which must succeed. @returns what it printed */
  async must(program: "kubectl" | "helm", args: readonly string[], input?: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(program, args, input);
    if (status === 0) return stdout;
    throw new Error(`${program} ${args.join(" ")} ended with status ${status}: ${stderr}${stdout}`);
  }

  kubectl(...args: string[]): Promise<string> {
    return this.must("kubectl", args);
  }

  async apply(...objects: object[]): Promise<void> {
    const items = { apiVersion: "v1", kind: "List", items: objects };
    await this.must("kubectl", ["apply", "--server-side", "-f", "-"], JSON.stringify(items));
  }

  /** Makes Services with an address each, and all that serveNamed() makes. */
  async serve(vips: readonly string[]): Promise<void> {
    await this.serveNamed(vips.map((_, index) => `web${index + 1}`));
    await Promise.all(
      vips.map((ip, index) => this.api.patch(service(`web${index + 1}`), status([{ ip }] as never), "status")),
    );
  }

  /** Makes Services, and a web server behind them on every node, on the host's network. */
  async serveNamed(names: readonly string[]): Promise<void> {
    const script =
      "require('http').createServer((q,r)=>r.end(process.env.NODE)).listen(8080);process.on('SIGTERM',()=>process.exit())";
    const container = {
      name: "web",
      image: "isat:0.1.0",
      command: ["node", "-e", script],
      env: [{ name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
    };
    const labels = { app: "web" };
    const template = {
      metadata: { labels },
      spec: { hostNetwork: true, tolerations: [{ operator: "Exists" }], containers: [container] },
    };
    const metadata = { name: "web", namespace: "default" };
    await this.apply(
      { apiVersion: "apps/v1", kind: "DaemonSet", metadata, spec: { selector: { matchLabels: labels }, template } },
      ...names.map((name) => ({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name, namespace: "default" },
        spec: {
          type: "LoadBalancer",
          allocateLoadBalancerNodePorts: false,
          selector: labels,
          ports: [{ port: 80, targetPort: 8080 }],
        },
      })),
    );
    await this.kubectl("rollout", "status", "ds/web", "--timeout=60s");
  }

  /** The pods of isat's DaemonSet, as its status counts them. */
  async daemonSet(): Promise<{ numberReady: number; updatedNumberScheduled: number; desiredNumberScheduled: number }> {
    const reference = {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name: "isat", namespace: "isat-system" },
    };
    return (await this.api.get(reference)).status;
  }

  /** isat's pods, oldest first. */
  async pods(): Promise<KubeObject[]> {
    const { items } = await this.api.list("/api/v1/namespaces/isat-system/pods");
    return items.filter(({ metadata }) => metadata.name.startsWith("isat-"));
  }

  async podOn(node: string): Promise<string> {
    const pods = await this.pods();
    const found = pods.find(({ spec, metadata }) => spec.nodeName === node && !metadata.deletionTimestamp);
    if (!found) throw new Error(`Cannot find a pod of isat on ${node}`);
    return found.metadata.name;
  }

  async allReady(): Promise<void> {
    await until(
      "all pods of isat are ready",
      async () => (await this.daemonSet()).numberReady === NODES.length,
      PATIENCE,
    );
  }

  async rolledOut(): Promise<void> {
    await this.kubectl("-n", "isat-system", "rollout", "status", "ds/isat", "--timeout=110s");
  }

  /** Asks for every VIP from the client, each `interval` ms, while `body` runs. */
  async watched(vips: readonly string[], body: () => Promise<void>, interval = 10, grace?: number): Promise<Report> {
    await using watch = await Watch.start(this.namespaces, CLIENT.name, vips, interval, grace);
    await body();
    return await watch.stop();
  }

  /** Fetches `http://VIP/` from the client by a new connection every 50 ms while `body` runs. */
  async fetched(vip: string, body: () => Promise<void>): Promise<Fetches> {
    const script = `
      const { get } = require("node:http");
      const failed = []; let asked = 0;
      const timer = setInterval(() => {
        const sent = Date.now(); asked++;
        const fail = (error) => failed.push(new Date(sent).toISOString() + " " + error);
        get("http://${vip}/", { agent: false, timeout: 2000 }, (response) => response.resume())
          .on("timeout", function () { this.destroy(new Error("no answer in 2 s")); })
          .on("error", ({ message }) => fail(message));
      }, 50);
      process.stdin.on("end", () => {
        clearInterval(timer);
        setTimeout(() => { console.log(JSON.stringify({ asked, failed })); process.exit(); }, 2100);
      }).resume();
      console.log("asking");`;
    const args = ["--eval", script];
    const child = this.namespaces.spawn(CLIENT.name, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    try {
      await lines.next();
      await body();
      child.stdin!.end();
      const { value } = await lines.next();
      if (value === undefined) throw new Error("the fetching client ended without a word");
      return JSON.parse(value);
    } finally {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await once(child, "close");
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** The names of the nodes that answered for a VIP, in turn. */
export const answerersOf = (seen: Report["vips"][number]): string[] =>
  seen.answerers.map(({ mac }) => nodeByMac(mac)?.name ?? mac);

function build(namespaces: Namespaces): void {
  namespaces.add(SWITCH);
  namespaces.ip(SWITCH, [
    "link add wire type bridge",
    `link set wire address ${GATEWAY.mac}`,
    `addr add ${GATEWAY.ip}/${PREFIX_LENGTH} dev wire`,
    "link set wire up",
  ]);
  const plane = { ...PLANE, port: 5, mac: "02:00:00:00:00:fa" };
  for (const { name, mac, ip, port } of [...NODES, CLIENT, plane]) {
    namespaces.add(name);
    namespaces.link({ namespace: name, name: "eth0", mac }, { namespace: SWITCH, name: `p${port}` });
    namespaces.ip(SWITCH, [`link set p${port} master wire`]);
    namespaces.ip(name, [`addr add ${ip}/${PREFIX_LENGTH} dev eth0`, `route add default via ${GATEWAY.ip}`]);
  }
  for (const { name, ip, port } of NODES) {
    // The API server calls webhooks in pods: there is no kube-proxy beside it.
    namespaces.ip(PLANE.name, [`route add ${podsOf(port)} via ${ip}`]);
    namespaces.sysctl(name, "net/ipv4/ip_forward", 1);
    for (const scope of ["all", "eth0"]) namespaces.sysctl(name, `net/ipv4/conf/${scope}/send_redirects`, 0);
  }
}
