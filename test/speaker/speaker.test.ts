// limit: 240 s
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, must, until } from "../../lab/kernel/process.ts";
import { isAnnouncement, measured, NODE_IP, NODE_MAC, pinnedId, Rig, VIP } from "../../lab/kernel/rig.ts";
import { askStatus } from "../../src/control/socket.ts";
import { LAYOUT } from "../../src/core/abi.ts";
import { formatMac } from "../../src/core/arp.ts";
import { bootTime } from "../../src/ffi/libc.ts";

const test = suite("a speaker");
const rig = new Rig("isat-t-spk-run-");
const METRICS = "127.0.0.1:19121";

test.before(() => {
  rig.namespaces.ip("client", ["addr add 10.9.255.100/16 dev c0"]);
});
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

interface Heard {
  at: number;
  vip: string;
  frame: string;
}

/** Collects the announcements that the client hears, while `body` runs. */
async function listening(body: (heard: Heard[]) => Promise<void>): Promise<void> {
  const heard: Heard[] = [];
  const timer = setInterval(() => {
    for (const arp of rig.heard()) {
      const vip = arp.spa.join(".");
      if (!isAnnouncement(arp, vip)) continue;
      const frame = `${formatMac(arp.source)} > ${formatMac(arp.destination)} sha ${formatMac(arp.sha)} tha ${formatMac(arp.tha)}`;
      heard.push({ at: performance.now(), vip, frame });
    }
  }, 2);
  try {
    await body(heard);
  } finally {
    clearInterval(timer);
  }
}

const FRAME = `${NODE_MAC} > ff:ff:ff:ff:ff:ff sha ${NODE_MAC} tha 00:00:00:00:00:00`;
const owned = (...addresses: string[]) => addresses.map((address) => `{ address: ${address}, nodes: [n1] }`);
const others = (...addresses: string[]) => addresses.map((address) => `{ address: ${address}, nodes: [n2] }`);

async function status(...args: string[]) {
  const { status, stdout, stderr } = await rig.isat(["status", "--config", rig.config, "--json", ...args]);
  assert.is(status, 0, stderr);
  return JSON.parse(stdout);
}

async function metrics(): Promise<string> {
  return rig.must("node", "curl", "--silent", "--show-error", "--max-time", "5", `http://${METRICS}/metrics`);
}

test("a VIP gained is announced three times, at about 0, 1.1 and 3.1 s, by the NIC that owns it; one owned already is not", async () => {
  const speaker = await rig.serve({ vips: [...owned("10.9.0.1"), ...others("10.9.0.2")] });
  await listening(async (heard) => {
    await until("the first burst", () => heard.length === 3, 8000);
    const from = speaker.log.length;
    const began = performance.now();
    rig.configure({ vips: [...owned("10.9.0.1", "10.9.0.2", "10.9.0.3")] });
    await until(
      "the VIP is answered",
      async () => rig.maps(({ vips }) => [...vips.entries()].filter(([, { state }]) => state === 1).length === 3),
      2000,
    );
    measured("a configuration renamed into place, in the kernel's map", `${Math.round(performance.now() - began)} ms`);
    await until("the second burst", () => heard.length >= 9, 8000);
    await speaker.says(/configuration applied/, { from });
    for (const vip of ["10.9.0.1", "10.9.0.2", "10.9.0.3"]) {
      const its = heard.filter((each) => each.vip === vip);
      assert.is(its.length, 3, vip);
      const [a, b, c] = its.map(({ at }) => at - its[0]!.at);
      if (vip === "10.9.0.2") measured("announced at", `0, ${Math.round(b!)} and ${Math.round(c!)} ms`);
      assert.is(a, 0);
      assert.ok(Math.abs(b! - 1100) < 1000 && Math.abs(c! - 3100) < 2000, `announced at 0, ${b} and ${c} ms`);
    }
    assert.equal([...new Set(heard.map(({ frame }) => frame))], [FRAME]);
  });
});

