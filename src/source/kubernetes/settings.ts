import * as v from "valibot";
import { absolutePath, accepting, interfaces, key, keys, mapping, parsed, vips } from "../../config/values.ts";
import { fault, OPERATORS, type Requirement } from "./selector.ts";

const EXPRESSIONS =
  "a list, such as [{ key: isat, operator: In, values: [enabled] }], of the operators In, NotIn, Exists and DoesNotExist";

const labels = mapping(v.record(v.string(), v.string()));

const requirement = parsed(
  mapping(
    keys({
      key: key(v.pipe(v.string(), v.minLength(1)), "the key of the label", { accepts: "a label's key, such as isat" }),
      operator: key(v.picklist(OPERATORS), "how the label is compared"),
      values: key(
        v.optional(v.array(v.string()), () => []),
        "the values to compare with; In and NotIn need some, the others take none",
        { accepts: "a list of texts, such as [enabled]", default: "none" },
      ),
    }),
  ),
  (requirement: Requirement) => {
    const reason = fault(requirement);
    if (reason) throw new Error(`${reason}; accepted: ${EXPRESSIONS}`);
    return requirement;
  },
);

export const selector = accepting(
  "a mapping of matchLabels and matchExpressions, such as { matchLabels: { isat: enabled } }",
  mapping(
    keys({
      matchLabels: key(v.optional(labels, {}), "labels that an object must have, all of them", {
        accepts: "a mapping of labels, such as { isat: enabled }",
      }),
      matchExpressions: key(
        v.optional(v.pipe(v.array(requirement), v.readonly()), []),
        "conditions on its labels, which must all hold",
        { accepts: EXPRESSIONS },
      ),
    }),
  ),
);

const className = v.pipe(v.string(), v.regex(/^\S+$/));

/** The keys of `source` where nodes and VIPs come from a cluster. */
export const kubernetesSource = keys({
  kind: key(v.literal("kubernetes"), "kubernetes: they come from a cluster"),
  kubeconfig: key(v.optional(absolutePath), "the file by which the API server is reached", {
    default: "KUBECONFIG, else the pod's service account",
  }),
  loadBalancerClass: key(
    v.optional(v.union([className, v.pipe(v.array(className), v.minLength(1), v.readonly())])),
    "the classes of the Services that isat announces; none stands for Services without a class",
    { accepts: "a class, such as isat.example/l2, or a list, such as [none, isat.example/l2]", default: "none" },
  ),
  poolNamespace: key(
    v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/)), "metallb-system"),
    "the namespace whose IPAddressPools and L2Advertisements count; all others are never read",
    { accepts: "a namespace's name, such as metallb-system" },
  ),
  addresses: key(
    v.optional(v.pipe(v.array(key(vips, "some of them")), v.minLength(1), v.readonly())),
    "the addresses that may be announced; needed where L2Advertisements are not served",
    { accepts: "a list of one or more addresses, such as [10.9.0.0/20]", default: "those of the IPAddressPools" },
  ),
  interfaces: key(v.optional(interfaces), "where to announce VIPs for which no L2Advertisement names interfaces", {
    default: "those of the configuration",
  }),
  nodeSelector: key(v.optional(selector), "the Nodes that run isat", { default: "all Nodes" }),
  serviceSelector: key(v.optional(selector), "the Services that are announced", { default: "all Services" }),
  ignoreExcludeLabel: key(
    v.optional(v.boolean(), false),
    "true: Nodes with the label node.kubernetes.io/exclude-from-external-load-balancers may own VIPs too",
  ),
});

/** The settings of `source`; a setting without a default is undefined where it is left out. */
export type KubernetesSettings = v.InferOutput<typeof kubernetesSource>;

/** The bounds that the configuration sets. */
export type ClusterSettings = Omit<KubernetesSettings, "kind" | "kubeconfig">;
