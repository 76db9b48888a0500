import type { Kind } from "./objects.ts";
import type { Resource } from "./watch.ts";

/** The version of MetalLB's resources that isat knows. */
export const VERSION = "v1beta1";
const METALLB = { group: "metallb.io", version: VERSION };

/** The kinds of MetalLB's resources. */
export const METALLB_KINDS = ["IPAddressPool", "L2Advertisement"] as const satisfies readonly Kind[];

/** The list of each kind in the API, of all namespaces. */
export const RESOURCES: Record<Kind, Resource> = {
  Service: { group: "", version: "v1", plural: "services" },
  EndpointSlice: {
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    // As kube-proxy asks for them: the EndpointSlices of a headless Service serve no VIP.
    query: { labelSelector: "kubernetes.io/service-name,!service.kubernetes.io/headless" },
  },
  Node: { group: "", version: "v1", plural: "nodes" },
  IPAddressPool: { ...METALLB, plural: "ipaddresspools" },
  L2Advertisement: { ...METALLB, plural: "l2advertisements" },
};
export const KINDS = Object.keys(RESOURCES) as Kind[];

/** The list of each kind that counts. @param pools the namespace of MetalLB's resources: any tenant may write others */
export const resourcesOf = (pools: string): Record<Kind, Resource> => ({
  ...RESOURCES,
  IPAddressPool: { ...RESOURCES.IPAddressPool, namespace: pools },
  L2Advertisement: { ...RESOURCES.L2Advertisement, namespace: pools },
});

/** `v1`, or `metallb.io/v1beta1`. */
export const apiVersionOf = ({ group, version }: Resource): string => (group ? `${group}/${version}` : version);

export type MetallbKind = (typeof METALLB_KINDS)[number];

const definitionOf = (plural: string): Resource => ({
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  query: { fieldSelector: `metadata.name=${plural}.${METALLB.group}` },
});

/** The definitions of MetalLB's resources. They are watched and not polled, so that an idle isat asks the API nothing. */
export const DEFINITIONS: Record<MetallbKind, Resource> = {
  IPAddressPool: definitionOf("ipaddresspools"),
  L2Advertisement: definitionOf("l2advertisements"),
};

/** The Namespace whose uid is the cluster's identity: every cluster has it, for as long as the cluster lives. */
export const IDENTITY: Resource = {
  group: "",
  version: "v1",
  plural: "namespaces",
  query: { fieldSelector: "metadata.name=kube-system" },
};

/** The versions that a CustomResourceDefinition serves: none if it is being deleted; undefined: it is not established yet. */
export function servedVersions(definition: unknown): string[] | undefined {
  const { metadata, spec, status } = definition as {
    metadata?: { deletionTimestamp?: string };
    spec?: { versions?: { name: string; served?: boolean }[] };
    status?: { conditions?: { type?: string; status?: string }[] };
  };
  if (metadata?.deletionTimestamp !== undefined) return [];
  const isEstablished = status?.conditions?.some(({ type, status }) => type === "Established" && status === "True");
  if (!isEstablished) return undefined;
  return (spec?.versions ?? []).filter(({ served }) => served).map(({ name }) => name);
}
