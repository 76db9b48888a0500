import { existsSync, readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { hostname as hostName } from "node:os";
import process from "node:process";
import { distance } from "fastest-levenshtein";
import * as v from "valibot";
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";
import { MAX_KEYS } from "../core/abi.ts";
import {
  type Address,
  formatAddress,
  parseAddress,
  parseRange,
  RANGE_FORMS,
  type Range,
  refusal,
} from "../core/address.ts";
import type { NodeEntry, VipRange } from "../core/demand.ts";
import type { ClusterSettings } from "../source/kubernetes/cluster.ts";
import { fault, OPERATORS, type Requirement } from "../source/kubernetes/selector.ts";

/** What a configuration file says, with every default filled in. Times are milliseconds. */
export interface Config {
  /** This node's name; one of `source.nodes`, or a Node of the cluster. */
  node: string;
  /** Names or globs; undefined: the interface of the default route. */
  interfaces: string[] | undefined;
  hook: "auto" | "tcx" | "tc" | "xdp";
  pinDir: string;
  runDir: string;
  hold: number;
  fence: number;
  /** `refresh` in milliseconds, `rate` in frames a second and NIC. */
  garp: { refresh: number; rate: number };
  membership: Membership;
  /** undefined: off. */
  metrics: { host: string; port: number } | undefined;
  source: FileSource | KubernetesSource;
}

/** Nodes and VIPs stand in the file. */
export interface FileSource {
  kind: "file";
  nodes: NodeEntry[];
  vips: FileRange[];
}

/** Nodes and VIPs come from the API of a cluster. */
export interface KubernetesSource extends ClusterSettings {
  kind: "kubernetes";
  /** undefined: that of KUBECONFIG, else of the pod that isat runs in. */
  kubeconfig: string | undefined;
}

/** How it is known which nodes are alive. `interval` in ms; `dead` in probes. */
export type Membership = { kind: "static" } | { kind: "wire"; keys: string[] | "none"; interval: number; dead: number };

/** One entry of `source.vips`. */
export interface FileRange extends VipRange {
  /** Where it stands in the file, from 1. */
  line: number;
}

/** Everything that is wrong with one file: a line each, which is also the message. */
export class ConfigError extends Error {
  readonly lines: string[];

  constructor(lines: string[]) {
    super(lines.join("\n"));
    this.name = "ConfigError";
    this.lines = lines;
  }
}

const EXAMPLE = "source: { kind: file, nodes: [n1, n2], vips: [{ address: 10.9.0.1 }] }";
const DURATION = "a whole number with its unit and longer than 0, such as 500ms, 30s, 5m or 1h, at most 24 days";
const KEY_FILE = "/etc/isat/wire.key";
const INTERFACES = "a list of interface names or globs, such as [eth0] or [ens*]";
const SELECTOR = "a mapping of matchLabels and matchExpressions, such as { matchLabels: { isat: enabled } }";

const MATCH_LABELS = "a mapping of labels, such as { isat: enabled }";
const MATCH_EXPRESSIONS =
  "a list, such as [{ key: isat, operator: In, values: [enabled] }], of the operators In, NotIn, Exists and DoesNotExist";

/** The keys of each kind of source. */
const KEYS_OF = {
  file: ["kind", "nodes", "vips"],
  kubernetes: [
    "kind",
    "kubeconfig",
    "loadBalancerClass",
    "addresses",
    "interfaces",
    "nodeSelector",
    "serviceSelector",
    "ignoreExcludeLabel",
  ],
};

/** How much gratuitous ARP a switch is trusted to take. Refresh 95 s: three of them fit into 300 s of FDB ageing. */
const PROFILES = {
  open: { refresh: 95_000, rate: 1000 },
  guarded: { refresh: 95_000, rate: 5 },
} as const;

/** One key of the configuration. A `default` in words is worked out; the others are what one would write. */
export interface Key {
  accepts: string;
  default?: string;
  about: string;
}

/** Every key by its path: what errors quote, where defaults stand, and what `--help` and the documents print. */
export const KEYS = {
  node: {
    accepts: "a node's name, of at most 253 characters and without spaces",
    default: "NODE_NAME, else (kind file only) the host's name",
    about: "this node's name in source.nodes, or that of its Node in the cluster",
  },
  interfaces: {
    accepts: INTERFACES,
    default: "the interface of the default route",
    about: "where VIPs are answered and announced",
  },
  hook: {
    accepts: "auto, tcx, tc or xdp",
    default: "auto",
    about: "where the program attaches; auto is tcx, else tc (clsact)",
  },
  pinDir: {
    accepts: "an absolute path",
    default: "/sys/fs/bpf/isat",
    about: "where maps, programs and links are pinned, on a BPF file system",
  },
  runDir: { accepts: "an absolute path", default: "/run/isat", about: "where the status of the speaker is found" },
  hold: {
    accepts: DURATION,
    default: "30s",
    about: "for how long a node without a running speaker keeps its VIPs",
  },
  fence: {
    accepts: DURATION,
    default: "5m",
    about: "after how long without a running speaker a node stops to answer by itself; longer than hold",
  },
  garp: { accepts: "a mapping, such as { profile: open }", about: "how gratuitous ARP is paced" },
  "garp.profile": {
    accepts: "open or guarded",
    default: "open",
    about: `announcements a second and NIC: open ${PROFILES.open.rate}, guarded ${PROFILES.guarded.rate} (for switches that police ARP)`,
  },
  "garp.refresh": {
    accepts: DURATION,
    default: `${PROFILES.open.refresh / 1000}s`,
    about: "how often each VIP is announced anew",
  },
  "garp.rate": {
    accepts: "a number greater than 0",
    default: "the profile's",
    about: "how many announcements a NIC sends at most in a second",
  },
  membership: { accepts: "a mapping, such as { kind: wire }", about: "how it is known which nodes are alive" },
  "membership.kind": {
    accepts: "static or wire",
    default: "wire where there is more than one node",
    about: "wire: nodes probe each other's kernels; static: every node listed is alive",
  },
  "membership.keys": {
    accepts: `a list of 1 to ${MAX_KEYS} key files, such as [${KEY_FILE}], or none`,
    default: `${KEY_FILE} where there is one, else none`,
    about: "wire: what frames between nodes are signed with; the first file signs, all verify",
  },
  "membership.interval": {
    accepts: DURATION,
    default: "100ms",
    about: "wire: how often each peer is probed, from 10ms to 1s",
  },
  "membership.dead": {
    accepts: "a whole number from 1 to 100",
    default: "3",
    about: "wire: probes sent and unanswered until a peer is dead",
  },
  metrics: {
    accepts: 'a mapping, such as { listen: "127.0.0.1:9121" }; leave the key out for no metrics',
    default: "off",
    about: "Prometheus metrics over HTTP",
  },
  "metrics.listen": {
    accepts: 'an address and a port in quotes, such as "127.0.0.1:9121" or "[::]:9121"',
    about: "where the metrics are served",
  },
  source: { accepts: `a mapping, such as ${EXAMPLE}`, about: "which VIPs there are, and which nodes" },
  "source.kind": {
    accepts: "file or kubernetes",
    about: "file: nodes and VIPs stand here; kubernetes: they come from a cluster",
  },
  "source.nodes": {
    accepts:
      "a list of one or more node names, such as [n1, n2], with or without addresses: { name: n2, address: 10.9.255.2 }",
    about: "every node, this one too",
  },
  "source.nodes[]": {
    accepts: "a node's name, or a mapping, such as { name: n2, address: 10.9.255.2 }",
    about: "a node",
  },
  "source.nodes[].name": { accepts: "a node's name, of at most 253 characters and without spaces", about: "its name" },
  "source.nodes[].address": {
    accepts: "an IPv4 address, such as 10.9.255.2",
    default: "unknown",
    about: "its own address: where no peer is heard, it is asked for by ARP",
  },
  "source.vips": {
    accepts: "a list, such as [{ address: 10.9.0.1 }], or [] for none",
    about: "the VIPs, at most 65,536 addresses in sum",
  },
  "source.vips[]": { accepts: "a mapping, such as { address: 10.9.0.1 }", about: "one or more VIPs" },
  "source.vips[].address": { accepts: RANGE_FORMS, about: "the addresses" },
  "source.vips[].nodes": {
    accepts: "a list of one or more names out of source.nodes",
    default: "all",
    about: "the nodes that may own them",
  },
  "source.vips[].interfaces": {
    accepts: INTERFACES,
    default: "those of the configuration",
    about: "where they are announced",
  },
  "source.kubeconfig": {
    accepts: "an absolute path",
    default: "KUBECONFIG, else what the pod is given",
    about: "(kubernetes) how the API is reached",
  },
  "source.loadBalancerClass": {
    accepts: "a class, such as isat.example/l2",
    default: "Services without a class",
    about: "(kubernetes) the Services that are isat's",
  },
  "source.addresses": {
    accepts: "a list of one or more addresses, such as [10.9.0.0/20]",
    default: "what the IPAddressPools hold",
    about: "(kubernetes) what may be announced; needed where L2Advertisements are not served",
  },
  "source.addresses[]": { accepts: RANGE_FORMS, about: "(kubernetes) some of them" },
  "source.interfaces": {
    accepts: INTERFACES,
    default: "those of the configuration",
    about: "(kubernetes) where to announce what no L2Advertisement names interfaces for",
  },
  "source.nodeSelector": { accepts: SELECTOR, default: "all Nodes", about: "(kubernetes) the Nodes that run isat" },
  "source.nodeSelector.matchLabels": { accepts: MATCH_LABELS, about: "(kubernetes) each of them" },
  "source.nodeSelector.matchExpressions": { accepts: MATCH_EXPRESSIONS, about: "(kubernetes) each of them" },
  "source.serviceSelector": {
    accepts: SELECTOR,
    default: "all Services",
    about: "(kubernetes) the Services that are announced",
  },
  "source.serviceSelector.matchLabels": { accepts: MATCH_LABELS, about: "(kubernetes) each of them" },
  "source.serviceSelector.matchExpressions": { accepts: MATCH_EXPRESSIONS, about: "(kubernetes) each of them" },
  "source.ignoreExcludeLabel": {
    accepts: "true or false",
    default: "false",
    about: "(kubernetes) whether Nodes labelled node.kubernetes.io/exclude-from-external-load-balancers may own VIPs",
  },
} as const satisfies Record<string, Key>;

/** As many as the kernel map holds: ISAT_MAX_VIPS. */
const MAX_ADDRESSES = 65_536;
/** The kernel counts a node as live for 3 s after a tick; a fence must lie outside of that, with room for a late tick. */
const MIN_FENCE = 4_000;
/**
 * Probes that follow each other faster than timers do would only find that this node is late. Each answer brings the stamp
 * with which a peer's kernel is spoken to, and that one takes it for 5 s: fewer than one a second, and a lost one or two
 * would keep a claim from being taken.
 */
const INTERVALS = [10, 1_000] as const;
/** A longer setTimeout() fires at once. */
const MAX_DURATION = 24 * 86_400_000;

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function parseDuration(value: string | number): number {
  const [, count, unit] = /^(\d+) ?(ms|s|m|h)?$/.exec(String(value)) ?? [];
  if (Number(count) > 0 && !unit) throw new Error(`found ${show(value)}, which has no unit; accepted: ${DURATION}`);
  const duration = Number(count) * UNITS[unit as keyof typeof UNITS];
  if (!(duration > 0 && duration <= MAX_DURATION)) throw new Error(`found ${show(value)}, accepted: ${DURATION}`);
  return duration;
}

function parseListen(value: string): { host: string; port: number } {
  const [, v6, name, port] = /^(?:\[([^\]]*)\]|([^:[\]]+)):(\d{1,5})$/.exec(value) ?? [];
  const host = v6 ?? name ?? "";
  const isHost = v6 !== undefined ? isIPv6(host) : isIPv4(host) || /^(?![\d.]+$)[\w-]+(\.[\w-]+)*$/.test(host);
  if (!isHost || Number(port) < 1 || Number(port) > 65_535) {
    throw new Error(`found ${show(value)}, accepted: ${KEYS["metrics.listen"].accepts}`);
  }
  return { host, port: Number(port) };
}

