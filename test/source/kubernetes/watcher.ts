/** Watches a cluster for a test on another runtime: a line with the VIPs for each demand, and what is reported. */
import process from "node:process";
import { formatAddress, parseRange } from "../../../src/core/address.ts";
import { watchKubernetes } from "../../../src/source/kubernetes/source.ts";

const [kubeconfig, runDir = ""] = process.argv.slice(2);

watchKubernetes(
  {
    kind: "kubernetes",
    kubeconfig,
    loadBalancerClass: undefined,
    addresses: [parseRange("10.9.0.0/16")],
    interfaces: undefined,
    nodeSelector: undefined,
    serviceSelector: undefined,
    ignoreExcludeLabel: false,
  },
  {
    node: "n1",
    runDir,
    signal: new AbortController().signal,
    onDemand: ({ vips }) =>
      console.log(
        vips
          .map(({ first }) => formatAddress(first))
          .sort()
          .join(" "),
      ),
    report: (level, message) => console.log(`${level}: ${message}`),
  },
);