test("a reload touches only what changed: other VIPs' counters go on, links and programs stay", async () => {
  await rig.serve({ vips: owned("10.9.0.1", "10.9.0.2") });
  for (let i = 0; i < 5; i++) await rig.answersWith(NODE_MAC, "10.9.0.1");
  await rig.answersWith(NODE_MAC, "10.9.0.2");
  const [answered, attached] = [rig.answered("10.9.0.1"), await rig.attached()];
  const links = () =>
    Promise.all(
      ["tcx_ingress", "tcx_egress"].map((name) =>
        pinnedId("link", join(rig.pinDir, `v${LAYOUT}/links/${name}_${rig.ifindex("eth0")}`)),
      ),
    );
  const before = await links();

  rig.configure({ vips: [...owned("10.9.0.1", "10.9.0.3"), ...others("10.9.0.2")] });
  await rig.answersWith(NODE_MAC, "10.9.0.3");
  assert.is(rig.answered("10.9.0.1"), answered);
  await rig.answersWith(NODE_MAC, "10.9.0.1");
  assert.is(rig.answered("10.9.0.1"), answered + 1);
  await becomes(() => rig.attached(), attached);
  assert.equal(await links(), before);
});

test("a VIP that is lost is silent at once, also where the node's kernel has it on lo", async () => {
  rig.namespaces.ip("node", ["addr add 10.9.0.1/32 dev lo", "addr add 10.9.0.2/32 dev lo"]);
  try {
    await rig.serve({ vips: owned("10.9.0.1", "10.9.0.2") });
    await rig.answersWith(NODE_MAC, "10.9.0.1");
    rig.configure({ vips: [...others("10.9.0.1"), ...owned("10.9.0.2")] });
    await until("not owned", () => rig.maps(({ vips }) => [...vips.entries()].some(([, { state }]) => state === 0)));
    const before = rig.verdicts().not_owned;
    assert.equal(await rig.answers("10.9.0.1"), []);
    assert.is(rig.verdicts().not_owned, before + 1n, "the request came, and was dropped");
    await rig.answersWith(NODE_MAC, "10.9.0.2");
    // Nor does what the kernel itself says claim it: this request comes from 10.9.0.1.
    rig.heard();
    await rig.execute("node", "ping", ["-c", "1", "-W", "1", "-I", "10.9.0.1", "10.9.255.77"]);
    const claims = rig.heard().filter((arp) => arp.spa.join(".") === "10.9.0.1");
    assert.is(claims.length, 0);
    assert.ok(rig.verdicts().egress_rewritten > 0n);
    // It asks under the address of the target's subnet: some hosts ignore a question from another one.
    rig.namespaces.ip("node", ["addr add 172.16.0.1/24 dev eth0"]);
    await until("the kernel knows it", () =>
      rig.maps(({ interfaces }) => interfaces.get(rig.ifindex("eth0"))!.own.join(".").startsWith("172.16.0.1.")),
    );
    rig.heard();
    await rig.execute("node", "ping", ["-c", "1", "-W", "1", "-I", "10.9.0.1", "172.16.0.77"]);
    const asked = rig.heard().filter((arp) => arp.tpa.join(".") === "172.16.0.77");
    assert.equal([...new Set(asked.map(({ spa }) => spa.join(".")))], ["172.16.0.1"]);
  } finally {
    await rig.execute("node", "ip", ["addr", "del", "172.16.0.1/24", "dev", "eth0"]);
    rig.namespaces.ip("node", ["addr del 10.9.0.1/32 dev lo", "addr del 10.9.0.2/32 dev lo"]);
  }
});

test("a lost VIP is not announced any more", async () => {
  await rig.serve({ vips: owned("10.9.0.1", "10.9.0.2") });
  await listening(async (heard) => {
    rig.configure({ vips: [...others("10.9.0.1"), ...owned("10.9.0.2")] });
    await until("the other one's burst", () => heard.filter(({ vip }) => vip === "10.9.0.2").length === 3, 8000);
    assert.ok(heard.filter(({ vip }) => vip === "10.9.0.1").length <= 1);
  });
});