function parseVip(value: string): Range {
  const range = parseRange(value);
  const reason = refusal(range);
  if (reason) throw new Error(`found ${show(value)}, but ${reason}; accepted: unicast addresses of a network`);
  return range;
}

function parseNodeAddress(value: string): Address {
  try {
    return parseAddress(value);
  } catch {
    throw new Error(`found ${show(value)}, accepted: ${KEYS["source.nodes[].address"].accepts}`);
  }
}

/** What `read` makes of a value; what it throws is the error of that key. */
function parsed<In, Out>(schema: v.GenericSchema<In>, read: (value: In) => Out) {
  return v.pipe(
    schema,
    v.rawTransform<In, Out>(({ dataset, addIssue, NEVER }) => {
      try {
        return read(dataset.value);
      } catch (error) {
        addIssue({ message: (error as Error).message });
        return NEVER;
      }
    }),
  );
}

const isMapping = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Valibot's object takes a list as well. */
function mapping<T extends v.ObjectEntries>(entries: T) {
  return v.pipe(v.custom<v.InferInput<v.ObjectSchema<T, undefined>>>(isMapping), v.object(entries));
}

const duration = parsed(v.union([v.string(), v.number()]), parseDuration);
const directory = v.pipe(v.string(), v.startsWith("/"));
const nodeName = v.pipe(v.string(), v.regex(/^\S{1,253}$/));
const nodeNames = v.pipe(v.array(nodeName), v.minLength(1));
const namedNode = v.pipe(
  nodeName,
  v.transform((name): NodeEntry => ({ name, address: undefined })),
);
const describedNode = v.pipe(
  mapping({ name: nodeName, address: v.optional(parsed(v.string(), parseNodeAddress)) }),
  v.transform(({ name, address }): NodeEntry => ({ name, address })),
);
/** No union: of one, valibot would only say that neither fits, not which key of the mapping is wrong. */
const nodeEntry = v.lazy((input) => (isMapping(input) ? describedNode : namedNode));
/** dev_valid_name() of the kernel; a glob may be longer. */
const interfaceName = v.pipe(v.string(), v.regex(/^([^\s/:]{1,15}|[^\s/:]*[*?[][^\s/:]*)$/));
const interfaceNames = v.pipe(v.array(interfaceName), v.minLength(1));

const labels = v.pipe(
  v.custom<Record<string, string>>((value) => typeof value === "object" && value !== null && !Array.isArray(value)),
  v.record(v.string(), v.string()),
);
const requirement = parsed(
  mapping({
    key: v.pipe(v.string(), v.minLength(1)),
    operator: v.picklist(OPERATORS),
    values: v.optional(v.array(v.string()), () => []),
  }) as v.GenericSchema<Requirement>,
  (its) => {
    const reason = fault(its);
    if (reason) throw new Error(`${reason}; accepted: ${MATCH_EXPRESSIONS}`);
    return its;
  },
);
const selector = mapping({
  matchLabels: v.optional(labels, {}),
  matchExpressions: v.optional(v.array(requirement), []),
});

const fileKeys = {
  nodes: v.pipe(v.array(nodeEntry), v.minLength(1)),
  vips: v.array(
    mapping({
      address: parsed(v.string(), parseVip),
      nodes: v.optional(nodeNames),
      interfaces: v.optional(interfaceNames),
    }),
  ),
};
const kubernetesKeys = {
  kubeconfig: v.optional(directory),
  loadBalancerClass: v.optional(v.pipe(v.string(), v.regex(/^\S+$/))),
  addresses: v.optional(v.pipe(v.array(parsed(v.string(), parseVip)), v.minLength(1))),
  interfaces: v.optional(interfaceNames),
  nodeSelector: v.optional(selector),
  serviceSelector: v.optional(selector),
  ignoreExcludeLabel: v.optional(v.boolean(), false),
};
const SOURCES = {
  file: mapping({ kind: v.literal("file"), ...fileKeys }),
  kubernetes: mapping({ kind: v.literal("kubernetes"), ...kubernetesKeys }),
  /** What of it is wrong whichever is meant. */
  neither: mapping({
    kind: v.picklist(["file", "kubernetes"]),
    ...kubernetesKeys,
    nodes: v.optional(fileKeys.nodes),
    vips: v.optional(fileKeys.vips),
  }),
};

function kindOf(source: unknown): "file" | "kubernetes" | undefined {
  const { kind } = (typeof source === "object" && source !== null ? source : {}) as { kind?: unknown };
  return kind === "file" || kind === "kubernetes" ? kind : undefined;
}

const Schema = mapping({
  node: v.optional(nodeName),
  interfaces: v.optional(interfaceNames),
  hook: v.optional(v.picklist(["auto", "tcx", "tc", "xdp"]), KEYS.hook.default),
  pinDir: v.optional(directory, KEYS.pinDir.default),
  runDir: v.optional(directory, KEYS.runDir.default),
  hold: v.optional(duration, KEYS.hold.default),
  fence: v.optional(duration, KEYS.fence.default),
  garp: v.optional(
    mapping({
      profile: v.optional(v.picklist(["open", "guarded"]), KEYS["garp.profile"].default),
      refresh: v.optional(duration),
      rate: v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0))),
    }),
    {},
  ),
  membership: v.optional(
    mapping({
      kind: v.optional(v.picklist(["static", "wire"])),
      keys: v.optional(v.union([v.literal("none"), v.pipe(v.array(directory), v.minLength(1), v.maxLength(MAX_KEYS))])),
      interval: v.optional(duration, KEYS["membership.interval"].default),
      dead: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100)), 3),
    }),
    {},
  ),
  metrics: v.optional(mapping({ listen: parsed(v.string(), parseListen) })),
  source: v.lazy((source) => SOURCES[kindOf(source) ?? "neither"]),
});

