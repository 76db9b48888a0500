import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Flood } from "../../lab/kernel/flood.ts";
import { becomes, must, type Process, until } from "../../lab/kernel/process.ts";
import { measured, NODE_MAC, pinnedId, Rig, TC_HANDLE, TC_PRIORITY, VIP } from "../../lab/kernel/rig.ts";
import { inNamespace } from "../../lab/namespaces.ts";
import { interfaceEntry, LAYOUT, MAX_INTERFACES, vip, vipState } from "../../src/core/abi.ts";
import { bootTime, libc } from "../../src/ffi/libc.ts";
import { Fd, libbpf } from "../../src/kernel/libbpf.ts";
import { stripsVlanTags } from "../../src/link/ethtool.ts";

const test = suite("hooks");
const rig = new Rig("isat-t-kern-hooks-");
let programs = "";
let passTc = 0;
let passXdp = 0;
/** Steps that undo a test's changes. They run after each test, failed or not. */
const undo: (() => Promise<unknown>)[] = [];

test.before(async () => {
  programs = await rig.othersPrograms();
  passTc = await pinnedId("prog", join(programs, "pass_tc"));
  passXdp = await pinnedId("prog", join(programs, "pass_xdp"));
  await Flood.prepare(rig, programs);
});
test.after(() => rig[Symbol.dispose]());
test.after.each(async () => {
  await rig.reset();
  for (const step of undo.splice(0).reverse()) await step();
});

const filter = (verb: string, direction: string, ...rest: string[]) =>
  rig.must("node", "tc", "filter", verb, "dev", "eth0", direction, ...rest);

/** Adds a filter of another program to eth0. */
async function foreignFilter(direction: "ingress" | "egress", priority: number, handle: string): Promise<void> {
  await rig.execute("node", "tc", ["qdisc", "add", "dev", "eth0", "clsact"]); // fails if isat has left one
  const place = ["protocol", "all", "prio", `${priority}`, "handle", handle];
  await filter("add", direction, ...place, "bpf", "da", "pinned", join(programs, "pass_tc"));
  undo.push(() => rig.execute("node", "tc", ["filter", "del", "dev", "eth0", direction, "prio", `${priority}`]));
}

async function xdp(namespace: "node" | "client", device: string): Promise<void> {
  await rig.must(namespace, "ip", "link", "set", "dev", device, "xdpdrv", "pinned", join(programs, "pass_xdp"));
  undo.push(() => rig.execute(namespace, "ip", ["link", "set", "dev", device, "xdpdrv", "off"]));
}

/** Starts isat, which must fail. @returns its error */
async function startError(hook: string): Promise<string> {
  rig.configure({ hook });
  const speaker = rig.start();
  assert.is((await speaker.ended()).code, 1);
  assert.not.match(speaker.stderr, /^\s+at /m);
  return speaker.stderr.split("\n").find((line) => line.startsWith("isat: ")) ?? "";
}

test("auto is tcx on this kernel, both ways", async () => {
  const speaker = await rig.serve({ hook: "auto" });
  await becomes(async () => Object.keys(await rig.attached()).sort(), ["tcx egress", "tcx ingress"]);
  assert.is(speaker.said(/^interface eth0/)!.hook, "tcx");
  await rig.answersWith();
});

test("tc uses handle 0x15a7 of priority 1; others' filters survive start, restart and clean", async () => {
  for (const direction of ["ingress", "egress"] as const) {
    await foreignFilter(direction, 10, "0x1");
    // isat's priority, but another handle.
    await foreignFilter(direction, TC_PRIORITY, "0x7");
  }
  const others = await rig.attached();
  assert.equal(others, { "tc ingress of others": [passTc, passTc], "tc egress of others": [passTc, passTc] });

  const speaker = await rig.serve({ hook: "tc" });
  const first = await rig.attached();
  assert.equal([first["tc ingress"]?.length, first["tc egress"]?.length], [1, 1]);
  assert.equal({ ...first, ...others }, first);
  await rig.answersWith();
  await speaker.end();

  const next = await rig.serve();
  const second = await rig.attached();
  assert.equal({ ...second, ...others }, second);
  assert.equal([second["tc ingress"]?.length, second["tc egress"]?.length], [1, 1]);
  assert.is.not(second["tc ingress"]![0], first["tc ingress"]![0], "a restart swaps the program");
  await next.end();

  await rig.clean();
  await becomes(() => rig.attached(), others);
});

