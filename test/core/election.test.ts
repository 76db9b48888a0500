import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatAddress, parseAddress } from "../../src/core/address.ts";
import { elect, hash } from "../../src/core/election.ts";

/** From MetalLB's rule, worked out by `printf n1#10.9.0.1 | sha256sum`. */
const hashes: [node: string, address: string, hash: string][] = [
  ["n1", "10.9.0.1", "79393352ad6710246ff05fcd5a18448ae80656bc192789d161ae6c65adfd63a1"],
  ["n2", "10.9.0.1", "4ebe3503035392b689923ecda6931cf16d32d5f7b62293fe46c762dd4b1eb7af"],
  ["n3", "10.9.0.1", "fc27e80c66675945b493e104bff76eca7636875a84bb74477815e83504fb1fee"],
  ["node.example.org", "192.0.2.255", "1207f3029f27fd996da80c8f3a86e27068553498679958b175475ec93dda7086"],
];
for (const [node, address, expected] of hashes) {
  test(`${node} hashes ${expected.slice(0, 8)}... for ${address}`, () => assert.is(hash(node, address), expected));
}

const owners: [address: string, owner: string][] = [
  ["10.9.0.1", "n2"],
  ["10.9.0.2", "n1"],
  ["10.9.0.3", "n3"],
  ["10.9.0.4", "n3"],
  ["10.9.0.5", "n2"],
];
for (const [address, owner] of owners) {
  test(`of n1, n2 and n3, ${owner} owns ${address}, in whatever order they stand`, () => {
    for (const nodes of orders(["n1", "n2", "n3"])) assert.is(elect(nodes, address), owner, nodes.join());
  });
}

test("nobody owns an address where nobody stands", () => assert.is(elect([], "10.9.0.1"), undefined));

test("a node alone owns every address", () => {
  for (const address of addresses(100)) assert.is(elect(["n1"], address), "n1");
});

test("a node named twice is the same as once", () => {
  for (const address of addresses(100)) assert.is(elect(["n1", "n2", "n1"], address), elect(["n1", "n2"], address));
});

const NODES = ["n1", "n2", "n3", "n4", "n5"];

for (const gone of NODES) {
  test(`without ${gone}, only the addresses that it owned move`, () => {
    const rest = NODES.filter((node) => node !== gone);
    for (const address of addresses(1000)) {
      const before = elect(NODES, address);
      const after = elect(rest, address);
      if (before === gone) assert.ok(rest.includes(after!), address);
      else assert.is(after, before, address);
    }
  });
}

test("with a node more, an address stays or moves to that node", () => {
  for (const address of addresses(1000)) {
    const after = elect([...NODES, "n6"], address);
    assert.ok(after === "n6" || after === elect(NODES, address), address);
  }
});

test("of 1,000 addresses each of 5 nodes owns 150 to 250", () => {
  const owned = new Map<string, number>();
  for (const address of addresses(1000)) {
    const owner = elect(NODES, address)!;
    owned.set(owner, (owned.get(owner) ?? 0) + 1);
  }
  assert.is(owned.size, NODES.length);
  for (const [node, count] of owned) assert.ok(count >= 150 && count <= 250, `${node} owns ${count}`);
});

function* addresses(count: number): Generator<string> {
  const first = parseAddress("10.9.0.0");
  for (let i = 0; i < count; i++) yield formatAddress(first + i);
}

function orders(items: readonly string[]): string[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item) => orders(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}

test.run();
