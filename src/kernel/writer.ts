import { type InterfaceEntry, interfaceEntry, vipChange } from "../core/abi.ts";
import { ffi } from "../ffi/ffi.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";
import type { InterfaceMap, VerdictMap } from "./places.ts";

/** HEADER of bpf/write.bpf.c: an Ethernet header without a protocol, and two bytes that align what follows. */
const HEADER = 16;

type Programs = Readonly<Record<"isat_write_interface" | "isat_write_vips", Fd>>;

/**
 * The control plane's changes of entries that the kernel's programs write too. A program makes them, field by field:
 * bpf/write.bpf.c has the reasons.
 */
export class Writer {
  readonly #programs: Programs;
  readonly #maps: { readonly interfaces: InterfaceMap; readonly verdicts: VerdictMap };
  readonly #options = new Uint8Array(80); // struct bpf_test_run_opts
  readonly #view = new DataView(this.#options.buffer);

  constructor(programs: Programs, maps: { readonly interfaces: InterfaceMap; readonly verdicts: VerdictMap }) {
    this.#programs = programs;
    this.#maps = maps;
  }

  /** Writes an interface's entry, but for the programs' fields; in a new one they are zero, as are its counters. */
  setInterface(entry: InterfaceEntry): void {
    const { interfaces, verdicts } = this.#maps;
    const known = interfaces.placeOf(entry.ifindex);
    const place = known ?? interfaces.freePlaceFor(entry.ifindex);
    if (known === undefined) verdicts.reset(place);
    this.#write(place, entry);
  }

  /** Frees an interface's place. */
  removeInterface(ifindex: number): void {
    const place = this.#maps.interfaces.placeOf(ifindex);
    if (place !== undefined) this.#write(place, interfaceEntry.of({}));
  }

  #write(place: number, entry: InterfaceEntry): void {
    const frame = new Uint8Array(HEADER + 8 + interfaceEntry.size);
    new DataView(frame.buffer).setUint32(HEADER, place, true);
    frame.set(interfaceEntry.encode(entry), HEADER + 8);
    const returned = this.#run("isat_write_interface", "Cannot write map interfaces", frame);
    if (returned !== 0) throw new Error(`Cannot write map interfaces: isat_write_interface returned ${returned}`);
  }

  /**
   * Changes the entries of up to MAX_CHANGES VIPs, but for the programs' fields; in a new one they are zero.
   * @param write writes the i-th change at the given offset, where all bytes are zero
   */
  writeVips(count: number, write: (i: number, view: DataView, at: number) => void): void {
    const frame = new Uint8Array(HEADER + count * vipChange.size);
    const view = new DataView(frame.buffer);
    for (let i = 0; i < count; i++) write(i, view, HEADER + i * vipChange.size);
    check("Cannot write the maps of VIPs", this.#run("isat_write_vips", "Cannot write the maps of VIPs", frame));
  }

  /** Runs a program once on a frame. @returns what it returned */
  #run(name: keyof Programs, what: string, frame: Uint8Array): number {
    this.#view.setBigUint64(0, BigInt(this.#options.length), true);
    this.#view.setBigUint64(8, ffi.address(frame), true);
    this.#view.setUint32(24, frame.length, true);
    this.#view.setUint32(28, 0, true); // the last run left its frame's size here, as if there were room for that one
    this.#view.setInt32(60, 1, true); // repeat
    check(what, libbpf.bpf_prog_test_run_opts(this.#programs[name].number, this.#options));
    return this.#view.getInt32(56, true);
  }
}