for (const direction of ["ingress", "egress"] as const) {
  test(`tc: another program with isat's handle and priority at ${direction} is named, and nothing is attached`, async () => {
    await foreignFilter(direction, TC_PRIORITY, TC_HANDLE);
    const said = await startError("tc");
    assert.match(said, new RegExp(`program id ${passTc} \\(pass_tc\\).*handle 0x15a7, priority 1.*Remove that filter`));
    await becomes(() => rig.attached(), { [`tc ${direction}`]: [passTc] });
    assert.equal(rig.pins(), []);
    // It is not isat's own, so clean leaves it there too.
    await rig.clean();
    await becomes(() => rig.attached(), { [`tc ${direction}`]: [passTc] });
  });
}

test("tc: a filter of another protocol at isat's priority is told from a missing feature, and the interface is named", async () => {
  await rig.execute("node", "tc", ["qdisc", "add", "dev", "eth0", "clsact"]);
  const other = ["protocol", "ip", "prio", "1", "handle", "0x7", "bpf", "da", "pinned", join(programs, "pass_tc")];
  await filter("add", "ingress", ...other);
  undo.push(() => rig.execute("node", "tc", ["qdisc", "del", "dev", "eth0", "clsact"]));
  assert.match(
    await startError("tc"),
    /to eth0 at clsact ingress: another kind of filter.*tc filter show dev eth0 ingress/,
  );
});

test("tc: a qdisc ingress, which has clsact's place and no egress, is named, and stays", async () => {
  await rig.execute("node", "tc", ["qdisc", "del", "dev", "eth0", "clsact"]);
  await rig.must("node", "tc", "qdisc", "add", "dev", "eth0", "ingress");
  undo.push(() => rig.execute("node", "tc", ["qdisc", "del", "dev", "eth0", "ingress"]));
  assert.match(await startError("tc"), /to eth0 at clsact as a qdisc ingress.*tc qdisc del dev eth0 ingress/);
  assert.match(await rig.must("node", "tc", "qdisc", "show", "dev", "eth0"), /qdisc ingress/);
});

test("xdp: an MTU that is too large is told, and the interface is named", async () => {
  for (const [namespace, device] of [
    ["node", "eth0"],
    ["client", "c0"],
  ] as const) {
    await rig.must(namespace, "ip", "link", "set", "dev", device, "mtu", "9000");
    undo.push(() => rig.must(namespace, "ip", "link", "set", "dev", device, "mtu", "1500"));
  }
  assert.match(
    await startError("xdp"),
    /to eth0 at xdp ingress: .*MTU.*too large.*ip link set eth0 mtu 1500.*hook: tcx/,
  );
});

test("xdp: another program on the hook is named, and nothing is attached", async () => {
  await xdp("node", "eth0");
  const said = await startError("xdp");
  assert.match(said, new RegExp(`program id ${passXdp} \\(pass_xdp\\) holds its xdp hook.*set hook: tcx`));
  await becomes(() => rig.attached(), { xdp: [passXdp] });
  assert.equal(rig.pins(), []);
});

test("xdp: the probe refuses a veth whose peer runs no XDP program, and restores everything", async () => {
  const before = stripsTags();
  const said = await startError("xdp");
  assert.match(said, /Cannot answer by XDP on eth0 .*peer needs an XDP program.*Set hook: tcx or tc/);
  await becomes(() => rig.attached(), {});
  assert.equal(rig.pins(), []);
  assert.is(stripsTags(), before, "whether the NIC strips VLAN tags");
});

