/** isat map dump: every map, in words. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { interfaceEntry, nodeState, peer, verdicts, vip, vipState } from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { formatMaps, MAP_NAMES } from "../../src/report/dump.ts";
import { Bench } from "../bpf/run.ts";

const test = suite("isat map dump");
const bench = new Bench("isat-t-kern-dump-");
test.after(() => bench[Symbol.dispose]());
const { maps, writer } = bench;
const HOUR = 3_600_000_000_000n;

test.before(() => {
  const mac = Uint8Array.of(2, 0x15, 0xa7, 0, 0, 1);
  const own = Uint8Array.of(10, 9, 255, 1, 172, 16, 0, 1, ...new Uint8Array(24));
  const entry = { ifindex: 1, name: "eth0", mac, own, state: nodeState.LIVE, hold_ns: 30_000_000_000n, node: 0xabcn };
  writer.setInterface(interfaceEntry.of({ ...entry, tick_ns: bootTime() - HOUR }));
  const key = { ip: Uint8Array.of(10, 9, 0, 1), ifindex: 1 };
  maps.vips.set(key, vip.of({ state: vipState.OWNED, check: 5n, hash: 0xfen, claim_ns: bootTime() - 2n * HOUR }));
  maps.vips.set({ ...key, ifindex: 9 }, vip.of({}));
  const key6 = { ip: addressBytes(parseAddress("2001:db8::10")), ifindex: 1 };
  maps.vips6.set(key6, vip.of({ state: vipState.CLAIMING, state_ns: bootTime() - 2n * HOUR, answered: 3n }));
  maps.peers.set(
    { node: 5n, ifindex: 1, zero: 0 },
    peer.of({ node: "n2", state: nodeState.HEADLESS, mac, echoes: 3n }),
  );
  maps.keys.set(0, { k0: 0x1234_5678n, k1: 0x9abc_def0n, cluster: 0xc1n, id: 7 });
  const each = verdicts.encode(verdicts.of({ answered: 2n, not_managed: 1n, clock_ns: 5n }));
  bench.setVerdicts(
    1,
    Array.from({ length: maps.verdicts.perCpu(1).length }, () => each),
  );
});

const said = (name: (typeof MAP_NAMES)[number]) => formatMaps(maps, [name]).split("\n");

test("an interface: addresses, MAC, states, times and durations as a person reads them", () => {
  const [head, line, ...more] = said("interfaces");
  assert.equal([head, more], ["interfaces: 1 of 64", []]);
  assert.match(
    line!,
    /^ {2}eth0: ifindex 1, mac 02:15:a7:00:00:01, tick_ns 1 h 0 min ago, hold_ns 30\.0 s, state LIVE,/,
  );
  assert.match(line!, /, node 0000000000000abc, own 10\.9\.255\.1 172\.16\.0\.1$/);
});

test("the counters of all CPUs are added up, and those that counted nothing are left out", () => {
  const cpus = maps.verdicts.perCpu(1).length;
  assert.equal(said("verdicts"), ["verdicts: 1 of 64", `  eth0: not_managed ${cpus}, answered ${2 * cpus}`]);
});

test("VIPs by address and interface, of one that is gone by its number", () => {
  const hash = "00000000000000fe";
  assert.equal(said("vips"), [
    "vips: 2 of 65536",
    `  10.9.0.1 on eth0: state OWNED, hash ${hash}, claim_ns 2 h 0 min ago`,
    "  10.9.0.1 on interface 9: state NOT_OWNED",
  ]);
});

test("IPv6 VIPs by their addresses as people write them", () => {
  assert.equal(said("vips6"), [
    "vips6: 1 of 65536",
    "  2001:db8::10 on eth0: state CLAIMING, state_ns 2 h 0 min ago, answered 3",
  ]);
});

test("a peer by its name", () => {
  assert.equal(said("peers"), ["peers: 1 of 16384", "  n2 on eth0: state HEADLESS, mac 02:15:a7:00:00:01, echoes 3"]);
});

test("a key by its number and cluster, without the secret", () => {
  assert.equal(said("keys"), ["keys: 1 of 8", "  place 0: cluster 00000000000000c1, id 7"]);
});

test("without a name, all maps", () => {
  const heads = formatMaps(maps, MAP_NAMES)
    .split("\n")
    .filter((line) => / of \d+$/.test(line));
  assert.equal(
    heads.map((line) => line.split(":")[0]),
    ["interfaces", "keys", "peers", "probes", "recent", "verdicts", "vips", "vips6"],
  );
});

test.run();
