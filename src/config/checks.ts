import * as v from "valibot";
import { MAX_VIPS } from "../core/abi.ts";
import { compare, formatAddress, having, overlap, type Range, sizeOf } from "../core/address.ts";
import type { FileRange } from "../source/settings.ts";
import { KEYS, Schema, type Values } from "./schema.ts";
import { list, show } from "./values.ts";
import { format, nearest, type Path, type Sheet } from "./yaml.ts";

/** The kernel counts a node as live for 3 s after a tick; a fence must lie outside of that, with room for a late tick. */
const MIN_FENCE = 4_000;
/**
 * Probes that follow each other faster than timers do would only find that this node is late. Each answer brings the stamp
 * with which a peer's kernel is spoken to, and that one takes it for 5 s: fewer than one a second, and a lost one or two
 * would keep a claim from being taken.
 */
const INTERVALS = [10, 1_000] as const;

const NODES: Path = ["source", "nodes"];
const VIPS: Path = ["source", "vips"];

type Issue = v.BaseIssue<unknown>;

/** Checks keys and types. The values are of the type that they are declared to be only where the sheet is sound. */
export function checkKeys(sheet: Sheet): Values {
  const { issues = [], output } = v.safeParse(Schema, sheet.input);
  const misspelt = new Set<string>();
  const others: { issue: Issue; path: Path }[] = [];
  for (const { issue, path } of flatten(issues)) {
    const unknown = unknownKey(issue, path);
    if (!unknown) {
      others.push({ issue, path });
      continue;
    }
    const { key, known } = unknown;
    const above = path.slice(0, -1);
    const near = nearest(key, known);
    if (near) {
      misspelt.add(format([...above, near]));
      sheet.distrust([...above, near]);
    }
    const hint = near ? `, did you mean "${near}"?` : ".";
    sheet.report([...above, key], `unknown key${hint} Accepted here: ${known.join(", ")}`);
  }
  for (const { issue, path } of others) {
    const last = issue.path?.at(-1);
    const isMissing = last !== undefined && !Object.hasOwn(last.input as object, String(last.key));
    if (isMissing && misspelt.has(format(path))) continue;
    const problem = `${isMissing ? "missing" : `found ${show(issue.input)}`}, accepted: ${acceptedAt(path)}`;
    sheet.report(path, (issue.type === "raw_transform" && issue.message) || problem);
  }
  return output as Values;
}

/** The issues and their paths. Of the forms that a union accepts, the one that was read furthest is the one meant. */
function* flatten(issues: readonly Issue[], above: Path = []): Generator<{ issue: Issue; path: Path }> {
  for (const issue of issues) {
    const path = [...above, ...(issue.path ?? []).map(({ key }) => key as string | number)];
    const within = issue.issues?.filter((each) => each.path) ?? [];
    if (within.length) yield* flatten(within, path);
    else yield { issue, path };
  }
}

/** The unknown key that the issue is about, and the keys that are known in its place. */
function unknownKey(issue: Issue, path: Path): { key: string; known: string[] } | undefined {
  const name = String(path.at(-1));
  if (issue.type === "never") return { key: name, known: issue.message.split(", ") };
  if (issue.type !== "variant" || !issue.path) return undefined;
  // All keys but the one that tells the variant depend on it.
  const key = Object.keys(issue.path.at(-1)?.input as object).find((key) => key !== name && nearest(key, [name]));
  return key === undefined ? undefined : { key, known: [name] };
}

function acceptedAt(path: Path): string {
  const topKeys = Object.keys(KEYS).filter((key) => /^\w+$/.test(key));
  if (!path.length) return `a mapping of the keys ${topKeys.join(", ")}`;
  const pattern = format(path).replace(/\[\d+\]/g, "[]");
  const accepts = KEYS[pattern]?.accepts;
  if (accepts) return accepts;
  const list = KEYS[pattern.replace(/\[\]$/, "")]?.accepts;
  return list ? `an item of ${list}` : acceptedAt(path.slice(0, -1));
}

export function checkTimes(sheet: Sheet, { hold, fence, membership }: Values): void {
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
    const held = written.hold ?? `${KEYS.hold?.default}, the default`;
    const fenced = written.fence ?? `${KEYS.fence?.default}, the default`;
    if (written.hold) sheet.report(["hold"], `found ${held}, accepted: less than fence (${fenced})`);
    else sheet.report(["fence"], `found ${fenced}, accepted: more than hold (${held})`);
  }
}

