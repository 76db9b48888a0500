/** Makes objects as the API sends them, with the fields that a test needs. */
import type { Kind } from "../../../src/source/kubernetes/objects.ts";

type Labels = Record<string, string>;

export type Sent = [kind: Kind, object: object];

/** In the order in which Go writes it. */
const metadata = (name: string, { namespace, ...more }: { namespace?: string; [key: string]: unknown } = {}) => ({
  name,
  namespace,
  uid: `uid-${name}`,
  resourceVersion: "1",
  ...more,
});

export interface ServiceOptions {
  namespace?: string;
  labels?: Labels;
  annotations?: Labels;
  /** @default "2026-01-01T00:00:00Z" */
  created?: string;
  /** When its status got its addresses; undefined: the API does not tell. */
  addressed?: string;
  loadBalancerClass?: string;
  policy?: "Cluster" | "Local";
  type?: string;
}

/** A Service with these ingress entries; each is an IP, or an entry as the API sends it. */
export function service(name: string, ingress: (string | object)[], options: ServiceOptions = {}): Sent {
  const { namespace = "default", labels, annotations, created = "2026-01-01T00:00:00Z", loadBalancerClass } = options;
  const fieldsV1 = { "f:status": { "f:loadBalancer": { "f:ingress": {} } } };
  const managedFields = options.addressed && [
    { manager: "a", subresource: "status", time: options.addressed, fieldsV1 },
    { manager: "b", time: "2026-12-01T00:00:00Z", fieldsV1: { "f:spec": {} } },
  ];
  return [
    "Service",
    {
      metadata: metadata(name, { namespace, labels, annotations, creationTimestamp: created, managedFields }),
      spec: {
        type: options.type ?? "LoadBalancer",
        externalTrafficPolicy: options.policy ?? "Cluster",
        loadBalancerClass,
      },
      status: {
        loadBalancer: { ingress: ingress.map((entry) => (typeof entry === "string" ? { ip: entry } : entry)) },
      },
    },
  ];
}

/** Endpoints, each by its node (undefined: none) and its conditions. */
export function slice(
  service: string,
  endpoints: [node: string | undefined, conditions?: object][],
  name = `${service}-1`,
  namespace = "default",
  addressType = "IPv4",
): Sent {
  return [
    "EndpointSlice",
    {
      metadata: metadata(name, { namespace, labels: { "kubernetes.io/service-name": service } }),
      addressType,
      endpoints: endpoints.map(([nodeName, conditions = { ready: true, serving: true, terminating: false }]) => ({
        addresses: ["10.1.0.1"],
        nodeName,
        conditions,
      })),
    },
  ];
}

export function node(name: string, address: string, labels: Labels = {}, conditions: object[] = []): Sent {
  return [
    "Node",
    {
      metadata: metadata(name, { labels: { "kubernetes.io/hostname": name, ...labels } }),
      status: {
        conditions,
        addresses: [
          { type: "InternalIP", address },
          { type: "Hostname", address: name },
        ],
      },
    },
  ];
}

export const pool = (name: string, addresses: string[], labels?: Labels, namespace = "metallb-system"): Sent => [
  "IPAddressPool",
  { metadata: metadata(name, { namespace, labels }), spec: { addresses } },
];

export const advertisement = (name: string, spec: object = {}, namespace = "metallb-system"): Sent => [
  "L2Advertisement",
  { metadata: metadata(name, { namespace }), spec },
];

export const NODES = [node("n1", "10.0.0.1"), node("n2", "10.0.0.2"), node("n3", "10.0.0.3")];