const broken: [name: string, change: () => void, said: RegExp][] = [
  ["no YAML", () => rig.configure({ more: "garp: [" }), /no valid YAML/],
  ["an unknown key", () => rig.configure({ more: "hooks: tc" }), /unknown key, did you mean "hook"/],
  [
    "no such interface",
    () => rig.configure({ interfaces: "[eth7]" }),
    /Cannot announce on eth7 as there is no such interface/,
  ],
  [
    "an address that is the node's own",
    () => rig.configure({ vips: owned(NODE_IP) }),
    /Cannot announce 10.9.255.1 as it is this node's own/,
  ],
];
for (const [name, change, said] of broken) {
  test(`${name}, at a reload: the old state stays, and it shows in log, status and metrics until it is repaired`, async () => {
    const speaker = await rig.serve({ more: `metrics: { listen: "${METRICS}" }` });
    await rig.answersWith();
    assert.match(await metrics(), /^isat_config_refused 0$/m);
    let from = speaker.log.length;
    const before = rig.maps(({ vips, interfaces }) => [
      [...vips.entries()].join(),
      interfaces.get(rig.ifindex("eth0"))!.name,
    ]);
    change();
    const line = await speaker.says(/configuration refused, the old one is served/, { from });
    assert.is(line.level, "error");
    assert.match(line.msg, said);
    await rig.answersWith();
    assert.equal(
      rig.maps(({ vips, interfaces }) => [[...vips.entries()].join(), interfaces.get(rig.ifindex("eth0"))!.name]),
      before,
    );
    // (The broken file itself no longer tells where the speaker is: its runDir does.)
    const shown = await rig.isat(["status", "--run-dir", rig.runDir]);
    assert.is(shown.status, 0, shown.stderr);
    assert.match(shown.stdout, /CONFIG REFUSED, the old one is served/);
    assert.match(shown.stdout, said);
    const json = JSON.parse((await rig.isat(["status", "--run-dir", rig.runDir, "--json"])).stdout);
    assert.match(json.configError, said);
    assert.match(await metrics(), /^isat_config_refused 1$/m);

    from = speaker.log.length;
    rig.configure({ more: `metrics: { listen: "${METRICS}" }`, vips: owned(VIP, "10.9.0.2") });
    await speaker.says(/configuration applied/, { from });
    assert.is((await status()).configError, undefined);
    assert.match(await metrics(), /^isat_config_refused 0$/m);
    await rig.answersWith(NODE_MAC, "10.9.0.2");
  });
}

/** Another program's objects, which are pinned once. */
let programs: Promise<string> | undefined;

/** A second interface of the node, at which another program has isat's place. */
async function takeHookOfEth1(): Promise<void> {
  rig.wire("eth1", "c1", "02:00:00:00:00:11", "02:00:00:00:01:64");
  programs ??= rig.othersPrograms();
  await rig.must("node", "tc", "qdisc", "add", "dev", "eth1", "clsact");
  const place = ["dev", "eth1", "ingress", "protocol", "all", "prio", "1", "handle", "0x15a7"];
  await rig.must("node", "tc", "filter", "add", ...place, "bpf", "da", "pinned", join(await programs, "pass_tc"));
}

/** The VIPs and the interfaces as the kernel's maps have them. */
const state = () =>
  rig.maps(({ vips, interfaces }) => ({
    vips: [...vips.entries()].map(([{ ip, ifindex }, { state }]) => `${ip} ${ifindex} ${state}`).sort(),
    interfaces: [...interfaces.entries()].map(([, { name }]) => name),
  }));

test("a reload that fails half-way, as a hook is taken, is refused as a whole", async () => {
  await takeHookOfEth1();
  const speaker = await rig.serve({ hook: "tc", vips: owned("10.9.0.1", "10.9.0.2") });
  const before = state();
  rig.configure({ hook: "tc", interfaces: "[eth0, eth1]", vips: [...others("10.9.0.1"), ...owned("10.9.0.3")] });
  const line = await speaker.says(/configuration refused/);
  assert.match(line.msg, /pass_tc/);
  await until("the old state stands", () => JSON.stringify(state()) === JSON.stringify(before), 3000);
  await rig.answersWith(NODE_MAC, "10.9.0.1");
  await rig.answersWith(NODE_MAC, "10.9.0.2");
  assert.equal(await rig.answers("10.9.0.3"), []);
  await becomes(async () => Object.keys(await rig.attached("eth1")), ["tc ingress"]);
  rig.namespaces.ip("node", ["link del eth1"]);
});

