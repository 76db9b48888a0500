import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Finding, formatFindings, type InterfaceFacts, judge, type MachineFacts } from "../../src/doctor/judge.ts";

const nic: InterfaceFacts = {
  name: "eth0",
  driver: "mlx5_core",
  hasNativeXdp: true,
  stripsVlanTags: false,
  bondMode: undefined,
  otherPrograms: [],
  inFront: [],
  sysctls: { arp_ignore: 0, arp_announce: 0, proxy_arp: 0 },
  owned: 10,
  groups: 0,
};

const machine: MachineFacts = {
  release: "6.12.4-amd64",
  hasTcx: true,
  hasBtf: true,
  jit: 1,
  capabilities: undefined,
  bpffs: undefined,
  libbpf: "v1.1",
  ffi: "koffi",
  runtime: "Node 24.0.0",
  hook: "auto",
  garp: { refresh: 95_000, rate: 1000, form: "request" },
  membership: { kind: "wire", keys: ["/etc/isat/wire.key"], interval: 100, dead: 3 },
  keys: undefined,
  heard: ["n2", "n3"],
  plan: undefined,
  warnings: [],
  interfaces: [nic],
};

const rows: [what: string, facts: Partial<MachineFacts>, level: Finding["level"], found: RegExp, advice?: RegExp][] = [
  ["Linux 5.10 is new enough", { release: "5.10.0-30", hasTcx: false }, "ok", /Linux 5\.10.*auto means clsact/],
  ["Linux 5.9 is too old", { release: "5.9.16" }, "error", /Linux 5\.9/, /5\.10 or newer/],
  ["versions are compared as numbers: 5.4 is older than 5.10", { release: "5.4.0" }, "error", /5\.4/, /5\.10/],
  ["missing capabilities are named", { capabilities: "CAP_BPF" }, "error", /CAP_BPF/, /as root/],
  ["a kernel without BTF is a warning only", { hasBtf: false }, "warning", /no BTF/, /works without/],
  ["programs that are not compiled are slow", { jit: 0 }, "warning", /interpreted/, /bpf_jit_enable=1/],
  ["a JIT that the kernel hides counts as on", { jit: undefined }, "ok", /compiled/],
  ["libbpf before 1.0 is too old", { libbpf: "v0.8" }, "error", /v0\.8/, /libbpf1/],
  ["a missing bpffs comes with the mount command", { bpffs: "none" }, "error", /none/, /mount -t bpf/],
  ["a configuration that isat run would refuse", { plan: "Cannot announce on eth9" }, "error", /eth9/, /refuse/],
  ["a VIP outside of every subnet", { warnings: ["10.8.0.1 lies outside"] }, "warning", /outside/, /route/],
  ["the time after which a peer is dead", {}, "ok", /after 3 missed probes, at most 350 ms/],
  ["static membership", { membership: { kind: "static" } }, "ok", /a dead one keeps its VIPs/],
  ["the key that signs", {}, "ok", /wire\.key signs, 1 verify/],
  [
    "frames without a signature can be forged",
    { membership: { kind: "wire", keys: "none", interval: 100, dead: 3 } },
    "warning",
    /not signed/,
    /urandom/,
  ],
  ["a key that cannot be used", { keys: "there is no such file" }, "error", /no such file/, /refuse/],
  ["peers that answer are listed", {}, "ok", /n2, n3 answered/],
  ["no peer answers: something drops the frames", { heard: [] }, "warning", /none has answered/, /0x88b5/],
  ["a rate that some switches police is mentioned", {}, "ok", /up to 1000\/s.*guarded/],
  [
    "a guarded rate is below that",
    { garp: { refresh: 95_000, rate: 5, form: "request" } },
    "ok",
    /below what switches police/,
  ],
  [
    "a refresh below the 60 s of active-ack",
    { garp: { refresh: 30_000, rate: 5, form: "request" } },
    "warning",
    /every 30\.0 s/,
    /active-ack/,
  ],
  [
    "a refresh above a third of the FDB ageing time",
    { garp: { refresh: 200_000, rate: 5, form: "request" } },
    "warning",
    /3 min 20 s/,
    /300 s/,
  ],
];

