/** Nodes that no claim reaches are asked by ARP for a VIP before it is taken. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress, plus } from "../../src/core/address.ts";
import { Holders } from "../../src/core/holders.ts";
import { Step } from "../../src/core/step.ts";
import { MS } from "../../src/core/time.ts";
import { START } from "./stage.ts";

const mac = (last: number) => Uint8Array.of(2, 0, 0, 0, 0, last);
const [A, B] = ["b", "c"].map((name, i) => ({ name, mac: mac(i + 2) })) as [Station, Station];
type Station = { name: string; mac: Uint8Array };
const VIP = parseAddress("10.9.0.1");

/** Asks for the VIP so many ms after the start. */
function at(holders: Holders, ms: number, address = VIP) {
  const step = new Step(START + BigInt(ms) * MS, new Map());
  return { found: holders.find(address, step), asked: step.ask };
}

test("without such a node, a VIP is free at once", () => {
  assert.equal(at(new Holders(), 0), { found: { holder: undefined }, asked: [] });
});

test("each node is asked alone, three times; a VIP that none answers is free after 60 ms", () => {
  const holders = new Holders();
  holders.nodes = [A, B];
  const questions = [A, B].map((station) => ({ node: undefined, target: VIP, mac: station.mac }));
  for (const ms of [0, 20, 40]) {
    assert.equal(at(holders, ms), { found: undefined, asked: questions });
    assert.equal(at(holders, ms + 10), { found: undefined, asked: [] });
  }
  assert.is(at(holders, 60).found?.holder, undefined);
  assert.is(at(holders, 60).asked.length, 2, "the next time, it is asked anew");
});

test("the node that answers has the VIP; who was not asked, or answers for another address, says nothing", () => {
  const holders = new Holders();
  holders.nodes = [A, B];
  at(holders, 0);
  holders.hear(VIP, mac(9));
  holders.hear(plus(VIP, 1), B.mac);
  assert.is(at(holders, 1).found, undefined);
  holders.hear(VIP, B.mac);
  assert.is(at(holders, 2).found?.holder, "c");
});

test("where the nodes are others, the VIP is asked anew", () => {
  const holders = new Holders();
  holders.nodes = [A];
  for (const ms of [0, 20, 40]) at(holders, ms);
  holders.nodes = [{ ...A }];
  assert.is(at(holders, 60).found?.holder, undefined, "they are the same");
  for (const ms of [100, 120, 140]) at(holders, ms);
  holders.nodes = [A, B];
  assert.is(at(holders, 160).asked.length, 2);
});

test("so few VIPs are asked at a time that no answer is lost, and the others when those are known", () => {
  const holders = new Holders();
  holders.nodes = [A, B];
  const vips = Array.from({ length: 200 }, (_, i) => plus(VIP, i));
  const asked = (ms: number) => vips.flatMap((vip) => at(holders, ms, vip).asked).length;
  assert.is(asked(0), 128);
  assert.is(asked(10), 0);
  for (const ms of [20, 40]) assert.is(asked(ms), 128);
  holders.only(new Map());
  assert.is(asked(50), 128);
});

test.run();
