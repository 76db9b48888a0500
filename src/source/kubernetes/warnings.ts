import { list } from "../../config/values.ts";
import { type Address, formatAddress } from "../../core/address.ts";
import type { Cluster } from "./cluster.ts";

/**
 * Faults of a cluster that the person who runs isat should know: a line each, the same for as long as it is true.
 * @param api the address of the API server, where isat is told one
 */
export function warningsOf(cluster: Cluster, api?: Address): string[] {
  const { self, given, skipped } = cluster;
  const lines: string[] = [];
  if (!cluster.all("Node").has(self)) {
    const names = list([...cluster.all("Node").keys()].sort());
    lines.push(
      `This node owns nothing as the cluster has no Node "${self}". It has: ${names || "none"}. Set NODE_NAME from spec.nodeName, or the key node`,
    );
  } else if (!cluster.isRunning(self)) {
    lines.push(`This node owns nothing as source.nodeSelector does not select its Node "${self}"`);
  }
  if (!given.hasAdvertisements && !given.settings.addresses) {
    lines.push(
      "No VIP is announced as the API serves no L2Advertisements (metallb.io/v1beta1) and nothing else says what may be announced. Set source.addresses",
    );
  }
  const services = api === undefined ? [] : [...cluster.all("Service").values()];
  const behind = services.find(({ ingress }) => ingress.some(({ address }) => address === api));
  if (behind) {
    lines.push(
      `The API server is reached at ${formatAddress(api!)}, which is a VIP of Service ${behind.key}: after a power cut, no node can read which VIPs there are before one answers for it. isat then serves what it saved in stateDir: keep that folder on a disk of the host, or let isat reach the API server by the address of a node`,
    );
  }
  if (skipped.reserved > 0) {
    lines.push("VIPs that no host can have, such as loopback and multicast, are not announced. The metrics count them");
  }
  for (const [one, other, address] of cluster.overlaps) {
    lines.push(
      `IPAddressPools ${one} and ${other} overlap, at ${formatAddress(address)}: of two, the one that an L2Advertisement covers counts, else the first by name. MetalLB refuses such pools`,
    );
  }
  for (const { key, unknown } of cluster.all("L2Advertisement").values()) {
    if (unknown.length === 0) continue;
    lines.push(
      `L2Advertisement ${key} has ${unknown.join(", ")}, which isat does not know: it decides as if that were not there`,
    );
  }
  return lines;
}
