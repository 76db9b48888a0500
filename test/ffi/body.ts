/**
 * The checks that every adapter must pass. adapters.test.ts runs them in a child process, in a network namespace with
 * an eth0. They print an {@link Outcome} as one line of JSON.
 *
 * Usage: body.ts PINS      a folder on a bpffs
 */
import { execFileSync } from "node:child_process";
import process from "node:process";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import * as assert from "uvu/assert";
import { interfaceEntry, maps, NO_VERDICTS, type Vip, type VipKey, vip, vipState } from "../../src/core/abi.ts";
import { addressBytes } from "../../src/core/address.ts";
import { ffi } from "../../src/ffi/ffi.ts";
import { errno, libc, readable } from "../../src/ffi/libc.ts";
import { fn } from "../../src/ffi/port.ts";
import { Hooks, type Point, programIds, programInfo } from "../../src/kernel/hooks.ts";
import { collectMessages, libbpf } from "../../src/kernel/libbpf.ts";
import { findObject, loadObject } from "../../src/kernel/object.ts";
import { Links } from "../../src/link/links.ts";

export const CHECKS = [
  "opens libc and libbpf, and names a library that it cannot open",
  "attaches a program to a veth",
  "writes an interface's entry by a program, and reads the counters of all CPUs",
  "writes 60,000 entries in one call, and reads them back equal",
  "reports errno of a failed call",
  "passes addresses of buffers, and strings both ways",
  "is called back by libbpf, with its message",
  "receives a netlink event",
  "waits on another thread until a descriptor is readable, while garbage is collected",
  "detaches",
  "does not leak memory over 100,000 calls",
] as const;
export type Check = (typeof CHECKS)[number];

export interface Outcome {
  adapter: string;
  /** The error of each check; null if it passed. */
  results: Record<Check, string | null>;
  measured: { bytesPerCall: number; microsecondsPerCall: number };
}

const VIPS = 60_000;
const CALLS = 100_000;
/** A generous limit, because heaps vary. ffi-napi's own wrapper, which ffi-napi.ts avoids, leaks 300 and more. */
const BYTES_PER_CALL = 200;

const POINT: Point = { kind: "tcx", direction: "ingress" };
const measured = { bytesPerCall: Number.NaN, microsecondsPerCall: Number.NaN };

const more = ffi.open(null, {
  if_nametoindex: fn(["string"], "u32"),
  memset: fn(["pointer", "i32", "u64"], "pointer"),
  strerror: fn(["i32"], "string"),
  getenv: fn(["string"], "string"),
});

const pins = process.argv[2]!;
const ifindex = more.if_nametoindex("eth0");
const object = loadObject(findObject(), pins);
const hooks = new Hooks(`${pins}/links`);
const program = object.programs.isat_ingress;

