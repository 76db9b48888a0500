/** The part of an API server that isat uses. A test can make it misbehave as a real one does only now and then. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

interface ApiObject {
  metadata: { name: string; namespace?: string; resourceVersion?: string };
}
type Sink = { plural: string; isMeant: (object: ApiObject) => boolean; response: ServerResponse };

/** By the field selector `metadata.name`, which is the only one that isat uses. */
const meantBy = ({ fieldSelector }: Record<string, string>) => {
  const [, name] = /^metadata\.name=(.+)$/.exec(fieldSelector ?? "") ?? [];
  return ({ metadata }: ApiObject) => name === undefined || metadata.name === name;
};

const keyOf = ({ metadata: { namespace, name } }: ApiObject) => `${namespace ?? ""}/${name}`;

/** PEM. */
export interface Identity {
  key: string;
  cert: string;
  ca: string;
}

export class Api {
  /** The token that a request must have; undefined: none. */
  token: string | undefined;
  #identity: Identity | undefined;
  /** The requests in the order in which they came, such as `GET services?watch`. */
  readonly requests: string[] = [];
  readonly events: { metadata: { name: string }; involvedObject: object; message: string }[] = [];
  /** The answer to a WatchList: as it should be, an ERROR event (etcd without progress), or a refusal. */
  /** ms before each object of a list. */
  pause = 0;
  watchList: "served" | "error" | "refused" = "served";
  /** Resources that may not be read. */
  readonly denied = new Set<string>();
  /** Resources that are not served at all. */
  readonly absent = new Set<string>(["ipaddresspools", "l2advertisements"]);
  /** Resources that can be listed, and whose watches are refused: their versions are newer than what this server knows. */
  readonly behind = new Set<string>();
  /** Namespaces that are being deleted: nothing can be created in them. */
  readonly terminating = new Set<string>();
  /** It answers nothing, and sends nothing in open watches, but connections stay open. */
  isFrozen = false;
  /** So many times, the next page after the first is refused as expired. */
  expirePages = 0;
  /** So many times, the next request is refused as one too many, with a Retry-After of 0. */
  busy = 0;
  #objects = new Map<string, Map<string, ApiObject>>();
  #changes: { version: number; plural: string; type: string; object: ApiObject }[] = [];
  #version = 1;
  #oldest = 0;
  #watches = new Set<Sink>();
  /** The connections, and the resource that was asked for last on each. */
  #sockets = new Map<Socket, string>();
  #server: Server | undefined;
  #port = 0;

  get url(): string {
    return `${this.#identity ? "https" : "http"}://127.0.0.1:${this.#port}`;
  }

