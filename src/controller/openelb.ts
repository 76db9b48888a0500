/**
 * Turns OpenELB's Eips (network.kubesphere.io/v1alpha2) and the annotations of its Services into isat's configuration and
 * annotations: what `isat import openelb` prints. Pure.
 */
import { stringify } from "yaml";
import { type Address, blockOf, formatAddress, parseRange, type Range, readAddress } from "../core/address.ts";
import { isJson, type Json, labelsOf, part } from "../source/kubernetes/fields.ts";
import { nameOf } from "../source/kubernetes/objects.ts";
import type { Resource } from "../source/kubernetes/watch.ts";
import { formatRange } from "./inventory.ts";

export const EIPS: Resource = { group: "network.kubesphere.io", version: "v1alpha2", plural: "eips" };

const OPENELB = "openelb.kubesphere.io";
const SERVED = "lb.kubesphere.io/v1alpha1";
const EIP_ADDRESS = `eip.${OPENELB}/v1alpha1`;
const EIP_NAME = `eip.${OPENELB}/v1alpha2`;
const DEFAULT = `eip.${OPENELB}/is-default-eip`;
const PROTOCOL = `protocol.${OPENELB}/v1alpha1`;
const FINALIZER = "finalizer.lb.kubesphere.io/v1alpha1";
/** The protocols that are layer 2. keepalived's answers ARP as well, by VRRP. */
const LAYER_2 = ["layer2", "vip"];

export interface Import {
  /** The part of a configuration. */
  config: { pools: object[]; source: object; interfaces?: string[] };
  /** The annotations that a Service is to have, by its key. */
  annotations: Map<string, Record<string, string>>;
  /** The Services that have OpenELB's finalizer: without OpenELB nobody can delete them. */
  finalizers: string[];
  /** Settings that have no equal, or mean something else. */
  notes: string[];
}

interface Eip {
  name: string;
  range: Range;
  isDisabled: boolean;
  interface: string;
  pool: { name: string; addresses: string[] } & Record<string, unknown>;
}

/** A Service that OpenELB serves. */
interface Its {
  key: string;
  asked: string | undefined;
  pool: string | undefined;
  ips: Address[];
}

export function importOpenelb(eips: readonly unknown[], services: readonly unknown[]): Import {
  const notes: string[] = [];
  const read = eips.flatMap((eip) => {
    try {
      return eipOf(eip, notes);
    } catch (error) {
      notes.push(`Eip ${nameOf(eip)} cannot be read: ${(error as Error).message}`);
      return [];
    }
  });
  const finalizers: string[] = [];
  const its = services.flatMap((service) => serviceOf(service, finalizers, notes));
  const used = read.filter(({ isDisabled }) => !isDisabled);
  const annotations = annotationsOf(its, read, notes);
  const interfaces = [...new Set(read.map((eip) => eip.interface).filter(Boolean))];
  const isOne = interfaces.length === 1 && !interfaces[0]!.startsWith("can_reach:");
  if (interfaces.length > 0 && !isOne)
    notes.push(
      `spec.interface is ${interfaces.join(" and ")}: isat announces on every interface that is in the VIP's subnet. Set interfaces, or name them by L2Advertisements`,
    );
  return {
    config: {
      ...(isOne && { interfaces }),
      pools: used.map(({ pool }) => pool),
      source: { kind: "kubernetes", addresses: read.map(({ range }) => formatRange(range)) },
    },
    ...{ annotations, finalizers, notes },
  };
}

/** @throws Error that names the field */
function eipOf(object: unknown, notes: string[]): Eip[] {
  const name = nameOf(object);
  const { annotations } = part((object as Json).metadata, "metadata");
  const spec = part((object as Json).spec, "spec");
  const { protocol = "bgp", address, disable, priority, namespaces, namespaceSelector, usingKnownIPs } = spec;
  if (!LAYER_2.includes(String(protocol))) {
    notes.push(`Eip ${name} is of protocol ${protocol}, which isat does not speak: it is left out, with its Services`);
    return [];
  }
  const range = rangeOf(String(address));
  if (disable === true)
    notes.push(`Eip ${name} is disabled: it is no pool, and its addresses are announced where Services have them`);
  if (usingKnownIPs === true) notes.push(`Eip ${name} has usingKnownIPs, which has no equal`);
  const labels = labelsOf(namespaceSelector, "spec.namespaceSelector");
  const own = {
    ...(Array.isArray(namespaces) && namespaces.length > 0 && { namespaces }),
    ...(Object.keys(labels).length > 0 && { namespaceSelector: { matchLabels: labels } }),
  };
  const isDefault = String(part(annotations, "metadata.annotations")[DEFAULT]) === "true";
  const isBound = Object.keys(own).length > 0;
  if (isDefault && isBound)
    notes.push(`Eip ${name} is the default, and for some namespaces: pool ${name} is for these alone`);
  // The lowest number comes first, which is 0 there, and 1 in isat. The default one comes after all that select.
  const rank = isBound ? { priority: Math.max(0, Number(priority ?? 0)) + 1 } : {};
  const pool = { name, addresses: [formatRange(range)], ...own, ...rank, ...(!isBound && !isDefault && ON_REQUEST) };
  return [{ name, range, isDisabled: disable === true, interface: String(spec.interface ?? ""), pool }];
}

