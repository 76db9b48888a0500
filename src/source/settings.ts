import * as v from "valibot";
import { interfaces, key, keys, mapping, nodeAddress, nodeName, vips } from "../config/values.ts";
import type { NodeEntry, VipRange } from "../core/demand.ts";

const plainNode = v.pipe(
  nodeName,
  v.transform((name): NodeEntry => ({ name, address: undefined })),
);
const describedNode = mapping(
  keys({
    name: key(nodeName, "its name"),
    address: key(v.optional(nodeAddress), "its own address, which is asked for by ARP where no peer is heard", {
      default: "unknown",
    }),
  }),
);
const node = key(v.union([plainNode, describedNode]), "a node", {
  accepts: "a node's name, or a mapping, such as { name: n2, address: 10.9.255.2 }",
});

const range = key(
  mapping(
    keys({
      address: key(vips, "the addresses"),
      nodes: key(v.optional(v.pipe(v.array(nodeName), v.minLength(1))), "the nodes that may own them", {
        accepts: "a list of one or more names out of source.nodes",
        default: "all",
      }),
      interfaces: key(v.optional(interfaces), "where they are announced", { default: "those of the configuration" }),
    }),
  ),
  "one or more VIPs",
  { accepts: "a mapping, such as { address: 10.9.0.1 }" },
);

/** The keys of `source` where nodes and VIPs are listed in the configuration. */
export const fileSource = keys({
  kind: key(v.literal("file"), "file: nodes and VIPs are listed here"),
  cluster: key(
    v.optional(v.string(), ""),
    "the name of these nodes' cluster, the same on all of them; another one on each network that several clusters share",
    { accepts: "a text", default: "none" },
  ),
  nodes: key(v.pipe(v.array(node), v.minLength(1)), "every node, including this one", {
    accepts:
      "a list of one or more node names, such as [n1, n2], with or without addresses: { name: n2, address: 10.9.255.2 }",
  }),
  vips: key(v.array(range), "the VIPs, at most 65,536 addresses in total", {
    accepts: "a list, such as [{ address: 10.9.0.1 }], or [] for none",
  }),
  accept: key(v.optional(v.boolean(), true), "this node accepts the packets of its VIPs: each is put on lo"),
});

export interface FileRange extends VipRange {
  /** The line of the file, from 1. */
  line: number;
}

export interface FileSettings extends Omit<v.InferOutput<typeof fileSource>, "vips"> {
  vips: FileRange[];
}
