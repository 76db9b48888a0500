import type { WireHeader } from "./abi.ts";
import { formatMac } from "./arp.ts";
import { type Ns, SECOND } from "./time.ts";
import { OLD_VERSION } from "./wire.ts";

/** The time for which a node of another cluster that is no longer heard is still warned of. */
const FORGET: Ns = 60n * SECOND;

/**
 * Nodes of other clusters on one network: said, and never believed. Nobody can verify such frames, so anybody can send them
 * (or damage one of ours): a cluster is named when it is heard again, and only one at a time.
 */
export class Foreigners {
  private heard: { id: string; text: string; times: number; until: Ns } | undefined;

  hear({ version, name, source, cluster }: WireHeader, on: string, now: Ns): void {
    const id = version === OLD_VERSION ? "version 1" : cluster.toString(16).padStart(16, "0");
    const { heard } = this;
    if (heard?.id === id) {
      heard.times += 1;
      heard.until = now + FORGET;
    } else if (!heard || heard.times === 1) {
      const who = `${name} (MAC ${formatMac(source)}) on ${on}`;
      const text =
        version === OLD_VERSION
          ? `${who} speaks version 1 of the peer protocol, which is not spoken here any more, so it is not believed. If it is a node of this cluster, upgrade isat there`
          : `${who} is of another cluster (identity ${id}), so it is not believed. If it is a node of this one, let it read the same source`;
      this.heard = { id, text, times: 1, until: now + FORGET };
    }
  }

  forget(now: Ns): void {
    if (this.heard && now >= this.heard.until) this.heard = undefined;
  }

  get warnings(): string[] {
    return this.heard && this.heard.times > 1 ? [this.heard.text] : [];
  }
}