/** @throws ConfigError with a line for each thing that is wrong. */
export function readConfig(path: string, env: Record<string, string | undefined> = process.env): Config {
  return parseConfig(readConfigText(path), path, env);
}

const REMEDIES: Record<string, string> = {
  ENOENT: `there is no such file. Write it, or name another; the least it holds is ${EXAMPLE}`,
  ENOTDIR: "a part of this path is a file, not a directory. Correct the path",
  EISDIR: "it is a directory. Name the file in it",
  EACCES: "permission denied. Run as root, or let this user read it",
  ELOOP: "its symbolic links lead round in a circle. Correct them",
};

/** @throws ConfigError where the path leads to no readable file. */
export function readConfigText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const remedy = REMEDIES[code] ?? `${message}. Name a file that can be read`;
    throw new ConfigError([`Cannot read the configuration ${path}: ${remedy}`]);
  }
}

/**
 * The configuration in a YAML text. `file` is what errors call it. Where the text names no node, the environment's
 * NODE_NAME does, else the host's name.
 *
 * @throws ConfigError with a line for each thing that is wrong.
 */
export function parseConfig(
  text: string,
  file: string,
  env: Record<string, string | undefined> = process.env,
  hostname: string = hostName(),
): Config {
  const sheet = new Sheet(text, file);
  sheet.finish();
  const values = check(sheet);
  checkTimes(sheet, values);
  const kind = kindOf(values?.source);
  const settings = values?.source as FileValues | KubernetesValues | undefined; // "neither" is never sound
  const nodes =
    settings?.kind === "file" && sheet.sound(["source", "nodes"]) ? settings.nodes.map(({ name }) => name) : undefined;
  const node = checkNode(sheet, kind, nodes, values.node, env, hostname);
  const hasVips = settings?.kind === "file" && sheet.sound(["source", "vips"], "itself");
  const vips = checkVips(sheet, nodes, hasVips ? settings.vips : []);
  sheet.finish();
  const { garp, interfaces, membership, metrics, source: _, ...rest } = values;
  const source = settings!;
  const profile = PROFILES[garp.profile];
  return {
    ...rest,
    node,
    interfaces,
    garp: { refresh: garp.refresh ?? profile.refresh, rate: garp.rate ?? profile.rate },
    membership: membershipOf(membership, isSingle(source)),
    metrics: metrics?.listen,
    source: source.kind === "file" ? { ...source, vips } : kubernetesSource(source),
  };
}

