import { createServer, type Server } from "node:http";
import { Gauge, Registry } from "prom-client";
import type { InterfaceStatus, Status } from "./status.ts";

/** What Prometheus reads is what `status` tells, without the VIPs one by one: ten thousand series would be too many. */
export function makeRegistry(
  read: () => Omit<Status, "vips" | "rankings"> & { owned: number; managed: number },
): Registry {
  const registry = new Registry();
  const registers = [registry];

  new Gauge({
    name: "isat_vips",
    help: "VIPs on this node's interfaces, by state",
    labelNames: ["state"],
    registers,
    collect() {
      const { owned, managed } = read();
      this.set({ state: "owned" }, owned);
      this.set({ state: "not_owned" }, managed - owned);
    },
  });
  new Gauge({
    name: "isat_config_refused",
    help: "1 while the configuration file on disk is refused and an older state is served",
    registers,
    collect() {
      this.set(read().configError === undefined ? 0 : 1);
    },
  });

  function flag(name: string, help: string, value: (status: ReturnType<typeof read>) => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value(read()));
      },
    });
  }
  flag("isat_drained", "1 while the node is drained", ({ isDrained }) => (isDrained ? 1 : 0));
  flag("isat_source_stale", "1 while the source of the VIPs is out of reach", ({ isSourceStale }) =>
    isSourceStale ? 1 : 0,
  );
  flag(
    "isat_contested_vips",
    "VIPs that are wanted here and that a peer has refused for more than a second",
    (status) => status.contested,
  );
  flag(
    "isat_source_unreadable",
    "Objects of the cluster that cannot be read, and are taken as absent",
    ({ source }) => source?.unreadable ?? 0,
  );
  new Gauge({
    name: "isat_source_skipped_vips",
    help: "VIPs of the cluster that are not announced, by the reason why",
    labelNames: ["reason"],
    registers,
    collect() {
      for (const [reason, count] of Object.entries(read().source?.skipped ?? {})) this.set({ reason }, count);
    },
  });
  flag("isat_warnings", "Lines that status shows as warnings", ({ warnings }) => warnings.length);
  new Gauge({
    name: "isat_member",
    help: "1 for each node that is heard on an interface, by its state; 0 once it is dead",
    labelNames: ["node", "interface", "state"],
    registers,
    collect() {
      this.reset();
      for (const { node, interface: name = "", state, isAlive } of read().members)
        this.set({ node, interface: name, state }, isAlive ? 1 : 0);
    },
  });

  function perInterface(name: string, help: string, value: (each: InterfaceStatus) => number): void {
    new Gauge({
      name,
      help,
      labelNames: ["interface"],
      registers,
      collect() {
        this.reset();
        for (const each of read().interfaces) this.set({ interface: each.name }, value(each));
      },
    });
  }
  perInterface("isat_interface_up", "1 while the interface is up and has a carrier", ({ isUp }) => (isUp ? 1 : 0));
  perInterface(
    "isat_tick_age_seconds",
    "Age of the last verified tick",
    ({ tickAgeMs }) => (tickAgeMs ?? Infinity) / 1_000,
  );
  perInterface("isat_announcements_total", "Gratuitous ARP frames sent", ({ announcements }) => announcements ?? 0);

  new Gauge({
    name: "isat_verdicts_total",
    help: "ARP frames by what the kernel program decided",
    labelNames: ["interface", "verdict"],
    registers,
    collect() {
      this.reset();
      for (const { name, verdicts } of read().interfaces) {
        for (const [verdict, count] of Object.entries(verdicts)) this.set({ interface: name, verdict }, count);
      }
    },
  });
  return registry;
}

/** Serves the registry at /metrics. @throws Error where the address is taken. */
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
