import { decodeField, type Layout } from "../core/abi.ts";
import { errno } from "../ffi/libc.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";

/** Entries per batch call: 4,096 keys and values are about 200 KB, and the call takes a millisecond. */
const BATCH = 4096;

/** struct bpf_map_batch_opts, with its own size and no flags. */
const batchOptions = new Uint8Array(24);
batchOptions[0] = 24;

/** The entries that one call has read: `count` keys and as many values, packed. */
export interface Batch {
  keys: DataView;
  values: DataView;
  count: number;
}

/** A hash map in the kernel, with typed keys and values. Batch calls need Linux >= 5.6. */
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
    const raw = this.#lookUp(key);
    return raw && this.#value.decode(raw);
  }

  /** Decodes one field of an entry only, which costs less than the whole entry. */
  getField<N extends keyof V & string>(key: K, field: N): V[N] | undefined {
    const raw = this.#lookUp(key);
    return raw && decodeField(this.#value, raw, field);
  }

  #lookUp(key: K): Uint8Array | undefined {
    const value = new Uint8Array(this.#value.size);
    const result = libbpf.bpf_map_lookup_elem(this.fd.number, this.#key.encode(key), value);
    if (result === -errno.ENOENT) return undefined;
    check(`Cannot read map ${this.#name}`, result);
    return value;
  }

  set(key: K, value: V): void {
    const result = libbpf.bpf_map_update_elem(this.fd.number, this.#key.encode(key), this.#value.encode(value), 0);
    check(`Cannot write map ${this.#name}`, result);
  }

  /** Deletes many entries. Keys that do not exist are skipped. */
  deleteMany(keys: readonly K[]): void {
    for (let from = 0; from < keys.length; ) {
      const part = keys.slice(from, from + BATCH);
      const bytes = new Uint8Array(part.length * this.#key.size);
      part.forEach((key, i) => {
        bytes.set(this.#key.encode(key), i * this.#key.size);
      });
      const count = Uint32Array.of(part.length);
      const { number } = this.fd;
      const result = libbpf.bpf_map_delete_batch(number, bytes, new Uint8Array(count.buffer), batchOptions);
      // The call ends at the first missing key, and returns how many entries it has deleted before that.
      if (result === -errno.ENOENT) from += count[0]! + 1;
      else {
        check(`Cannot delete from map ${this.#name}`, result);
        from += part.length;
      }
    }
  }

  /**
   * Reads all entries as bytes, one batch at a time; the next batch overwrites them. Entries that change meanwhile may
   * appear in their old or their new state.
   * @param batch how many entries one call reads
   */
  *batches(batch = BATCH): Generator<Batch> {
    const [keySize, valueSize] = [batch * this.#key.size, batch * this.#value.size];
    const kept = this.#kept?.keys.length === keySize ? this.#kept : undefined;
    this.#kept = undefined; // so that a second reader does not use the same buffers
    const buffers = kept ?? { keys: new Uint8Array(keySize), values: new Uint8Array(valueSize) };
    const { keys, values } = buffers;
    const views = { keys: new DataView(keys.buffer), values: new DataView(values.buffer) };
    const count = new Uint32Array(1);
    const countBytes = new Uint8Array(count.buffer);
    const position = new Uint8Array(4);
    try {
      for (let from: Uint8Array | null = null; ; from = position) {
        count[0] = batch;
        const { number } = this.fd;
        const result = libbpf.bpf_map_lookup_batch(number, from, position, keys, values, countBytes, batchOptions);
        if (result !== -errno.ENOENT) check(`Cannot read map ${this.#name}`, result);
        yield { ...views, count: count[0]! };
        if (result === -errno.ENOENT) return;
      }
    } finally {
      if (batch < BATCH) this.#kept = buffers;
    }
  }

  /** The buffers of a small batch, kept because small batches are read on each tick. */
  #kept: { keys: Uint8Array<ArrayBuffer>; values: Uint8Array<ArrayBuffer> } | undefined;

  /** Reads and decodes all entries. */
  *entries(batch = BATCH): Generator<[K, V]> {
    for (const { keys, values, count } of this.batches(batch)) {
      for (let i = 0; i < count; i++) {
        const key = this.#key.decode(new Uint8Array(keys.buffer, i * this.#key.size, this.#key.size));
        yield [key, this.#value.decode(new Uint8Array(values.buffer, i * this.#value.size, this.#value.size))];
      }
    }
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}