const nicRows: [
  what: string,
  facts: Partial<InterfaceFacts>,
  on: Partial<MachineFacts>,
  ...rest: [Finding["level"], RegExp, RegExp?],
][] = [
  ["generic XDP, when asked for", { hasNativeXdp: false }, { hook: "xdp" }, "warning", /generic/, /tcx/],
  ["generic XDP does not matter to tcx", { hasNativeXdp: false }, {}, "ok", /generic/],
  ["stripped tags and XDP", { stripsVlanTags: true }, { hook: "xdp" }, "warning", /strips VLAN tags/, /turns that off/],
  ["balance-alb rewrites ARP", { bondMode: "adaptive load balancing 6" }, {}, "error", /rewrites/, /active-backup/],
  [
    "balance-tlb sends from several MACs",
    { bondMode: "transmit load balancing 5" },
    {},
    "warning",
    /several MACs/,
    /802\.3ad/,
  ],
  ["active-backup is fine", { bondMode: "fault-tolerance (active-backup) 1" }, {}, "ok", /active-backup/],
  [
    "a program in front",
    { otherPrograms: ["tcx ingress: program id 7 (x)"], inFront: ["program id 7 (x) at tcx"] },
    {},
    "error",
    /id 7 \(x\) at tcx runs before isat/,
    /attach it after isat/,
  ],
  ["another program", { otherPrograms: ["tcx ingress: program id 7 (x)"] }, {}, "warning", /id 7 \(x\)/, /passes ARP/],
  [
    "proxy_arp",
    { sysctls: { arp_ignore: 0, arp_announce: 0, proxy_arp: 1 } },
    {},
    "warning",
    /proxy_arp is on/,
    /proxy_arp=0/,
  ],
  ["few groups", { groups: 1_000 }, {}, "ok", /^1000 multicast groups for VIPs of IPv6/],
  ["many groups", { groups: 1_001 }, {}, "warning", /^1001 multicast groups/, /4096, beyond which it stops snooping/],
  [
    "200 VIPs at 5/s: a move takes 40 s",
    { owned: 200 },
    { garp: { refresh: 95_000, rate: 5, form: "request" } },
    "warning",
    /200 VIPs at 5\/s: a move takes 40\.0 s to announce/,
    /rate/,
  ],
  [
    "refreshes that cannot keep up",
    { owned: 1000 },
    { garp: { refresh: 95_000, rate: 5, form: "request" } },
    "error",
    /longer than the refresh/,
    /rate/,
  ],
];

function expectFinding(facts: MachineFacts, level: Finding["level"], found: RegExp, advice: RegExp | undefined): void {
  const findings = judge(facts);
  const match = findings.find((finding) => finding.level === level && found.test(finding.found));
  assert.ok(match, `no ${level} that says ${found}:\n${formatFindings(findings)}`);
  if (advice) assert.match(match.advice ?? "", advice);
  else assert.is(match.advice, undefined);
}

for (const [what, facts, level, found, advice] of rows) {
  test(what, () => expectFinding({ ...machine, ...facts }, level, found, advice));
}
for (const [what, facts, on, level, found, advice] of nicRows) {
  test(what, () => expectFinding({ ...machine, ...on, interfaces: [{ ...nic, ...facts }] }, level, found, advice));
}

test("a machine without problems has no warning and no error", () => {
  assert.equal(
    judge(machine).filter(({ level }) => level !== "ok"),
    [],
  );
});

test("the advice is below the finding", () => {
  const text = formatFindings([{ what: "bpffs", level: "error", found: "none", advice: "mount it" }]);
  assert.is(text, "error    bpffs  none\n                -> mount it");
});

test.run();
