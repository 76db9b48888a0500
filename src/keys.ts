import { MAX_KEYS } from "./core/abi.ts";
import type { Demand } from "./core/demand.ts";
import type { Segment } from "./core/segment.ts";
import type { Ns } from "./core/time.ts";
import { clusterId, type FileKey, type Keyring, keyPlaces, keyring } from "./core/wire.ts";
import type { Maps } from "./kernel/object.ts";

/** The keys of the peer protocol, as the kernel's map has them. */
export class Keys {
  readonly #map: Maps["keys"];
  #files: readonly FileKey[] = [];
  #ring: Keyring = { keys: [], oldKeys: [] };
  #isOldSpoken: boolean;

  constructor(map: Maps["keys"]) {
    this.#map = map;
    const isKey = (place: number) => map.get(place)?.id !== 0;
    this.#isOldSpoken = !isKey(0) || isKey(MAX_KEYS);
  }

  get ring(): Keyring {
    return this.#ring;
  }

  /** True if version 1 of the wire format is spoken too. Once it is not, it is not again while the pins stand. */
  get isOldSpoken(): boolean {
    return this.#isOldSpoken;
  }

  /** The first key signs, all verify. Unused places are zeroed, so that a key that was taken out verifies nothing. */
  set(files: readonly FileKey[], { cluster }: Demand): void {
    this.#files = files;
    this.#ring = keyring(files, clusterId(cluster), this.#isOldSpoken);
    for (const [place, key] of keyPlaces(this.#ring).entries()) this.#map.set(place, key);
  }

  /** Ends version 1 where no node needs it any more. @returns whether it ends now */
  endOld(served: readonly { segment: Segment }[], demand: Demand, now: Ns): boolean {
    const isNeeded =
      !served.some(({ segment }) => segment.isJoined) || served.some(({ segment }) => segment.needsOld(now));
    if (!this.#isOldSpoken || isNeeded) return false;
    this.#isOldSpoken = false;
    this.set(this.#files, demand);
    return true;
  }
}