/** Of a file with one node there is nobody to hear. */
const isSingle = (source: FileValues | KubernetesValues) => source.kind === "file" && source.nodes.length <= 1;

function membershipOf({ kind, keys, interval, dead }: Values["membership"], isAlone: boolean): Membership {
  if ((kind ?? (isAlone ? "static" : "wire")) === "static") return { kind: "static" };
  return { kind: "wire", keys: keys ?? (existsSync(KEY_FILE) ? [KEY_FILE] : "none"), interval, dead };
}

type FileValues = v.InferOutput<typeof SOURCES.file>;
type KubernetesValues = v.InferOutput<typeof SOURCES.kubernetes>;

function kubernetesSource(values: KubernetesValues): KubernetesSource {
  const { kubeconfig, loadBalancerClass, addresses, interfaces, nodeSelector, serviceSelector } = values;
  const { kind, ignoreExcludeLabel } = values;
  const bounds = { loadBalancerClass, addresses, interfaces, nodeSelector, serviceSelector, ignoreExcludeLabel };
  return { kind, kubeconfig, ...bounds };
}

type Path = (string | number)[];
type Values = v.InferOutput<typeof Schema>;

/** The YAML document, and what is wrong with it. */
class Sheet {
  readonly #doc: Document.Parsed;
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #problems: { line: number; text: string }[] = [];
  /** The paths at which something is wrong. */
  readonly #broken = new Set<string>();
  /** The paths on the way to those. */
  readonly #above = new Set<string>();
  /** What the text says, as plain values; nothing for an empty text. */
  readonly input: unknown;

