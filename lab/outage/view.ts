import type { Switch } from "../switch/switch.ts";
import { type LabNode, nodeByMac, VIPS } from "../topology.ts";

/** A VIP counts as silent if no ping of the last so many ms was answered. */
const SILENCE_MS = 350;

/** One VIP as the switch sees it, and as it should be. */
export interface VipView {
  vip: string;
  owner: LabNode;
  /** The switch's ARP entry; undefined without one. */
  learnt: { mac: string; node: LabNode | undefined; port: number } | undefined;
  isMacRight: boolean;
  isPortRight: boolean;
  isReachable: boolean;
  sent: number;
  answered: number;
}

/** One lab at one moment. The screen shows it, and rows are judged by it. */
export interface LabView {
  vips: VipView[];
  disabledPorts: number[];
  /** Pings that were dropped as the FDB had forgotten the MAC. */
  lostToFdb: number;
  forwardsByEntry: boolean;
}

export function look(gateway: Switch, owners: ReadonlyMap<string, LabNode>, now: number): LabView {
  const rows = new Map(gateway.arpRows(now).map((row) => [row.ip, row]));
  return {
    vips: VIPS.map((vip) => {
      const owner = owners.get(vip)!;
      const row = rows.get(vip);
      const { sent, answered, answeredUntil } = gateway.tally(vip);
      return {
        vip,
        owner,
        learnt: row && { mac: row.mac, node: nodeByMac(row.mac), port: row.port },
        isMacRight: row?.mac === owner.mac,
        isPortRight: row?.port === owner.port,
        isReachable: answeredUntil !== undefined && now - answeredUntil < SILENCE_MS,
        sent,
        answered,
      };
    }),
    disabledPorts: gateway.disabledPorts(),
    lostToFdb: gateway.drops("unknown unicast"),
    forwardsByEntry: gateway.settings.forwardBy === "entry",
  };
}
