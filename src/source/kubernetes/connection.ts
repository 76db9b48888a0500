import { existsSync, readFileSync } from "node:fs";
import { type IncomingMessage, Agent as PlainAgent, request as requestPlain } from "node:http";
import { Agent, type RequestOptions, request } from "node:https";
import { delimiter, dirname, resolve } from "node:path";
import process from "node:process";
import { KubeConfig } from "@kubernetes/client-node/dist/config.js"; // the package as a whole loads the clients of all APIs
import { parse } from "yaml";
import { type Address, readAddress } from "../../core/address.ts";
import { Credentials } from "./credentials.ts";

/** A refusal by the API, with the status of its answer. */
export class ApiError extends Error {
  readonly status: number;
  /** The pause that the API asks for, ms. */
  readonly retryAfter: number;

  constructor(status: number, message: string, retryAfter = 0) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The longest time to connect, and then the longest time until the API begins to answer, ms. */
const CONNECT = 4_000;
const ANSWER = 15_000;
/**
 * After this silence TCP probes a connection once a second, ten times, so that a dead one is noticed in 13 s, ms. Deno
 * leaves the pause between probes to the system; there the stall of a watch tells.
 */
const KEEP_ALIVE = 3_000;
const MAX_ERROR = 100_000;
const JSON_TYPE = "application/json";
/** The longest pause that the API, or a proxy before it, may ask for, ms: isat's view of the cluster gets old meanwhile. */
const MAX_PAUSE = 30_000;

/**
 * Sends requests to one API server. client-node reads the configuration, authenticates and renews credentials. It does not
 * connect, because its own calls make an agent, and so a TLS connection, for each call.
 */
export class Connection {
  readonly #path: string | undefined;
  readonly #credentials = new Credentials();
  #config: KubeConfig | undefined;
  #agent: { agent: Agent | PlainAgent; made: string } | undefined;

  /** @param path of a kubeconfig; undefined: the files that KUBECONFIG lists, or what a pod is given */
  constructor(path: string | undefined) {
    this.#path = path;
  }

  /**
   * Sends a request. @param body sent as JSON @param type of the body @returns the answer, as soon as it has begun
   * @throws ApiError if the API refuses; Error in one line if it cannot be reached
   */
  async send(
    method: string,
    path: string,
    signal: AbortSignal,
    body?: object,
    type = JSON_TYPE,
  ): Promise<IncomingMessage> {
    const config = (this.#config ??= readKubeConfig(this.#path));
    try {
      const response = await this.#exchange(config, method, path, signal, body, type);
      const { statusCode = 0 } = response;
      if (statusCode < 400) return response;
      throw await refusalOf(response, statusCode);
    } catch (error) {
      if (signal.aborted) throw error;
      // The credentials or the file may have been replaced, so the next attempt reads them again.
      if (!(error instanceof ApiError) || error.status === 401) this.#config = undefined;
      if (error instanceof ApiError) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Error(`Cannot reach the API at ${config.getCurrentCluster()?.server}: ${message || code}`);
    }
  }

  /** The API server's address; undefined where it is reached by a name, or not tried yet. */
  get address(): Address | undefined {
    const { server = "" } = this.#config?.getCurrentCluster() ?? {};
    return URL.canParse(server) ? readAddress(hostOf(new URL(server))) : undefined;
  }

  async #exchange(
    config: KubeConfig,
    method: string,
    path: string,
    signal: AbortSignal,
    body: object | undefined,
    type: string,
  ) {
    const { server = "", proxyUrl } = config.getCurrentCluster() ?? {};
    const url = new URL(server);
    const text = body && JSON.stringify(body);
    const options: RequestOptions = {
      method,
      host: hostOf(url),
      port: url.port,
      path: `${url.pathname.replace(/\/$/, "")}${path}`,
      signal,
      headers: {
        accept: "application/json",
        "user-agent": "isat",
        ...(text && { "content-type": type, "content-length": Buffer.byteLength(text) }),
      },
    };
    const credentials = await this.#credentials.of(config);
    const headers = { ...options.headers, ...credentials.headers } as Record<string, string>;
    Object.assign(options, { ...credentials, ...options, headers });
    if (headers.Authorization) headers.Authorization = headers.Authorization.trim(); // a token's file may end in a newline
    const isPlain = url.protocol === "http:";
    if (!proxyUrl) options.agent = this.#agentOf(options, isPlain) as Agent;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = (isPlain ? requestPlain : request)(options, resolve);
    let timer: NodeJS.Timeout | undefined;
    const allow = (time: number) => {
      clearTimeout(timer);
      timer = setTimeout(() => sent.destroy(new Error(`no answer within ${time / 1000} s`)), time);
    };
    allow(CONNECT);
    sent.on("error", reject);
    sent.on("socket", (socket) => {
      socket.setKeepAlive(true, KEEP_ALIVE);
      if (socket.connecting) socket.once("connect", () => allow(ANSWER));
      else allow(ANSWER);
    });
    sent.end(text);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Returns the agent; it makes a new one if certificates or keys have changed. */
  #agentOf({ ca, cert, key, rejectUnauthorized, servername }: RequestOptions, isPlain: boolean): Agent | PlainAgent {
    const made = JSON.stringify([isPlain, String(ca), String(cert), String(key), rejectUnauthorized, servername]);
    if (this.#agent?.made !== made) {
      // The agent before is not destroyed, because watches may still run on it.
      const all = Object.entries({ ca, cert, key, rejectUnauthorized, servername });
      const security = Object.fromEntries(all.filter(([, value]) => value || value === false));
      const agent = isPlain ? new PlainAgent({ keepAlive: true }) : new Agent({ keepAlive: true, ...security });
      this.#agent = { agent, made };
    }
    return this.#agent.agent;
  }

