import { claimVerdict, vipState, type WireClaim } from "../../src/core/abi.ts";
import type { Held } from "../../src/core/difference.ts";
import { type EntryKey, entryKey } from "../../src/core/ownership.ts";

const { OWNED, CLAIMING, LEAVING } = vipState;

/** The rule by which a kernel answers and gives VIPs away (bpf/decide.h, bpf/speak.h), on one interface. */
export class ModelKernel {
  readonly vips = new Map<EntryKey, Held>();
  readonly released = new Map<EntryKey, bigint>();
  readonly #ifindex: number;
  /**
   * What it keeps from a peer that claims it: `defends`: from a worse hash, while it is live and knows what is wanted;
   * `holds`: what it answers, from who claims it in its stead, while its speaker is away; `releases`: nothing.
   */
  stance: "defends" | "holds" | "releases" = "defends";
  /** VIPs that were held and given away. */
  releases = 0n;

  constructor(ifindex: number) {
    this.#ifindex = ifindex;
  }

  write(set: readonly (readonly [EntryKey, Held])[]): void {
    for (const [key, held] of set) this.vips.set(key, held);
  }

  #isCurrent(key: EntryKey, { claimNs }: Held): boolean {
    return claimNs > (this.released.get(key) ?? 0n);
  }

  isAnswered(key: EntryKey, now: bigint): boolean {
    const held = this.vips.get(key);
    if (!held || !this.#isCurrent(key, held)) return false;
    return held.state === OWNED || (held.state === LEAVING && now < held.untilNs);
  }

  /** A peer's claim, decided and answered in one instant. */
  claim(claims: readonly WireClaim[], now: bigint): WireClaim[] {
    return claims.map((claim) => ({ ...claim, verdict: this.#claimOne(claim, now) }));
  }

  #claimOne({ ip, hash, verdict }: WireClaim, now: bigint): WireClaim["verdict"] {
    const key = entryKey(this.#ifindex, new DataView(ip.buffer, ip.byteOffset).getUint32(0));
    const held = this.vips.get(key);
    if (!held) return claimVerdict.FREE;
    const { state, claimNs, untilNs } = held;
    const holds =
      this.#isCurrent(key, held) && (state === OWNED || state === CLAIMING || (state === LEAVING && now < untilNs));
    const { stance } = this;
    const isAnswered = stance === "holds" && state === OWNED;
    const keeps = stance === "defends" ? hash >= held.hash : isAnswered && verdict === claimVerdict.FREE;
    if (holds && state !== LEAVING && keeps) return claimVerdict.MINE;
    this.released.set(key, now > claimNs ? now : claimNs);
    if (!holds) return claimVerdict.FREE;
    this.releases += 1n;
    return state === CLAIMING ? claimVerdict.FREE : claimVerdict.RELEASED;
  }

  /** What was given away since it was claimed, by the control plane's own record. */
  releasedOf(entries: ReadonlyMap<EntryKey, Held>): EntryKey[] {
    return [...entries].flatMap(([key, { state, claimNs }]) =>
      state !== vipState.NOT_OWNED && (this.released.get(key) ?? 0n) >= claimNs ? [key] : [],
    );
  }
}
