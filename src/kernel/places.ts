import { COUNTERS, type InterfaceEntry, MAX_INTERFACES, type Verdicts, verdicts } from "../core/abi.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";
import type { KernelMap } from "./map.ts";

/** The places where an interface may stand, the likeliest first: see `interfaces` in bpf/abi.h. */
const placesOf = (ifindex: number): number[] =>
  Array.from({ length: MAX_INTERFACES }, (_, i) => (ifindex + i) % MAX_INTERFACES);

/** The map `interfaces`, by ifindex. */
export class InterfaceMap {
  /** The map as it is, an array by place. */
  readonly places: KernelMap<number, InterfaceEntry>;

  constructor(places: KernelMap<number, InterfaceEntry>) {
    this.places = places;
  }

  get fd(): Fd {
    return this.places.fd;
  }

  /** The place of an interface; undefined where it has none. */
  placeOf(ifindex: number): number | undefined {
    return placesOf(ifindex).find((place) => this.places.getField(place, "ifindex") === ifindex);
  }

  /** The place that an interface without one would get. @throws Error where all are taken */
  freePlaceFor(ifindex: number): number {
    const isFree = (place: number) => this.places.getField(place, "ifindex") === 0;
    const place = placesOf(ifindex).find(isFree);
    if (place === undefined)
      throw new Error(
        `Cannot announce on interface ${ifindex} as there are ${MAX_INTERFACES} already, which is the most`,
      );
    return place;
  }

  get(ifindex: number): InterfaceEntry | undefined {
    const place = this.placeOf(ifindex);
    return place === undefined ? undefined : this.places.get(place);
  }

  /** Writes an entry as a whole, with the programs' own fields. A speaker writes by {@link Writer}. */
  set(ifindex: number, entry: InterfaceEntry): void {
    this.places.set(this.placeOf(ifindex) ?? this.freePlaceFor(ifindex), entry);
  }

  *entries(): Generator<[ifindex: number, entry: InterfaceEntry]> {
    for (const [, entry] of this.places.entries(MAX_INTERFACES)) if (entry.ifindex !== 0) yield [entry.ifindex, entry];
  }
}

/** The map `verdicts`: the counters of an interface are those of all CPUs together. */
export class VerdictMap {
  readonly fd: Fd;
  readonly #interfaces: InterfaceMap;
  readonly #cpus = check("Cannot read the number of CPUs", libbpf.libbpf_num_possible_cpus());

  constructor(fd: Fd, interfaces: InterfaceMap) {
    this.fd = fd;
    this.#interfaces = interfaces;
  }

  /** undefined where the interface has no entry in `interfaces`. */
  get(ifindex: number): Verdicts | undefined {
    const place = this.#interfaces.placeOf(ifindex);
    return place === undefined ? undefined : this.at(place);
  }

  /** The counters at a place. */
  at(place: number): Verdicts {
    const sum = verdicts.of({});
    for (const its of this.perCpu(place)) for (const counter of COUNTERS) sum[counter] += its[counter];
    return sum;
  }

  /** The value of each CPU at a place. */
  perCpu(place: number): Verdicts[] {
    const values = new Uint8Array(this.#cpus * verdicts.size);
    check("Cannot read map verdicts", libbpf.bpf_map_lookup_elem(this.fd.number, keyOf(place), values));
    return Array.from({ length: this.#cpus }, (_, cpu) =>
      verdicts.decode(values.subarray(cpu * verdicts.size, (cpu + 1) * verdicts.size)),
    );
  }

  /** Makes the counters at a place begin at zero. */
  reset(place: number): void {
    const values = new Uint8Array(this.#cpus * verdicts.size);
    check("Cannot write map verdicts", libbpf.bpf_map_update_elem(this.fd.number, keyOf(place), values, 0n));
  }
}

const keyOf = (place: number) => new Uint8Array(Uint32Array.of(place).buffer);
