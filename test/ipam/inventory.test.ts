/** The output of `isat ipam` and `isat ipam plan`, from Services as the API sends them. */
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../src/config/config.ts";
import { ofCluster } from "../../src/controller/controller.ts";
import { counted, factsOf, formatInventory, inventory, type Survey } from "../../src/controller/inventory.ts";
import { serveControllerMetrics } from "../../src/controller/metrics.ts";
import { formatPreview, preview } from "../../src/controller/preview.ts";
import { remarksOn } from "../../src/controller/remarks.ts";
import { parseAddress } from "../../src/core/address.ts";
import { pool } from "./desk.ts";
import { objectOf, type Stored } from "./world.ts";

const test = suite("isat ipam");
const NOW = Date.parse("2026-01-01T00:10:00Z");

const config = (pools: string, source = "addresses: [10.9.0.0/16]") =>
  ofCluster(parseConfig(`pools: ${pools}\nsource: { kind: kubernetes, ${source} }`, "isat.yaml", { NODE_NAME: "n1" }));

type Its = Partial<Stored> & { told?: [reason: string, message: string, status?: "True"] };
const service = (key: string, { told, ...its }: Its = {}) =>
  objectOf({
    ...{ key, uid: key, version: 1, type: "LoadBalancer", annotations: {}, labels: {}, ports: [80], ips: [] },
    created: NOW - 600_000,
    condition: told && {
      ...{ reason: told[0], message: told[1], status: told[2] ?? "False", since: "2026-01-01T00:09:00Z" },
    },
    ...its,
  });

const survey = (...services: object[]): Survey => ({
  services,
  namespaces: new Map([["web", { team: "web" }]]),
  nodes: [],
  metallb: [],
  leader: undefined,
  notes: [],
});

test("each pool has what is used and free, without what no Service may be given", () => {
  const found = survey(
    service("web/a", { ips: ["10.9.0.1"], told: ["Assigned", "10.9.0.1", "True"] }),
    service("web/b", { ips: ["10.9.0.1"] }),
    service("web/theirs", { ips: ["10.9.0.2"], loadBalancerClass: "else" }),
    service("web/none", { type: "ClusterIP" }),
  );
  found.nodes.push({ key: "n1", internals: [parseAddress("10.9.0.9")], others: [parseAddress("10.9.1.7")] } as never);
  const pools = `
    - { name: one, addresses: [10.9.0.0/24, 10.9.0.250-10.9.1.5], avoidBuggyIPs: true, autoAssign: false }`;
  const all = { namespaces: [], namespaceSelectors: [], serviceSelectors: [] };
  found.metallb.push({ ...pool("six", ["2001:db8::/120"], { priority: 1 }), ...all });
  const shown = inventory(found, config(pools), NOW).pools;
  assert.equal(shown, [
    { name: "six", addresses: ["2001:db8::/120"], autoAssign: true, ipv6: { size: 256, used: 0, free: 256 } },
    {
      name: "one",
      addresses: ["10.9.0.0/24", "10.9.0.250-10.9.1.5"],
      autoAssign: false,
      ipv4: { size: 258, used: 2, free: 256 }, // 262, without three that are avoided and n1's own
    },
  ]);
});

test("Services wait in the order of their creation, and each has what the controller told it", () => {
  const found = survey(
    service("web/late", { created: NOW - 1_000 }),
    service("web/early", { created: NOW - 60_000, told: ["PoolExhausted", "no address of IPv4 is free in a"] }),
    service("web/has", { ips: ["10.9.9.9"], told: ["Kept", "it keeps 10.9.9.9: 10.9.9.9 is in no pool", "True"] }),
  );
  found.leader = { name: "pod_1", renewed: NOW - 2_000 };
  found.notes.push("Cannot read nodes, so their addresses are counted as free: forbidden");
  const its = inventory(found, config("[10.9.0.0/30]"), NOW);
  assert.equal(
    its.waiting.map(({ service, reason, sinceMs }) => [service, reason, sinceMs]),
    [
      ["web/early", "PoolExhausted", 60_000],
      ["web/late", "Pending", 1_000],
    ],
  );
  assert.equal(formatInventory(its).split("\n"), [
    "controller: pod_1 leads, seen 2.0 s ago",
    "note: Cannot read nodes, so their addresses are counted as free: forbidden",
    "",
    "POOL         USED IPv4  IPv6  FREE IPv4  IPv6  GIVEN IF  ADDRESSES",
    "10.9.0.0/30  0          -     4          -               10.9.0.0/30",
    "",
    "WAITING    HAS  SINCE  REASON         WHY",
    "web/early  -    1 min  PoolExhausted  no address of IPv4 is free in a",
    "web/late   -    1.0 s  Pending        no controller has looked at it yet",
    "",
    "KEEPS    HAS       SINCE  REASON  WHY",
    "web/has  10.9.9.9  1 min  Kept    it keeps 10.9.9.9: 10.9.9.9 is in no pool",
  ]);
});