test("xdp: a refusal at a change from tcx leaves tcx answering", async () => {
  await (await rig.serve({ hook: "tcx" })).end();
  const before = await rig.attached();
  await startError("xdp");
  await rig.answersWith();
  await becomes(async () => Object.keys(await rig.attached()), Object.keys(before));
  assert.equal(
    rig.pins().filter((name) => name.includes("/links/")),
    linksOf("tcx"),
  );
});

const linksOf = (hook: "tcx" | "tc" | "xdp") => rig.expectedPins(hook).filter((name) => name.includes("/links/"));

/** True if the NIC strips VLAN tags. */
function stripsTags(): boolean {
  return inNamespace(rig.namespaces.full("node"), () => stripsVlanTags("eth0"));
}

/** The frames that found the queue of eth0's other end full: it holds 256, and a busy machine empties it late. */
async function droppedAtQueue(): Promise<number> {
  const [link] = JSON.parse(await rig.must("node", "ip", "-j", "-s", "link", "show", "dev", "eth0"));
  return link.stats64.tx.dropped;
}

test("a change of hook over restarts leaves only the new one attached, and no request unanswered", async () => {
  await xdp("client", "c0");
  const vlan = stripsTags();
  await (await rig.serve({ hook: "tcx" })).end();
  const before = rig.answered();
  const full = await droppedAtQueue();
  await using flood = await Flood.start(rig, programs);
  const steps = ["tc", "xdp", "tc", "tcx", "xdp", "tcx"] as const;
  for (const hook of steps) {
    const speaker = await rig.serve({ hook });
    const where = { tcx: ["tcx egress", "tcx ingress"], tc: ["tc egress", "tc ingress"], xdp: ["tcx egress", "xdp"] };
    await becomes(async () => Object.keys(await rig.attached()).sort(), where[hook]);
    assert.equal(rig.pins(), rig.expectedPins(hook));
    await speaker.end();
  }
  const toll = await flood.stop();
  measured(`${steps.length} changes of hook`, `${toll.left} requests left (${toll.rate}/s), ${toll.came} answers came`);
  assert.is(rig.answered() - before, toll.left, "each request is answered, by one hook only");
  assert.is(toll.left - toll.came, (await droppedAtQueue()) - full, "every answer comes but those of a full queue");
  assert.is(stripsTags(), vlan, "whether the NIC strips VLAN tags");
});

test("clean restores whether the NIC strips VLAN tags", async () => {
  await xdp("client", "c0");
  const before = stripsTags();
  await (await rig.serve({ hook: "xdp" })).end();
  assert.is(before, true);
  assert.is(stripsTags(), false);
  await rig.clean();
  assert.is(stripsTags(), before);
});

test("tcx: a program that was attached before still gets the frames that isat passes", async () => {
  const ifindex = rig.ifindex("eth0");
  const link = inNamespace(rig.namespaces.full("node"), () => {
    const program = libbpf.bpf_obj_get(join(programs, "pass_tc"));
    return libbpf.bpf_link_create(program, ifindex, 46, null);
  });
  assert.ok(link >= 0, `bpf_link_create: ${link}`);
  const path = join(rig.bpffs, "other_link");
  assert.is(libbpf.bpf_obj_pin(link, path), 0);
  try {
    const speaker = await rig.serve({ hook: "tcx" });
    const order = (await rig.attached())["tcx ingress"]!;
    assert.is(order[1], passTc, "isat runs first");
    const before = await rig.counted(programs, "frames");
    await rig.answersWith();
    assert.is(await rig.counted(programs, "frames"), before, "an answered request goes no further");
    rig.ask("10.9.77.77");
    await until("the other program sees it", async () => (await rig.counted(programs, "frames")) === before + 1);
    await speaker.end();
    await rig.clean();
    await becomes(() => rig.attached(), { "tcx ingress": [passTc] });
  } finally {
    await must("bpftool", "link", "detach", "pinned", path);
  }
});

