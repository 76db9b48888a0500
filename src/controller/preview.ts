/** The difference that an edit of the configuration would make to addresses: what `isat ipam plan` shows. Pure. */
import { formatAddress, having } from "../core/address.ts";
import { Ipam, type Verdict } from "../core/ipam.ts";
import { table } from "../report/status.ts";
import { factsOf, formatRange, type Survey } from "./inventory.ts";
import { selecting } from "./pools.ts";
import type { View } from "./services.ts";
import type { ClusterConfig } from "./term.ts";

export interface Change {
  service: string;
  /** `keeps`: an address that it would not be given any more. `is unannounced`: it has one that speakers would not announce. */
  what: "gets" | "loses" | "waits" | "keeps" | "is unannounced" | "is left alone" | "is taken on";
  addresses: readonly string[];
  why: string;
}

export interface Preview {
  pools: { added: string[]; removed: string[]; changed: string[] };
  /** In the order of the Services' names. */
  changes: Change[];
  notes: readonly string[];
}

/** Compares what follows from two configurations. */
export function preview(found: Survey, before: ClusterConfig, after: ClusterConfig): Preview {
  const [old, young] = [outcome(found, before), outcome(found, after, before)];
  const changes: Change[] = [];
  for (const [key, { view, verdict }] of young) {
    const its = old.get(key)!;
    const add = (what: Change["what"], addresses: readonly string[], why: string) =>
      changes.push({ service: key, what, addresses, why });
    if (view.type === "balancer" && isUnannounced(view, before, after))
      add("is unannounced", view.ingress, "it is not in source.addresses any more: no speaker would announce it");
    if (its.view.type !== view.type) {
      const [what, why] =
        view.type === "balancer" ? (["is taken on", "to"] as const) : (["is left alone", "from"] as const);
      add(what, view.ingress, `source.loadBalancerClass or source.serviceSelector changes ${why} it`);
    }
    if (verdict) compare(its.verdict, verdict, add);
  }
  changes.sort((a, b) => (a.service < b.service ? -1 : a.service > b.service ? 1 : 0));
  return { pools: poolChanges(found, before, after), changes, notes: found.notes };
}

type Add = (what: Change["what"], addresses: readonly string[], why: string) => void;

function compare(before: Verdict | undefined, after: Verdict, add: Add): void {
  const [had, has] = [before?.addresses ?? [], after.addresses].map((all) => all.map(formatAddress));
  const [gained, lost] = [has!.filter((ip) => !had!.includes(ip)), had!.filter((ip) => !has!.includes(ip))];
  if (gained.length > 0) add("gets", gained, lost.length > 0 ? `in place of ${lost.join(", ")}` : after.message);
  else if (lost.length > 0) add("loses", lost, after.message);
  if (after.kept !== undefined && before?.kept === undefined) add("keeps", has!, after.kept);
  const isNew = after.reason !== "Assigned" && before?.reason !== after.reason;
  if (isNew) add("waits", has!, `${after.reason}: ${after.message}`);
}

const isUnannounced = ({ ingress, applicant }: View, before: ClusterConfig, after: ClusterConfig): boolean => {
  const announces = ({ source }: ClusterConfig) =>
    applicant.standing.every((address) => !source.addresses || source.addresses.some(having(address)));
  return ingress.length > 0 && announces(before) && !announces(after);
};

/** Decides for all Services. @param first a configuration that holds before, by which those that wait have got theirs */
function outcome(found: Survey, config: ClusterConfig, first: ClusterConfig = config) {
  const ipam = new Ipam(config.allocation);
  for (const each of first === config ? [config] : [first, config]) {
    const { pools, never, views } = factsOf(found, each);
    ipam.setPools(pools);
    ipam.setNever(never);
    for (const view of views) {
      const its = selecting(pools, view, found.namespaces.get(view.namespace));
      if (view.type === "none") ipam.remove(view.key, 0);
      else ipam.put({ ...view.applicant, pools: its }, 0);
    }
    ipam.decide(0);
  }
  const { views } = factsOf(found, config);
  return new Map(
    views.map((view) => [view.key, { view, verdict: view.type === "balancer" ? ipam.verdict(view.key) : undefined }]),
  );
}

function poolChanges(found: Survey, before: ClusterConfig, after: ClusterConfig): Preview["pools"] {
  const plain = (config: ClusterConfig) =>
    new Map(
      factsOf(found, config).pools.map((pool) => [
        pool.name,
        JSON.stringify({ ...pool, ranges: pool.ranges.map(formatRange) }),
      ]),
    );
  const [old, young] = [plain(before), plain(after)];
  return {
    added: [...young.keys()].filter((name) => !old.has(name)),
    removed: [...old.keys()].filter((name) => !young.has(name)),
    changed: [...young].filter(([name, text]) => old.has(name) && old.get(name) !== text).map(([name]) => name),
  };
}

/** For a person. */
export function formatPreview({ pools, changes, notes }: Preview): string {
  const lines = notes.map((note) => `note: ${note}`);
  for (const [what, names] of Object.entries(pools))
    if (names.length > 0) lines.push(`pools ${what}: ${names.join(", ")}`);
  if (lines.length === notes.length) lines.push("no pool changes");
  if (changes.length === 0) return [...lines, "no Service would notice"].join("\n");
  const rows = changes.map(({ service, what, addresses, why }) => [service, what, addresses.join(", ") || "-", why]);
  return [...lines, "", ...table([["SERVICE", "THEN IT", "ADDRESSES", "WHY"], ...rows])].join("\n");
}