/** Pools, and the remarks on them. */
const REMARKS: [about: string, pools: string, remarks: string[]][] = [
  ["nothing is wrong", "[10.9.0.0/30, 10.9.0.4/30]", []],
  [
    "two overlap: it is said once, of the first address in common",
    "[{ name: a, addresses: [10.9.0.0/29] }, { name: b, addresses: [10.9.3.1, 10.9.0.6-10.9.0.8] }]",
    ["b: pools a and b both have 10.9.0.6: an address of both is given once, by the first that has it free"],
  ],
  [
    "a pool has a Node's address",
    "[{ name: a, addresses: [10.9.0.9] }, { name: b, addresses: [10.9.1.0/24] }]",
    ["a: pool a has addresses that are given to nobody: 10.9.0.9 is Node n1's own address"],
  ],
];
for (const [about, pools, remarks] of REMARKS) {
  test(`pools: ${about}`, () => {
    const found = survey();
    found.nodes.push({ key: "n1", internals: [parseAddress("10.9.0.9")], others: [] } as never);
    const facts = factsOf(found, config(pools));
    assert.equal(
      remarksOn(facts.pools, facts.never).map(({ pool, message }) => `${pool.name}: ${message}`),
      remarks,
    );
  });
}

test("a controller's metrics have the same figures, where it leads", async () => {
  let its: ReturnType<typeof counted> | undefined;
  const server = await serveControllerMetrics(() => its, { host: "127.0.0.1", port: 0 });
  const { port } = server.address() as AddressInfo;
  const scrape = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.match(await scrape(), /^isat_controller_leads 0$/m);
  const found = survey(service("web/a", { ips: ["10.9.0.1"] }), service("web/b"));
  its = counted(factsOf(found, config("[{ name: a, addresses: [10.9.0.0/30] }]")), NOW);
  const text = await scrape();
  assert.match(text, /^isat_controller_leads 1$/m);
  assert.match(text, /^isat_pool_addresses\{pool="a",family="4",state="free"\} 3$/m);
  assert.match(text, /^isat_services_waiting\{reason="Pending"\} 1$/m);
  assert.match(text, /^isat_services_kept 0$/m);
  server.close();
});

const BEFORE = "[{ name: a, addresses: [10.9.0.1-10.9.0.2] }]";
/** An edit, and what each Service would notice: its name, what, addresses. */
const EDITS: [about: string, services: object[], after: ReturnType<typeof config>, changes: string[]][] = [
  ["nothing", [service("web/a", { ips: ["10.9.0.1"] })], config(BEFORE), []],
  [
    "a pool goes: what stands is kept",
    [service("web/a", { ips: ["10.9.0.1"] })],
    config("[{ name: b, addresses: [10.9.3.1] }]"),
    ["web/a keeps 10.9.0.1 10.9.0.1 is in no pool"],
  ],
  [
    "a pool grows: who waits gets",
    [service("web/a", { ips: ["10.9.0.1"] }), service("web/b", { ips: ["10.9.0.2"] }), service("web/c")],
    config("[{ name: a, addresses: [10.9.0.1-10.9.0.3] }]"),
    ["web/c gets 10.9.0.3 10.9.0.3"],
  ],
  [
    "a pool that a Service asks for goes",
    [service("web/a", { ips: ["10.9.0.1"], annotations: { "isat.io/pool": "a" } })],
    config("[{ name: b, addresses: [10.9.0.1-10.9.0.2] }]"),
    ["web/a keeps 10.9.0.1 10.9.0.1 is not in pool a, which it asks for as well"],
  ],
  [
    "speakers would announce less",
    [service("web/a", { ips: ["10.9.0.1"] })],
    config(BEFORE, "addresses: [10.9.0.2]"),
    ["web/a is unannounced 10.9.0.1 it is not in source.addresses any more: no speaker would announce it"],
  ],
  [
    "another class",
    [service("web/a", { ips: ["10.9.0.1"] })],
    config(BEFORE, "addresses: [10.9.0.0/16], loadBalancerClass: x/y"),
    ["web/a is left alone 10.9.0.1 source.loadBalancerClass or source.serviceSelector changes from it"],
  ],
];
for (const [about, services, after, changes] of EDITS) {
  test(`plan: ${about}`, () => {
    const its = preview(survey(...services), config(BEFORE), after);
    assert.equal(
      its.changes.map(({ service, what, addresses, why }) => `${service} ${what} ${addresses.join()} ${why}`),
      changes,
    );
    assert.is(changes.length === 0, formatPreview(its).includes("no Service would notice"));
  });
}

test("plan: the pools that come, go and change are named", () => {
  const before = config("[10.9.0.0/24, { name: a, addresses: [10.9.1.0/24] }]");
  const after = config("[10.9.2.0/24, { name: a, addresses: [10.9.1.0/25] }]");
  assert.equal(preview(survey(), before, after).pools, {
    added: ["10.9.2.0/24"],
    removed: ["10.9.0.0/24"],
    changed: ["a"],
  });
});

test.run();
