import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Api } from "../cluster/api.ts";
import { binary } from "../cluster/binaries.ts";
import { Daemon } from "../cluster/daemon.ts";
import { ETCD, type Seeds, seed } from "../cluster/etcd.ts";
import { Relay } from "../cluster/relay.ts";
import { must } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";

/** The namespace of the control plane, and its address on the wire. */
export const PLANE = { name: "api", ip: "10.9.255.250", port: 6443 } as const;

/** etcd, an API server with certificates as a real one has them, controllers and a scheduler. */
export class Plane implements AsyncDisposable {
  readonly #namespaces: Namespaces;
  readonly #folder: string;
  readonly #daemons: Daemon[] = [];
  readonly #stack = new AsyncDisposableStack();
  readonly #tokens = new Map<string, string>();
  #server: Daemon | undefined;
  #relay!: Relay;
  #api: Api | undefined;

  private constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
    this.#folder = namespaces.folder();
  }

  /** @param nodes the names of those whose kubelets it is to know */
  static async start(namespaces: Namespaces, nodes: readonly string[]): Promise<Plane> {
    const plane = new Plane(namespaces);
    try {
      await plane.#makeKeys();
      plane.#makeTokens(nodes);
      await plane.#start();
      return plane;
    } catch (error) {
      await plane[Symbol.asyncDispose]();
      throw error;
    }
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  get ca(): string {
    return this.path("ca.crt");
  }

  get api(): Api {
    const url = `https://127.0.0.1:${this.#relay.port}`;
    this.#api ??= this.#stack.use(new Api(url, readFileSync(this.ca, "utf8"), this.#tokens.get("admin")!));
    return this.#api;
  }

  /** A kubeconfig of a user, for any namespace on the wire. */
  kubeconfig(user: string): string {
    const file = this.path(`${user}.kubeconfig`);
    if (existsSync(file)) return file; // somebody may be reading it
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        { name: "lab", cluster: { server: `https://${PLANE.ip}:${PLANE.port}`, "certificate-authority": this.ca } },
      ],
      users: [{ name: user, user: { token: this.#tokens.get(user) } }],
      contexts: [{ name: "lab", context: { cluster: "lab", user } }],
      "current-context": "lab",
    };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    return file;
  }

  async #makeKeys(): Promise<void> {
    const openssl = (...args: string[]) => must("openssl", ...args);
    const key = (name: string) => openssl("genrsa", "-out", this.path(`${name}.key`), "2048");
    const ca = ["-keyout", this.path("ca.key"), "-out", this.ca, "-subj", "/CN=lab", "-days", "30"];
    await openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", ...ca);
    await key("sa");
    const sign = async (name: string, subject: string, names = "") => {
      await key(name);
      const request = this.path(`${name}.csr`);
      const extensions = this.path(`${name}.ext`);
      await openssl("req", "-new", "-key", this.path(`${name}.key`), "-subj", subject, "-out", request);
      writeFileSync(extensions, `extendedKeyUsage=serverAuth,clientAuth\n${names && `subjectAltName=${names}\n`}`);
      const by = ["-CA", this.ca, "-CAkey", this.path("ca.key"), "-CAcreateserial", "-days", "30"];
      const files = ["-in", request, "-out", this.path(`${name}.crt`), "-extfile", extensions];
      await openssl("x509", "-req", ...files, ...by);
    };
    const service = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc";
    await sign("server", "/CN=kube-apiserver", `IP:10.96.0.1,IP:${PLANE.ip},IP:127.0.0.1,DNS:localhost,${service}`);
    await sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client");
  }

  #makeTokens(nodes: readonly string[]): void {
    const users: [name: string, user: string, group?: string][] = [
      ["admin", "admin", "system:masters"],
      ["controllers", "system:kube-controller-manager"],
      ["scheduler", "system:kube-scheduler"],
      ["proxy", "system:kube-proxy"],
      ...nodes.map((name): [string, string, string] => [name, `system:node:${name}`, "system:nodes"]),
    ];
    const rows = users.map(([name, user, group = ""]) => {
      const token = randomBytes(16).toString("hex");
      this.#tokens.set(name, token);
      return `${token},${user},${user},"${group}"`;
    });
    writeFileSync(this.path("tokens.csv"), `${rows.join("\n")}\n`, { mode: 0o600 });
  }

  async #start(): Promise<void> {
    mkdirSync(this.path("etcd"));
    await must("mount", "-t", "tmpfs", "tmpfs", this.path("etcd"));
    this.#run("etcd", [
      `--data-dir=${this.path("etcd/data")}`,
      `--listen-client-urls=${ETCD}`,
      `--advertise-client-urls=${ETCD}`,
      "--listen-peer-urls=http://127.0.0.1:2380",
      "--quota-backend-bytes=4294967296",
    ]);
    this.#relay = this.#stack.use(await Relay.open(this.#namespaces.full(PLANE.name), PLANE.port));
    await this.startServer();
    this.#run("kube-controller-manager", [
      `--kubeconfig=${this.kubeconfig("controllers")}`,
      "--use-service-account-credentials",
      `--service-account-private-key-file=${this.path("sa.key")}`,
      `--root-ca-file=${this.ca}`,
      "--leader-elect=false",
      "--concurrent-service-endpoint-syncs=4",
    ]);
    this.#run("kube-scheduler", [`--kubeconfig=${this.kubeconfig("scheduler")}`, "--leader-elect=false"]);
  }

  /** Starts the API server, again after killServer() on the same data, and waits until it is ready. */
  async startServer(): Promise<void> {
    const server = this.#run("kube-apiserver", [
      `--etcd-servers=${ETCD}`,
      `--secure-port=${PLANE.port}`,
      `--advertise-address=${PLANE.ip}`,
      "--allow-privileged=true",
      `--client-ca-file=${this.ca}`,
      `--tls-cert-file=${this.path("server.crt")}`,
      `--tls-private-key-file=${this.path("server.key")}`,
      `--token-auth-file=${this.path("tokens.csv")}`,
      `--kubelet-client-certificate=${this.path("kubelet-client.crt")}`,
      `--kubelet-client-key=${this.path("kubelet-client.key")}`,
      "--kubelet-preferred-address-types=InternalIP",
      `--service-account-key-file=${this.path("sa.key")}`,
      `--service-account-signing-key-file=${this.path("sa.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--enable-aggregator-routing", // webhooks are called at the pods' addresses
    ]);
    this.#server = server;
    await server.ready(async () => {
      try {
        return (await this.api.request("GET", "/readyz")).status === 200;
      } catch {
        return false; // nothing listens yet
      }
    });
  }

  /** Writes objects into etcd, past the API server. */
  async seed(objects: Seeds): Promise<void> {
    await seed(this.#namespaces, PLANE.name, objects);
  }

  async killServer(): Promise<void> {
    await this.#server!.end("SIGKILL");
  }

  #run(
    name: "etcd" | "kube-apiserver" | "kube-controller-manager" | "kube-scheduler",
    args: readonly string[],
  ): Daemon {
    const command = [binary(name), ...args] as const;
    const daemon = new Daemon(this.#namespaces, PLANE.name, this.path(`${name}.log`), name, command);
    this.#daemons.push(daemon);
    return daemon;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    // The API server takes seconds to end once etcd is gone: none of them is asked to end by itself.
    for (const daemon of this.#daemons.toReversed()) await daemon.end("SIGKILL");
  }
}