test("a start that fails half-way, as a hook is taken, leaves what an earlier speaker left", async () => {
  await takeHookOfEth1();
  const first = await rig.serve({ hook: "tc", vips: owned("10.9.0.1", "10.9.0.2") });
  await first.end();
  const seen = async () => [state().vips, Object.keys(await rig.attached()).sort()]; // the programs may be newer ones
  const before = await seen();
  rig.configure({ hook: "tc", interfaces: "[eth0, eth1]", vips: owned("10.9.0.1", "10.9.0.2") });
  const second = rig.start();
  assert.is((await second.ended()).code, 1);
  assert.match(second.stderr, /pass_tc/);
  assert.equal(await seen(), before);
  await rig.answersWith(NODE_MAC, "10.9.0.1");
  await becomes(async () => Object.keys(await rig.attached("eth1")), ["tc ingress"]);
  rig.namespaces.ip("node", ["link del eth1"]);
});

test("with static membership nothing can be drained, running or not; a mark of before is said, and taken off", async () => {
  const CANNOT = /Cannot drain with static membership, as no peer would learn of it. Set membership: { kind: wire }/;
  writeFileSync(join(rig.runDir, "drained"), "");
  const speaker = await rig.serve({ hook: "tcx" });
  await speaker.says(
    /^Cannot drain with static membership.*\. Until then this node takes its share, though it was drained$/,
  );
  await rig.answersWith();
  const place = ["--run-dir", rig.runDir];
  const shown = await rig.isat(["status", ...place]);
  assert.not.match(shown.stdout, /DRAINED/);
  assert.is((await rig.isat(["undrain", ...place])).status, 0);
  assert.is(existsSync(join(rig.runDir, "drained")), false);
  for (const isRunning of [true, false]) {
    if (!isRunning) await speaker.end("SIGTERM");
    const refused = await rig.isat(["drain", ...place]);
    assert.is(refused.status, 1);
    assert.match(refused.stderr, CANNOT);
    assert.is(existsSync(join(rig.runDir, "drained")), false);
  }
});

test("keys that take a restart say so, and the rest of the file applies", async () => {
  const speaker = await rig.serve({ hook: "tcx" });
  const from = speaker.log.length;
  rig.configure({ hook: "tc", vips: owned(VIP, "10.9.0.2") });
  await speaker.says(/hook changed in the file: it takes effect when isat is started again/, { from });
  await rig.answersWith(NODE_MAC, "10.9.0.2");
  await becomes(async () => Object.keys(await rig.attached()).sort(), ["tcx egress", "tcx ingress"]);
});

test("a frozen speaker's kernel answers until the fence and not after it, though the VIP is on lo; thawed, it answers again", async () => {
  rig.namespaces.ip("node", [`addr add ${VIP}/32 dev lo`]);
  try {
    const speaker = await rig.serve({ more: "hold: 4s\nfence: 5s" });
    await rig.answersWith();
    process.kill(speaker.pid, "SIGSTOP");
    const frozen = performance.now();
    try {
      const ageNow = async () => (await runningOrPinned()).tickAgeMs;
      await until("the tick is 3 s old", async () => (await ageNow()) > 3000);
      assert.equal(await rig.answers(), [NODE_MAC], "held");
      await until("fenced", async () => (await runningOrPinned()).state === "fenced");
      measured("fence of 5 s, seen after", `${Math.round(performance.now() - frozen)} ms`);
      const before = rig.verdicts().fenced;
      assert.equal(await rig.answers(), []);
      assert.is(rig.verdicts().fenced, before + 1n);
      // The guard too: the kernel's own requests no longer claim it.
      rig.heard();
      await rig.execute("node", "ping", ["-c", "1", "-W", "1", "-I", VIP, "10.9.255.78"]);
      assert.is(rig.heard().filter((arp) => arp.spa.join(".") === VIP).length, 0);
    } finally {
      process.kill(speaker.pid, "SIGCONT");
    }
    await rig.answersWith();
    await until("live", async () => (await status()).interfaces[0].state === "live");
  } finally {
    rig.namespaces.ip("node", [`addr del ${VIP}/32 dev lo`]);
  }
});

