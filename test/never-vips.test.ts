import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../src/config/config.ts";
import { formatAddress, parseAddress } from "../src/core/address.ts";
import { makePlan } from "../src/plan.ts";
import { fileDemand } from "../src/source/file.ts";
import type { FileSettings } from "../src/source/settings.ts";

import { linkOf, networkOf } from "./core/stage.ts";

const test = suite("addresses that are never VIPs");

const LINK = linkOf(2, "eth0");

function planOf(vips: string, gateways: string[], prefix = 16) {
  const text = `node: n1\nsource:\n  kind: file\n  nodes: [n1]\n  vips:\n    - { address: ${vips} }\n`;
  const config = { ...parseConfig(text, "isat.yaml"), interfaces: ["eth0"] };
  const link = { ...LINK, addresses: LINK.addresses.map((each) => ({ ...each, prefix })) };
  const demand = fileDemand(config.source as FileSettings);
  return makePlan(config, demand, { ...networkOf([link]), gateways: new Set(gateways.map(parseAddress)) });
}

const ROWS: [shows: string, vips: string, gateways: string[], managed: string, problem: string | undefined][] = [
  ["a VIP is managed", "10.9.0.1", ["10.9.0.254"], "10.9.0.1-10.9.0.1", undefined],
  ["a gateway is not", "10.9.0.254", ["10.9.0.254"], "", "10.9.0.254 (line 6) as it is a default gateway's address"],
  [
    "a gateway in the middle of a range costs itself",
    "10.9.0.1-10.9.0.9",
    ["10.9.0.5"],
    "10.9.0.1-10.9.0.4 10.9.0.6-10.9.0.9",
    "10.9.0.5 (line 6) as it is a default gateway's address",
  ],
  [
    "each of several gateways is found",
    "10.9.0.1-10.9.0.3",
    ["10.9.0.1", "10.9.0.3"],
    "10.9.0.2-10.9.0.2",
    "10.9.0.1 (line 6)",
  ],
  [
    "the network's own address is not managed",
    "10.9.0.0",
    [],
    "",
    "10.9.0.0 (line 6) as it is the network's own address in 10.9.0.0/16",
  ],
  [
    "the broadcast address is not managed",
    "10.9.255.255",
    [],
    "",
    "10.9.255.255 (line 6) as it is the broadcast address of 10.9.0.0/16",
  ],
];
for (const [shows, vips, gateways, managed, problem] of ROWS) {
  test(shows, () => {
    const { links, problems } = planOf(vips, gateways);
    const text = links[0]!.ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`).join(" ");
    assert.is(text, managed);
    if (problem === undefined) assert.equal(problems, []);
    else assert.ok(problems[0]?.startsWith(`Cannot announce ${problem}`), problems.join("\n"));
  });
}

test("a subnet of two addresses has neither a network's nor a broadcast address", () => {
  assert.equal(planOf("10.9.255.0", [], 31).problems, []);
});

test("a file whose VIP is a listed node's own address is refused with the line", () => {
  const source = "source:\n  kind: file\n  nodes: [{ name: n1, address: 10.9.255.1 }]\n";
  const text = `node: n1\n${source}  vips:\n    - { address: 10.9.255.0-10.9.255.9 }\n`;
  const expected = /^isat\.yaml:6: source\.vips\[0\]: found 10\.9\.255\.1, which is node n1's own address$/;
  assert.throws(() => parseConfig(text, "isat.yaml"), expected);
});

test.run();
