/** Reads what a Service asks for, and what stands in its status. Pure. */
import { hash } from "node:crypto";
import { type Address, formatAddress, readAddress } from "../core/address.ts";
import type { Applicant } from "../core/ipam.ts";
import { type Family, familyOf } from "../core/pools.ts";
import { isJson, items, type Json, labelsOf, optional, part } from "../source/kubernetes/fields.ts";
import { keyOf, refOf } from "../source/kubernetes/objects.ts";
import { type Labels, selects } from "../source/kubernetes/selector.ts";
import { NO_CLASS } from "../source/kubernetes/services.ts";
import type { ClusterSettings } from "../source/kubernetes/settings.ts";

/** The prefix of isat's annotations and of its condition. */
const OWN = "isat.io";
export const CONDITION = `${OWN}/AddressAssigned`;
const METALLB = ["metallb.io", "metallb.universe.tf"];
/** The annotations that say the same, by what they say. */
const ANNOTATIONS = {
  addresses: [`${OWN}/addresses`, ...METALLB.map((prefix) => `${prefix}/loadBalancerIPs`)],
  pool: [`${OWN}/pool`, ...METALLB.map((prefix) => `${prefix}/address-pool`)],
  share: [`${OWN}/share`, ...METALLB.map((prefix) => `${prefix}/allow-shared-ip`)],
};

/** The condition on a Service that tells whether it has what it asks for. */
export interface Condition {
  status: "True" | "False";
  reason: string;
  message: string;
}

/** A Service as it was read last. */
export interface View {
  key: string;
  uid: string;
  /** Its resourceVersion. */
  version: string;
  generation: number;
  namespace: string;
  labels: Labels;
  /** `other`: of a class that is not isat's to serve, or with an entry in its status that is no address. */
  type: "balancer" | "other" | "none";
  /** Its request, without the pools that select it. */
  applicant: Omit<Applicant, "pools">;
  /** The addresses in its status, as text. */
  ingress: readonly string[];
  condition: (Condition & { since: string }) | undefined;
}

/** The Services that get addresses: those that speakers announce. */
export type Served = Pick<ClusterSettings, "loadBalancerClass" | "serviceSelector">;

/** @throws Error that names the field, if the object is not well formed */
export function viewOf(object: unknown, { loadBalancerClass, serviceSelector }: Served): View {
  const ref = refOf("Service", object);
  if (ref.name === "") throw new Error("metadata.name is missing");
  const { labels, annotations, creationTimestamp, resourceVersion, generation } = part(
    (object as Json).metadata,
    "metadata",
  );
  const spec = part((object as Json).spec, "spec");
  const status = part((object as Json).status, "status");
  const entries = items(part(status.loadBalancer, "status.loadBalancer").ingress, "status.loadBalancer.ingress");
  const read = entries.map((entry) =>
    isJson(entry) && typeof entry.ip === "string" ? readAddress(entry.ip) : undefined,
  );

  const standing = read.filter((address) => address !== undefined);
  const own = labelsOf(labels, "metadata.labels");
  const isOfClass = [loadBalancerClass ?? NO_CLASS]
    .flat()
    .includes(optional(spec.loadBalancerClass, "spec.loadBalancerClass") ?? NO_CLASS);
  const isServed = isOfClass && (!serviceSelector || selects(serviceSelector, own));
  const isForeign = !isServed || standing.length < entries.length;
  const key = keyOf(ref);
  return {
    key,
    uid: ref.uid,
    version: optional(resourceVersion, "metadata.resourceVersion") ?? "",
    generation: typeof generation === "number" ? generation : 0,
    namespace: ref.namespace ?? "",
    labels: own,
    type: spec.type !== "LoadBalancer" ? "none" : isForeign ? "other" : "balancer",
    applicant: {
      key,
      uid: ref.uid,
      created: Date.parse(optional(creationTimestamp, "metadata.creationTimestamp") ?? "") || 0,
      standing,
      isForeign,
      ...asked(spec, part(annotations, "metadata.annotations")),
    },
    ingress: standing.map(formatAddress),
    condition: conditionOf(status),
  };
}

function conditionOf(status: Json): View["condition"] {
  const all = items(status.conditions, "status.conditions").filter(isJson);
  const own = all.find(({ type }) => type === CONDITION);
  if (!own) return undefined;
  const text = (name: string) => (typeof own[name] === "string" ? own[name] : "");
  const isTrue = own.status === "True";
  return {
    status: isTrue ? "True" : "False",
    reason: text("reason"),
    message: text("message"),
    since: text("lastTransitionTime"),
  };
}

/** The values of annotations that mean the same; more than one where they differ. */
function valuesOf(annotations: Json, names: readonly string[]): string[] {
  const given = names.map((name) => annotations[name]).filter((value) => typeof value === "string" && value !== "");
  return [...new Set(given as string[])];
}

/** The request that a Service makes by its spec and its annotations. */
function asked(
  spec: Json,
  annotations: Json,
): Omit<Applicant, "key" | "uid" | "created" | "standing" | "isForeign" | "pools"> {
  const faults: string[] = [];
  const one = (what: keyof typeof ANNOTATIONS) => {
    const values = valuesOf(annotations, ANNOTATIONS[what]);
    if (values.length > 1) faults.push(`its annotations ask for ${values.join(" and for ")}`);
    return values[0];
  };
  const pool = one("pool");
  const sharing = one("share") ?? "";
  const requested = requestedOf(spec, annotations, faults);
  const families = items(spec.ipFamilies, "spec.ipFamilies").map((name): Family => (name === "IPv6" ? 6 : 4));
  const ports = items(spec.ports, "spec.ports").map((port, index) => {
    const { protocol = "TCP", port: number } = part(port, `spec.ports[${index}]`);
    return `${protocol}/${number}`;
  });
  return {
    families: families.length > 0 ? families : [4],
    isStrict: spec.ipFamilyPolicy === "RequireDualStack",
    requested: faults.length > 0 ? [] : requested,
    fault: faults.length > 0 ? faults.join("; ") : undefined,
    pool,
    sharing,
    backend: sharing === "" ? "" : backendOf(spec),
    ports: sharing === "" ? [] : [...new Set(ports)],
  };
}

/** kube-proxy sends the packets of Services with the same text to the same nodes. */
function backendOf({ externalTrafficPolicy, selector }: Json): string {
  if (externalTrafficPolicy !== "Local") return "Cluster";
  const labels = Object.entries(part(selector, "spec.selector")).map(([name, value]) => `${name}=${value}`);
  return `Local ${hash("sha256", labels.sort().join(), "hex").slice(0, 16)}`;
}

function requestedOf(spec: Json, annotations: Json, faults: string[]): Address[] {
  const field = optional(spec.loadBalancerIP, "spec.loadBalancerIP");
  const texts = [...valuesOf(annotations, ANNOTATIONS.addresses), ...(field ? [field] : [])];
  const lists = texts.map((text) => {
    const addresses = text.split(",").map((part) => readAddress(part.trim()));
    if (addresses.includes(undefined)) faults.push(`it asks for "${text}", which is no address`);
    return addresses.filter((address) => address !== undefined);
  });
  const [first = []] = lists;
  const isEqual = (list: readonly Address[]) => [...list].sort().join() === [...first].sort().join();
  if (!lists.every(isEqual)) faults.push(`it asks for ${texts.join(" and for ")}`);
  if (new Set(first.map(familyOf)).size < first.length) faults.push(`it asks for ${texts[0]}, two of one family`);
  return first;
}