  get watches(): string[] {
    return [...this.#watches].map(({ plural }) => plural).sort();
  }

  /** @param identity for TLS, where a client must show a certificate of the same authority */
  async start(identity?: Identity): Promise<void> {
    this.#identity = identity;
    const answer = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    const tls = { ...identity, requestCert: true, rejectUnauthorized: true };
    const server = identity ? createSecureServer(tls, answer) : createServer(answer);
    server.on("connection", (socket: Socket) => {
      this.#sockets.set(socket, "");
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Stops as a server that is killed. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    this.cut();
    await closed;
  }

  /** Ends every connection, or those on which a resource was asked for last. */
  cut(only?: string): void {
    for (const [socket, plural] of this.#sockets) if (only === undefined || plural === only) socket.destroy();
    for (const sink of this.#watches) if (only === undefined || sink.plural === only) this.#watches.delete(sink);
  }

  put(plural: string, object: object): void {
    const its = structuredClone(object) as ApiObject;
    its.metadata.resourceVersion = String(++this.#version);
    const all = this.#of(plural);
    this.#change(plural, all.has(keyOf(its)) ? "MODIFIED" : "ADDED", its);
    all.set(keyOf(its), its);
  }

  remove(plural: string, name: string, namespace = "default"): void {
    const all = this.#of(plural);
    const key = all.has(`${namespace}/${name}`) ? `${namespace}/${name}` : `/${name}`;
    const object = structuredClone(all.get(key)!);
    all.delete(key);
    object.metadata.resourceVersion = String(++this.#version);
    this.#change(plural, "DELETED", object);
  }

  /** Forgets all versions before now. Open watches end with an ERROR of 410, as those that are too slow. */
  compact(): void {
    this.#oldest = this.#version;
    this.error(410, "too old resource version");
  }

  error(code: number, message: string): void {
    this.say(JSON.stringify({ type: "ERROR", object: { kind: "Status", code, message } }));
  }

  bookmark(): void {
    this.#version += 1;
    const metadata = { resourceVersion: String(this.#version) };
    this.say(JSON.stringify({ type: "BOOKMARK", object: { metadata } }));
  }

  /** Sends a line in every open watch, or in those of one resource. */
  say(line: string, only?: string): void {
    for (const { plural, response } of this.#watches) if (!only || only === plural) response.write(`${line}\n`);
  }

  /** Ends all watches in good order, as a server does after half an hour. */
  end(last = ""): void {
    for (const { response } of this.#watches) response.end(last);
    this.#watches.clear();
  }

  #of(plural: string): Map<string, ApiObject> {
    let all = this.#objects.get(plural);
    if (!all) this.#objects.set(plural, (all = new Map()));
    return all;
  }

  #change(plural: string, type: string, object: ApiObject): void {
    this.#changes.push({ version: this.#version, plural, type, object });
    if (this.isFrozen) return;
    for (const sink of this.#watches) {
      if (sink.plural === plural && sink.isMeant(object)) sink.response.write(`${JSON.stringify({ type, object })}\n`);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const url = new URL(request.url ?? "", this.url);
    const plural = url.pathname.split("/").at(-1)!;
    this.#sockets.set(request.socket, plural);
    const query = Object.fromEntries(url.searchParams);
    const { labelSelector: _, fieldSelector: __, ...told } = query;
    this.requests.push(`${request.method} ${plural}?${new URLSearchParams(told)}`);
    if (this.isFrozen) return;
    const refuse = (code: number, message: string, headers = {}) => {
      response.writeHead(code, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify({ kind: "Status", code, message }));
    };
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) return refuse(401, "Unauthorized");
    if (this.busy > 0) {
      this.busy -= 1;
      return refuse(429, "too many requests", { "retry-after": "0" });
    }
    if (this.denied.has(plural))
      return refuse(403, `${plural} is forbidden: User "isat" cannot list resource "${plural}"`);
    if (this.absent.has(plural)) return refuse(404, "the server could not find the requested resource");
    if (request.method === "POST") return this.#takeEvent(request, response, refuse);
    if (query.watch) return this.#watch(plural, query, response, refuse);
    if (query.continue && this.expirePages > 0) {
      this.expirePages -= 1;
      return refuse(410, "The provided continue parameter is too old");
    }
    const items = [...this.#of(plural).values()].filter(meantBy(query));
    const start = Number(query.continue ?? 0);
    const end = start + Number(query.limit ?? items.length);
    const next = end < items.length ? String(end) : undefined;
    response.writeHead(200, { "content-type": "application/json" });
    const metadata = { resourceVersion: String(this.#version), continue: next };
    response.end(JSON.stringify({ kind: "List", apiVersion: "v1", metadata, items: items.slice(start, end) }));
  }

  async #watch(
    plural: string,
    query: Record<string, string>,
    response: ServerResponse,
    refuse: (code: number, message: string) => unknown,
  ): Promise<unknown> {
    const isListing = query.sendInitialEvents === "true";
    if (isListing && this.watchList === "refused") {
      return refuse(
        422,
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
      );
    }
    if (!isListing && this.behind.has(plural)) return refuse(504, "Too large resource version");
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    const write = (type: string, object: object) => response.write(`${JSON.stringify({ type, object })}\n`);
    if (isListing && this.watchList === "error") {
      write("ERROR", { kind: "Status", code: 500, message: "etcd does not report progress" });
      return response.end();
    }
    const since = Number(query.resourceVersion ?? 0);
    const isMeant = meantBy(query);
    if (!isListing && since < this.#oldest) {
      write("ERROR", { kind: "Status", code: 410, message: `too old resource version: ${since} (${this.#oldest})` });
      return response.end();
    }
    if (isListing) {
      for (const object of this.#of(plural).values()) {
        if (this.pause > 0) await sleep(this.pause);
        if (isMeant(object)) write("ADDED", object);
      }
      const annotations = { "k8s.io/initial-events-end": "true" };
      write("BOOKMARK", { metadata: { resourceVersion: String(this.#version), annotations } });
    } else {
      for (const change of this.#changes) {
        if (change.plural === plural && change.version > since && isMeant(change.object))
          write(change.type, change.object);
      }
    }
    const sink = { plural, isMeant, response };
    this.#watches.add(sink);
    response.on("close", () => this.#watches.delete(sink));
  }

  async #takeEvent(
    request: IncomingMessage,
    response: ServerResponse,
    refuse: (code: number, message: string) => unknown,
  ): Promise<unknown> {
    let text = "";
    for await (const chunk of request) text += chunk;
    const event = JSON.parse(text);
    const { namespace, name } = event.metadata;
    if (this.terminating.has(namespace))
      return refuse(403, `events "${name}" is forbidden: namespace ${namespace} is being terminated`);
    if (name.length > 253) return refuse(422, "metadata.name: must be no more than 253 characters");
    if (this.events.some(({ metadata }) => metadata.name === name)) return refuse(409, "already exists");
    this.events.push(event);
    response.writeHead(201, { "content-type": "application/json" });
    response.end(text);
  }
}