  constructor(text: string, file: string) {
    this.#file = file;
    this.#doc = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, stringKeys: true });
    const refuse = (offset: number, problem: string) => {
      const at = text.slice(offset).split("\n", 1)[0]?.trim().slice(0, 40);
      const line = this.#lines.linePos(offset).line;
      this.#problems.push({ line, text: `this is no valid YAML: ${problem}${at ? `, at ${at}` : ""}` });
    };
    for (const { pos, message } of [...this.#doc.errors, ...this.#doc.warnings]) refuse(pos[0], message);
    visit(this.#doc, {
      Alias: (_, alias) => {
        if (!alias.resolve(this.#doc)) refuse(alias.range?.[0] ?? 0, `no anchor &${alias.source} stands before it`);
      },
    });
    if (this.#problems.length) return;
    try {
      this.input = this.#doc.toJS() ?? {};
    } catch (error) {
      refuse(0, (error as Error).message); // aliases that unfold to more than memory holds
    }
  }

  /** Notes a problem with the value at the path, or with its absence. */
  report(path: Path, problem: string): void {
    this.distrust(path);
    this.#problems.push({ line: this.lineOf(path), text: path.length ? `${format(path)}: ${problem}` : problem });
  }

  /** Takes the path for unsound, though there is nothing to report at it. */
  distrust(path: Path): void {
    this.#broken.add(format(path));
    for (let end = 0; end < path.length; end++) this.#above.add(format(path.slice(0, end)));
  }

  /** Whether nothing is wrong on the way to the path, at it or, unless only `itself` is asked for, below it. */
  sound(path: Path, itself?: "itself"): boolean {
    if (!itself && this.#above.has(format(path))) return false;
    for (let end = 0; end <= path.length; end++) if (this.#broken.has(format(path.slice(0, end)))) return false;
    return true;
  }

  /** The line of the key or list item at the path, or of the last one that is there on the way to it. */
  lineOf(path: Path): number {
    let node: unknown = this.#doc.contents;
    let offset = this.#doc.contents?.range[0] ?? 0;
    for (const step of path) {
      if (isAlias(node)) node = node.resolve(this.#doc);
      const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && key.value === step) : undefined;
      const next = isSeq(node) ? node.items[Number(step)] : pair?.key;
      if (!isNode(next)) break;
      offset = next.range?.[0] ?? offset;
      node = pair ? pair.value : next;
    }
    return this.#lines.linePos(offset).line;
  }

  /** @throws ConfigError where problems were noted. */
  finish(): void {
    if (!this.#problems.length) return;
    const sorted = this.#problems.toSorted((a, b) => a.line - b.line);
    throw new ConfigError(sorted.map(({ line, text }) => `${this.#file}:${line}: ${text}`));
  }
}

/** Keys and types. What is not sound afterwards is not of the type that it is declared to be. */
function check(sheet: Sheet): Values {
  const misspelt = new Set<string>();
  for (const { path, key, valid } of unknownKeys(sheet.input)) {
    const near = nearest(key, valid);
    if (near) {
      misspelt.add(format([...path, near]));
      sheet.distrust([...path, near]);
    }
    const hint = near ? `, did you mean "${near}"?` : ".";
    sheet.report([...path, key], `unknown key${hint} Accepted here: ${valid.join(", ")}`);
  }
  const result = v.safeParse(Schema, sheet.input);
  for (const issue of result.issues ?? []) {
    const path = issue.path?.map((item) => item.key as string | number) ?? [];
    const missing = issue.path?.at(-1)?.origin === "key";
    if (missing && misspelt.has(format(path))) continue;
    const found = missing ? "missing" : `found ${show(issue.input)}`;
    const own = issue.type === "raw_transform";
    sheet.report(path, own ? issue.message : `${found}, accepted: ${acceptedAt(path)}`);
  }
  return result.output as Values;
}

function checkTimes(sheet: Sheet, { hold, fence, membership }: Values): void {
  const written = sheet.input as { hold?: string; fence?: string; membership?: { interval?: string } };
  const interval: Path = ["membership", "interval"];
  const [least, most] = INTERVALS;
  if (sheet.sound(interval) && (membership.interval < least || membership.interval > most)) {
    const reason =
      membership.interval < least ? "timers are no finer" : "a claim needs a fresh answer, and one may be lost";
    sheet.report(interval, `found ${written.membership?.interval}, accepted: 10ms to 1s, as ${reason}`);
  }
  const comparable = sheet.sound(["hold"]) && sheet.sound(["fence"]);
  if (sheet.sound(["fence"]) && fence < MIN_FENCE) {
    sheet.report(["fence"], `found ${written.fence}, accepted: 4s or more, as each tick counts for 3s`);
  } else if (comparable && hold >= fence) {
    const held = written.hold ?? `${KEYS.hold.default}, the default`;
    const fenced = written.fence ?? `${KEYS.fence.default}, the default`;
    if (written.hold) sheet.report(["hold"], `found ${held}, accepted: less than fence (${fenced})`);
    else sheet.report(["fence"], `found ${fenced}, accepted: more than hold (${held})`);
  }
}

/** This node's name, from the first place that has one. `nodes` is undefined where it could not be read. */
function checkNode(
  sheet: Sheet,
  kind: "file" | "kubernetes" | undefined,
  nodes: string[] | undefined,
  key: string | undefined,
  env: Record<string, string | undefined>,
  hostname: string,
): string {
  const [node, origin] = key
    ? [key, "from the key node"]
    : env.NODE_NAME
      ? [env.NODE_NAME, "from NODE_NAME in the environment"]
      : [hostname, "the host's name"];
  const path: Path = ["source", "nodes"];
  const known = sheet.sound(["node"]);
  // A host's name is often its Node's, and often not: with another's name a node would stand in for that one.
  if (kind === "kubernetes" && known && !key && !env.NODE_NAME) {
    sheet.report(
      ["source"],
      "kind kubernetes needs the name of this Node, and NODE_NAME is not set. Set it from spec.nodeName (in the pod's env: valueFrom.fieldRef), or write it as the key node",
    );
  }
  for (const [index, name] of nodes?.entries() ?? []) {
    const before = nodes?.indexOf(name) ?? index;
    if (before === index) continue;
    const line = sheet.lineOf([...path, before]);
    sheet.report([...path, index], `found "${name}" a second time, as on line ${line}; accepted: each name once`);
  }
  if (nodes && known && !nodes.includes(node)) {
    sheet.report(
      key ? ["node"] : path,
      `this node is "${node}" (${origin}), which is not in source.nodes: ${list(nodes)}. ` +
        "Add it there, or set another name: the key node, or NODE_NAME in the environment",
    );
  }
  return node;
}

/** The VIPs whose addresses could be read. `nodes` is undefined where it could not be. */
function checkVips(sheet: Sheet, nodes: string[] | undefined, entries: FileValues["vips"]): FileRange[] {
  const all: Path = ["source", "vips"];
  const vips: (FileRange & { path: Path })[] = [];
  for (const [index, entry] of entries.entries()) {
    const path = [...all, index];
    const of = sheet.sound([...path, "nodes"]) ? entry.nodes : undefined;
    for (const [at, name] of of?.entries() ?? []) {
      if (!nodes || nodes.includes(name)) continue;
      const near = nearest(name, nodes);
      const hint = near ? `, did you mean "${near}"? Accepted` : ", accepted";
      sheet.report(
        [...path, "nodes", at],
        `found "${name}"${hint}: names out of source.nodes, which are ${list(nodes)}`,
      );
    }
    if (!sheet.sound([...path, "address"])) continue;
    const { address, nodes: allowed, interfaces } = entry;
    vips.push({ ...address, nodes: allowed, interfaces, hashAs: undefined, line: sheet.lineOf(path), path });
  }

  const written = (vip: Range) =>
    vip.first === vip.last ? formatAddress(vip.first) : `${formatAddress(vip.first)}-${formatAddress(vip.last)}`;
  const [head, ...tail] = vips.toSorted((a, b) => a.first - b.first);
  let reach = head;
  for (const vip of tail) {
    if (!reach || vip.first > reach.last) {
      reach = vip;
      continue;
    }
    const [one, two] = reach.line <= vip.line ? [reach, vip] : [vip, reach];
    sheet.report(two.path, `${written(two)} overlaps ${written(one)} of line ${one.line}, accepted: each address once`);
    if (vip.last > reach.last) reach = vip;
  }

  const count = vips.reduce((sum, vip) => sum + vip.last - vip.first + 1, 0);
  if (count > MAX_ADDRESSES) sheet.report(all, `found ${count} addresses in sum, accepted: at most ${MAX_ADDRESSES}`);
  return vips.map(({ path: _, ...vip }) => vip);
}

/** The keys that {@link KEYS} does not have, with those that stand beside them there. */
function* unknownKeys(value: unknown, path: Path = []): Generator<{ path: Path; key: string; valid: string[] }> {
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      if (!Array.isArray(item)) yield* unknownKeys(item, [...path, index]); // an alias may put a list into itself
    }
  } else if (typeof value === "object" && value !== null) {
    const all = keysBelow(path);
    const kind = format(path) === "source" ? kindOf(value) : undefined;
    const valid = kind ? all.filter((key) => KEYS_OF[kind].includes(key)) : all;
    if (!valid.length) return;
    for (const [key, inner] of Object.entries(value)) {
      if (valid.includes(key)) yield* unknownKeys(inner, [...path, key]);
      else yield { path, key, valid };
    }
  }
}

function keysBelow(path: Path): string[] {
  const prefix = path.length ? `${pattern(path)}.` : "";
  return Object.keys(KEYS)
    .filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length))
    .filter((key) => /^\w+$/.test(key));
}

function acceptedAt(path: Path): string {
  if (!path.length) return `a mapping of the keys ${keysBelow([]).join(", ")}`;
  const known: Record<string, Key> = KEYS;
  const key = pattern(path);
  const accepts = known[key]?.accepts;
  if (accepts) return accepts;
  const list = known[key.replace(/\[\]$/, "")]?.accepts;
  return list ? `an item of ${list}` : acceptedAt(path.slice(0, -1));
}

/** `source.vips[2].address`. */
function format(path: Path): string {
  return path
    .map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`))
    .join("")
    .replace(/^\./, "");
}

/** `source.vips[].address`: how {@link KEYS} names it. */
function pattern(path: Path): string {
  return format(path).replace(/\[\d+\]/g, "[]");
}

/** The one that was probably meant: at most two letters in five differ. */
function nearest(name: string, names: readonly string[]): string | undefined {
  const lower = name.toLowerCase();
  const near = names.toSorted((a, b) => distance(lower, a.toLowerCase()) - distance(lower, b.toLowerCase()))[0];
  return near && distance(lower, near.toLowerCase()) <= near.length * 0.4 ? near : undefined;
}

/** A value as an error quotes it. */
function show(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return value.length ? "a list" : "an empty list";
  if (typeof value === "object") return "a mapping";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function list(names: readonly string[]): string {
  return names.length > 12 ? `${names.slice(0, 12).join(", ")} and ${names.length - 12} more` : names.join(", ");
}
