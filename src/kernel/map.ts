import { decodeField, type Layout } from "../core/abi.ts";
import { errno } from "../ffi/libc.ts";
import { check, type Fd, libbpf } from "./libbpf.ts";

/** Entries a batch call: 4,096 keys and values are some 200 KB, and a call of a millisecond. */
const BATCH = 4096;

/** struct bpf_map_batch_opts: its own size, no flags. */
const batchOptions = new Uint8Array(24);
batchOptions[0] = 24;

/** Entries read by one call: `count` keys and values, one behind the other. */
export interface Batch {
  keys: DataView;
  values: DataView;
  count: number;
}

/** Where a batch is read into. */
interface Room {
  batch: number;
  keys: Uint8Array;
  values: Uint8Array;
}

const makeRoom = (batch: number, keySize: number, valueSize: number): Room => ({
  batch,
  keys: new Uint8Array(batch * keySize),
  values: new Uint8Array(batch * valueSize),
});

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
    const raw = this.#lookUp(key);
    return raw && this.#value.decode(raw);
  }

  /** One field of an entry, where all of them would be too much. */
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

  /** Adds the entry; one that is there already stays as it is. */
  add(key: K, value: V): void {
    const BPF_NOEXIST = 1;
    const bytes = this.#value.encode(value);
    const result = libbpf.bpf_map_update_elem(this.fd.number, this.#key.encode(key), bytes, BPF_NOEXIST);
    if (result !== -errno.EEXIST) check(`Cannot write map ${this.#name}`, result);
  }

  /**
   * Sets many entries, in batches. At 60,000 entries an object each would be most of the time and the memory, so they are
   * written in place.
   * @param write puts the key and the value of the i-th entry at the offsets given; both are zeroed room
   */
  setMany(
    total: number,
    write: (i: number, keys: DataView, keyAt: number, values: DataView, valueAt: number) => void,
  ): void {
    for (let from = 0; from < total; from += BATCH) {
      const part = Math.min(BATCH, total - from);
      const keys = new Uint8Array(part * this.#key.size);
      const values = new Uint8Array(part * this.#value.size);
      const [keyView, valueView] = [new DataView(keys.buffer), new DataView(values.buffer)];
      for (let i = 0; i < part; i++) write(from + i, keyView, i * this.#key.size, valueView, i * this.#value.size);
      const count = new Uint8Array(Uint32Array.of(part).buffer);
      const result = libbpf.bpf_map_update_batch(this.fd.number, keys, values, count, batchOptions);
      check(`Cannot write map ${this.#name}`, result);
    }
  }

  /** Deletes many entries; one that is not there is no error. */
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
      // It ends at the first that is not there, and says how many it had deleted by then.
      if (result === -errno.ENOENT) from += count[0]! + 1;
      else {
        check(`Cannot delete from map ${this.#name}`, result);
        from += part.length;
      }
    }
  }

  /**
   * The entries as they are now, a batch at a time, as bytes that the next batch overwrites. What is written meanwhile may
   * be seen or not.
   * @param batch entries read by one call
   */
  *batches(batch = BATCH): Generator<Batch> {
    const room = this.#room?.batch === batch ? this.#room : makeRoom(batch, this.#key.size, this.#value.size);
    this.#room = undefined; // nobody else's meanwhile
    try {
      yield* this.#readInto(room);
    } finally {
      if (batch < BATCH) this.#room = room;
    }
  }

  /** Room for a small batch, as is read again and again. */
  #room: Room | undefined;

  *#readInto({ batch, keys, values }: Room): Generator<Batch> {
    const views = { keys: new DataView(keys.buffer), values: new DataView(values.buffer) };
    const count = new Uint32Array(1);
    const countBytes = new Uint8Array(count.buffer);
    const position = new Uint8Array(4);
    for (let first = true; ; first = false) {
      count[0] = batch;
      const from = first ? null : position;
      const { number } = this.fd;
      const result = libbpf.bpf_map_lookup_batch(number, from, position, keys, values, countBytes, batchOptions);
      if (result !== -errno.ENOENT) check(`Cannot read map ${this.#name}`, result);
      yield { ...views, count: count[0]! };
      if (result === -errno.ENOENT) return;
    }
  }

  /** All entries as they are now. */
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
