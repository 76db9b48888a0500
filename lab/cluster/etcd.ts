import type { Namespaces } from "../namespaces.ts";
import { curl } from "./inside.ts";

/** The address of etcd, in the API server's namespace. */
export const ETCD = "http://127.0.0.1:2379";
/** Objects in one transaction: it must fit into a command's argument. */
const SEEDS = 48;

/** Objects by their place in the registry: `services/specs/default/web`. */
export type Seeds = readonly (readonly [place: string, object: object])[];

/** Asks etcd's JSON gateway from within a namespace. By curl, as Node may open its sockets at any later time. */
export async function askEtcd(namespaces: Namespaces, namespace: string, path: string, body?: object): Promise<string> {
  const data = body ? ["--data", JSON.stringify(body)] : [];
  const { status, stdout, stderr } = await curl(namespaces, namespace, "--fail", ...data, `${ETCD}${path}`);
  if (status !== 0) throw new Error(`Cannot ask etcd for ${path}: ${stderr}`);
  return stdout;
}

/**
 * Writes objects as JSON into etcd, past the API server: ten thousand in seconds. They must have the fields that the
 * API server's registry would fill in.
 */
export async function seed(namespaces: Namespaces, namespace: string, objects: Seeds): Promise<void> {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  for (let at = 0; at < objects.length; at += SEEDS) {
    const success = objects.slice(at, at + SEEDS).map(([place, object]) => {
      return { requestPut: { key: base64(`/registry/${place}`), value: base64(JSON.stringify(object)) } };
    });
    await askEtcd(namespaces, namespace, "/v3/kv/txn", { success });
  }
}
