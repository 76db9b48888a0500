/** Watches a cluster for a test on another runtime: prints a line with the VIPs for each demand, and each line of the log. */
import process from "node:process";
import { formatAddress } from "../../../src/core/address.ts";
import type { Demand } from "../../../src/core/demand.ts";
import { KubernetesSource } from "../../../src/source/kubernetes/source.ts";
import { PLAIN } from "./clusters.ts";

const [kubeconfig, runDir = ""] = process.argv.slice(2);

function show({ vips }: Demand): void {
  const addresses = vips.map(({ first }) => formatAddress(first));
  console.log(addresses.sort().join(" "));
}

const source = new KubernetesSource(
  { kind: "kubernetes", kubeconfig, ...PLAIN },
  {
    node: "n1",
    folders: [runDir],
    unserved: () => [],
    emit: (event) => {
      if (event.kind === "demand") show(event.demand);
    },
    log: (level, message) => console.log(`${level}: ${message}`),
  },
);
void source.start().then(show);
