/**
 * IPAddressPools as MetalLB's configuration reads them (internal/config, v0.16.2), in rows of our own. The rows after `differs`
 * have another outcome than MetalLB's; docs/addresses.md says why.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatRange } from "../../src/controller/inventory.ts";
import { metallbPool } from "../../src/controller/metallb.ts";
import { selecting } from "../../src/controller/pools.ts";
import { remarksOn } from "../../src/controller/remarks.ts";

const test = suite("MetalLB's pools");

const object = (spec: object, name = "p") => ({ metadata: { name, namespace: "metallb-system", uid: name }, spec });
const A = ["10.0.0.0/24"];
const allocated = (serviceAllocation: object) => ({ addresses: A, serviceAllocation });
const byLabel = (name: string, value: string) => [{ matchLabels: { [name]: value } }];

/** A Service: its namespace, with labels, and its own labels. */
const WEB = ["web", { team: "web" }, { app: "shop" }] as const;
const DB = ["db", { team: "db" }, { app: "store" }] as const;
type Service = typeof WEB | typeof DB;

interface Wanted {
  ranges?: string[];
  autoAssign?: boolean;
  avoidBuggy?: boolean;
  priority?: number;
  /** The Services that the pool selects. @default both */
  selects?: readonly Service[];
}
type Row = [about: string, spec: object, wanted: Wanted | RegExp];

const SAME: readonly Row[] = [
  ["a block", { addresses: A }, { ranges: ["10.0.0.0/24"], autoAssign: true, avoidBuggy: false }],
  ["a block by an address within", { addresses: ["10.0.0.7/24"] }, { ranges: ["10.0.0.0/24"] }],
  ["a range", { addresses: ["10.0.0.5-10.0.0.9"] }, { ranges: ["10.0.0.5-10.0.0.9"] }],
  ["a range with spaces", { addresses: ["10.0.0.5 - 10.0.0.9"] }, { ranges: ["10.0.0.5-10.0.0.9"] }],
  [
    "several, and every setting",
    { addresses: ["10.1.0.0/16", "10.3.0.1-10.3.0.2"], autoAssign: false, avoidBuggyIPs: true },
    { ranges: ["10.1.0.0/16", "10.3.0.1-10.3.0.2"], autoAssign: false, avoidBuggy: true },
  ],
  ["namespaces by name", allocated({ priority: 1, namespaces: ["web"] }), { priority: 1, selects: [WEB] }],
  [
    "namespaces by label",
    allocated({ priority: 2, namespaceSelectors: byLabel("team", "db") }),
    { priority: 2, selects: [DB] },
  ],
  [
    "namespaces by name or by label",
    allocated({ namespaces: ["web"], namespaceSelectors: byLabel("team", "db") }),
    { selects: [WEB, DB] },
  ],
  ["Services by label", allocated({ serviceSelectors: byLabel("app", "shop") }), { selects: [WEB] }],
  [
    "Services by one label or another",
    allocated({ serviceSelectors: [...byLabel("app", "shop"), ...byLabel("app", "store")] }),
    { selects: [WEB, DB] },
  ],
  [
    "a namespace, and Services in it",
    allocated({ namespaces: ["web"], serviceSelectors: byLabel("app", "store") }),
    { selects: [] },
  ],
  ["a priority alone", allocated({ priority: 7 }), { priority: 7, selects: [WEB, DB] }],
  ["nothing of a block", { addresses: ["10.0.0.0"] }, /spec\.addresses\[0\] is "10\.0\.0\.0"/],
  ["a prefix length that is too long", { addresses: ["10.0.0.0/33"] }, /"10\.0\.0\.0\/33"/],
  ["a range that ends before it begins", { addresses: ["10.0.0.9-10.0.0.5"] }, /"10\.0\.0\.9-10\.0\.0\.5"/],
  ["a range of two families", { addresses: ["10.0.0.9-2001:db8::1"] }, /"10\.0\.0\.9-2001:db8::1"/],
  ["an end that is no address", { addresses: ["10.0.0.9-next"] }, /"10\.0\.0\.9-next"/],
  [
    "an operator that there is not",
    allocated({ serviceSelectors: [{ matchExpressions: [{ key: "a", operator: "Is" }] }] }),
    /serviceSelectors\[0\]\.matchExpressions\[0\]\.operator/,
  ],
];

/** MetalLB refuses these, and with one pool the whole configuration. */
const DIFFERS: readonly Row[] = [
  ["a namespace twice", allocated({ namespaces: ["web", "web"] }), { selects: [WEB] }],
  [
    "a selector of namespaces twice",
    allocated({ namespaceSelectors: [...byLabel("team", "db"), ...byLabel("team", "db")] }),
    { selects: [DB] },
  ],
  [
    "a selector of Services twice",
    allocated({ serviceSelectors: [...byLabel("app", "shop"), ...byLabel("app", "shop")] }),
    { selects: [WEB] },
  ],
  ["no addresses", { addresses: [] }, { ranges: [] }],
];

for (const [about, spec, wanted] of [...SAME, ...DIFFERS]) {
  test(about, () => {
    if (wanted instanceof RegExp) return assert.throws(() => metallbPool(object(spec)), wanted);
    const its = metallbPool(object(spec));
    const selects = [WEB, DB].filter(
      ([namespace, labels, own]) => selecting([its], { namespace, labels: own }, labels).length > 0,
    );
    const found = { ...its, ranges: its.ranges.map(formatRange), selects };
    for (const [key, value] of Object.entries({ selects: [WEB, DB], ...wanted }))
      assert.equal(found[key as keyof typeof found], value, key);
  });
}

for (const [about, other] of [
  ["a block in two pools", "10.0.0.0/24"],
  ["blocks of two pools that overlap", "10.0.0.128/25"],
] as const) {
  test(`differs: ${about} are a remark`, () => {
    const pools = [metallbPool(object({ addresses: A }, "a")), metallbPool(object({ addresses: [other] }, "b"))];
    assert.equal(
      remarksOn(pools, new Map()).map(({ reason, pool }) => [reason, pool.name]),
      [["PoolsOverlap", "b"]],
    );
  });
}

test("the rows are counted", () => {
  console.log(`MEASURED ${SAME.length} pools as MetalLB reads them, ${DIFFERS.length + 2} that differ`);
});

test.run();
