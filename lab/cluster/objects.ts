import { randomUUID } from "node:crypto";
import type { LabNode } from "../topology.ts";
import type { KubeObject } from "./api.ts";
import type { Seeds } from "./etcd.ts";
import { type ClusterNode, ENDPOINT_PORT } from "./node.ts";

/** Changes to the default Service. */
export interface ServiceOptions {
  namespace?: string;
  port?: number;
  policy?: "Cluster" | "Local";
  class?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** More fields of `spec`; they replace the defaults. */
  spec?: Record<string, unknown>;
}

/** An endpoint: a node's web server, ready unless `conditions` say otherwise. */
export interface EndpointOptions {
  node: string;
  conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean };
}

/** A Service of type LoadBalancer without a selector, as no controller makes its endpoints. */
export function service(name: string, options: ServiceOptions = {}): KubeObject {
  const { namespace = "default", port = 80, policy = "Cluster", labels, annotations } = options;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec: {
      type: "LoadBalancer",
      ports: [{ port, targetPort: ENDPOINT_PORT, protocol: "TCP" }],
      externalTrafficPolicy: policy,
      ...(options.class === undefined ? {} : { loadBalancerClass: options.class }),
      // There are only 2,768 node ports, and no test needs one.
      allocateLoadBalancerNodePorts: false,
      ...options.spec,
    },
  };
}

/** An item of `status.loadBalancer.ingress`; a string is an address. */
export type Ingress = string | { ip?: string; hostname?: string; ipMode?: "VIP" | "Proxy" };

export function status(ingress: readonly Ingress[]): object {
  const entries = ingress.map((entry) => (typeof entry === "string" ? { ip: entry } : entry));
  return { status: { loadBalancer: { ingress: entries } } };
}

/** A Service's EndpointSlice, as a controller would make it. */
export function endpointSlice(
  serviceName: string,
  endpoints: readonly { node: LabNode; conditions?: EndpointOptions["conditions"] }[],
  namespace = "default",
): KubeObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${serviceName}-lab`,
      namespace,
      labels: {
        "kubernetes.io/service-name": serviceName,
        "endpointslice.kubernetes.io/managed-by": "isat-lab",
      },
    },
    addressType: "IPv4",
    ports: [{ name: "", port: ENDPOINT_PORT, protocol: "TCP" }],
    endpoints: endpoints.map(({ node, conditions = { ready: true, serving: true, terminating: false } }) => ({
      addresses: [node.ip],
      nodeName: node.name,
      conditions,
    })),
  };
}

export function node({ name }: ClusterNode, labels: Record<string, string> = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", ...labels } },
    spec: {},
  };
}

/** The status that a kubelet would write. */
export function nodeStatus({ name, ip }: ClusterNode): object {
  return {
    status: {
      addresses: [
        { type: "InternalIP", address: ip },
        { type: "Hostname", address: name },
      ],
      conditions: [
        { type: "Ready", status: "True", reason: "Lab" },
        { type: "NetworkUnavailable", status: "False", reason: "Lab" },
      ],
    },
  };
}

/** A rule of RBAC. */
export interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
}

const RBAC = "rbac.authorization.k8s.io";

/** @param namespace undefined: in the whole cluster */
export function role(name: string, rules: readonly Rule[], namespace?: string): KubeObject {
  const kind = namespace ? "Role" : "ClusterRole";
  return { apiVersion: `${RBAC}/v1`, kind, metadata: { name, ...(namespace && { namespace }) }, rules };
}

export function roleBinding(name: string, user: string, namespace?: string): KubeObject {
  const { kind } = role(name, [], namespace);
  return {
    apiVersion: `${RBAC}/v1`,
    kind: `${kind}Binding`,
    metadata: { name, ...(namespace && { namespace }) },
    roleRef: { apiGroup: RBAC, kind, name },
    subjects: [{ kind: "User", apiGroup: RBAC, name: user }],
  };
}

/** A Service with an address and its EndpointSlice, as they stand in etcd, with the fields that the registry would fill in. */
export function seedsOf(name: string, address: string, clusterIP: string, nodes: readonly LabNode[]): Seeds {
  const known = { uid: randomUUID(), creationTimestamp: "2026-01-01T00:00:00Z" };
  const its = service(name);
  const ips = { clusterIP, clusterIPs: [clusterIP], ipFamilies: ["IPv4"], ipFamilyPolicy: "SingleStack" };
  const spec = { ...its.spec, ...ips, sessionAffinity: "None", internalTrafficPolicy: "Cluster" };
  const slice = endpointSlice(
    name,
    nodes.map((node) => ({ node })),
  );
  return [
    [`services/specs/default/${name}`, { ...its, metadata: { ...its.metadata, ...known }, spec, ...status([address]) }],
    [`endpointslices/default/${slice.metadata.name}`, { ...slice, metadata: { ...slice.metadata, ...known } }],
  ];
}
