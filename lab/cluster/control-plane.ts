import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { must } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";
import { Api } from "./api.ts";
import { binary } from "./binaries.ts";
import { Daemon } from "./daemon.ts";
import { askEtcd, ETCD, type Seeds, seed } from "./etcd.ts";
import { Relay } from "./relay.ts";

/** The namespace of etcd and the API server. */
export const NAMESPACE = "api";
/** The API server's address on the management network, on which nothing else runs. */
export const ADDRESS = "10.90.0.1";
export const PORT = 6443;

/** The users that the API server knows. By default RBAC gives kube-proxy its role, and the speaker none. */
export const USERS = {
  admin: { user: "admin", groups: ["system:masters"] },
  proxy: { user: "system:kube-proxy", groups: [] },
  /** Somebody who has a namespace. */
  tenant: { user: "tenant", groups: [] },
  speaker: {
    user: "system:serviceaccount:isat-system:isat",
    groups: ["system:serviceaccounts", "system:serviceaccounts:isat-system"],
  },
} as const;

export type User = keyof typeof USERS;

/** etcd and a real API server, with TLS by a self-made certificate, tokens, RBAC, and no anonymous access. */
export class ControlPlane implements AsyncDisposable {
  readonly #namespaces: Namespaces;
  readonly #folder: string;
  readonly #tokens: Record<User, string>;
  readonly #stack = new AsyncDisposableStack();
  #relay!: Relay;
  #etcd: Daemon | undefined;
  #server: Daemon | undefined;
  #apis = new Map<User, Api>();

