import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Config, ConfigError, type Membership, parseConfig, readConfig } from "../../src/config/config.ts";
import { KEYS } from "../../src/config/schema.ts";
import { parseAddress, parseRange, sizeOf } from "../../src/core/address.ts";
import { matches } from "../../src/core/glob.ts";
import type { FileSettings } from "../../src/source/settings.ts";

const SOURCE = "source: { kind: file, nodes: [n1, n2, n3], vips: [] }\n";

function parse(text: string, env: Record<string, string> = {}, hostname = "n1"): Config {
  return parseConfig(text, "isat.yaml", env, hostname);
}

/** The lines of the error in a text. */
function refused(text: string, env: Record<string, string> = {}, hostname = "n1"): string[] {
  try {
    parse(text, env, hostname);
  } catch (error) {
    assert.instance(error, ConfigError);
    assert.is((error as ConfigError).message, (error as ConfigError).lines.join("\n"));
    return (error as ConfigError).lines;
  }
  return [];
}

const EVERY_KEY = `
node: n2
interfaces: [eth0, "ens*"]
excludeInterfaces: ["docker*"]
hook: xdp
pinDir: /sys/fs/bpf/other
runDir: /run/other
stateDir: /var/lib/other
hold: 10s
fence: 1h
garp: { profile: guarded, rate: 50 }
membership: { kind: wire, keys: [/etc/isat/new.key, /etc/isat/old.key], interval: 200ms, dead: 5 }
metrics: { listen: 127.0.0.1:9121 }
source:
  kind: file
  cluster: rack-7
  nodes: [n1, { name: n2, address: 10.9.255.2 }, { name: n3 }]
  vips:
    - address: 10.9.0.1
    - address: 10.9.0.10-10.9.0.19
    - address: 10.9.1.0/24
      nodes: [n1, n2]
      interfaces: [eth0]
  accept: false
`;

test("every key is taken as written", () => {
  const all = { nodes: undefined, interfaces: undefined, hashAs: undefined };
  assert.equal(parse(EVERY_KEY), {
    node: "n2",
    interfaces: ["eth0", "ens*"],
    excludeInterfaces: ["docker*"],
    hook: "xdp",
    pinDir: "/sys/fs/bpf/other",
    runDir: "/run/other",
    stateDir: "/var/lib/other",
    hold: 10_000,
    fence: 3_600_000,
    garp: { refresh: 95_000, rate: 50, form: "request" },
    membership: { kind: "wire", keys: ["/etc/isat/new.key", "/etc/isat/old.key"], interval: 200, dead: 5 },
    metrics: { host: "127.0.0.1", port: 9121 },
    pools: [],
    allocation: { choice: "stable", rest: 300_000 },
    source: {
      kind: "file",
      cluster: "rack-7",
      nodes: [
        { name: "n1", address: undefined },
        { name: "n2", address: parseAddress("10.9.255.2") },
        { name: "n3", address: undefined },
      ],
      vips: [
        { ...parseRange("10.9.0.1"), ...all, line: 19 },
        { ...parseRange("10.9.0.10-10.9.0.19"), ...all, line: 20 },
        { ...parseRange("10.9.1.0/24"), ...all, nodes: ["n1", "n2"], interfaces: ["eth0"], line: 21 },
      ],
      accept: false,
    },
  });
});

test("a pool is its addresses, or is described", () => {
  const { pools } = parse(`pools: [10.9.0.0/24, { name: web, addresses: [10.9.1.1], priority: 2 }]\n${SOURCE}`);
  const its = pools.map(({ name, addresses, priority, autoAssign }) => ({ name, addresses, priority, autoAssign }));
  assert.equal(its, [
    { name: "10.9.0.0/24", addresses: [parseRange("10.9.0.0/24")], priority: 0, autoAssign: true },
    { name: "web", addresses: [parseRange("10.9.1.1")], priority: 2, autoAssign: true },
  ]);
  assert.match(refused("pools: [10.9.0.1, 10.9.0.1]").join(), /found two pools 10\.9\.0\.1; accepted: each name once/);
});

test("every key but source has a default", () => {
  assert.equal(parse(SOURCE), {
    node: "n1",
    interfaces: undefined,
    excludeInterfaces: KEYS.excludeInterfaces!.default!.split(" "),
    hook: "auto",
    pinDir: "/sys/fs/bpf/isat",
    runDir: "/run/isat",
    stateDir: "/var/lib/isat",
    hold: 30_000,
    fence: 300_000,
    garp: { refresh: 95_000, rate: 1000, form: "request" },
    membership: { kind: "wire", keys: ["/etc/isat/wire.key"], interval: 100, dead: 3 },
    metrics: undefined,
    pools: [],
    allocation: { choice: "stable", rest: 300_000 },
    source: {
      kind: "file",
      cluster: "",
      nodes: ["n1", "n2", "n3"].map((name) => ({ name, address: undefined })),
      vips: [],
      accept: true,
    },
  });
});

