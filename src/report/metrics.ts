import { createServer, type Server } from "node:http";
import { Gauge, Registry } from "prom-client";
import type { InterfaceStatus, Status } from "./status.ts";

/** The status without its list of VIPs: ten thousand time series would be too many. */
type Summary = Omit<Status, "vips" | "rankings"> & { owned: number; managed: number };

interface Metric {
  name: string;
  help: string;
  labelNames: readonly string[];
  /** The time series that the metric has now: labels and value. */
  series(summary: Summary): [labels: Record<string, string>, value: number][];
}

const plain = (name: string, help: string, value: (summary: Summary) => number): Metric => ({
  name,
  help,
  labelNames: [],
  series: (summary) => [[{}, value(summary)]],
});

const flag = (name: string, help: string, isSet: (summary: Summary) => boolean): Metric =>
  plain(name, `1 while ${help}`, (summary) => (isSet(summary) ? 1 : 0));

const perInterface = (name: string, help: string, value: (each: InterfaceStatus) => number): Metric => ({
  name,
  help,
  labelNames: ["interface"],
  series: ({ interfaces }) => interfaces.map((each) => [{ interface: each.name }, value(each)]),
});

const METRICS: readonly Metric[] = [
  {
    name: "isat_vips",
    help: "VIPs on this node's interfaces, by state",
    labelNames: ["state"],
    series: ({ owned, managed }) => [
      [{ state: "owned" }, owned],
      [{ state: "not_owned" }, managed - owned],
    ],
  },
  flag(
    "isat_config_refused",
    "the configuration file on disk is refused and an older state is served",
    ({ configError }) => configError !== undefined,
  ),
  flag("isat_drained", "the node is drained", ({ isDrained }) => isDrained),
  flag("isat_source_stale", "the source of the VIPs is out of reach", ({ isSourceStale }) => isSourceStale),
  plain(
    "isat_contested_vips",
    "VIPs that this node claims and that a peer has refused to release for more than a second",
    ({ contested }) => contested,
  ),
  plain(
    "isat_source_unreadable",
    "Objects of the cluster that cannot be read and are treated as absent",
    ({ source }) => source?.unreadable ?? 0,
  ),
  {
    name: "isat_source_skipped_vips",
    help: "VIPs of the cluster that are not announced, by reason",
    labelNames: ["reason"],
    series: ({ source }) => Object.entries(source?.skipped ?? {}).map(([reason, count]) => [{ reason }, count]),
  },
  plain("isat_warnings", "Warnings that isat status shows", ({ warnings }) => warnings.length),
  {
    name: "isat_member",
    help: "1 for each node that is heard on an interface, by its state; 0 after it has died",
    labelNames: ["node", "interface", "state"],
    series: ({ members }) =>
      members.map(({ node, interface: name = "", state, isAlive }) => [
        { node, interface: name, state },
        isAlive ? 1 : 0,
      ]),
  },
  perInterface("isat_interface_up", "1 while the interface is up and has a carrier", ({ isUp }) => (isUp ? 1 : 0)),
  perInterface(
    "isat_tick_age_seconds",
    "Age of the last tick, the heartbeat of the control plane",
    ({ tickAgeMs }) => (tickAgeMs ?? Infinity) / 1_000,
  ),
  perInterface("isat_announcements_total", "Gratuitous ARP frames sent", ({ announcements }) => announcements ?? 0),
  {
    name: "isat_verdicts_total",
    help: "ARP frames by the verdict of the kernel program",
    labelNames: ["interface", "verdict"],
    series: ({ interfaces }) =>
      interfaces.flatMap(({ name, verdicts }) =>
        Object.entries(verdicts).map(([verdict, count]): [Record<string, string>, number] => [
          { interface: name, verdict },
          count,
        ]),
      ),
  },
];

/** @param read called for each metric of each scrape */
export function makeRegistry(read: () => Summary): Registry {
  const registry = new Registry();
  for (const { name, help, labelNames, series } of METRICS) {
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, value] of series(read())) this.set(labels, value);
      },
    });
  }
  return registry;
}

/** Serves the registry at /metrics. @throws Error if the address is in use */
export async function serveMetrics(
  registry: Registry,
  { host, port }: { host: string; port: number },
): Promise<Server> {
  const server = createServer(async (request, response) => {
    if (request.url !== "/metrics") {
      response.writeHead(404).end("isat: the metrics are at /metrics\n");
      return;
    }
    try {
      const metrics = await registry.metrics();
      response.writeHead(200, { "content-type": registry.contentType }).end(metrics);
    } catch (error) {
      response.writeHead(500).end(`${(error as Error).message}\n`);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(
        new Error(`Cannot serve metrics at ${host}:${port}: ${error.message}. Set metrics.listen to a free address`),
      );
    });
    server.listen(port, host, resolve);
  });
  server.unref();
  return server;
}