/** An Eip that is neither the default nor for some namespaces serves Services that ask for it. */
const ON_REQUEST = { autoAssign: false };

/** A block may be written by any address in it, as Go reads it. */
function rangeOf(address: string): Range {
  const [, base, prefix] = /^([^/]+)\/(\d+)$/.exec(address) ?? [];
  const its = base === undefined ? undefined : readAddress(base);
  return its === undefined ? parseRange(address) : blockOf(its, Number(prefix));
}

function serviceOf(object: unknown, finalizers: string[], notes: string[]): Its[] {
  const { metadata, spec, status } = object as { metadata?: Json; spec?: Json; status?: Json };
  const key = nameOf(object);
  if (Array.isArray(metadata?.finalizers) && metadata.finalizers.includes(FINALIZER)) finalizers.push(key);
  if (spec?.type !== "LoadBalancer") return [];
  const own = isJson(metadata?.annotations) ? metadata.annotations : {};
  const entries = isJson(status?.loadBalancer) ? status.loadBalancer.ingress : [];
  const ips = (Array.isArray(entries) ? entries : [])
    .map((entry) => readAddress(String(isJson(entry) ? entry.ip : "")))
    .filter((address) => address !== undefined);
  if (own[SERVED] !== "openelb") {
    if (ips.length === 0 && !spec.loadBalancerClass)
      notes.push(`Service ${key} has no class and is not OpenELB's: isat controller will give it an address`);
    return [];
  }
  if (own[PROTOCOL] === "bgp") {
    notes.push(`Service ${key} is of protocol bgp: isat answers ARP for it if it has an address of a pool`);
  }
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return [{ key, asked: text(own[EIP_ADDRESS]), pool: text(own[EIP_NAME]), ips }];
}

/** OpenELB lets Services share an address if they ask for the same one; isat does if they have one key. */
function annotationsOf(its: readonly Its[], eips: readonly Eip[], notes: string[]): Import["annotations"] {
  const annotations: Import["annotations"] = new Map();
  const on = Map.groupBy(
    its.flatMap(({ key, ips }) => ips.map((ip) => ({ key, ip }))),
    ({ ip }) => ip,
  );
  for (const { key, asked, pool, ips } of its) {
    const shared = ips.find((ip) => on.get(ip)!.length > 1);
    const isThere = pool === undefined || eips.some(({ name, isDisabled }) => name === pool && !isDisabled);
    if (!isThere) notes.push(`Service ${key} asks for Eip ${pool}, which is no pool: it keeps its address`);
    const wanted = {
      ...(asked !== undefined && { "isat.io/addresses": asked }),
      ...(pool !== undefined && isThere && { "isat.io/pool": pool }),
      ...(shared !== undefined && { "isat.io/share": formatAddress(shared) }),
    };
    if (Object.keys(wanted).length > 0) annotations.set(key, wanted);
  }
  for (const [ip, all] of on) {
    if (new Set(all.map(({ key }) => key.split("/")[0])).size < 2) continue;
    const eip = eips.find(({ range }) => typeof range.first === typeof ip && range.first <= ip && ip <= range.last);
    if (eip) eip.pool.shareAcrossNamespaces = true;
  }
  return annotations;
}

/** YAML that isat reads. Whatever is to be done by hand is in its comments. */
export function formatImport({ config, annotations, finalizers, notes }: Import): string {
  const lines = ["# OpenELB's Eips as isat's pools: in the configuration, or in the chart's values below config.", ""];
  lines.push(stringify(config).trimEnd());
  // Whoever may write a Service chooses its annotations: a line of theirs that left the comment would be configuration.
  const comment = (title: string, all: readonly string[]) => {
    if (all.length > 0) lines.push("", `# ${title}`, ...all.map((line) => `#   ${line.replace(/\p{Cc}+/gu, " ")}`));
  };
  const named = (key: string) => key.replace(/^(.*)\/(.*)$/, "kubectl -n $1 VERB service $2");
  comment(
    "The annotations that say the same. Set them before isat controller starts:",
    [...annotations].map(([key, its]) => {
      const pairs = Object.entries(its).map(([name, value]) => `${name}=${quoted(value)}`);
      return `${named(key).replace("VERB", "annotate --overwrite")} ${pairs.join(" ")}`;
    }),
  );
  comment(
    `Services with OpenELB's finalizer, which nobody removes once OpenELB is gone. After that:`,
    finalizers.map(
      (key) =>
        `${named(key).replace("VERB", "get")} -o json | jq 'del(.metadata.finalizers[] | select(. == "${FINALIZER}"))' | kubectl replace -f -`,
    ),
  );
  comment("What has no equal, or is to be known:", notes);
  return lines.join("\n");
}

const quoted = (value: string) => (/^[\w.,:/-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`);
