import { claimVerdict, type Layout, maps as layouts, NO_VERDICTS, nodeState, vipState, wireType } from "../core/abi.ts";
import { addressOfBytes, formatAddress } from "../core/address.ts";
import { formatMac } from "../core/arp.ts";
import { toMs } from "../core/time.ts";
import { bootTime } from "../ffi/libc.ts";
import type { Maps } from "../kernel/object.ts";
import { formatDuration } from "./status.ts";

export type MapName = keyof typeof layouts;
export const MAP_NAMES = Object.keys(layouts).sort() as MapName[];

const ENUMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  vip_state: vipState,
  node_state: nodeState,
  wire_type: wireType,
  claim_verdict: claimVerdict,
};
/** The halves of a key of the peer protocol are nobody's business; the others say nothing to a person. */
const LEFT_OUT: ReadonlySet<string> = new Set(["k0", "k1", "lock", "zero", "mac_text"]);
/** Random numbers and hashes. */
const IN_HEX: ReadonlySet<string> = new Set(["node", "incarnation", "probe_incarnation", "cluster", "hash", "tag"]);

/** A time as its distance from now; what will never be is as far as it is. */
function inTime(ns: bigint): string {
  const ms = toMs(bootTime() - ns);
  return ms >= 0 ? `${formatDuration(ms)} ago` : `in ${formatDuration(-ms)}`;
}

/** The limits of `interfaces` are durations; all other fields of this ending are times. */
const DURATIONS: ReadonlySet<string> = new Set(["live_ns", "hold_ns", "fence_ns", "gone_ns"]);

/** IPv4 addresses, without the empty ones at the end. */
function inAddresses(bytes: Uint8Array): string {
  const all = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.subarray(4 * i, 4 * i + 4).join("."));
  const last = all.findLastIndex((address) => address !== "0.0.0.0");
  return all.slice(0, last + 1).join(" ");
}

/** A field's value in words; "" where it says nothing. */
function inWords(name: string, value: unknown, enumName: string | undefined): string {
  if (enumName !== undefined) {
    const found = Object.entries(ENUMS[enumName] ?? {}).find(([, number]) => number === value);
    return found?.[0] ?? String(value);
  }
  if (value instanceof Uint8Array) {
    if (!value.some((byte) => byte > 0)) return "";
    return value.length === 6 ? formatMac(value) : inAddresses(value);
  }
  if (value === 0n || value === 0 || value === false) return "";
  if (typeof value === "bigint" && IN_HEX.has(name)) return value.toString(16).padStart(16, "0");
  if (typeof value === "bigint" && DURATIONS.has(name)) return formatDuration(toMs(value));
  if (typeof value === "bigint" && /_ns$|nonce$/.test(name)) return inTime(value);
  return String(value);
}

/** An entry's fields in words; those that are zero or empty are left out. */
function fieldsOf(layout: Layout<unknown>, value: unknown, leftOut: readonly string[] = []): string[] {
  return [...layout.fields].flatMap(([name, field]) => {
    if (LEFT_OUT.has(name) || leftOut.includes(name)) return [];
    const words = inWords(name, (value as Record<string, unknown>)[name], field.enum);
    return words === "" ? [] : [`${name} ${words}`];
  });
}

/** A map's entries: the name of each, and its fields in words. */
function entriesOf(maps: Maps, name: MapName): [key: string, fields: string[]][] {
  const names = new Map([...maps.interfaces.entries()].map(([ifindex, entry]) => [ifindex, entry.name]));
  const on = (ifindex: number) => names.get(ifindex) ?? `interface ${ifindex}`;
  if (name === "interfaces") {
    return [...maps.interfaces.entries()].map(([ifindex, entry]) => [
      on(ifindex),
      fieldsOf(layouts.interfaces.value, entry, ["name"]),
    ]);
  }
  if (name === "verdicts") {
    return [...names.keys()].map((ifindex) => [
      on(ifindex),
      fieldsOf(layouts.verdicts.value, maps.verdicts.get(ifindex) ?? NO_VERDICTS),
    ]);
  }
  if (name === "vips" || name === "vips6") {
    return [...maps[name].entries()].map(([{ ip, ifindex }, value]) => [
      `${formatAddress(addressOfBytes(ip))} on ${on(ifindex)}`,
      fieldsOf(layouts[name].value, value, ["check"]),
    ]);
  }
  if (name === "probes" || name === "peers") {
    return [...maps[name].entries()].map(([{ node, ifindex }, value]) => [
      `${value.node || node.toString(16)} on ${on(ifindex)}`,
      fieldsOf(layouts[name].value, { ...value, node: "" }),
    ]);
  }
  // An array has places that are not in use.
  return [...maps[name].entries()]
    .map(([place, value]): [string, string[]] => [`place ${place}`, fieldsOf(layouts[name].value, value)])
    .filter(([, fields]) => fields.length > 0);
}

/**
 * The kernel's maps in words, an entry a line, with the counters of all CPUs added up. Fields that are zero are left out,
 * and the secret halves of keys.
 */
export function formatMaps(maps: Maps, names: readonly MapName[]): string {
  return names
    .map((name) => {
      const entries = entriesOf(maps, name).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
      return [
        `${name}: ${entries.length} of ${layouts[name].entries}`,
        ...entries.map(([key, fields]) => `  ${key}: ${fields.join(", ") || "-"}`),
      ].join("\n");
    })
    .join("\n\n");
}
