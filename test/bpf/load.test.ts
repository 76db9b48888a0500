// limit: 300 s
/** The object needs a kernel and a loader with certain abilities, and its layout is the control plane's. */
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { difference } from "../../scripts/generate-abi.ts";
import { COUNTERS, maps } from "../../src/core/abi.ts";
import { findObject } from "../../src/kernel/object.ts";
import { Links } from "../../src/link/links.ts";
import { build, copySources, SOURCES } from "./build.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const object = findObject();
const namespaces = new Namespaces("isat-t-bpf-load-");

/** A copy of bpf/ in which `edit` changes the files' text; returns its folder. */
const copyOfSources = (edit: (text: string, name: string) => string): string => copySources(namespaces.folder(), edit);

// ---- the layout

test("src/core/abi.generated.ts is what the object's BTF says", () => {
  assert.is(difference(object), undefined);
});

test("an object built from an untouched copy has that layout too, so that the next tests show their edits alone", () => {
  assert.is(difference(build(copyOfSources((text) => text))), undefined);
});

const edits: [what: string, from: RegExp, to: string, says: RegExp][] = [
  [
    "two fields that changed places",
    /(\t__u64 fence_ns;[^\n]*\n)(\t__u64 gone_ns;[^\n]*\n)/,
    "$2$1",
    /is " {2}fence_ns: u64,".* " {2}gone_ns: u64,"/,
  ],
  ["a field that grew", /__u32 netns;/, "__u64 netns;", /" {2}netns: u32,".*" {2}netns: u64,"/],
  [
    "a field that grew within the struct's padding",
    /_Bool only_ipv4;(?= *\/\* it cannot)/,
    "__u16 only_ipv4;",
    /" {2}only_ipv4: bool,".*" {2}only_ipv4: u16,"/,
  ],
  ["a text that shrank", /char interface\[16\];/g, "char interface[15];", /interface: text\(16\).*text\(15\)/],
  ["bytes where there was text", /char interface\[16\];/g, "__u8 interface[16];", /text\(16\).*bytes\(16\)/],
  ["a field of another name", /\bfence_ns\b/g, "limit_ns", /" {2}fence_ns: u64,".*" {2}limit_ns: u64,"/],
  ["a field more", /\t__u64 last_answer_ns;/, "$&\n\t__u64 first_answer_ns;", /says " {2}first_answer_ns: u64,"/],
  [
    "a field less",
    /(?<=struct probe \{\n\tchar node\[32\];\n)\tchar mac_text\[18\];\n/,
    "",
    /is " {2}mac_text: text\(18\),"/,
  ],
  ["an enum value of another name", /\bVIP_OWNED\b/g, "VIP_OURS", /" {2}OWNED: 1,".*" {2}OURS: 1,"/],
  ["an enum value of another number", /\bVIP_OWNED = 1\b/, "VIP_OWNED = 2", /" {2}OWNED: 1,".*" {2}OWNED: 2,"/],
  ["an enum value more", /\tVIP_OWNED = 1,/, "$&\n\tVIP_LENT = 9,", /says " {2}LENT: 9,"/],
  [
    "a number where there was an enum",
    /enum node_state state;(?=\n\t__u8 mac)/,
    "__u32 state;",
    /enumOf\("node_state"\).*" {2}state: u32,"/,
  ],
  [
    "a key in another order",
    /(\t__u8 ip\[4\];\n)(\t__u32 ifindex;\n)/,
    "$2$1",
    /" {2}ip: bytes\(4\),".*" {2}ifindex: u32,"/,
  ],
  ["a type of frame more", /\tWIRE_NOTICE = 5,/, "$&\n\tWIRE_ALARM = 6,", /says " {2}WIRE_ALARM: 6,"/],
  ["a claim's verdict of another number", /\bCLAIM_RELEASED = 2\b/, "CLAIM_RELEASED = 4", /" {2}RELEASED: 4,"/],
  [
    "two fields of a frame that changed places",
    /(\t__u64 nonce; .*\n)(\t__u64 stamp; .*\n)/,
    "$2$1",
    /" {2}nonce: u64,".*" {2}stamp: u64,"/,
  ],
  [
    "two fields of a claim that changed places",
    /(\t__u8 ip\[4\];\n)(\tenum claim_verdict verdict;\n)/,
    "$2$1",
    /" {2}ip: bytes\(4\),".*" {2}verdict: enumOf/,
  ],
  ["another number of the layout", /ISAT_LAYOUT = 6/, "ISAT_LAYOUT = 7", /LAYOUT = 6;".*LAYOUT = 7;"/],
  ["another time", /FRESH_MS = 5000/, "FRESH_MS = 6000", /FRESH_MS = 5000;".*FRESH_MS = 6000;"/],
  ["a map of another size", /ISAT_MAX_VIPS, /, "1024, ", /vips: .* 65536,.*vips: .* 1024,/],
  ["a map of another name", /\bprobes(?=, HASH|, &?key)/g, "questions", /probes: \{.*questions: \{/],
  ["a map with the value of another", /peer_key, struct probe/, "peer_key, struct peer", /probe/],
  ["a counter more", /\tX\(TAGGED, tagged\) .*\n/, "$&\tX(LOST, lost) \\\n", /says " {2}lost: u64,"/],
];
for (const [what, from, to, says] of edits) {
  test(`the check finds ${what}`, () => {
    const before = copyOfSources((text) => text);
    const folder = copyOfSources((text) => text.replace(from, to));
    const texts = [before, folder].map((copy) => SOURCES.map((name) => readFileSync(join(copy, name), "utf8")).join());
    assert.is.not(texts[0], texts[1], `the edit finds nothing to change in bpf/: ${from}`);
    assert.match(difference(build(folder)) ?? "no difference", says);
  });
}

const refusals: [what: string, from: RegExp, to: string, says: RegExp][] = [
  ["an enum of another name", /\benum vip_state\b/g, "enum entry_state", /Cannot find enum vip_state/],
  [
    "a field without a codec",
    /(?<=ifindex;\n)\t__u32 zero;\n}/,
    "\t__u16 zero[2];\n}",
    /Cannot express peer_key\.zero in TypeScript/,
  ],
  ["a field at a place of its own", /\t__u8 ip\[4\];\n/, "$&\t__u32 : 32;\n", /Cannot place vip_key\.ifindex at 8/],
];
for (const [what, from, to, says] of refusals) {
  test(`the generator refuses ${what}, which a layout cannot express`, () => {
    const object = build(
      copyOfSources((text, name) => (name === "abi.h" || from.global ? text.replace(from, to) : text)),
    );
    assert.throws(() => difference(object), says);
  });
}

/** They count some of the frames, or VIPs, that another verdict has counted: the text of the page names them. */
const IN_THE_TEXT: readonly string[] = ["answered_other_source", "released"];

test("docs/verdicts.md has a row for each counter", () => {
  const docs = readFileSync(join(ROOT, "docs/verdicts.md"), "utf8");
  const rows = new Set([...docs.matchAll(/^\|.*\| `(\w+)` \|$/gm)].map(([, name]) => name));
  assert.equal(
    COUNTERS.filter((name) => (IN_THE_TEXT.includes(name) ? !docs.includes(`\`${name}\``) : !rows.has(name))),
    [],
  );
});

// ---- the kernel's abilities: Linux 5.10

/** Helper functions by their numbers (enum bpf_func_id), with the kernel that brought them. */
const HELPERS: Record<number, [name: string, since: string]> = {
  1: ["bpf_map_lookup_elem", "3.18"],
  2: ["bpf_map_update_elem", "3.18"],
  3: ["bpf_map_delete_elem", "3.18"],
  9: ["bpf_skb_store_bytes", "4.1"],
  19: ["bpf_skb_vlan_pop", "4.3"],
  23: ["bpf_redirect", "4.4"],
  26: ["bpf_skb_load_bytes", "4.5"],
  38: ["bpf_skb_change_tail", "4.9"],
  39: ["bpf_skb_pull_data", "4.9"],
  44: ["bpf_xdp_adjust_head", "4.10"],
  65: ["bpf_xdp_adjust_tail", "4.18"],
  93: ["bpf_spin_lock", "5.1"],
  94: ["bpf_spin_unlock", "5.1"],
  118: ["bpf_jiffies64", "5.6"],
  125: ["bpf_ktime_get_boot_ns", "5.8"],
};
/** Map types by their numbers (enum bpf_map_type). */
const MAP_TYPES: Record<number, [name: string, since: string]> = {
  1: ["BPF_MAP_TYPE_HASH", "3.19"],
  2: ["BPF_MAP_TYPE_ARRAY", "3.19"],
  6: ["BPF_MAP_TYPE_PERCPU_ARRAY", "4.6"],
};
const OLDEST = "5.10";

const isWithin = (version: string): boolean => {
  const [major, minor] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = OLDEST.split(".").map(Number);
  return major! < oldestMajor! || (major === oldestMajor && minor! <= oldestMinor!);
};

const instructions = execFileSync("llvm-objdump", ["-d", object], { encoding: "utf8", maxBuffer: 2 ** 26 });
const found = (pattern: RegExp) => [...new Set([...instructions.matchAll(pattern)].map(([, what]) => what!))];

test("the object calls the helper functions of this list, all of them in Linux 5.10", () => {
  const called = found(/\b85 00 00 00 .*\bcall (\d+)/g) // 85 10: a function of our own
    .map(Number)
    .sort((a, b) => a - b);
  assert.equal(called, Object.keys(HELPERS).map(Number));
  for (const [name, since] of Object.values(HELPERS)) assert.ok(isWithin(since), `${name} came with Linux ${since}`);
});

test("the object's maps are of the types of this list, all of them in Linux 5.10", () => {
  const { types } = JSON.parse(execFileSync("bpftool", ["-j", "btf", "dump", "file", object], { encoding: "utf8" }));
  const byId = new Map<
    number,
    { kind: string; type_id: number; nr_elems: number; members: { name: string; type_id: number }[] }
  >(types.map((type: { id: number }) => [type.id, type]));
  // __uint(type, N) is a pointer to an array of N elements
  const used = [...byId.values()]
    .filter(({ kind }) => kind === "VAR")
    .flatMap(({ type_id }) => byId.get(type_id)?.members?.find(({ name }) => name === "type") ?? [])
    .map(({ type_id }) => byId.get(byId.get(type_id)!.type_id)!.nr_elems);
  assert.is(used.length, Object.keys(maps).length);
  assert.equal([...new Set(used)].sort(), Object.keys(MAP_TYPES).map(Number));
  for (const [name, since] of Object.values(MAP_TYPES)) assert.ok(isWithin(since), `${name} came with Linux ${since}`);
});

test("the object has no instruction younger than Linux 5.10: no atomic but addition (5.12), no long jump (6.6)", () => {
  assert.equal(found(/\b(atomic_\w+|xchg\w*|cmpxchg\w*|gotol|may_goto|s[/%]=|bswap\d+)/g), []);
  const locked = found(/\block \*\((u\d+) \*\)\(r\d \+ \d+\) \+= r\d/g);
  assert.equal(locked, ["u64"]);
});

test("the object has no global data, which would be a map more", () => {
  const sections = execFileSync("llvm-objdump", ["-h", object], { encoding: "utf8" });
  assert.not.match(sections, /\.(rodata|data|bss)\b/);
});

// ---- the loader's capabilities

const CAP = { NET_ADMIN: 12, NET_RAW: 13, PERFMON: 38, BPF: 39 } as const;
const NOBODY = 65_532;

/** Runs restricted.ts in a namespace with one Ethernet device; returns what it says. */
function loadAsNobody(name: string, capabilities: readonly number[], file: string): string {
  namespaces.add(name);
  namespaces.link({ namespace: name, name: "eth0" }, { namespace: name, name: "eth1" });
  const ifindex = inNamespace(namespaces.full(name), () => {
    using links = new Links();
    return links.read().find(({ name }) => name === "eth0")!.ifindex;
  });
  const folder = namespaces.bpffs();
  chmodSync(dirname(folder), 0o755);
  chownSync(folder, NOBODY, NOBODY);
  // Where the checkout is, that uid may have no business.
  const objects = namespaces.folder();
  chmodSync(objects, 0o755);
  copyFileSync(file, join(objects, "isat.bpf.o"));
  chmodSync(join(objects, "isat.bpf.o"), 0o644);
  const script = join(ROOT, "test/bpf/restricted.ts");
  const args = [capabilities.join(","), join(objects, "isat.bpf.o"), folder, String(ifindex)];
  return execFileSync(
    "nsenter",
    [
      `--net=/run/netns/${namespaces.full(name)}`,
      process.execPath,
      "--no-warnings",
      "--import",
      join(ROOT, "scripts/ts.mjs"),
      script,
      ...args,
    ],
    { encoding: "utf8", timeout: 30_000, cwd: ROOT },
  ).trim();
}

const THREE = [CAP.NET_ADMIN, CAP.NET_RAW, CAP.BPF];

test("uid 65532 with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW loads the object and attaches it at every hook", () => {
  assert.is(loadAsNobody("three", THREE, object), "loaded and attached");
});

/** A program that only CAP_PERFMON may load. */
const printing = () =>
  build(
    copyOfSources((text) =>
      text.replace(/\tstruct result result = decide_tagged\(ctx, type\);/, '$&\n\tbpf_printk("isat");'),
    ),
  );

test("the same uid with the same three is refused a program that prints, which shows that CAP_PERFMON is missing", () => {
  const said = loadAsNobody("printing", THREE, printing());
  assert.match(said, /^Cannot load .*: the verifier rejects isat_(ingress|xdp): .*bpf_trace_printk.*Grant CAP_PERFMON/);
  assert.not.match(said, /\n/);
});

test("with CAP_PERFMON it may print", () => {
  assert.is(loadAsNobody("perfmon", [...THREE, CAP.PERFMON], printing()), "loaded and attached");
});

for (const [missing, bit] of Object.entries({ CAP_BPF: CAP.BPF, CAP_NET_ADMIN: CAP.NET_ADMIN })) {
  test(`without ${missing} the object is refused in one line that names what is needed`, () => {
    const said = loadAsNobody(
      missing.toLowerCase().replaceAll("_", ""),
      THREE.filter((one) => one !== bit),
      object,
    );
    assert.match(said, /^Cannot load .*: EPERM\. isat needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW$/);
  });
}

test("without CAP_NET_RAW it is loaded, and the packet socket names what is needed", () => {
  const said = loadAsNobody("nonetraw", [CAP.NET_ADMIN, CAP.BPF], object);
  assert.match(said, /^Cannot open a packet socket: EPERM\. .*CAP_NET_RAW$/);
});

test.after(() => namespaces[Symbol.dispose]());
test.run();
