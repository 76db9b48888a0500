import type { Trio } from "./trio.ts";

/** Drops EtherType 0x88B5 at these devices of a host, and nothing else, until it is disposed of. */
export function swallow(trio: Trio, host: string, hook: "ingress" | "egress", devices: readonly string[]): Disposable {
  const place = trio.place(host);
  const list = devices.map((device) => `"${device}"`).join(", ");
  const hooked = `type filter hook ${hook} devices = { ${list} } priority -500`;
  const lines = ["table netdev swallow {", "chain losses {", hooked, "ether type 0x88b5 drop", "}", "}"];
  trio.namespaces.nft(place, `${lines.join("\n")}\n`);
  return { [Symbol.dispose]: () => trio.namespaces.nft(place, "delete table netdev swallow") };
}