const bodies: Record<Check, () => void | Promise<void>> = {
  "opens libc and libbpf, and names a library that it cannot open"() {
    assert.match(libbpf.libbpf_version_string() ?? "", /^v1\./);
    assert.is(libc.close(libc.socket(17, 3, 0)), 0);
    assert.throws(() => ffi.open("libisat-a.so.1", {}), /Cannot load libisat-a\.so\.1: /);
    assert.throws(() => ffi.open("libbpf.so.1", { bpf_isat: fn([], "void") }), /bpf_isat/);
  },

  "attaches a program to a veth"() {
    assert.is(hooks.ensure(ifindex, POINT, program), "attached");
    assert.equal(programIds(ifindex, POINT), [programInfo(program).id]);
  },

  "writes an interface's entry by a program, and reads the counters of all CPUs"() {
    const entry = interfaceEntry.of({
      ifindex,
      name: "eth0",
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      tick_ns: 2n ** 63n,
    });
    object.writer.setInterface(entry);
    assert.equal(object.maps.interfaces.get(ifindex), entry);
    assert.equal(object.maps.verdicts.get(ifindex), NO_VERDICTS);
    object.writer.removeInterface(ifindex);
    assert.is(object.maps.interfaces.get(ifindex), undefined);
  },

  "writes 60,000 entries in one call, and reads them back equal"() {
    const entry = (i: number): [VipKey, Vip] => [
      { ip: addressBytes(0x0a090000 + i), ifindex },
      vip.of({ state: i % 2 ? vipState.OWNED : vipState.NOT_OWNED, hash: BigInt(i % 7), claim_ns: BigInt(i) }),
    ];
    const { key, value } = maps.vips;
    const keys = new Uint8Array(VIPS * key.size);
    const values = new Uint8Array(VIPS * value.size);
    const count = Uint32Array.of(VIPS);
    const options = new Uint8Array(24); // struct bpf_map_batch_opts
    options[0] = options.length;
    for (let i = 0; i < VIPS; i++) {
      const [itsKey, itsValue] = entry(i);
      keys.set(key.encode(itsKey), i * key.size);
      values.set(value.encode(itsValue), i * value.size);
    }
    const fd = object.maps.vips.fd.number;
    assert.is(libbpf.bpf_map_update_batch(fd, keys, values, new Uint8Array(count.buffer), options), 0);
    assert.is(count[0], VIPS);

    const text = (itsKey: Uint8Array, itsValue: Uint8Array) => `${itsKey.join(".")} ${itsValue.join(".")}`;
    const rows = (ks: Uint8Array, vs: Uint8Array) =>
      Array.from({ length: VIPS }, (_, i) =>
        text(ks.subarray(i * key.size, (i + 1) * key.size), vs.subarray(i * value.size, (i + 1) * value.size)),
      ).sort();
    const readKeys = new Uint8Array(maps.vips.entries * key.size);
    const readValues = new Uint8Array(maps.vips.entries * value.size);
    const room = Uint32Array.of(maps.vips.entries);
    const result = libbpf.bpf_map_lookup_batch(
      fd,
      null,
      new Uint8Array(4),
      readKeys,
      readValues,
      new Uint8Array(room.buffer),
      options,
    );
    assert.is(result, -errno.ENOENT, "that was all");
    assert.is(room[0], VIPS);
    const [wanted, found] = [rows(keys, values), rows(readKeys, readValues)];
    assert.is(
      found.findIndex((row, i) => row !== wanted[i]),
      -1,
    );
    assert.equal(object.maps.vips.get(entry(59_999)[0]), entry(59_999)[1]);
  },

  "reports errno of a failed call"() {
    const EBADF = 9;
    for (let i = 0; i < 10_000; i++) {
      assert.is(libc.close(-1), -1);
      assert.is(ffi.errno(), EBADF);
      assert.is(libc.socket(17, 99, 0), -1);
      assert.is(ffi.errno(), errno.EINVAL);
    }
    assert.is(libbpf.bpf_obj_get("/no/such/pin"), -errno.ENOENT);
  },

  "passes addresses of buffers, and strings both ways"() {
    const small = new Uint8Array(5); // V8 may still move such a small array
    const part = new Uint8Array(100).subarray(40, 60);
    for (const buffer of [small, part]) {
      const address = ffi.address(buffer);
      assert.is(more.memset(address, 7, buffer.length), address);
      assert.ok(buffer.every((byte) => byte === 7));
    }
    assert.is(new Uint8Array(part.buffer)[39], 0);
    assert.is(new Uint8Array(part.buffer)[60], 0);
    assert.is(more.strerror(errno.ENOENT), "No such file or directory");
    assert.is(more.getenv("ISAT_NO_SUCH_VARIABLE"), null);
  },

  "is called back by libbpf, with its message"() {
    collectMessages((said) => {
      assert.is(libbpf.bpf_object__open_file("/no/such/object-é", null), 0n);
      assert.is(ffi.errno(), errno.ENOENT);
      assert.match(said(), /\/no\/such\/object-é/);
    });
  },

  async "receives a netlink event"() {
    using links = new Links();
    const isEth0 = (_: string, of: number) => of === ifindex;
    assert.is(links.changed(isEth0), false);
    execFileSync("ip", ["link", "set", "eth0", "address", "02:00:00:00:00:07"]);
    const end = performance.now() + 2000;
    while (!links.changed(isEth0)) {
      assert.ok(performance.now() < end, "not within 2 s");
      await sleep(5);
    }
    assert.equal(links.read().find((link) => link.ifindex === ifindex)?.mac, Uint8Array.of(2, 0, 0, 0, 0, 7));
  },

  async "waits on another thread until a descriptor is readable, while garbage is collected"() {
    const one = new Uint8Array(BigUint64Array.of(1n).buffer);
    const [idle, busy] = [libc.eventfd(0, 0), libc.eventfd(0, 0)];
    let isOver = false;
    const waited = readable([idle, busy], 10_000).then(() => {
      isOver = true;
    });
    for (let i = 0; i < 200; i++) {
      Array.from({ length: 2000 }, () => new Uint8Array(16)); // the poll's table must not be collected among them
      await turn();
    }
    assert.is(isOver, false);
    libc.write(busy, one, one.length);
    await Promise.race([waited, sleep(5000)]);
    assert.ok(isOver, "not woken within 5 s");
    const began = performance.now();
    await readable([idle], 50);
    assert.ok(performance.now() - began >= 45, "it came before its time");
    for (const fd of [idle, busy]) libc.close(fd);
  },

  detaches() {
    hooks.detach(ifindex, POINT);
    assert.equal(programIds(ifindex, POINT), []);
  },

  async "does not leak memory over 100,000 calls"() {
    // isat reads an empty socket ten times a second.
    const buffer = new Uint8Array(4096);
    const round = async (calls: number) => {
      for (let i = 0; i < calls; i++) {
        libc.recv(-1, buffer, buffer.length, 0);
        if (i % 1000 === 0) await turn(); // finalizers run between turns of the event loop
      }
    };
    await round(CALLS);
    const [memory, time] = [process.memoryUsage.rss(), performance.now()];
    await round(CALLS);
    measured.microsecondsPerCall = ((performance.now() - time) * 1000) / CALLS;
    measured.bytesPerCall = (process.memoryUsage.rss() - memory) / CALLS;
    assert.ok(measured.bytesPerCall < BYTES_PER_CALL, `${measured.bytesPerCall} bytes a call stay`);
  },
};

const results: Partial<Outcome["results"]> = {};
for (const check of CHECKS) {
  try {
    await bodies[check]();
    results[check] = null;
  } catch (error) {
    results[check] = (error as Error).stack ?? String(error);
  }
}
object[Symbol.dispose]();
const outcome: Outcome = { adapter: ffi.name, results: results as Outcome["results"], measured };
console.log(JSON.stringify(outcome));
