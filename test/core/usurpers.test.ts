import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../src/core/address.ts";
import { SECOND } from "../../src/core/time.ts";
import { Usurpers } from "../../src/core/usurpers.ts";

const NOW = 1_000n * SECOND;
const mac = (last: number) => Uint8Array.of(2, 0, 0, 0, 0, last);
const [VIP, OTHER] = [parseAddress("10.9.0.1"), parseAddress("10.9.0.2")];

test("each machine is named with the first VIP that it said to have, until a minute after it was last heard", () => {
  const usurpers = new Usurpers();
  usurpers.hear(VIP, mac(1), NOW);
  usurpers.hear(OTHER, mac(1), NOW + 50n * SECOND);
  const [warning, ...others] = usurpers.warnings("eth0", NOW + 110n * SECOND - 1n);
  assert.match(warning!, "says on eth0 that it has 10.9.0.1: its MAC is 02:00:00:00:00:01");
  assert.equal(others, []);
  assert.equal(usurpers.warnings("eth0", NOW + 110n * SECOND), []);
  assert.is(usurpers.times, 2);
});

test("MACs that somebody makes up are counted, and a few of them named", () => {
  const usurpers = new Usurpers();
  for (let last = 0; last < 200; last++) usurpers.hear(VIP, mac(last), NOW);
  assert.is(usurpers.warnings("eth0", NOW).length, 4);
  assert.is(usurpers.times, 200);
  usurpers.hear(VIP, mac(255), NOW + 60n * SECOND);
  assert.equal(usurpers.warnings("eth0", NOW + 60n * SECOND).length, 1);
});

test.run();