/** Attaches another program in front of all others at tcx ingress of eth0; undefined: it stands there already. */
function attachInFront(): { detach(): void } | undefined {
  const BPF_F_BEFORE = 8;
  const options = new Uint8Array(48); // struct bpf_link_create_opts
  new Uint32Array(options.buffer).set([options.length, 0, BPF_F_BEFORE]);
  const program = libbpf.bpf_obj_get(join(programs, "pass_tc"));
  const ifindex = rig.ifindex("eth0");
  const link = inNamespace(rig.namespaces.full("node"), () => libbpf.bpf_link_create(program, ifindex, 46, options));
  libc.close(program);
  if (link < 0) return undefined;
  const attached = new Fd(link);
  return {
    detach() {
      libbpf.bpf_link_detach(attached.number);
      attached[Symbol.dispose]();
    },
  };
}

const WIRE = { more: "membership: { kind: wire, keys: none }", nodes: "[n1]" };

test("tcx: a program that was put in front is in front no more after a tick, and that is said", async () => {
  const speaker = await rig.serve({ hook: "tcx" });
  const from = speaker.log.length;
  const other = attachInFront()!;
  try {
    await speaker.says(new RegExp(`program id ${passTc} .*ran before isat on eth0 at tcx ingress.*first again`), {
      from,
    });
    assert.is((await rig.attached())["tcx ingress"]![1], passTc);
    await rig.answersWith();
    assert.equal(rig.pins(), rig.expectedPins("tcx"));
  } finally {
    other.detach();
  }
});

test("tcx: with a program that insists on being the first this node owns nothing, names it, and owns again when it is gone", async () => {
  const speaker = await rig.serve({ hook: "tcx", ...WIRE });
  await until("the VIP is owned", async () => (await rig.answers()).length === 1, 10_000);
  let from = speaker.log.length;
  let other = attachInFront()!;
  try {
    await speaker.says(/first again/, { from });
    other.detach();
    from = speaker.log.length;
    other = attachInFront()!;
    await speaker.says(new RegExp(`eth0: program id ${passTc} .*runs before isat at tcx ingress.*owns nothing`), {
      from,
    });
    const { stdout } = await rig.isat(["status", "--config", rig.config]);
    assert.match(stdout, new RegExp(`program id ${passTc} .*runs before isat`));
    await until("nothing is owned", () =>
      rig.maps(({ vips }) => [...vips.entries()].every(([, { state }]) => state !== vipState.OWNED)),
    );
  } finally {
    other.detach();
  }
  await until("the VIP is owned again", async () => (await rig.answers()).length === 1, 10_000);
});

test("tc: a filter of the same priority that was added later, and so would run first, is in front no more after a tick", async () => {
  const speaker = await rig.serve({ hook: "tc" });
  const from = speaker.log.length;
  await foreignFilter("ingress", TC_PRIORITY, "0x7");
  await speaker.says(new RegExp(`program id ${passTc} \\(pass_tc.*ran before isat on eth0 at tc ingress`), { from });
  await rig.answersWith();
});

test("tc: beside a program at tcx, which always runs first, this node owns nothing and says what to do", async () => {
  const speaker = await rig.serve({ hook: "tc", ...WIRE });
  const from = speaker.log.length;
  const other = attachInFront()!;
  try {
    await speaker.says(new RegExp(`program id ${passTc} .* at tcx runs before isat at tc ingress.*set hook: tcx`), {
      from,
    });
  } finally {
    other.detach();
  }
});

/** Runs `body` while the speaker's process is stopped. */
async function stopped(speaker: Process, body: () => Promise<void>): Promise<void> {
  speaker.child.kill("SIGSTOP");
  await until("isat is stopped", () => / T /.test(readFileSync(`/proc/${speaker.pid}/stat`, "utf8")));
  try {
    await body();
  } finally {
    speaker.child.kill("SIGCONT");
  }
}

type Theft = [hook: "tcx" | "tc" | "xdp", where: string, take: () => Promise<unknown>];