/** The names in source.nodes; undefined where there is no such list, or it cannot be read. */
export function checkNodes(sheet: Sheet, { source }: Values): string[] | undefined {
  if (!sheet.sound(NODES) || source?.kind !== "file") return undefined;
  const nodes = source.nodes.map(({ name }) => name);
  for (const [index, name] of nodes.entries()) {
    const before = nodes.indexOf(name);
    if (before === index) continue;
    const line = sheet.lineOf([...NODES, before]);
    sheet.report([...NODES, index], `found "${name}" a second time, as on line ${line}; accepted: each name once`);
  }
  return nodes;
}

/** This node's name, from the first place that has one. */
export function checkNode(
  sheet: Sheet,
  values: Values,
  nodes: string[] | undefined,
  env: NodeJS.ProcessEnv,
  hostname: string,
): string {
  const key = values.node;
  const node = key ?? (env.NODE_NAME || hostname);
  const origin = key ? "from the key node" : env.NODE_NAME ? "from NODE_NAME in the environment" : "the host's name";
  const isKnown = sheet.sound(["node"]);
  // A host's name is often its Node's, and often not: with another's name a node would stand in for that one.
  if (values.source?.kind === "kubernetes" && isKnown && !key && !env.NODE_NAME) {
    sheet.report(
      ["source"],
      "kind kubernetes needs the name of this Node, and NODE_NAME is not set. Set it from spec.nodeName (in the pod's env: valueFrom.fieldRef), or write it as the key node",
    );
  }
  if (nodes && isKnown && !nodes.includes(node)) {
    sheet.report(
      key ? ["node"] : NODES,
      `this node is "${node}" (${origin}), which is not in source.nodes: ${list(nodes)}. ` +
        "Add it there, or set another name: the key node, or NODE_NAME in the environment",
    );
  }
  return node;
}

/** The entries of source.vips whose addresses could be read. */
export function checkVips(sheet: Sheet, { source }: Values, nodes: string[] | undefined): FileRange[] {
  if (!sheet.sound(VIPS, "itself") || source?.kind !== "file") return [];
  const vips: FileRange[] = [];
  const paths = new Map<FileRange, Path>();
  for (const [index, entry] of source.vips.entries()) {
    const path = [...VIPS, index];
    if (nodes && sheet.sound([...path, "nodes"])) checkNames(sheet, [...path, "nodes"], entry.nodes ?? [], nodes);
    if (!sheet.sound([...path, "address"])) continue;
    const { address, nodes: allowed, interfaces } = entry;
    const vip = { ...address, nodes: allowed, interfaces, hashAs: undefined, line: sheet.lineOf(path) };
    vips.push(vip);
    paths.set(vip, path);
    const own = source.nodes.find(({ address }) => address && having(address)(vip));
    if (own) sheet.report(path, `found ${formatAddress(own.address!)}, which is node ${own.name}'s own address`);
  }

  const written = (vip: Range) =>
    vip.first === vip.last ? formatAddress(vip.first) : `${formatAddress(vip.first)}-${formatAddress(vip.last)}`;
  const [head, ...tail] = vips.toSorted((a, b) => compare(a.first, b.first));
  let reach = head;
  for (const vip of tail) {
    if (!reach || !overlap(vip, reach)) {
      reach = vip;
      continue;
    }
    const [one, two] = reach.line <= vip.line ? [reach, vip] : [vip, reach];
    const problem = `${written(two)} overlaps ${written(one)} of line ${one.line}, accepted: each address once`;
    sheet.report(paths.get(two)!, problem);
    if (vip.last > reach.last) reach = vip;
  }

  const count = vips.reduce((sum, vip) => sum + sizeOf(vip), 0);
  if (count > MAX_VIPS) sheet.report(VIPS, `found ${count} addresses in total, accepted: at most ${MAX_VIPS}`);
  return vips;
}

function checkNames(sheet: Sheet, path: Path, names: readonly string[], nodes: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    if (nodes.includes(name)) continue;
    const near = nearest(name, nodes);
    const hint = near ? `, did you mean "${near}"? Accepted` : ", accepted";
    sheet.report([...path, index], `found "${name}"${hint}: names out of source.nodes, which are ${list(nodes)}`);
  }
}
