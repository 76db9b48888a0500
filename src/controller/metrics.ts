import type { Server } from "node:http";
import { Gauge, Registry } from "prom-client";
import { serveMetrics } from "../report/metrics.ts";
import type { Inventory } from "./inventory.ts";

/** Serves what `isat ipam` shows. @param read undefined: this process does not lead, and so knows of no Service */
export function serveControllerMetrics(
  read: () => Pick<Inventory, "pools" | "waiting" | "kept"> | undefined,
  listen: { host: string; port: number },
): Promise<Server> {
  const registry = new Registry();
  const metric = (
    name: string,
    help: string,
    labelNames: string[],
    series: (its: NonNullable<ReturnType<typeof read>>) => [labels: Record<string, string>, value: number][],
  ) => {
    const collect = function (this: Gauge) {
      this.reset();
      const its = read();
      for (const [labels, value] of its ? series(its) : []) this.set(labels, value);
    };
    new Gauge({ name, help, labelNames, registers: [registry], collect });
  };
  const collect = function (this: Gauge) {
    this.set(read() ? 1 : 0);
  };
  new Gauge({
    name: "isat_controller_leads",
    help: "1 while this process gives addresses",
    registers: [registry],
    collect,
  });
  const addresses = "Addresses of a pool, by family and state; only the controller that leads has them";
  metric("isat_pool_addresses", addresses, ["pool", "family", "state"], ({ pools }) =>
    pools.flatMap(({ name, ipv4, ipv6 }) =>
      [["4", ipv4] as const, ["6", ipv6] as const].flatMap(([family, count]) =>
        (["used", "free"] as const).flatMap((state): [Record<string, string>, number][] =>
          count ? [[{ pool: name, family, state }, count[state]]] : [],
        ),
      ),
    ),
  );
  metric("isat_services_waiting", "Services that lack an address, by reason", ["reason"], ({ waiting }) =>
    [...Map.groupBy(waiting, ({ reason }) => reason)].map(([reason, all]) => [{ reason }, all.length]),
  );
  metric("isat_services_kept", "Services with an address that they would not be given any more", [], ({ kept }) => [
    [{}, kept.length],
  ]);
  return serveMetrics(registry, listen);
}