/** The interface's state by the kernel's maps: a frozen speaker cannot be asked. */
async function runningOrPinned(): Promise<{ state: string; tickAgeMs: number }> {
  const { tick_ns, fence_ns } = rig.maps(({ interfaces }) => interfaces.get(rig.ifindex("eth0")))!;
  const tickAgeMs = Number(bootTime() - tick_ns) / 1e6;
  return { tickAgeMs, state: tickAgeMs > Number(fence_ns) / 1e6 ? "fenced" : "answering" };
}

for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT", "SIGALRM", "SIGXCPU"] as const) {
  test(`${signal}: the last line says what goes on answering, for how long, and how to remove it; and so it is`, async () => {
    const speaker = await rig.serve({ vips: owned("10.9.0.1", "10.9.0.2"), more: "fence: 10m" });
    assert.is(await speaker.end(signal), 0);
    const last = speaker.log.at(-1)!;
    assert.match(
      last.msg,
      new RegExp(`^stopped by ${signal}: the kernel goes on answering for 2 VIPs, for 10 min at most.`),
    );
    assert.match(last.msg, new RegExp(`isat clean --config ${rig.config}`));
    await rig.answersWith(NODE_MAC, "10.9.0.2");
    assert.is((await rig.isat(["clean", "--config", rig.config])).status, 0);
    await becomes(async () => [await rig.attached(), rig.pins(), await rig.answers()], [{}, [], []]);
    assert.match((await rig.isat(["clean", "--config", rig.config])).stdout, /nothing to do/);
  });
}

for (const hook of ["tcx", "tc"] as const) {
  test(`--clean-on-exit leaves nothing: no pin, no program, no file (${hook})`, async () => {
    const speaker = await rig.serve({ hook }, "--clean-on-exit");
    await rig.answersWith();
    assert.is(await speaker.end(), 0);
    assert.match(speaker.log.at(-1)!.msg, /^stopped by SIGTERM: detached, and everything removed/);
    await becomes(async () => [await rig.attached(), rig.pins(), readdirSync(rig.runDir)], [{}, [], []]);
    assert.not(existsSync(rig.pinDir));
    assert.equal(await rig.answers(), []);
  });
}

test("SIGHUP reads the configuration again, SIGUSR1 opens no inspector, and neither ends the speaker", async () => {
  const speaker = await rig.serve();
  let from = speaker.log.length;
  speaker.child.kill("SIGHUP");
  await speaker.says(/^SIGHUP: the configuration and its keys are read again$/, { from });
  await speaker.says(/^configuration applied$/, { from });
  from = speaker.log.length;
  speaker.child.kill("SIGUSR1"); // which the command line's --disable-sigusr1 blocks
  speaker.child.kill("SIGUSR2");
  await speaker.says(/^SIGUSR2 means nothing to isat$/, { from });
  assert.not.match(speaker.stderr, /Debugger listening/);
  assert.is(await rig.must("node", "ss", "-Hltn"), "");
  await rig.answersWith();
});

test("an error that nobody expected, in a timer or a promise, is said and ends nothing", async () => {
  const wrong =
    'setTimeout(() => { Promise.reject(new Error("in a promise")); throw new Error("in a timer"); }, 1_500)';
  const options = `NODE_OPTIONS=--import=data:text/javascript,${encodeURIComponent(wrong)}`;
  const speaker = rig.launch("node", ["run", "--config", rig.config], ["env", options]);
  await speaker.ready();
  for (const where of ["timer", "promise"])
    await speaker.says(new RegExp(`^isat did not expect this error, and goes on: Error: in a ${where}`));
  const { interfaces } = await status();
  await until("it ticks on", async () => (await status()).interfaces[0].tickAgeMs < 600 && interfaces.length === 1);
  await rig.answersWith();
});

