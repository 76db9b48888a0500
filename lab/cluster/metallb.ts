import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { KubeObject } from "./api.ts";
import type { Rule } from "./objects.ts";

/** The namespace of MetalLB's objects. */
export const METALLB = "metallb-system";

/** The rights in that namespace that a speaker needs beside MetalLB: those that deploy/metallb.yaml grants. */
export const METALLB_RULES: readonly Rule[] = [
  { apiGroups: ["metallb.io"], resources: ["ipaddresspools", "l2advertisements"], verbs: ["list", "watch"] },
];

const strings = { type: "array", items: { type: "string" } };

const selectors = {
  type: "array",
  items: {
    type: "object",
    properties: {
      matchLabels: { type: "object", additionalProperties: { type: "string" } },
      matchExpressions: {
        type: "array",
        items: {
          type: "object",
          required: ["key", "operator"],
          properties: { key: { type: "string" }, operator: { type: "string" }, values: strings },
        },
      },
    },
  },
};

/**
 * MetalLB's custom resources of version v1beta1 as far as a layer-2 speaker reads them, with the defaults and the
 * required fields of its own definitions. `serviceSelectors` of L2Advertisement came with its later versions.
 */
export const DEFINITIONS: readonly KubeObject[] = [
  definition("IPAddressPool", {
    type: "object",
    required: ["spec"],
    properties: {
      spec: {
        type: "object",
        required: ["addresses"],
        properties: {
          addresses: strings,
          autoAssign: { type: "boolean", default: true },
          avoidBuggyIPs: { type: "boolean", default: false },
          serviceAllocation: {
            type: "object",
            properties: {
              priority: { type: "integer" },
              namespaces: strings,
              namespaceSelectors: selectors,
              serviceSelectors: selectors,
            },
          },
        },
      },
      status: {
        type: "object",
        properties: Object.fromEntries(
          ["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"].map((name) => [
            name,
            { type: "integer", format: "int64" },
          ]),
        ),
      },
    },
  }),
  definition("L2Advertisement", {
    type: "object",
    properties: {
      spec: {
        type: "object",
        properties: {
          ipAddressPools: strings,
          ipAddressPoolSelectors: selectors,
          serviceSelectors: selectors,
          nodeSelectors: selectors,
          preferredNodeSelectors: {
            type: "array",
            items: {
              type: "object",
              required: ["weight", "preference"],
              properties: { weight: { type: "integer" }, preference: selectors.items },
            },
          },
          interfaces: strings,
        },
      },
      status: { type: "object" },
    },
  }),
];

export function pool(name: string, addresses: readonly string[], labels: Record<string, string> = {}): KubeObject {
  return {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name, namespace: METALLB, labels },
    spec: { addresses },
  };
}

/** @param spec `{}` covers every pool, Service, node and interface */
export function advertisement(name: string, spec: object = {}): KubeObject {
  return { apiVersion: "metallb.io/v1beta1", kind: "L2Advertisement", metadata: { name, namespace: METALLB }, spec };
}

/** The commands of one section of docs/from-metallb.md. */
export function commandsOf(section: string): string[] {
  const page = readFileSync(fileURLToPath(new URL("../../docs/from-metallb.md", import.meta.url)), "utf8");
  const text = page.split(/^## /m).find((part) => part.startsWith(`${section}\n`))!;
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) => block!.trim().split("\n"));
}

function definition(kind: string, schema: object): KubeObject {
  const singular = kind.toLowerCase();
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${singular}s.metallb.io` },
    spec: {
      group: "metallb.io",
      names: { kind, listKind: `${kind}List`, plural: `${singular}s`, singular },
      scope: "Namespaced",
      versions: [
        {
          name: "v1beta1",
          served: true,
          storage: true,
          schema: { openAPIV3Schema: schema },
          subresources: { status: {} },
        },
      ],
    },
  };
}
