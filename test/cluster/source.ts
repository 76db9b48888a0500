/**
 * Reads a cluster's objects as a speaker's source does, for a test that measures it: prints a line of JSON for each demand
 * and each line of the log; and one with its memory and the longest time that it did nothing else, four times a second.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";
import { formatAddress, parseRange } from "../../src/core/address.ts";
import type { Demand } from "../../src/core/demand.ts";
import { elect } from "../../src/core/ownership.ts";
import { KubernetesSource } from "../../src/source/kubernetes/source.ts";

const [kubeconfig, folder = "", node = "n1", addresses] = process.argv.slice(2);
const say = (line: object) => console.log(JSON.stringify(line));

/** The owner of each VIP if every node is alive. */
function show({ vips, nodes }: Demand): void {
  const rows = vips.map(({ first, nodes: its, hashAs, scores }) => {
    const ip = formatAddress(first);
    return [ip, elect(its ?? nodes.map(({ name }) => name), hashAs ?? ip, scores) ?? "nobody"] as const;
  });
  say({ owners: Object.fromEntries(rows) });
}

const source = new KubernetesSource(
  {
    kind: "kubernetes",
    kubeconfig,
    loadBalancerClass: undefined,
    poolNamespace: "metallb-system",
    addresses: addresses === undefined ? undefined : [parseRange(addresses)],
    interfaces: undefined,
    nodeSelector: undefined,
    serviceSelector: undefined,
    ignoreExcludeLabel: false,
  },
  {
    node,
    folders: [folder],
    unserved: () => [],
    emit: (event) => {
      if (event.kind === "demand") show(event.demand);
    },
    log: (level, message) => say({ log: `${level}: ${message}` }),
  },
);
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
setInterval(() => {
  say({
    rss: process.memoryUsage.rss(),
    held: delay.max / 1e6,
    cpu: process.cpuUsage().user + process.cpuUsage().system,
  });
  delay.reset();
}, 250);
process.on("SIGTERM", () => {
  source[Symbol.dispose]();
  process.exit();
});
void source.start().then(show);