test("a runDir that is full keeps no VIP from being served", async () => {
  const mount = join(rig.folder, "full");
  mkdirSync(mount);
  await must("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", mount);
  try {
    const speaker = await rig.serve({ runDir: join(mount, "run") });
    assert.ok(speaker.log.some(({ level, msg }) => level === "error" && /ENOSPC\. .*served all the same/.test(msg)));
    await rig.answersWith();
    assert.is(await speaker.end(), 0);
  } finally {
    await must("umount", "--lazy", mount);
  }
});

test("status tells of the running speaker, for a person and as JSON", async () => {
  const speaker = await rig.serve({ vips: [...owned("10.9.0.1"), ...others("10.9.0.2")] });
  await rig.answersWith();
  const all = await status();
  assert.is(all.pid, speaker.pid);
  assert.equal(
    all.members,
    ["n1", "n2"].map((node) => ({ isAlive: true, state: "listed", node })),
  );
  const [each] = all.interfaces;
  assert.equal([each.name, each.mac, each.address, each.isUp, each.state], ["eth0", NODE_MAC, NODE_IP, true, "live"]);
  assert.equal([...each.hooks].sort(), ["tcx egress: attached", "tcx ingress: attached"]);
  assert.is(each.verdicts.answered, 1);
  const [one, two] = all.vips;
  assert.equal([one.address, one.owner, one.state, one.mac, one.answers], ["10.9.0.1", "n1", "owned", NODE_MAC, 1]);
  assert.ok(one.lastAnswerMs >= 0 && one.lastAnswerMs < 60_000);
  assert.equal([two.address, two.owner, two.state, two.mac], ["10.9.0.2", "n2", "not owned", undefined]);

  const { stdout } = await rig.isat(["status", "--run-dir", rig.runDir]);
  assert.match(stdout, new RegExp(`^node n1: pid ${speaker.pid}, pins ${rig.pinDir}$`, "m"));
  assert.match(stdout, /^n1 +- +alive +listed +- +- +- +-$/m);
  assert.match(stdout, /^n2 +- +alive +listed +- +- +- +-$/m);
  assert.match(stdout, /^interface eth0: 02:00:00:00:00:01, 10.9.255.1, up, live, tick /m);
  assert.match(stdout, /^ {2}hook tcx ingress: attached$/m);
  assert.match(stdout, /^10\.9\.0\.1 +n1 +owned +eth0 +02:00:00:00:00:01 +1 +\d/m);
  assert.match(stdout, /^10\.9\.0\.2 +n2 +not owned +eth0 +- +- +-$/m);
});

