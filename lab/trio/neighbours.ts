import { execFileSync } from "node:child_process";
import { execute } from "../kernel/process.ts";
import { CLIENT, nodeByMac } from "../topology.ts";
import type { Trio } from "./trio.ts";

/** Has the client's kernel learn where each VIP is, as it does for an application. */
export async function ping(trio: Trio, vips: readonly string[]): Promise<void> {
  const client = ["netns", "exec", trio.namespaces.full(trio.place(CLIENT.name)), "ping", "-c1", "-W1"];
  await Promise.all(vips.map((vip) => execute("ip", [...client, vip])));
}

/** To whom the client's kernel would send now, by its neighbour entries. */
export function neighbours(trio: Trio, vips: readonly string[]): Record<string, string | undefined> {
  const text = execFileSync("ip", ["-n", trio.namespaces.full(trio.place(CLIENT.name)), "-json", "neigh"]);
  const entries = JSON.parse(`${text}`) as { dst: string; lladdr?: string }[];
  const macOf = (ip: string) => entries.find(({ dst }) => dst === ip)?.lladdr ?? "";
  return Object.fromEntries(vips.map((ip) => [ip, nodeByMac(macOf(ip))?.name]));
}
