import type { ApiError, Connection } from "../source/kubernetes/connection.ts";
import { isJson, type Json } from "../source/kubernetes/fields.ts";
import { ANSWERS, configMap, QUESTION, QUESTIONS } from "../source/kubernetes/questions.ts";
import { follow, type Handler, pathOf, TIMING } from "../source/kubernetes/watch.ts";
import type { Level } from "../source/source.ts";
import type { Question, Reply } from "./wire.ts";

export interface AskerOptions {
  connection: Connection;
  /** The namespace of the ConfigMaps. */
  namespace: string;
  signal: AbortSignal;
  onReply(node: string, reply: Reply): void;
  /** A question could not be asked. */
  onFailure(): void;
  log(level: Level, message: string): void;
}

/** Writes questions to speakers, and reads their answers. */
export class Asker {
  readonly #options: AskerOptions;
  #made: Promise<void> | undefined;
  #isTold = false;

  constructor(options: AskerOptions) {
    this.#options = options;
    const { connection, namespace, signal, onReply } = options;
    const handler: Handler = {
      put: (object) => {
        for (const [node, reply] of repliesOf(object)) onReply(node, reply);
      },
      remove: () => {},
      onListed: () => {},
      onConnection: () => {},
      onTrouble: (message) => this.#tell(message),
      log: () => {},
    };
    const never = new AbortController().signal;
    void follow(configMap(namespace, ANSWERS), handler, { connection, signal, reach: () => never, timing: TIMING });
  }

  ask(question: Question): void {
    this.#ask(question).then(
      () => this.#tell(undefined),
      (error: ApiError) => {
        this.#made = undefined; // it may have been deleted
        this.#tell(error.message);
        this.#options.onFailure();
      },
    );
  }

  async #ask(question: Question): Promise<void> {
    this.#made ??= this.#make();
    await this.#made;
    await this.#send("PATCH", QUESTIONS, { data: { [QUESTION]: JSON.stringify(question) } });
  }

  /** Makes the ConfigMaps, or removes the answers to other leaders. */
  async #make(): Promise<void> {
    for (const name of [QUESTIONS, ANSWERS]) {
      try {
        await this.#send("POST", name, { apiVersion: "v1", kind: "ConfigMap", metadata: { name } });
      } catch (error) {
        if ((error as ApiError).status !== 409) throw error;
        await this.#send("PATCH", name, { data: null });
      }
    }
  }

  async #send(method: "POST" | "PATCH", name: string, body: object): Promise<void> {
    const { connection, namespace, signal } = this.#options;
    const path = pathOf(configMap(namespace, name));
    const type = "application/merge-patch+json";
    const response = await (method === "POST"
      ? connection.send(method, path, signal, body)
      : connection.send(method, `${path}/${name}`, signal, body, type));
    response.resume();
  }

  #tell(message: string | undefined): void {
    const { signal, log } = this.#options;
    if (message !== undefined && !this.#isTold && !signal.aborted)
      log("warn", `Cannot ask speakers whether addresses are taken on the wire, and gives them unasked: ${message}`);
    this.#isTold = message !== undefined;
  }
}

/** Speakers are to be bounded in what they do: whatever is not well formed is passed over. */
function* repliesOf(object: unknown): Generator<[node: string, reply: Reply]> {
  const { data } = object as { data?: Record<string, unknown> };
  for (const [node, text] of Object.entries(data ?? {})) {
    try {
      const { id, taken, unable } = JSON.parse(String(text)) as Json;
      if (typeof id !== "string" || !isJson(taken) || !Array.isArray(unable)) continue;
      const macs = Object.entries(taken).filter(([, mac]) => /^[0-9a-f:]{17}$/.test(String(mac)));
      yield [node, { id, taken: Object.fromEntries(macs) as Record<string, string>, unable: unable.map(String) }];
    } catch {
      // it is no answer
    }
  }
}