  private constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
    this.#folder = namespaces.folder();
    const token = () => randomBytes(16).toString("hex");
    this.#tokens = { admin: token(), proxy: token(), tenant: token(), speaker: token() };
  }

  /** @param namespaces must have the namespace NAMESPACE, with ADDRESS on an interface */
  static async start(namespaces: Namespaces, signal?: AbortSignal): Promise<ControlPlane> {
    const plane = new ControlPlane(namespaces);
    try {
      await plane.#start(signal);
      return plane;
    } catch (error) {
      await plane[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(signal?: AbortSignal): Promise<void> {
    const tokens = Object.entries(USERS).map(
      ([name, { user, groups }]) => `${this.#tokens[name as User]},${user},${user},"${groups.join(",")}"`,
    );
    writeFileSync(this.#path("tokens.csv"), `${tokens.join("\n")}\n`, { mode: 0o600 });
    // Only the speakers' requests are logged, so that tests can count them.
    const rules = [
      { level: "Metadata", users: [USERS.speaker.user], omitStages: ["RequestReceived"] },
      { level: "None" },
    ];
    writeFileSync(this.#path("audit.yaml"), JSON.stringify({ apiVersion: "audit.k8s.io/v1", kind: "Policy", rules }));
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(this.#path("sa.pem"), privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });

    // In memory, as etcd waits for the disk at each write, and a busy disk would slow down every test.
    mkdirSync(this.#path("etcd"));
    await must("mount", "-t", "tmpfs", "tmpfs", this.#path("etcd"));
    const etcd = (this.#etcd = this.#run("etcd", [
      `--data-dir=${this.#path("etcd/data")}`,
      `--listen-client-urls=${ETCD}`,
      `--advertise-client-urls=${ETCD}`,
      "--listen-peer-urls=http://127.0.0.1:2380",
      "--quota-backend-bytes=4294967296",
    ]));
    await etcd.ready(async () => (await this.#ask("/version").catch(() => "")) !== "", signal);
    this.#relay = this.#stack.use(await Relay.open(this.#namespaces.full(NAMESPACE), PORT));
    await this.startServer(signal);
  }

  /** Starts the API server, or restarts it after killServer() on the same data and port. Waits until it is ready. */
  async startServer(signal?: AbortSignal): Promise<void> {
    // The running server would be taken for the new one.
    if (this.#server?.isRunning) throw new Error("Cannot start the API server as it is running. Kill it first");
    const server = (this.#server = this.#run("kube-apiserver", [
      `--etcd-servers=${ETCD}`,
      // Tests compact when they need it.
      "--etcd-compaction-interval=0",
      `--secure-port=${PORT}`,
      `--advertise-address=${ADDRESS}`,
      // Without a certificate it makes one for ADDRESS and `localhost`, and keeps it here.
      `--cert-dir=${this.#path("certificates")}`,
      `--token-auth-file=${this.#path("tokens.csv")}`,
      `--audit-policy-file=${this.#path("audit.yaml")}`,
      `--audit-log-path=${this.#path("audit.log")}`,
      "--anonymous-auth=false",
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${this.#path("sa.pem")}`,
      `--service-account-signing-key-file=${this.#path("sa.pem")}`,
      "--service-cluster-ip-range=10.96.0.0/16",
    ]));
    await server.ready(() => this.#isReady(), signal);
  }

  /** Kills the API server: its connections end at once. */
  async killServer(): Promise<void> {
    await this.#server?.end("SIGKILL");
  }

  /** Freezes the API server, with its connections open, until resumeServer(). */
  freezeServer(): void {
    process.kill(this.#server!.pid, "SIGSTOP");
  }

  resumeServer(): void {
    process.kill(this.#server!.pid, "SIGCONT");
  }

  /**
   * Makes etcd forget all versions but the last. The API server still serves its watch cache; after its next start, a
   * watch from a forgotten version ends in 410.
   */
  async compact(): Promise<void> {
    const { header } = JSON.parse(await this.#ask("/v3/kv/range", { key: Buffer.from("\0").toString("base64") }));
    await this.#ask("/v3/kv/compaction", { revision: header.revision, physical: true });
  }

  /** Writes objects into etcd, past the API server. */
  async seed(objects: Seeds): Promise<void> {
    await seed(this.#namespaces, NAMESPACE, objects);
  }

  /** All requests of the speakers so far. A watch counts once, when it begins. */
  requests(): { verb: string; uri: string }[] {
    const lines = readFileSync(this.#path("audit.log"), "utf8").split("\n").filter(Boolean);
    const found = new Map<string, { verb: string; uri: string }>();
    for (const line of lines) {
      const { auditID, verb, requestURI: uri } = JSON.parse(line);
      found.set(auditID, { verb, uri });
    }
    return [...found.values()];
  }

  /** A user's connection from this process. */
  api(user: User): Api {
    let api = this.#apis.get(user);
    if (!api) {
      api = this.#stack.use(new Api(`https://127.0.0.1:${this.#relay.port}`, this.#certificate(), this.#tokens[user]));
      this.#apis.set(user, api);
    }
    return api;
  }

  /** Writes a kubeconfig. @param from a node's namespace, or here through the relay, while this process lives */
  kubeconfig(user: User, from: "node" | "here"): string {
    const server = from === "node" ? `https://${ADDRESS}:${PORT}` : `https://127.0.0.1:${this.#relay.port}`;
    const file = this.#path(`${user}-${from}.kubeconfig`);
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        {
          name: "lab",
          cluster: {
            server,
            "certificate-authority": this.#path("certificates/apiserver.crt"),
            ...(from === "here" ? { "tls-server-name": "localhost" } : {}),
          },
        },
      ],
      users: [{ name: user, user: { token: this.#tokens[user] } }],
      contexts: [{ name: "lab", context: { cluster: "lab", user } }],
      "current-context": "lab",
    };
    writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
    return file;
  }

  /** Process ids, by name. */
  pids(): Record<"etcd" | "kube-apiserver", number> {
    return { etcd: this.#etcd!.pid, "kube-apiserver": this.#server!.pid };
  }

  #run(name: "etcd" | "kube-apiserver", args: readonly string[]): Daemon {
    // etcd 3.4 starts only on tested architectures, unless this is set.
    const env = { ETCD_UNSUPPORTED_ARCH: process.arch === "x64" ? undefined : process.arch };
    return new Daemon(this.#namespaces, NAMESPACE, this.#path(`${name}.log`), name, [binary(name), ...args], env);
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.api("admin").request("GET", "/readyz")).status === 200;
    } catch {
      return false; // no certificate yet, or nothing listens
    }
  }

  #ask(path: string, body?: object): Promise<string> {
    return askEtcd(this.#namespaces, NAMESPACE, path, body);
  }

  #certificate(): string {
    return readFileSync(this.#path("certificates/apiserver.crt"), "utf8");
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await this.#server?.end();
    await this.#etcd?.end();
  }
}
