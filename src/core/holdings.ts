/** Which Services have which addresses, and which addresses rest. */
import type { Address } from "./address.ts";

const NONE: readonly Address[] = [];
const NOBODY: ReadonlySet<string> = new Set();

export class Holdings {
  readonly #rest: number;
  readonly #byKey = new Map<string, readonly Address[]>();
  readonly #byAddress = new Map<Address, Set<string>>();
  /** The addresses on which Services with a sharing key are. */
  readonly #bySharing = new Map<string, Set<Address>>();
  readonly #sharingOf = new Map<Address, string>();
  /** The addresses that nobody has yet again, whose they were, and until when they rest. In the order of their release. */
  readonly #resting = new Map<Address, { key: string; until: number }>();
  readonly #restingOf = new Map<string, readonly Address[]>();
  /** The Services that came to ask for another pool than the one that their address is of. */
  readonly asksToMove = new Set<string>();
  /** Since it was set to false, something has changed by which a waiting Service may get an address. */
  hasFreed = false;

  /** @param rest in ms */
  constructor(rest: number) {
    this.#rest = rest;
  }

  of(key: string): readonly Address[] {
    return this.#byKey.get(key) ?? NONE;
  }

  holders(address: Address): ReadonlySet<string> {
    return this.#byAddress.get(address) ?? NOBODY;
  }

  /** Somebody has the address, or it rests. */
  isTaken(address: Address): boolean {
    return this.#byAddress.has(address) || this.#resting.has(address);
  }

  /** The addresses that a Service had last, and which rest for it. */
  resting(key: string): readonly Address[] {
    return this.#restingOf.get(key) ?? NONE;
  }

  /** The addresses of Services with a sharing key. */
  shared(sharing: string): Address[] {
    return [...(this.#bySharing.get(sharing) ?? [])];
  }

  hold(key: string, address: Address, sharing: string): void {
    if (this.of(key).includes(address)) return;
    this.#endRest(address);
    this.#byKey.set(key, [...this.of(key), address]);
    const holders = this.#byAddress.get(address);
    if (holders) holders.add(key);
    else this.#byAddress.set(address, new Set([key]));
    this.share(address, sharing);
  }

  /** The Services on the address share it by this key; "" stands for none. */
  share(address: Address, sharing: string): void {
    const before = this.#sharingOf.get(address) ?? "";
    if (before === sharing) return;
    const its = this.#bySharing.get(before);
    its?.delete(address);
    if (its?.size === 0) this.#bySharing.delete(before);
    if (sharing === "") this.#sharingOf.delete(address);
    else {
      this.#sharingOf.set(address, sharing);
      const all = this.#bySharing.get(sharing) ?? new Set();
      this.#bySharing.set(sharing, all.add(address));
    }
  }

  release(key: string, address: Address, now: number, rests = true): void {
    const left = this.of(key).filter((other) => other !== address);
    if (left.length > 0) this.#byKey.set(key, left);
    else this.#byKey.delete(key);
    const holders = this.#byAddress.get(address)!;
    holders.delete(key);
    this.hasFreed = true; // those that stay may share it with others than before
    if (holders.size > 0) return;
    this.#byAddress.delete(address);
    this.share(address, "");
    if (this.#rest === 0 || !rests) return;
    this.#resting.set(address, { key, until: now + this.#rest });
    this.#restingOf.set(key, [...this.resting(key), address]);
  }

  /** When the next rest ends, ms. */
  get restEnds(): number | undefined {
    const [first] = this.#resting.values();
    return first?.until;
  }

  /** Ends the rests that are over. */
  expire(now: number): void {
    for (const [address, { until }] of this.#resting) {
      if (until > now) break;
      this.#endRest(address);
      this.hasFreed = true;
    }
  }

  #endRest(address: Address): void {
    const its = this.#resting.get(address);
    if (!its) return;
    this.#resting.delete(address);
    const left = this.resting(its.key).filter((other) => other !== address);
    if (left.length > 0) this.#restingOf.set(its.key, left);
    else this.#restingOf.delete(its.key);
  }
}
