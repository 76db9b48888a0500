import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { Gauge, Registry } from "prom-client";
import type { InterfaceStatus, Status } from "./status.ts";

/** The status without its list of VIPs: ten thousand time series would be too many. */
type Summary = Omit<Status, "vips" | "rankings"> & { owned: number; managed: number };

/** A time series: its labels, and the value now. */
type Series = [labels: Record<string, string>, value: number];

/** Adds a metric; the series are read anew for each scrape. */
type Add = (name: string, help: string, labelNames: string[], series: (summary: Summary) => Series[]) => void;

/** @param readNow called once for each scrape, as it counts all VIPs */
export function makeRegistry(readNow: () => Summary): Registry {
  const registry = new Registry();
  let known: Summary | undefined;
  // A scrape reads all metrics in one go.
  const read = () => {
    if (!known) queueMicrotask(() => (known = undefined));
    return (known ??= readNow());
  };
  const metric: Add = (name, help, labelNames, series) => {
    const collect = function (this: Gauge) {
      this.reset();
      for (const [labels, value] of series(read())) this.set(labels, value);
    };
    new Gauge({ name, help, labelNames, registers: [registry], collect });
  };
  const plain = (name: string, help: string, value: (summary: Summary) => number) =>
    metric(name, help, [], (summary) => [[{}, value(summary)]]);
  const flag = (name: string, help: string, isSet: (summary: Summary) => boolean) =>
    plain(name, `1 while ${help}`, (summary) => (isSet(summary) ? 1 : 0));

  metric("isat_vips", "VIPs on this node's interfaces, by state", ["state"], ({ owned, managed }) => [
    [{ state: "owned" }, owned],
    [{ state: "not_owned" }, managed - owned],
  ]);
  const refused = "the configuration file on disk is refused and an older state is served";
  flag("isat_config_refused", refused, ({ configError }) => configError !== undefined);
  flag("isat_drained", "the node is drained", ({ isDrained }) => isDrained);
  flag("isat_source_stale", "the source of the VIPs is out of reach", ({ isSourceStale }) => isSourceStale);
  const contested = "VIPs that this node claims and that a peer has refused to release for more than a second";
  plain("isat_contested_vips", contested, ({ contested }) => contested);
  const unreadable = "Objects of the cluster that cannot be read and are treated as absent";
  plain("isat_source_unreadable", unreadable, ({ source }) => source?.unreadable ?? 0);
  const skipped = "VIPs of the cluster that are not announced, by reason";
  metric("isat_source_skipped_vips", skipped, ["reason"], ({ source }) =>
    Object.entries(source?.skipped ?? {}).map(([reason, count]) => [{ reason }, count]),
  );
  plain("isat_warnings", "Warnings that isat status shows", ({ warnings }) => warnings.length);
  const member =
    "1 for each node that is heard on an interface, by its state, and for one that is deaf: it only answers ARP; 0 after it has died";
  metric("isat_member", member, ["node", "interface", "state"], ({ members }) =>
    members.map(({ node, interface: name = "", state, isAlive }) => [
      { node, interface: name, state },
      isAlive ? 1 : 0,
    ]),
  );
  const keys = "Nodes on an interface, this one and those that answer, by the id of the key that they sign with";
  metric("isat_nodes_by_key", keys, ["interface", "key"], ({ members }) => nodesByKey(members));
  const unanswered = "VIPs whose claims a peer has left unanswered for more than a second, though it answers probes";
  metric("isat_unanswered_vips", unanswered, ["node", "interface"], ({ members }) =>
    members
      .filter((member) => member.unanswered !== undefined)
      .map(({ node, interface: name = "", unanswered = 0 }) => [{ node, interface: name }, unanswered]),
  );
  addInterfaces(metric);
  return registry;
}

function nodesByKey(members: Summary["members"]): Series[] {
  const counts = new Map<string, { labels: Record<string, string>; count: number }>();
  for (const { isAlive, key, interface: name = "" } of members) {
    if (!isAlive || key === undefined) continue;
    const its = counts.get(`${name} ${key}`) ?? { labels: { interface: name, key: String(key) }, count: 0 };
    counts.set(`${name} ${key}`, { ...its, count: its.count + 1 });
  }
  return [...counts.values()].map(({ labels, count }) => [labels, count]);
}

function addInterfaces(metric: Add): void {
  const perInterface = (name: string, help: string, value: (each: InterfaceStatus) => number) =>
    metric(name, help, ["interface"], ({ interfaces }) =>
      interfaces.map((each) => [{ interface: each.name }, value(each)]),
    );
  perInterface("isat_interface_up", "1 while the interface is up and has a carrier", ({ isUp }) => (isUp ? 1 : 0));
  const tickAge = "Age of the last tick, the heartbeat of the control plane";
  perInterface("isat_tick_age_seconds", tickAge, ({ tickAgeMs }) => (tickAgeMs ?? Infinity) / 1_000);
  perInterface("isat_announcements_total", "Gratuitous ARP frames sent", ({ announcements }) => announcements ?? 0);
  const usurped = "How often a machine that is no peer has said that it has a VIP that is owned here";
  perInterface("isat_usurped_total", usurped, ({ usurped }) => usurped ?? 0);
  const verdict = "ARP frames by the verdict of the kernel program";
  metric("isat_verdicts_total", verdict, ["interface", "verdict"], ({ interfaces }) =>
    interfaces.flatMap(({ name, verdicts }) =>
      Object.entries(verdicts).map(([verdict, count]): Series => [{ interface: name, verdict }, count]),
    ),
  );
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
  await once(server.listen(port, host), "listening").catch(({ message }: Error) => {
    throw new Error(`Cannot serve metrics at ${host}:${port}: ${message}. Set metrics.listen to a free address`);
  });
  server.on("error", () => {}); // as for want of descriptors, with which a caller could be accepted
  server.unref();
  return server;
}