const pinOf = (kind: string) => join(rig.pinDir, `v${LAYOUT}/links`, `${kind}_${rig.ifindex("eth0")}`);
const thefts: Theft[] = [
  ["tcx", "tcx ingress", () => must("bpftool", "link", "detach", "pinned", pinOf("tcx_ingress"))],
  ["tcx", "tcx egress", () => must("bpftool", "link", "detach", "pinned", pinOf("tcx_egress"))],
  ["tc", "tc ingress", () => filter("del", "ingress", "protocol", "all", "prio", "1", "handle", TC_HANDLE, "bpf")],
  ["tc", "tc egress", () => filter("del", "egress", "protocol", "all", "prio", "1", "handle", TC_HANDLE, "bpf")],
  ["tc", "tc ingress", () => rig.must("node", "tc", "qdisc", "del", "dev", "eth0", "clsact")],
  ["xdp", "xdp", () => must("bpftool", "link", "detach", "pinned", pinOf("xdp_ingress"))],
  ["xdp", "tcx egress", () => must("bpftool", "link", "detach", "pinned", pinOf("tcx_egress"))],
];

for (const [i, [hook, where, take]] of thefts.entries()) {
  test(`${hook}: detached behind isat's back at ${where} (way ${i + 1}), it is attached again within a tick, and logged`, async () => {
    if (hook === "xdp") await xdp("client", "c0");
    const speaker = await rig.serve({ hook });
    const before = await rig.attached();
    const from = speaker.log.length;
    // On a busy machine isat's next tick would come before the commands that look have run.
    await stopped(speaker, async () => {
      await take();
      assert.is((await rig.attached())[where], undefined);
    });
    const began = performance.now();
    const line = await speaker.says(
      new RegExp(`no longer attached to eth0 at ${where.replace(/^xdp$/, "xdp ingress")}:`),
      { from },
    );
    await until("attached again", async () => (await rig.attached())[where]?.length === 1);
    measured(`${hook}: detached at ${where}, attached again after`, `${Math.round(performance.now() - began)} ms`);
    assert.is(line.level, "error");
    await rig.answersWith();
    await becomes(() => rig.attached(), before, "what is attached again is the same program, and once");
    await until("the pins are whole", () => rig.pins().join() === rig.expectedPins(hook).join());
  });
}

interface Tampering {
  name: string;
  map: string;
  /** Changes the map by bpftool. */
  act: (key: string[], map: string) => Promise<unknown>;
  said: RegExp | undefined;
}

/** A struct vip in state NOT_OWNED. */
const NOT_OWNED: string[] = new Array(vip.size).fill("0");
const tamperings: Tampering[] = [
  {
    name: "an owned VIP set to not owned",
    map: "vips",
    act: (key, map) => must("bpftool", "map", "update", "pinned", map, "key", ...key, "value", ...NOT_OWNED),
    said: /map does not hold what was written/,
  },
  {
    name: "an owned VIP deleted",
    map: "vips",
    act: (key, map) => must("bpftool", "map", "delete", "pinned", map, "key", ...key),
    said: /map does not hold what was written/,
  },
  {
    name: "an added VIP that is not configured",
    map: "vips",
    act: (key, map) =>
      must("bpftool", "map", "update", "pinned", map, "key", ...key.with(3, "99"), "value", ...NOT_OWNED.with(4, "1")),
    said: /map does not hold what was written/,
  },
  {
    name: "the interface deleted",
    map: "interfaces",
    act: (key, map) => {
      const place = [String(Number(key[4]) % MAX_INTERFACES), "0", "0", "0"];
      const nothing = Array.from({ length: interfaceEntry.size }, () => "0");
      return must("bpftool", "map", "update", "pinned", map, "key", ...place, "value", ...nothing);
    },
    said: undefined,
  },
];

