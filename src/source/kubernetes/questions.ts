import { existsSync, readFileSync } from "node:fs";
import type { Probed } from "../source.ts";
import type { Connection } from "./connection.ts";
import { isJson, type Json } from "./fields.ts";
import { follow, type Handler, pathOf, type Resource, TIMING } from "./watch.ts";

const NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/** The ConfigMaps by which a controller asks speakers, and they answer. Speakers watch the first one only. */
export const QUESTIONS = "isat-questions";
export const ANSWERS = "isat-answers";
/** The key of the question: no node has such a name. */
export const QUESTION = "_question";

/** A ConfigMap, as a list of one. */
export const configMap = (namespace: string, name: string): Resource => ({
  group: "",
  version: "v1",
  plural: "configmaps",
  namespace,
  query: { fieldSelector: `metadata.name=${name}` },
});

/** The namespace in which this pod runs. */
const ownNamespace = (): string =>
  existsSync(NAMESPACE_FILE) ? readFileSync(NAMESPACE_FILE, "utf8").trim() : "isat-system";

export interface QuestionsOptions {
  connection: Connection;
  node: string;
  signal: AbortSignal;
  /** Asks the wire. */
  probe(addresses: readonly string[]): Promise<Probed>;
  log(level: "info", message: string): void;
}

/** Whoever may not read the questions tries so seldom, ms: an idle speaker asks the API nothing. */
const REFUSED = 600_000;

/** Answers what a controller asks this node about the wire, until the signal. */
export function answerQuestions(options: QuestionsOptions): void {
  const { connection, node, signal, probe, log } = options;
  const refused = new AbortController();
  const namespace = ownNamespace();
  let last: unknown;
  const answer = async (id: string, addresses: readonly string[]): Promise<void> => {
    const value = JSON.stringify({ id, ...(await probe(addresses)) });
    const path = `${pathOf(configMap(namespace, ANSWERS))}/${ANSWERS}`;
    const patch = { data: { [node]: value } };
    const response = await connection.send("PATCH", path, signal, patch, "application/merge-patch+json");
    response.resume();
  };
  let isTold = false;
  const tell = (message: string | undefined) => {
    if (message !== undefined && !isTold && !signal.aborted)
      log("info", `This node cannot tell a controller which addresses are taken on the wire: ${message}`);
    isTold = message !== undefined;
  };
  const handler: Handler = {
    put: (object) => {
      const asked = questionOf(object);
      if (!asked || asked.id === last) return;
      last = asked.id;
      const addresses = asked.ask[node];
      if (!Array.isArray(addresses)) return;
      answer(asked.id, addresses.map(String)).catch((error: Error) => tell(error.message));
    },
    remove: () => {},
    onListed: () => {},
    onConnection: () => {},
    onTrouble: (message) => {
      // That the API is out of reach, all other watches tell as well.
      if (!message?.startsWith("Cannot list and watch") || refused.signal.aborted) return;
      tell(message);
      refused.abort();
      setTimeout(() => !signal.aborted && answerQuestions({ ...options, log: () => {} }), REFUSED).unref();
    },
    log: () => {},
  };
  const never = new AbortController().signal;
  const until = AbortSignal.any([signal, refused.signal]);
  const following = { connection, signal: until, reach: () => never, timing: TIMING };
  void follow(configMap(namespace, QUESTIONS), handler, following);
}

function questionOf(object: unknown): { id: string; ask: Json } | undefined {
  const { data } = object as { data?: Record<string, unknown> };
  try {
    const { id, ask } = JSON.parse(String(data?.[QUESTION]));
    return typeof id === "string" && isJson(ask) ? { id, ask } : undefined;
  } catch {
    return undefined; // nobody has asked yet
  }
}