test("status of one VIP tells why this node and not the others", async () => {
  // By the issue: with n1, n2, n3 the owner of 10.9.0.1 is n2; without n2, the next.
  await rig.serve({ nodes: "[n1, n2, n3]", vips: ["{ address: 10.9.0.1 }", "{ address: 10.9.0.2, nodes: [n1, n3] }"] });
  const one = await status("10.9.0.1");
  assert.equal(
    one.vips.map(({ address, owner }: { address: string; owner: string }) => [address, owner]),
    [["10.9.0.1", "n2"]],
  );
  assert.is(one.rankings[0].node, "n2");
  assert.ok(one.rankings[0].isOwner);
  const two = await rig.isat(["status", "--config", rig.config, "10.9.0.2"]);
  assert.match(two.stdout, /^n1 +yes +[0-9a-f]{16}… +owner$/m);
  assert.match(two.stdout, /^n3 .*allowed, but its hash is higher$/m);
  assert.match(two.stdout, /^n2 .*not among the VIP's nodes$/m);
  const none = await rig.isat(["status", "--config", rig.config, "10.9.7.7"]);
  assert.equal([none.status, none.stderr], [1, "isat: 10.9.7.7 is no VIP on this node. See: isat status\n"]);
  const bad = await rig.isat(["status", "--config", rig.config, "vip"]);
  assert.is(bad.status, 1);
  assert.is(bad.stderr.trim().split("\n").length, 1, bad.stderr);
});

test("status of a stopped speaker tells what stands in the kernel; with nothing there it says that", async () => {
  const speaker = await rig.serve({ vips: [...owned("10.9.0.1"), ...others("10.9.0.2")] });
  await rig.answersWith();
  await speaker.end("SIGKILL");
  const { stdout } = await rig.isat(["status", "--config", rig.config]);
  assert.match(stdout, /no speaker runs; this is what stands in the kernel/);
  assert.match(stdout, /^10\.9\.0\.1 +n1 +owned +eth0 +02:00:00:00:00:01 +1 +/m);
  assert.match(stdout, /^10\.9\.0\.2 +another node +not owned/m);
  assert.is((await status()).pid, undefined);
  const byRunDir = await rig.isat(["status", "--run-dir", rig.runDir, "--json"]);
  assert.equal(JSON.parse(byRunDir.stdout).vips.length, 2);
  await rig.clean();
  const gone = await rig.isat(["status", "--config", rig.config]);
  assert.is(gone.status, 1);
  assert.match(gone.stderr, /^isat: no speaker runs on .* and nothing is pinned under .*: nothing is answered\n$/);
});

test("a status of 60,000 VIPs keeps nobody waiting, and a scrape counts them once", async () => {
  await rig.serve({
    vips: [...owned(VIP), "{ address: 10.9.0.2-10.9.234.96, nodes: [n2] }"],
    more: `metrics: { listen: "${METRICS}" }`,
  });
  const began = performance.now();
  let whole: number | undefined;
  const all = askStatus(rig.runDir, undefined).finally(() => (whole = performance.now() - began));
  let longest = 0;
  while (whole === undefined) {
    const asked = performance.now();
    const one = await askStatus(rig.runDir, VIP);
    assert.is(one!.vips.length, 1);
    longest = Math.max(longest, performance.now() - asked);
  }
  const { vips } = (await all)!;
  assert.equal([vips.length, new Set(vips.map(({ address }) => address)).size], [60_000, 60_000]);
  assert.equal([vips[0]!.address, vips[0]!.owner, vips.at(-1)!.owner], ["10.9.0.1", "n1", "n2"]);
  const [its, most] = [whole.toFixed(0), longest.toFixed(0)];
  measured("a status of 60,000 VIPs", `${its} ms, beside which one VIP was waited for ${most} ms at most`);
  assert.ok(longest < whole / 3, `of ${whole} ms, one request waited ${longest} ms`);
  assert.match(await metrics(), /^isat_vips\{state="not_owned"\} 59999$/m);
});

test("metrics tell what status tells", async () => {
  await rig.serve({
    vips: [...owned("10.9.0.1"), ...others("10.9.0.2", "10.9.0.3")],
    more: `metrics: { listen: "${METRICS}" }`,
  });
  await rig.answersWith();
  const text = await metrics();
  for (const line of [
    /^isat_vips\{state="owned"\} 1$/m,
    /^isat_vips\{state="not_owned"\} 2$/m,
    /^isat_interface_up\{interface="eth0"\} 1$/m,
    /^isat_tick_age_seconds\{interface="eth0"\} [0-2](\.\d+)?$/m,
    /^isat_announcements_total\{interface="eth0"\} [123]$/m,
    /^isat_verdicts_total\{interface="eth0",verdict="answered"\} 1$/m,
  ]) {
    assert.match(text, line);
  }
  assert.is((await rig.execute("node", "curl", ["--silent", "--fail", `http://${METRICS}/other`])).status, 22);
});

test("a name in the run file that was cut short is a clear error, or none", async () => {
  await (await rig.serve()).end();
  writeFileSync(join(rig.runDir, "speaker.json"), "{");
  const { status, stderr } = await rig.isat(["status", "--run-dir", rig.runDir]);
  assert.is(status, 1);
  assert.not.match(stderr, /^\s+at /m);
});

test.run();