for (const { name, map, act, said } of tamperings) {
  test(`${name} behind isat's back is repaired within a few ticks${said ? ", and logged" : ""}`, async () => {
    const speaker = await rig.serve({ hook: "tcx" });
    const key = [...VIP.split("."), ...new Uint8Array(Uint32Array.of(rig.ifindex("eth0")).buffer)].map(String);
    const snapshot = () =>
      rig.maps(({ vips, interfaces }) => ({
        vips: [...vips.entries()].map(([key, { state }]) => `${key.ip} ${key.ifindex} ${state}`),
        interfaces: [...interfaces.entries()].map(([ifindex, { mac_text }]) => `${ifindex} ${mac_text}`),
      }));
    const before = snapshot();
    const from = speaker.log.length;
    await act(key, join(rig.pinDir, `v${LAYOUT}`, map));
    const began = performance.now();
    await until("the map is repaired", () => JSON.stringify(snapshot()) === JSON.stringify(before), 4000);
    measured(`${name}: repaired after`, `${Math.round(performance.now() - began)} ms`);
    if (said) assert.is((await speaker.says(said, { from })).level, "error");
    await rig.answersWith();
    const announced = rig.heard().filter(({ op }) => op === 1);
    assert.is(announced.length, 0, "no VIP moved, so none is announced");
    assert.is((await rig.attached())["tcx ingress"]?.length, 1);
    await rig.answersWith(NODE_MAC);
  });
}

test("a VIP that the kernel has released though nothing was held there yet is found by the tick, and claimed again", async () => {
  const more = "membership: { kind: wire, keys: none }";
  const speaker = await rig.serve({ hook: "tcx", more, nodes: "[n1]" });
  const before = await rig.answers();
  const from = speaker.log.length;
  const key = { ip: Uint8Array.from(VIP.split("."), Number), ifindex: rig.ifindex("eth0") };
  // As a claim leaves it that is granted between the decision to own a VIP and the write: no counter tells of it.
  rig.maps(({ vips }) => vips.set(key, { ...vips.get(key)!, released_ns: bootTime() }));
  await speaker.says(/is no longer owned here/, { from });
  await until("it is answered again", async () => (await rig.answers()).length === before.length, 10_000);
  assert.equal(before, [NODE_MAC]);
});

for (const hook of ["tcx", "tc"] as const) {
  test(`${hook}: programs of a speaker with another pinDir are found by asking the device, and replaced`, async () => {
    await (await rig.serve({ hook })).end();
    const before = await rig.attached();
    const speaker = await rig.serve({ hook, pinDir: join(rig.bpffs, "elsewhere") });
    const after = await rig.attached();
    for (const point of Object.keys(before)) {
      assert.is(after[point]?.length, 1, point);
      assert.is.not(after[point]![0], before[point]![0]);
    }
    await rig.answersWith();
    await speaker.end();
    await rig.clean();
    await becomes(() => rig.attached(), {});
    rig.configure({ hook });
  });

  test(`${hook}: clean finds programs whose pins are out of reach`, async () => {
    await (await rig.serve({ hook })).end();
    rig.configure({ hook, pinDir: join(rig.bpffs, "elsewhere") });
    assert.is((await rig.clean()).status, 0);
    await becomes(() => rig.attached(), {});
    rig.configure({ hook });
  });

  test(`${hook}: pins that vanish while isat runs are made again, and that is said`, async () => {
    const speaker = await rig.serve({ hook });
    const from = speaker.log.length;
    await must("rm", "-r", join(rig.pinDir, `v${LAYOUT}`));
    await speaker.says(/of isat's pins were gone.*there again/, { from });
    assert.equal(rig.pins(), rig.expectedPins(hook));
    await rig.answersWith();
    await speaker.end("SIGKILL");
    const next = await rig.serve();
    assert.match(next.said(/^interface eth0/)!.msg, new RegExp(`${hook} adopted$`));
    await rig.answersWith();
  });
}

test("pins of other programs in pinDir survive clean", async () => {
  rig.configure({ pinDir: rig.pinDir });
  const speaker = await rig.serve();
  const folder = join(rig.pinDir, "not_isats");
  mkdirSync(folder);
  const shape = ["type", "array", "key", "4", "value", "4", "entries", "1", "name", "theirs"];
  await must("bpftool", "map", "create", join(folder, "map"), ...shape);
  await speaker.end();
  assert.is((await rig.clean()).status, 0);
  assert.equal(rig.pins(), ["not_isats/map"]);
  await must("rm", "-r", folder);
});

test.run();
