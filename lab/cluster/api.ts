import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";

/** Any object of the API. Only the fields that tests read have types. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; resourceVersion?: string; [key: string]: unknown };
  // biome-ignore lint/suspicious/noExplicitAny: the API has a thousand types, and the server checks them
  [key: string]: any;
}

/** The fields that identify an object. */
export type Reference = Pick<KubeObject, "apiVersion" | "kind" | "metadata">;

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: see above
  body: any;
}

export interface WatchEvent {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  object: KubeObject;
}

/** An error answer of the API server. `status` is HTTP's. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, what: string, body: { message?: string }) {
    super(`Cannot ${what}: ${status} ${body.message ?? JSON.stringify(body)}`);
    this.status = status;
  }
}

const CLUSTER_WIDE = new Set(["Node", "Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"]);
const PATCH = { merge: "application/merge-patch+json", apply: "application/apply-patch+yaml" } as const;
/** Limit for an answer, ms. */
const PATIENCE = 30_000;

/** The path of an object: `/api/v1/namespaces/default/services/web`. The namespace is `default` unless it is given. */
export function pathOf({ apiVersion, kind, metadata }: Reference, subresource?: string): string {
  const tail = subresource ? `/${subresource}` : "";
  return `${collectionOf({ apiVersion, kind, metadata })}/${metadata.name}${tail}`;
}

function collectionOf({ apiVersion, kind, metadata }: Reference): string {
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const place = CLUSTER_WIDE.has(kind) ? "" : `/namespaces/${metadata.namespace ?? "default"}`;
  return `${root}${place}/${kind.toLowerCase()}s`;
}

/** One user's connection to the API server: JSON over one keep-alive agent. */
export class Api implements Disposable {
  readonly #url: string;
  readonly #token: string;
  readonly #agent: Agent;

  /** @param ca certificates as PEM; the server's certificate must be valid for `localhost` */
  constructor(url: string, ca: string, token: string) {
    this.#url = url;
    this.#token = token;
    this.#agent = new Agent({ keepAlive: true, ca, servername: "localhost" });
  }

  /** Sends a request. @returns the answer, whatever its status @throws Error where there is no server */
  request(method: string, path: string, body?: unknown, type = "application/json"): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const headers = { ...this.#headers(), ...(body === undefined ? {} : { "content-type": type }) };
      const signal = AbortSignal.timeout(PATIENCE);
      const call = request(`${this.#url}${path}`, { method, headers, agent: this.#agent, signal }, async (response) => {
        try {
          const text = (await response.toArray()).join("");
          const isJson = response.headers["content-type"]?.startsWith("application/json");
          resolve({ status: response.statusCode!, body: isJson ? JSON.parse(text) : text });
        } catch (error) {
          reject(error);
        }
      });
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: see KubeObject
  async #must(method: string, path: string, body?: unknown, type?: string): Promise<any> {
    const answer = await this.request(method, path, body, type);
    if (answer.status >= 300) throw new ApiError(answer.status, `${method} ${path}`, answer.body);
    return answer.body;
  }

  get(reference: Reference): Promise<KubeObject> {
    return this.#must("GET", pathOf(reference));
  }

  /** @param path of a collection: `/api/v1/services` */
  list(path: string): Promise<{ metadata: { resourceVersion: string }; items: KubeObject[] }> {
    return this.#must("GET", path);
  }

  create(object: KubeObject): Promise<KubeObject> {
    return this.#must("POST", collectionOf(object), object);
  }

  /**
   * Server-side apply: creates or changes the object. Fields that an earlier apply gave and this one omits are removed.
   */
  apply(object: KubeObject, subresource?: string): Promise<KubeObject> {
    const path = `${pathOf(object, subresource)}?fieldManager=isat-lab&force=true`;
    return this.#must("PATCH", path, object, PATCH.apply);
  }

  /** Merge patch (RFC 7386): null removes a field, and a list is replaced as a whole. */
  patch(reference: Reference, change: object, subresource?: string): Promise<KubeObject> {
    return this.#must("PATCH", pathOf(reference, subresource), change, PATCH.merge);
  }

  async delete(reference: Reference): Promise<void> {
    await this.#must("DELETE", pathOf(reference));
  }

  /**
   * Yields the events of a watch until the server or `signal` ends it.
   *
   * @param path of a collection, with its query: `/api/v1/services?resourceVersion=5`
   * @throws ApiError where the server refuses the watch; a 410 usually comes as an ERROR event instead
   */
  async *watch(path: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    const url = `${this.#url}${path}${path.includes("?") ? "&" : "?"}watch=true`;
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request(url, { headers: this.#headers(), agent: this.#agent, signal }, resolve).on("error", reject).end();
    });
    if (response.statusCode !== 200) {
      const text = (await response.toArray()).join("");
      throw new ApiError(response.statusCode!, `watch ${path}`, { message: text });
    }
    let rest = "";
    for await (const chunk of response.setEncoding("utf8")) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      for (const line of lines) yield JSON.parse(line);
    }
  }

  #headers(): Record<string, string> {
    return { authorization: `Bearer ${this.#token}`, accept: "application/json" };
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}