  close(): void {
    this.#credentials.close();
    this.#agent?.agent.destroy();
  }
}

/** Without the brackets of an IPv6 address. */
const hostOf = ({ hostname }: URL) => hostname.replace(/^\[(.*)\]$/, "$1");

function readKubeConfig(path: string | undefined): KubeConfig {
  const { KUBECONFIG = "", KUBERNETES_SERVICE_HOST } = process.env;
  const files = path ? [path] : KUBECONFIG.split(delimiter).filter(Boolean);
  if (files.length === 0 && !KUBERNETES_SERVICE_HOST) {
    throw new Error(
      "Cannot tell where the API is: isat does not run in a pod (KUBERNETES_SERVICE_HOST is not set), and there is no kubeconfig. Set source.kubeconfig, or KUBECONFIG in the environment",
    );
  }
  const config = new KubeConfig();
  if (files.length === 0) {
    config.loadFromCluster();
    return config;
  }
  // As kubectl does it: what is missing of a list is passed over, and of two entries with a name the first one counts.
  const present = files.filter((file) => existsSync(file));
  for (const file of present.length > 0 ? present : files) merge(config, readFile(file));
  if (!URL.canParse(config.getCurrentCluster()?.server ?? "")) {
    throw new Error(`Cannot use the kubeconfig ${files.join(delimiter)}: its context names no server`);
  }
  return config;
}

function readFile(file: string): KubeConfig {
  const config = new KubeConfig();
  try {
    config.loadFromFile(file);
    takeTokenFiles(config, file);
    return config;
  } catch (error) {
    throw new Error(`Cannot use the kubeconfig ${file}: ${(error as Error).message}`);
  }
}

function merge(config: KubeConfig, next: KubeConfig): void {
  const isNew =
    (known: readonly { name: string }[] = []) =>
    ({ name }: { name: string }) =>
      !known.some((its) => its.name === name);
  next.clusters = next.clusters.filter(isNew(config.clusters));
  next.users = next.users.filter(isNew(config.users));
  next.contexts = next.contexts.filter(isNew(config.contexts));
  config.mergeConfig(next, Boolean(config.currentContext));
}

/** Handles a user's key `tokenFile` as kubectl does: client-node has it by another name, and reads the file only once. */
function takeTokenFiles(config: KubeConfig, file: string): void {
  const { users } = (parse(readFileSync(file, "utf8")) ?? {}) as {
    users?: { name: string; user?: { tokenFile?: string } }[];
  };
  const tokenFileOf = (name: string) => users?.find((its) => its.name === name)?.user?.tokenFile;
  config.users = config.users.map((user) => {
    const tokenFile = tokenFileOf(user.name);
    if (!tokenFile) return user;
    return { ...user, authProvider: { name: "tokenFile", config: { tokenFile: resolve(dirname(file), tokenFile) } } };
  });
}

async function refusalOf(response: IncomingMessage, status: number): Promise<ApiError> {
  let text = "";
  for await (const chunk of response) {
    text += chunk;
    if (text.length > MAX_ERROR) response.destroy();
  }
  let message = text.slice(0, 200);
  try {
    message = (JSON.parse(text) as { message?: string }).message ?? message;
  } catch {
    // it is not a Status of the API but some proxy's page
  }
  const seconds = Number(response.headers["retry-after"] ?? 0);
  const pause = Number.isFinite(seconds) ? Math.min(seconds * 1000, MAX_PAUSE) : 0;
  return new ApiError(status, message || `HTTP ${status}`, pause);
}