const stateDirs: [name: string, written: string, stateDir: string][] = [
  ["a runDir of its own means a stateDir of its own, so that speakers do not share marks", "runDir: /r", "/r"],
  ["a stateDir that is named is used", "runDir: /r\nstateDir: /s", "/s"],
];
for (const [name, written, stateDir] of stateDirs) {
  test(name, () => assert.is(parse(`${written}\n${SOURCE}`).stateDir, stateDir));
}

/** A value at the path of a key, as in `source.vips[].address`; one below source once for each kind. */
function texts(path: string, value: string): string[] {
  const wrap = (steps: string[], inner: string) =>
    steps.reduceRight((below, step) => {
      return step.endsWith("[]") ? `{ ${step.slice(0, -2)}: [${below}] }` : `{ ${step}: ${below} }`;
    }, inner);
  const [first, ...rest] = path.split(".");
  if (first !== "source" || rest.length === 0 || rest[0] === "kind") return [wrap(path.split("."), value)];
  return ["file", "kubernetes"].map((kind) => `source: ${wrap(rest, value).replace("{", `{ kind: ${kind},`)}`);
}

for (const [key, { accepts }] of Object.entries(KEYS)) {
  test(`what the schema accepts for ${key} stands in its error`, () => {
    const lines = ['"x y"', "{}"].flatMap((value) => texts(key, value)).flatMap((text) => refused(text));
    const path = key.replaceAll("[]", "[0]");
    assert.ok(
      lines.some((line) => line.startsWith(`isat.yaml:1: ${path}: `) && line.includes(accepts)),
      lines.join("\n"),
    );
  });
}

test("every key that the schema knows is described, in the place where it is accepted", () => {
  const below = (path: string) =>
    Object.keys(KEYS).flatMap((key) => (/^(?:(.*)\.)?(\w+)$/.exec(key)?.[1] === path ? key.split(".").slice(-1) : []));
  const mappings = new Set(Object.keys(KEYS).map((key) => /^(?:(.*)\.)?\w+(?:\[\])?$/.exec(key)?.[1]));
  assert.equal([mappings.size, mappings.has(undefined), mappings.has("source.nodes[]")], [17, true, true]);
  for (const path of mappings) {
    const lines = texts(path === undefined ? "qqq" : `${path}.qqq`, "1").flatMap((text) => refused(text));
    const accepted = lines.flatMap(
      (line) => /qqq: unknown key. Accepted here: (.*)$/.exec(line)?.[1]?.split(", ") ?? [],
    );
    const known = path === undefined ? Object.keys(KEYS).filter((key) => /^\w+$/.test(key)) : below(path);
    assert.equal([...new Set(accepted)].sort(), known.sort(), path);
  }
});

const nodes: [name: string, key: string, env: Record<string, string>, hostname: string, node: string][] = [
  ["the key node comes first", "node: n1\n", { NODE_NAME: "n2" }, "n3", "n1"],
  ["NODE_NAME comes second", "", { NODE_NAME: "n2" }, "n3", "n2"],
  ["the host's name comes last", "", {}, "n3", "n3"],
  ["an empty NODE_NAME is none", "", { NODE_NAME: "" }, "n3", "n3"],
];
for (const [name, key, env, hostname, node] of nodes) {
  test(`of this node's names, ${name}`, () => assert.is(parse(key + SOURCE, env, hostname).node, node));
}

/** The membership that results from the least that one can write. */
const memberships: [name: string, nodes: string, written: string, membership: Partial<Membership>][] = [
  ["one node has no peers to look for", "[n1]", "", { kind: "static" }],
  ["two nodes look for each other", "[n1, n2]", "", { kind: "wire" }],
  ["one node looks for peers where it is told to", "[n1]", "membership: { kind: wire }", { kind: "wire" }],
  ["many nodes do not where they are told not to", "[n1, n2]", "membership: { kind: static }", { kind: "static" }],
  ["what is said of probes does not make one node look", "[n1]", "membership: { dead: 5 }", { kind: "static" }],
  ["no key is a choice", "[n1, n2]", "membership: { keys: none }", { kind: "wire", keys: "none" }],
  [
    "none may stand beside a key",
    "[n1, n2]",
    "membership: { keys: [/a, none] }",
    { kind: "wire", keys: ["/a", "none"] },
  ],
  ["the keys stay in order", "[n1, n2]", "membership: { keys: [/b, /a] }", { kind: "wire", keys: ["/b", "/a"] }],
  ["10ms is the shortest interval", "[n1, n2]", "membership: { interval: 10ms }", { kind: "wire", interval: 10 }],
  ["1s is the longest interval", "[n1, n2]", "membership: { interval: 1s }", { kind: "wire", interval: 1000 }],
  ["one missed probe may be enough", "[n1, n2]", "membership: { dead: 1 }", { kind: "wire", dead: 1 }],
];
for (const [name, nodes, written, expected] of memberships) {
  test(`of membership, ${name}`, () => {
    const { membership } = parse(`${written}\nsource: { kind: file, nodes: ${nodes}, vips: [] }\n`);
    for (const [key, value] of Object.entries(expected)) assert.equal(membership[key as keyof Membership], value, key);
    if (membership.kind === "static") assert.equal(membership, { kind: "static" });
  });
}

const taken: [name: string, text: string, read: (config: Config) => unknown, value: unknown][] = [
  ["500ms is half a second", "hold: 500ms", (c) => c.hold, 500],
  ["4s is the shortest fence", "hold: 3s\nfence: 4s", (c) => c.fence, 4000],
  ["5m is five minutes", "hold: 5m\nfence: 6m", (c) => c.hold, 300_000],
  [
    "the guarded profile is 5 frames a second",
    "garp: { profile: guarded }",
    (c) => c.garp,
    { refresh: 95_000, rate: 5, form: "request" },
  ],
  [
    "refresh overrides the profile's",
    "garp: { refresh: 2m }",
    (c) => c.garp,
    { refresh: 120_000, rate: 1000, form: "request" },
  ],
  ["a rate may be less than 1", "garp: { rate: 0.5 }", (c) => c.garp.rate, 0.5],
  ["[01] in a glob is a set", "interfaces: [eth9, 'eth[01]']", (c) => matches("eth1", c.interfaces!), true],
  ["announcements may be replies", "garp: { form: both }", (c) => c.garp.form, "both"],
  ["an empty garp is the default", "garp: {}", (c) => c.garp.rate, 1000],
  ["metrics may listen on IPv6", 'metrics: { listen: "[::]:9121" }', (c) => c.metrics, { host: "::", port: 9121 }],
  [
    "metrics may listen on a name",
    "metrics: { listen: localhost:1 }",
    (c) => c.metrics,
    { host: "localhost", port: 1 },
  ],
];
for (const [name, text, read, value] of taken) {
  test(name, () => assert.equal(read(parse(`${text}\n${SOURCE}`)), value));
}

test("an alias stands for what it names", () => {
  const { vips } = parse("source: { kind: file, nodes: &all [n1, n2], vips: [{ address: 10.9.0.1, nodes: *all }] }")
    .source as FileSettings;
  assert.equal(vips[0]?.nodes, ["n1", "n2"]);
});

test("65,536 addresses of IPv6 are accepted, as a block, and no more", () => {
  const of = (block: string) => parse(`source: { kind: file, nodes: [n1], vips: [{ address: "${block}" }] }`);
  const { vips } = of("2001:db8::1:0/112").source as FileSettings;
  assert.is(sizeOf(vips[0]!), 65_536);
  for (const block of ["2001:db8::2:0/111", "2001:db8::/64"]) assert.throws(() => of(block), /accepted: at most 65536/);
});

test("65,536 addresses are accepted", () => {
  const { vips } = parse("source: { kind: file, nodes: [n1], vips: [{ address: 10.9.0.0/16 }] }")
    .source as FileSettings;
  assert.is(vips[0]?.first, parseAddress("10.9.0.0"));
});

/** Each error: the line of the file, the key, and pieces of what it says. */
const wrong: [name: string, text: string, line: number, ...says: string[]][] = [
  ["an empty file", "", 1, "source: missing", "vips: [{ address: 10.9.0.1 }]"],
  ["a file of comments", "# nothing\n\n", 1, "source: missing", "vips: [{ address: 10.9.0.1 }]"],
  ["a file without a source", "\nhook: tc\n", 2, "source: missing", "vips: [{ address: 10.9.0.1 }]"],
  ["a source without anything", `source:\n`, 1, "source: found nothing", "vips: [{ address: 10.9.0.1 }]"],
  ["a list", "- a\n", 1, "found a list", "a mapping of the keys node, interfaces"],
  ["a word", "isat\n", 1, 'found "isat"', "a mapping of the keys node, interfaces"],
  ["text that is no YAML", `${SOURCE}hold: "30s\n`, 3, "no valid YAML", "quote"],
  ["an IPv6 address without quotes", `${SOURCE}metrics:\n  listen: [::]:9121\n`, 3, "no valid YAML", ":9121"],
  ["the same key twice", `${SOURCE}hold: 1s\nhold: 2s\n`, 3, "no valid YAML", "unique", "hold: 2s"],
  ["an unknown tag", `${SOURCE}hold: !time 1s\n`, 2, "no valid YAML", "!time"],
  ["an alias of nothing", `${SOURCE}hold: *time\n`, 2, "no valid YAML", "&time"],
  ["two documents", `${SOURCE}---\n${SOURCE}`, 2, "no valid YAML", "multiple documents"],
  ["a misspelt key", `${SOURCE}intefaces: [eth0]\n`, 2, "intefaces: unknown key", 'did you mean "interfaces"?'],
  ["a key in another spelling", `${SOURCE}pin_dir: /x\n`, 2, 'did you mean "pinDir"?'],
  ["a key like no other", `${SOURCE}colour: red\n`, 2, "colour: unknown key. Accepted here: node, interfaces, hook"],
  ["a key that JavaScript knows", `${SOURCE}constructor: 1\n`, 2, "constructor: unknown key"],
  ["a key of JavaScript's objects", `${SOURCE}__proto__: {}\n`, 2, "__proto__: unknown key"],
  ["a misspelt key further in", `${SOURCE}garp:\n  rte: 1\n`, 3, "garp.rte: unknown key", 'did you mean "rate"?'],
  ["a node that is a number", `${SOURCE}node: 1\n`, 2, "node: found 1, accepted: a node's name"],
  ["a node with a space", `${SOURCE}node: n 1\n`, 2, 'node: found "n 1"'],
  ["one interface not in a list", `${SOURCE}interfaces: eth0\n`, 2, 'interfaces: found "eth0"', "[eth0]"],
  ["no interface", `${SOURCE}interfaces: []\n`, 2, "interfaces: found an empty list"],
  ["an interface's name of 128 letters", `${SOURCE}interfaces:\n- eth0\n- ${"a".repeat(128)}\n`, 4, "interfaces[1]:"],
  ["a set that ends before it begins", `${SOURCE}interfaces: ["eth[1-0]xyzxyzxyz"]\n`, 2, "interfaces[0]:"],
  ["a glob of 65 letters", `${SOURCE}interfaces: ["${"a".repeat(64)}*"]\n`, 2, "interfaces[0]:"],
  ["an unknown hook", `${SOURCE}hook: tx\n`, 2, 'hook: found "tx", accepted: auto, tcx, tc or xdp'],
  ["a relative path", `${SOURCE}pinDir: bpf\n`, 2, 'pinDir: found "bpf", accepted: an absolute path'],
  ["a duration without unit", `${SOURCE}hold: 30\n`, 2, "hold: found 30, which has no unit", "30s, 5m or 1h"],
  ["a duration without unit in quotes", `${SOURCE}hold: "30"\n`, 2, 'hold: found "30", which has no unit'],
  ["a duration of an unknown unit", `${SOURCE}hold: 1d\n`, 2, 'hold: found "1d", accepted: a whole number'],
  ["a duration in a list", `${SOURCE}hold: [30s]\n`, 2, "hold: found a list"],
  ["a negative duration", `${SOURCE}hold: -3s\n`, 2, 'hold: found "-3s", accepted: a whole number'],
  ["a duration longer than a timer runs", `${SOURCE}fence: 577h\n`, 2, 'fence: found "577h"', "at most 24 days"],
  ["a hold as long as the fence", `${SOURCE}hold: 5m\n`, 2, "hold: found 5m", "less than fence (5m, the default)"],
  ["a fence as short as the hold", `${SOURCE}fence: 20s\n`, 2, "fence: found 20s", "more than hold (30s, the default)"],
  ["a hold longer than the fence", `${SOURCE}hold: 2m\nfence: 1m\n`, 2, "hold: found 2m", "less than fence (1m)"],
  ["a fence within the live window", `${SOURCE}hold: 1s\nfence: 3999ms\n`, 3, "fence: found 3999ms", "4s or more"],
  [
    "an unknown profile",
    `${SOURCE}garp: { profile: shy }\n`,
    2,
    'garp.profile: found "shy", accepted: open or guarded',
  ],
  [
    "a form that ARP does not have",
    `${SOURCE}garp: { form: loud }\n`,
    2,
    'garp.form: found "loud"',
    "request, reply or both",
  ],
  ["a refresh of 0", `${SOURCE}garp: { refresh: 0 }\n`, 2, "garp.refresh: found 0", "longer than 0"],
  ["a refresh of 0s", `${SOURCE}garp: { refresh: 0s }\n`, 2, 'garp.refresh: found "0s"', "longer than 0"],
  ["a rate of 0", `${SOURCE}garp: { rate: 0 }\n`, 2, "garp.rate: found 0, accepted: a number greater than 0"],
  ["a negative rate", `${SOURCE}garp: { rate: -1 }\n`, 2, "garp.rate: found -1"],
  ["an endless rate", `${SOURCE}garp: { rate: .inf }\n`, 2, "garp.rate: found Infinity"],
  ["a rate with a unit", `${SOURCE}garp: { rate: 5/s }\n`, 2, 'garp.rate: found "5/s"'],
  [
    "an unknown membership",
    `${SOURCE}membership: { kind: wirr }\n`,
    2,
    'membership.kind: found "wirr", accepted: static',
  ],
  [
    "an interval finer than timers",
    `${SOURCE}membership: { interval: 9ms }\n`,
    2,
    "membership.interval: found 9ms, accepted: 10ms to 1s",
    "timers",
  ],
  [
    "an interval with which claims are not taken",
    `${SOURCE}membership:\n  interval: 1001ms\n`,
    3,
    "membership.interval: found 1001ms, accepted: 10ms to 1s",
    "a claim needs a fresh answer",
  ],
  ["an interval without unit", `${SOURCE}membership: { interval: 100 }\n`, 2, "interval: found 100, which has no unit"],
  [
    "a peer dead after no probe",
    `${SOURCE}membership: { dead: 0 }\n`,
    2,
    "membership.dead: found 0, accepted: a whole",
  ],
  ["a peer dead after half a probe", `${SOURCE}membership: { dead: 2.5 }\n`, 2, "membership.dead: found 2.5"],
  ["a peer dead after 101 probes", `${SOURCE}membership: { dead: 101 }\n`, 2, "membership.dead: found 101"],
  ["no key in the list", `${SOURCE}membership: { keys: [] }\n`, 2, "membership.keys: found an empty list", "or none"],
  ["keys by another word", `${SOURCE}membership: { keys: off }\n`, 2, 'membership.keys: found "off"', "or none"],
  ["five keys", `${SOURCE}membership: { keys: [/a, /b, /c, /d, /e] }\n`, 2, "membership.keys: found a list", "1 to 4"],
  ["a key by a relative path", `${SOURCE}membership: { keys: [/a, wire.key] }\n`, 2, "membership.keys"],
  ["metrics without an address", `${SOURCE}metrics:\n`, 2, "metrics: found nothing", "leave the key out"],
  ["metrics on a bare port", `${SOURCE}metrics: { listen: 9121 }\n`, 2, "metrics.listen: found 9121", '"[::]:9121"'],
  ["metrics on no port", `${SOURCE}metrics: { listen: 127.0.0.1 }\n`, 2, 'metrics.listen: found "127.0.0.1"'],
  ["metrics on port 65536", `${SOURCE}metrics: { listen: 127.0.0.1:65536 }\n`, 2, "metrics.listen: found"],
  ["metrics on no IPv4 address", `${SOURCE}metrics: { listen: 127.0.0.256:1 }\n`, 2, "metrics.listen: found"],
  ["metrics on no IPv6 address", `${SOURCE}metrics: { listen: "[:::]:1" }\n`, 2, "metrics.listen: found"],
];
for (const [name, text, line, ...says] of wrong) {
  test(`${name} is refused in one line that says where and what: ${says[0]}`, () => {
    const lines = refused(text);
    assert.is(lines.length, 1, lines.join("\n"));
    assert.ok(lines[0]?.startsWith(`isat.yaml:${line}: `), lines[0]);
    for (const piece of says) assert.ok(lines[0]?.includes(piece), `${lines[0]}\nhas no ${piece}`);
  });
}

/** As above, below `source:`, which is line 1. */
const wrongSource: [name: string, text: string, line: number, ...says: string[]][] = [
  [
    "an unknown kind",
    "kind: kubernets\nnodes: [n1]\nvips: []",
    2,
    'source.kind: found "kubernets", accepted: file or kubernetes',
  ],
  ["no kind", "nodes: [n1]\nvips: []", 1, "source.kind: missing, accepted: file or kubernetes"],
  ["a misspelt kind", "knd: file\nnodes: [n1]\nvips: []", 2, 'source.knd: unknown key, did you mean "kind"?'],
  [
    "a key of another kind",
    "kind: file\nnodes: [n1]\nvips: []\naddresses: []",
    5,
    "source.addresses: unknown key. Accepted here: kind, cluster, nodes, vips",
  ],
  ["no nodes", "kind: file\nvips: []", 1, "source.nodes: missing"],
  ["an empty list of nodes", "kind: file\nnodes: []\nvips: []", 3, "source.nodes: found an empty list", "[n1, n2]"],
  ["a misspelt nodes", "kind: file\nnoeds: [n1]\nvips: []", 3, 'source.noeds: unknown key, did you mean "nodes"?'],
  ["a node twice", "kind: file\nnodes:\n- n1\n- n2\n- n1\nvips: []", 6, 'source.nodes[2]: found "n1"', "line 4"],
  [
    "a node twice, once with an address",
    "kind: file\nnodes: [n1, { name: n1, address: 10.9.255.1 }]\nvips: []",
    3,
    'source.nodes[1]: found "n1" a second time',
  ],
  [
    "a node whose address is none",
    "kind: file\nnodes: [n1, { name: n2, address: n2.example.org }]\nvips: []",
    3,
    'source.nodes[1].address: found "n2.example.org", accepted: an address, such as',
  ],
  [
    "a node whose address is IPv4, mapped into IPv6",
    'kind: file\nnodes: [n1, { name: n2, address: "::ffff:10.9.255.2" }]\nvips: []',
    3,
    "source.nodes[1].address: ",
    "write 10.9.255.2",
  ],
  [
    "a node without a name",
    "kind: file\nnodes: [n1, { address: 10.9.255.2 }]\nvips: []",
    3,
    "source.nodes[1].name: missing",
  ],
  [
    "a node with a misspelt key",
    "kind: file\nnodes: [n1, { name: n2, adress: 10.9.255.2 }]\nvips: []",
    3,
    'source.nodes[1].adress: unknown key, did you mean "address"?',
  ],
  ["a node that is a number", "kind: file\nnodes: [n1, 2]\nvips: []", 3, "source.nodes[1]: found 2"],
  ["no VIPs", "kind: file\nnodes: [n1]", 1, "source.vips: missing", "[] for none"],
  [
    "VIPs that are commented out",
    "kind: file\nnodes: [n1]\nvips:\n# - address: 10.9.0.1",
    4,
    "source.vips: found nothing",
    "[]",
  ],
];
const wrongVips: [name: string, vips: string, line: number, ...says: string[]][] = [
  ["a bare address", "- 10.9.0.1", 5, 'source.vips[0]: found "10.9.0.1"', "{ address: 10.9.0.1 }"],
  ["no address", "- nodes: [n1]", 5, "source.vips[0].address: missing", "10.9.0.10-10.9.0.19"],
  ["half an address", "- address: 10.9", 5, "source.vips[0].address: found 10.9", "10.9.0.10-10.9.0.19"],
  ["no address at all", "- address: vip", 5, 'Cannot read "vip" as addresses', "10.9.0.10-10.9.0.19"],
  ["a block with host bits", "- address: 10.9.1.5/24", 5, "inside the block 10.9.1.0/24"],
  [
    "a multicast address",
    "- address: 10.9.0.1\n- address: 224.0.0.18",
    6,
    "source.vips[1].address",
    "224.0.0.0/4 is multicast",
  ],
  ["a loopback address", "- address: 127.0.0.1", 5, 'found "127.0.0.1", but 127.0.0.0/8 is loopback'],
  ["a range of both families", '- address: "10.9.0.1-2001:db8::1f"', 5, "begins in one family and ends in the other"],
  ["a link-local IPv6 address", '- address: "fe80::1"', 5, "but fe80::/10 is link-local"],
  ["the broadcast address", "- address: 255.255.255.255", 5, "is the broadcast address"],
  ["0.0.0.0", "- address: 0.0.0.0", 5, '0.0.0.0/8 is "this network"'],
  [
    "a node of another name",
    "- address: 10.9.0.1\n  nodes: [n1, n4]",
    6,
    'source.vips[0].nodes[1]: found "n4", accepted',
    "n1, worker-2",
  ],
  ["a misspelt node", "- address: 10.9.0.1\n  nodes: [workr-2]", 6, 'did you mean "worker-2"?'],
  ["no node", "- address: 10.9.0.1\n  nodes: []", 6, "source.vips[0].nodes: found an empty list"],
  ["an interface of no name", '- address: 10.9.0.1\n  interfaces: [""]', 6, 'source.vips[0].interfaces[0]: found ""'],
  [
    "an address twice",
    "- address: 10.9.0.1\n- address: 10.9.0.1",
    6,
    "source.vips[1]: 10.9.0.1 overlaps 10.9.0.1 of line 5",
  ],
  [
    "ranges that overlap, the wider one first",
    "- address: 10.9.0.0/20\n- address: 10.9.0.7\n- address: 10.9.7.0/31",
    6,
    "source.vips[1]: 10.9.0.7 overlaps 10.9.0.0-10.9.15.255 of line 5",
    "source.vips[2]: 10.9.7.0-10.9.7.1 overlaps 10.9.0.0-10.9.15.255 of line 5",
  ],
  [
    "ranges that overlap, the lower one last",
    "- address: 10.9.0.5-10.9.0.9\n- address: 10.9.0.1-10.9.0.5",
    6,
    "source.vips[1]: 10.9.0.1-10.9.0.5 overlaps 10.9.0.5-10.9.0.9 of line 5",
  ],
  [
    "65,537 addresses",
    "- address: 10.9.0.0/16\n- address: 10.8.0.1",
    4,
    "source.vips: found 65537 addresses",
    "at most 65536",
  ],
];
for (const [name, vips, line, ...says] of wrongVips) {
  wrongSource.push([name, `kind: file\nnodes: [n1, worker-2]\nvips:\n${vips}`, line, ...says]);
}
for (const [name, text, line, ...says] of wrongSource) {
  test(`in a source, ${name} is refused: ${says[0]}`, () => {
    const lines = refused(`source:\n${text.replace(/^/gm, "  ")}\n`);
    assert.is(lines.length, says.filter((piece) => piece.startsWith("source.")).length || 1, lines.join("\n"));
    assert.ok(lines[0]?.startsWith(`isat.yaml:${line}: `), lines[0]);
    for (const piece of says) assert.ok(lines.join("\n").includes(piece), `${lines.join("\n")}\nhas no ${piece}`);
  });
}

test("every key of a kubernetes source is taken as written", () => {
  const { node, source } = parse(
    `source:
  kind: kubernetes
  kubeconfig: /etc/isat/kubeconfig
  loadBalancerClass: [none, isat.example/l2]
  poolNamespace: lan
  addresses: [10.9.0.0/20, 10.9.16.1]
  interfaces: [eth0]
  nodeSelector: { matchLabels: { isat: enabled } }
  serviceSelector:
    matchExpressions:
      - { key: tier, operator: In, values: [front] }
      - { key: private, operator: DoesNotExist }
  ignoreExcludeLabel: true
`,
    { NODE_NAME: "n7" },
  );
  assert.is(node, "n7");
  assert.equal(source, {
    kind: "kubernetes",
    kubeconfig: "/etc/isat/kubeconfig",
    loadBalancerClass: ["none", "isat.example/l2"],
    poolNamespace: "lan",
    addresses: [parseRange("10.9.0.0/20"), parseRange("10.9.16.1")],
    interfaces: ["eth0"],
    nodeSelector: { matchLabels: { isat: "enabled" }, matchExpressions: [] },
    serviceSelector: {
      matchLabels: {},
      matchExpressions: [
        { key: "tier", operator: "In", values: ["front"] },
        { key: "private", operator: "DoesNotExist", values: [] },
      ],
    },
    ignoreExcludeLabel: true,
  });
});

test("a kubernetes source needs no key but its kind", () => {
  assert.equal(parse("source: { kind: kubernetes }", { NODE_NAME: "n7" }).source, {
    kind: "kubernetes",
    kubeconfig: undefined,
    loadBalancerClass: undefined,
    poolNamespace: "metallb-system",
    addresses: undefined,
    interfaces: undefined,
    nodeSelector: undefined,
    serviceSelector: undefined,
    ignoreExcludeLabel: false,
  });
});

const wrongKubernetes: [name: string, text: string, ...says: string[]][] = [
  ["nodes", "nodes: [n1]", "2: source.nodes: unknown key", "Accepted here: kind, kubeconfig,"],
  ["a misspelt key", "adresses: [10.9.0.1]", '2: source.adresses: unknown key, did you mean "addresses"?'],
  ["a relative kubeconfig", "kubeconfig: config", '2: source.kubeconfig: found "config", accepted: an absolute path'],
  ["no address", "addresses: []", "2: source.addresses: found an empty list", "[10.9.0.0/20]"],
  ["an address that is none", "addresses: [10.9]", "2: source.addresses[0]: found 10.9", "10.9.0.10-10.9.0.19"],
  ["a multicast address", "addresses: [10.9.0.1, 224.0.0.1]", "2: source.addresses[1]", "224.0.0.0/4 is multicast"],
  ["a bare selector", "nodeSelector: { isat: enabled }", "2: source.nodeSelector.isat: unknown key", "matchLabels"],
  [
    "a label that is no text",
    "nodeSelector: { matchLabels: { a: 1 } }",
    "2: source.nodeSelector.matchLabels.a: found 1",
  ],
  [
    "an operator that there is not",
    "serviceSelector: { matchExpressions: [{ key: a, operator: Gt }] }",
    '2: source.serviceSelector.matchExpressions[0].operator: found "Gt"',
    "accepted: In, NotIn, Exists or DoesNotExist",
  ],
  [
    "a misspelt key of a requirement",
    "nodeSelector: { matchExpressions: [{ key: a, operatr: Exists }] }",
    '2: source.nodeSelector.matchExpressions[0].operatr: unknown key, did you mean "operator"?',
  ],
  [
    "a label of a name that valibot reads past",
    "nodeSelector: { matchLabels: { constructor: a } }",
    "2: constructor: unknown key, and no key or label can have this name",
  ],
  [
    "In without values",
    "serviceSelector: { matchExpressions: [{ key: a, operator: In }] }",
    "2: source.serviceSelector.matchExpressions[0]: operator In needs values",
  ],
  ["a flag that is a text", "ignoreExcludeLabel: sometimes", '2: source.ignoreExcludeLabel: found "sometimes"'],
];
for (const [name, text, ...says] of wrongKubernetes) {
  test(`in a kubernetes source, ${name} is refused: ${says[0]}`, () => {
    const lines = refused(`source:\n  ${text}\n  kind: kubernetes\n`, { NODE_NAME: "n1" });
    assert.is(lines.length, 1, lines.join("\n"));
    assert.ok(lines[0]?.startsWith(`isat.yaml:${says[0]}`), lines[0]);
    for (const piece of says) assert.ok(lines[0]?.includes(piece), `${lines[0]}\nhas no ${piece}`);
  });
}

test("a kubernetes source is refused without NODE_NAME, whatever the host is called", () => {
  const [line, ...more] = refused("source: { kind: kubernetes }", {}, "n1");
  assert.equal(more, []);
  assert.match(line ?? "", "isat.yaml:1: source: kind kubernetes needs the name of this Node");
  assert.match(line ?? "", "spec.nodeName");
  assert.is(parse("node: n2\nsource: { kind: kubernetes }", {}, "n1").node, "n2");
});

const strangers: [name: string, key: string, env: Record<string, string>, line: number, says: string][] = [
  ["by its key", "node: n4\n", {}, 1, 'node: this node is "n4" (from the key node)'],
  ["by NODE_NAME", "", { NODE_NAME: "n5" }, 1, 'source.nodes: this node is "n5" (from NODE_NAME in the environment)'],
  ["by the host's name", "\n", {}, 2, `source.nodes: this node is "web" (the host's name)`],
];
for (const [name, key, env, line, says] of strangers) {
  test(`a node that is not listed, named ${name}, is refused with the nodes and what to do`, () => {
    const lines = refused(key + SOURCE, env, "web");
    assert.is(lines.length, 1);
    assert.ok(lines[0]?.startsWith(`isat.yaml:${line}: ${says}`), lines[0]);
    assert.match(lines[0] ?? "", "n1, n2, n3. Add it there, or set another name: the key node, or NODE_NAME");
  });
}

test("all unknown keys of a file are reported, each with its line", () => {
  const lines = refused(`colour: red
garp:
  rte: 1
  sharp: 2
source:
  kind: file
  nodes: [n1, { name: n2, port: 1 }]
  vips:
    - { address: 10.9.0.1, adress: 10.9.0.2, size: 2 }
`);
  assert.equal(
    lines.map((line) => line.replace(/^isat.yaml:(\d+: [^: ]+: \w+ \w+)[.,] .*/, "$1")),
    [
      "1: colour: unknown key",
      "3: garp.rte: unknown key",
      "4: garp.sharp: unknown key",
      "7: source.nodes[1].port: unknown key",
      "9: source.vips[0].adress: unknown key",
      "9: source.vips[0].size: unknown key",
    ],
  );
});

test("all errors of a file come together, in the order of its lines", () => {
  const lines = refused(`colour: red
hold: 10m
garp: { rate: 0 }
source:
  kind: file
  nodes: [n1, n1]
  vips:
    - address: 10.9.0.1
    - address: 10.9.0.1
      nodes: [n9]
    - address: nonsense
      nodes: [n8]
`);
  assert.equal(
    lines.map((line) => line.replace(/^isat.yaml:(\d+: [^: ]+): .*/, "$1")),
    [
      "1: colour",
      "2: hold",
      "3: garp.rate",
      "6: source.nodes[1]",
      "9: source.vips[1]",
      "10: source.vips[1].nodes[0]",
      "11: source.vips[2].address",
      "12: source.vips[2].nodes[0]",
    ],
  );
});

test("a list that holds itself is refused, and does not hang", () => {
  assert.ok(refused("source: &s { kind: file, nodes: [n1], vips: &v [*v, *s] }").length > 0);
});

test("aliases that unfold to millions of values are refused", () => {
  const nine = (name: string) => `[${Array(9).fill(name).join(", ")}]`;
  const text = `a: &a ${nine("x")}\nb: &b ${nine("*a")}\nc: &c ${nine("*b")}\nd: ${nine("*c")}\n`;
  assert.match(refused(text)[0] ?? "", "alias");
});

const directory = mkdtempSync(join(tmpdir(), "isat-config-"));
test.after(() => rmSync(directory, { recursive: true }));

test("a file is read, and its path stands in its errors", () => {
  const path = join(directory, "isat.yaml");
  writeFileSync(path, `node: n1\n${SOURCE}`);
  assert.is(readConfig(path).node, "n1");
  writeFileSync(path, `node: 1\n${SOURCE}`);
  assert.throws(
    () => readConfig(path),
    (error: Error) => error.message.startsWith(`${path}:1: node: `),
  );
});

const unreadable: [name: string, path: () => string, says: string][] = [
  ["no file", () => join(directory, "none.yaml"), "there is no such file. Write it"],
  [
    "a directory",
    () => {
      mkdirSync(join(directory, "conf.d"));
      return join(directory, "conf.d");
    },
    "it is a directory. Name the file in it",
  ],
  ["a file below a file", () => join(directory, "isat.yaml", "isat.yaml"), "Correct the path"],
];
for (const [name, path, says] of unreadable) {
  test(`${name} is one clear line: ${says}`, () => {
    const where = path();
    assert.throws(
      () => readConfig(where),
      (error: unknown) =>
        error instanceof ConfigError &&
        error.lines.length === 1 &&
        error.message.startsWith(`Cannot read the configuration ${where}: `) &&
        error.message.includes(says),
    );
  });
}

test.run();
