import type { Layout } from "../core/abi.ts";
import { errno } from "../ffi/libc.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";

/** Entries a batch call: 4,096 keys and values are some 200 KB, and a call of a millisecond. */
const BATCH = 4096;

/** struct bpf_map_batch_opts: its own size, no flags. */
const batchOptions = new Uint8Array(24);
batchOptions[0] = 24;

/** A kernel hash map whose keys and values have a layout. Batch calls need Linux >= 5.6. */
export class KernelMap<K, V> implements Disposable {
  readonly fd: Fd;
  readonly #name: string;
  readonly #key: Layout<K>;
  readonly #value: Layout<V>;

  constructor(name: string, fd: Fd, key: Layout<K>, value: Layout<V>) {
    this.#name = name;
    this.fd = fd;
    this.#key = key;
    this.#value = value;
  }

  get(key: K): V | undefined {
    const value = new Uint8Array(this.#value.size);
    const result = libbpf.bpf_map_lookup_elem(this.fd.number, this.#key.encode(key), value);
    if (result === -errno.ENOENT) return undefined;
    check(`Cannot read map ${this.#name}`, result);
    return this.#value.decode(value);
  }

  set(key: K, value: V): void {
    const result = libbpf.bpf_map_update_elem(this.fd.number, this.#key.encode(key), this.#value.encode(value), 0);
    check(`Cannot write map ${this.#name}`, result);
  }

  /** Adds the entry; one that is there already stays as it is. */
  add(key: K, value: V): void {
    const BPF_NOEXIST = 1;
    const bytes = this.#value.encode(value);
    const result = libbpf.bpf_map_update_elem(this.fd.number, this.#key.encode(key), bytes, BPF_NOEXIST);
    if (result !== -errno.EEXIST) check(`Cannot write map ${this.#name}`, result);
  }

  /** Sets many entries, in batches. */
  setMany(entries: readonly (readonly [K, V])[]): void {
    for (let from = 0; from < entries.length; from += BATCH) {
      const part = entries.slice(from, from + BATCH);
      const keys = new Uint8Array(part.length * this.#key.size);
      const values = new Uint8Array(part.length * this.#value.size);
      part.forEach(([key, value], i) => {
        keys.set(this.#key.encode(key), i * this.#key.size);
        values.set(this.#value.encode(value), i * this.#value.size);
      });
      const count = Uint32Array.of(part.length);
      const result = libbpf.bpf_map_update_batch(
        this.fd.number,
        keys,
        values,
        new Uint8Array(count.buffer),
        batchOptions,
      );
      check(`Cannot write map ${this.#name}`, result);
    }
  }

  /** Deletes many entries; one that is not there is no error. */
  deleteMany(keys: readonly K[]): void {
    for (const key of keys) {
      const result = libbpf.bpf_map_delete_elem(this.fd.number, this.#key.encode(key));
      if (result !== -errno.ENOENT) check(`Cannot delete from map ${this.#name}`, result);
    }
  }

  /**
   * The entries as they are now, a batch at a time: what is written meanwhile may be seen or not.
   * @param batch entries read by one call
   */
  *batches(batch = BATCH): Generator<[K, V][]> {
    const keys = new Uint8Array(batch * this.#key.size);
    const values = new Uint8Array(batch * this.#value.size);
    const count = new Uint32Array(1);
    const position = new Uint8Array(4);
    for (let first = true; ; first = false) {
      count[0] = batch;
      const result = libbpf.bpf_map_lookup_batch(
        this.fd.number,
        first ? null : position,
        position,
        keys,
        values,
        new Uint8Array(count.buffer),
        batchOptions,
      );
      if (result !== -errno.ENOENT) check(`Cannot read map ${this.#name}`, result);
      const entries: [K, V][] = [];
      for (let i = 0; i < count[0]!; i++) {
        const key = this.#key.decode(keys.subarray(i * this.#key.size, (i + 1) * this.#key.size));
        entries.push([key, this.#value.decode(values.subarray(i * this.#value.size, (i + 1) * this.#value.size))]);
      }
      yield entries;
      if (result === -errno.ENOENT) return;
    }
  }

  /** All entries as they are now. */
  *entries(): Generator<[K, V]> {
    for (const batch of this.batches()) yield* batch;
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}
