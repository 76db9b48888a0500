// limit: 180 s

import type { ChildProcess } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ISAT } from "../../lab/bundle.ts";
import { type Outcome, type Process, until } from "../../lab/kernel/process.ts";
import { NODE_IP, NODE_MAC, Rig, type Settings, VIP } from "../../lab/kernel/rig.ts";
import { inNamespace } from "../../lab/namespaces.ts";
import type { Config } from "../../src/config/config.ts";
import { KEYS } from "../../src/config/schema.ts";
import { parseAddress } from "../../src/core/address.ts";
import { programIds } from "../../src/kernel/hooks.ts";
import { ALL_POINTS } from "../../src/kernel/kernel.ts";
import { cannotAnnounceOn, type Link } from "../../src/link/links.ts";
import { makePlan } from "../../src/plan.ts";
import { fileDemand } from "../../src/source/file.ts";
import type { FileSettings } from "../../src/source/settings.ts";
import { linkOf, networkOf } from "../core/stage.ts";

const rig = new Rig("isat-t-cli-");
const METRICS = "127.0.0.1:19131";
/** More than a socket's path may have (108), with what stands behind it. */
const LONG = join(rig.folder, "long".repeat(25));
const FIRST_RUN_DIR = join(rig.folder, "first");
const FIRST_PIN_DIR = join(rig.bpffs, "first");

/** An item of `vips` that this node owns, and others that are there beside it. */
const owned = (...addresses: string[]) => addresses.map((address) => `{ address: ${address}, nodes: [n1] }`);

/** Puts a text, or nothing, in the file's place, in one step. */
function replace(text: string | undefined): void {
  rmSync(rig.config, { recursive: true, force: true });
  if (text === undefined) return;
  writeFileSync(`${rig.config}.new`, text);
  renameSync(`${rig.config}.new`, rig.config);
}

/** Everything isat leaves on the node: programs at every interface (bpftool does not list tcx), pins, speakers' files. */
async function standing() {
  const links: { ifindex: number; ifname: string }[] = JSON.parse(await rig.must("node", "ip", "-j", "link", "show"));
  const [{ tc, xdp }] = JSON.parse(await rig.must("node", "bpftool", "-j", "net", "show"));
  const programs = inNamespace(rig.namespaces.full("node"), () =>
    links.flatMap(({ ifindex, ifname }) =>
      ALL_POINTS.map((point) => ({ ...point, ifname, ids: programIds(ifindex, point) })),
    ),
  );
  const iterators = ["maps.debug", "progs.debug"]; // the kernel's own, in every bpffs
  return {
    programs: programs.filter(({ ids }) => ids.length > 0),
    listed: [...tc, ...xdp],
    pins: rig.pins(rig.bpffs).filter((path) => !iterators.includes(path)),
    files: rig.pins(rig.folder).filter((path) => /\.(sock|json)$/.test(path)),
  };
}
const NOTHING = { programs: [], listed: [], pins: [], files: [] };

/** Nothing is left. The kernel detaches a link that was unpinned in its own time, some 20 ms later. */
async function nothingStands(): Promise<void> {
  const gone = JSON.stringify(NOTHING);
  await until("nothing is left", async () => JSON.stringify(await standing()) === gone).catch(() => {});
  assert.equal(await standing(), NOTHING);
}

interface Row {
  name: string;
  /** The configuration, or a function that puts something else in its place. */
  file?: Settings | (() => void);
  /** Makes what has to be there first. */
  before?: () => unknown;
  /** Dropped capabilities, as setpriv has them. */
  without?: string;
  /** Each line of the error, with what was found and what to do. */
  says: RegExp[];
  /** A running speaker can meet it too, when the file is replaced. */
  atReload?: true;
}

const vips = (...items: string[]): Settings => ({ vips: [...owned("10.9.0.9"), ...items] });

const rows: Row[] = [
  {
    name: "no capabilities at all",
    without: "-all",
    says: [
      /missing: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF\. Run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW/,
    ],
  },
  { name: "without CAP_BPF", without: "-bpf,-sys_admin", says: [/capabilities are missing: CAP_BPF\. Run as root/] },
  { name: "without CAP_NET_ADMIN", without: "-net_admin", says: [/are missing: CAP_NET_ADMIN\. Run as root/] },
  { name: "without CAP_NET_RAW", without: "-net_raw", says: [/capabilities are missing: CAP_NET_RAW\. Run as root/] },
  {
    name: "no capabilities, and a runDir that only another user may make",
    without: "-all",
    before() {
      const folder = join(rig.folder, "others");
      mkdirSync(folder, { recursive: true });
      chmodSync(folder, 0o755);
      chownSync(folder, 65534, 65534);
    },
    file: { runDir: join(rig.folder, "others/run") },
    says: [/capabilities are missing: .*Run as root/],
  },
  {
    name: "a pinDir that is on no bpffs",
    file: { pinDir: join(rig.folder, "plain") },
    says: [
      /Cannot pin under (\S+)\/plain as no bpffs is mounted there\. Run: mkdir -p \1\/plain && mount -t bpf -o mode=0700 bpf \1\/plain /,
    ],
  },
  {
    name: "a pinDir of which nothing exists",
    file: { pinDir: "/nonexistent/isat" },
    says: [
      /no bpffs is mounted there\. Run: mkdir -p \/nonexistent\/isat && mount -t bpf -o mode=0700 bpf \/nonexistent\/isat /,
    ],
  },
  {
    name: "a runDir that is a file",
    before: () => writeFileSync(join(rig.folder, "file"), ""),
    file: { runDir: join(rig.folder, "file") },
    says: [/Cannot make runDir: .*\/file'\. Set runDir: /],
  },
  {
    name: "a runDir too long for a socket in it",
    file: { runDir: LONG },
    says: [/Cannot serve status at .*longlong.*EINVAL.*Set runDir: to another, or a shorter, path/],
  },
  {
    name: "no such interface",
    file: { interfaces: "[eth7]" },
    says: [/Cannot announce on eth7 as there is no such interface\. There are: .*eth0/],
    atReload: true,
  },
  {
    name: "a glob that matches no interface",
    file: { interfaces: '["ens*"]' },
    says: [/Cannot announce on ens\* as there is no such interface\. There are: .*eth0/],
    atReload: true,
  },
  {
    name: "a bridge's port",
    file: { interfaces: "[port0]" },
    says: [/Cannot announce on port0 as port0 is a port of bridge br0: announce on br0/],
    atReload: true,
  },
  {
    name: "an interface that is no Ethernet",
    file: { interfaces: "[lo]" },
    says: [/Cannot announce on lo as lo is not an Ethernet interface/],
    atReload: true,
  },
  {
    name: "interfaces left out, a VIP in no subnet, and no default route",
    file: { interfaces: null, vips: ["{ address: 192.0.2.7 }"] },
    says: [/Cannot tell on which interface .* no default route\. Set interfaces: to one of (?!lo)(?!.*port0).*eth0/],
  },
  {
    name: "the node's own address on the announcing interface",
    file: vips(`{ address: ${NODE_IP} }`),
    says: [
      /Cannot announce 10\.9\.255\.1 as it is this node's own address on eth0\. Take it out of the VIPs, or off the/,
    ],
    atReload: true,
  },
  {
    name: "a block around the node's own address",
    file: vips("{ address: 10.9.255.0/24 }"),
    says: [
      /Cannot announce 10\.9\.255\.255 \(line \d+\) as it is the broadcast address of 10\.9\.0\.0\/16\. Take it out/,
      /Cannot announce 10\.9\.255\.1 as it is this node's own address on eth0\. Take it out/,
    ],
    atReload: true,
  },
  {
    name: "multicast",
    file: vips("{ address: 224.0.0.18 }"),
    says: [
      /isat\.yaml:\d+: source\.vips\[1\]\.address: found "224\.0\.0\.18", but 224\.0\.0\.0\/4 is multicast; accepted: unicast/,
    ],
    atReload: true,
  },
  {
    name: "loopback",
    file: vips("{ address: 127.0.0.1-127.0.0.3 }"),
    says: [
      /isat\.yaml:\d+: source\.vips\[1\]\.address: found "127.*, but 127\.0\.0\.0\/8 is loopback; accepted: unicast/,
    ],
    atReload: true,
  },
  {
    name: "the broadcast address",
    file: vips("{ address: 255.255.255.255 }"),
    says: [
      /source\.vips\[1\]\.address: found "255\.255\.255\.255", but \S+ is the broadcast address; accepted: unicast/,
    ],
    atReload: true,
  },
  {
    name: "an address that is none",
    file: vips("{ address: 10.9.0.256 }"),
    says: [
      /source\.vips\[1\]\.address: Cannot read "10\.9\.0\.256" as addresses: .*Accepted: an address \(10\.9\.0\.1, /,
    ],
    atReload: true,
  },
  {
    name: "ranges that overlap",
    file: vips("{ address: 10.9.0.0/28 }"),
    says: [
      /yaml:\d+: source\.vips\[\d\]: 10\.9\.0\.9 overlaps 10\.9\.0\.0-10\.9\.0\.15 of line \d+, accepted: each address once/,
    ],
    atReload: true,
  },
  {
    name: "more than 65,536 addresses",
    file: vips("{ address: 10.8.0.0/16 }"),
    says: [/source\.vips: found 65537 addresses in total, accepted: at most 65536/],
    atReload: true,
  },
  {
    name: "an empty list of nodes",
    file: { nodes: "[]", vips: ["{ address: 10.9.0.1 }"] },
    says: [/source\.nodes: found an empty list, accepted: a list of one or more node names, such as \[n1, n2\]/],
    atReload: true,
  },
  {
    name: "a node that is not in the list",
    file: { node: "n9" },
    says: [
      /this node is "n9" \(from the key node\), which is not in source\.nodes: n1, n2\. Add it there, or set another/,
    ],
    atReload: true,
  },
  {
    name: "a directory in the file's place",
    file() {
      replace(undefined);
      mkdirSync(rig.config);
    },
    says: [/Cannot read the configuration \S+\/isat\.yaml: it is a directory\. Name the file in it/],
    atReload: true,
  },
  {
    name: "no file",
    file: () => replace(undefined),
    says: [
      /Cannot read the configuration \S+\/isat\.yaml: there is no such file\. Write it, or name another; the least it/,
    ],
    atReload: true,
  },
  {
    name: "an empty file",
    file: () => replace(""),
    says: [/isat\.yaml:1: source: missing, accepted: a mapping, such as source: \{ kind: file/],
    atReload: true,
  },
  {
    name: "no YAML",
    file: { more: "garp: [" },
    says: [/isat\.yaml:\d+: this is no valid YAML: /],
    atReload: true,
  },
  {
    name: "an unknown key",
    file: { more: "fense: 10m" },
    says: [/isat\.yaml:\d+: fense: unknown key, did you mean "fence"\? Accepted here: node, interfaces, hook/],
    atReload: true,
  },
  {
    name: "three things at once, a line each",
    file: { hook: "ebpf", more: "hold: 30", vips: ["{ adress: 10.9.0.1 }"] },
    says: [
      /isat\.yaml:\d+: hook: found "ebpf", accepted: auto, tcx, tc or xdp/,
      /isat\.yaml:\d+: hold: found 30, which has no unit; accepted: /,
      /source\.vips\[0\]\.adress: unknown key, did you mean "address"\?/,
    ],
    atReload: true,
  },
  {
    // On a machine that has the file by chance, it would be no bad input.
    name: "peers, and no key",
    file: { more: "membership: { kind: wire, keys: [/nowhere/wire.key] }" },
    says: [
      /Cannot use the wire key \/nowhere\/wire\.key as there is no such file\. Make one, the same on all nodes: .* write membership: \{ keys: none \}/,
    ],
  },
  {
    name: "a second speaker on the same pinDir",
    before: () => rig.serve({ runDir: FIRST_RUN_DIR }),
    says: [
      /Cannot use \S+\/isat as another isat \(pid (?<pid>\d+)\) is running on it\. Stop it, or give this one a pinDir/,
    ],
  },
  {
    name: "a second speaker on the same runDir",
    before: () => rig.serve({ pinDir: FIRST_PIN_DIR }),
    says: [
      /Cannot use \S+\/run as another isat \(pid (?<pid>\d+)\) is running on it\. Stop it, or give this one a pinDir/,
    ],
  },
  {
    name: "an address for the metrics that is taken",
    before: () => listen(METRICS),
    file: { more: `metrics: { listen: "${METRICS}" }` },
    says: [/Cannot serve metrics at 127\.0\.0\.1:19131: .*EADDRINUSE.*Set metrics\.listen to a free address/],
  },
  {
    name: "an address for the metrics that is not this node's",
    file: { more: 'metrics: { listen: "192.0.2.1:19131" }' },
    says: [/Cannot serve metrics at 192\.0\.2\.1:19131: .*EADDRNOTAVAIL.*Set metrics\.listen to a free address/],
  },
];

let listener: ChildProcess | undefined;

/** Somebody else listens at an address of the node, until the test's end. */
async function listen(address: string): Promise<void> {
  const [host, port] = address.split(":");
  const script = `require("net").createServer().listen(${port}, "${host}", () => console.log("listening"))`;
  listener = rig.namespaces.spawn("node", process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  let isListening = false;
  listener.stdout!.once("data", () => (isListening = true));
  await until("somebody else listens", () => isListening);
}

function put(file: Row["file"] = {}): void {
  if (typeof file === "function") file();
  else {
    rmSync(rig.config, { recursive: true, force: true });
    rig.configure(file);
  }
}

/** Runs isat to its end. @param capabilities what setpriv takes away, or leaves: `-all,+bpf` */
function isat(args: string[], capabilities?: string): Promise<Outcome> {
  if (capabilities === undefined) return rig.isat(args);
  const limits = limited(capabilities);
  return rig.execute("node", limits[0]!, [...limits.slice(1), ...ISAT, ...args]);
}
const limited = (to: string) => ["setpriv", `--bounding-set=${to}`, `--inh-caps=${to}`];

const atStart = suite("bad input at a start");
atStart.before(() => {
  rig.wire("eth1", "c1", "02:00:00:00:00:11", "02:00:00:00:01:64");
  rig.namespaces.ip("node", [
    "link add br0 type bridge",
    "link add port0 type veth peer name port1",
    "link set port0 master br0",
    "link set br0 up",
  ]);
});
atStart.after.each(async () => {
  listener?.kill("SIGKILL");
  put();
  if (JSON.stringify(await standing()) === JSON.stringify(NOTHING)) return; // most rows leave nothing to clean
  for (const settings of [{ runDir: FIRST_RUN_DIR }, { pinDir: FIRST_PIN_DIR }, { runDir: LONG }, {}]) {
    put(settings);
    await rig.reset();
  }
});

for (const { name, file, before, without, says } of rows) {
  atStart(`${name}: a clear line, a status other than 0, and all is as it was`, async () => {
    await nothingStands();
    const first = await before?.();
    put(file);
    const was = await standing();

    const { status, stdout, stderr } = await isat(["run", "--config", rig.config], without);

    assert.equal([status, stdout], [1, ""], stderr);
    const lines = stderr.trimEnd().split("\n");
    assert.is(lines.length, says.length, stderr);
    for (const [i, said] of says.entries()) {
      assert.match(lines[i]!, /^isat: /);
      assert.match(lines[i]!, said, `${said} is not what it said: ${stderr}`);
      const pid = said.exec(lines[i]!)?.groups?.pid;
      if (pid !== undefined) assert.is(Number(pid), (first as Process).pid);
    }
    assert.equal(await standing(), was);
  });
}

atStart("a pinDir that is on no bpffs: the command that the error tells is the remedy", async () => {
  const pinDir = join(rig.folder, "remedy/isat");
  rig.configure({ pinDir });
  const { stderr } = await rig.isat(["run", "--config", rig.config]);
  const [, remedy] = /Run: (.*) \(in a Pod/.exec(stderr)!;
  assert.is(remedy, `mkdir -p ${pinDir} && mount -t bpf -o mode=0700 bpf ${pinDir}`); // nothing else is let run
  await rig.must("node", "sh", "-c", remedy!);
  await rig.serve({ pinDir });
  await rig.answersWith();
  await rig.reset();
  await rig.must("node", "umount", pinDir);
});

atStart("the three capabilities that the error names are enough, for run and for clean", async () => {
  const three = "-all,+bpf,+net_admin,+net_raw";
  rig.configure();
  const speaker = rig.launch("node", ["run", "--config", rig.config], limited(three));
  await speaker.ready();
  await rig.answersWith();
  await speaker.end();
  const was = await standing();
  for (const [without, missing] of [
    ["-all", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF"],
    ["-bpf,-sys_admin", "CAP_BPF"],
  ]) {
    const { status, stderr } = await isat(["clean", "--config", rig.config], without);
    assert.is(status, 1);
    assert.match(
      stderr,
      new RegExp(`^isat: Cannot run as capabilities are missing: ${missing}\\. Run as root, or.*\n$`),
    );
  }
  assert.equal(await standing(), was);
  assert.is((await isat(["clean", "--config", rig.config], three)).status, 0);
  await nothingStands();
});

atStart("a VIP outside of every subnet of the interface: a warning, and it is answered", async () => {
  const speaker = await rig.serve({ vips: owned("192.0.2.1", VIP) });
  const warnings = speaker.log.filter(({ level }) => level === "warn").map(({ msg }) => msg);
  assert.equal(warnings, [
    "192.0.2.1 lies outside of every subnet of eth0: nobody there asks for it unless a route says so",
  ]);
  await rig.answersWith(NODE_MAC, "192.0.2.1");
  await rig.answersWith(NODE_MAC, VIP);
});

atStart("the node's own address on an interface that does not announce it is no bad input", async () => {
  rig.namespaces.ip("node", ["addr add 10.9.0.8/32 dev lo", "addr add 10.9.0.7/32 dev eth1"]);
  const items = owned("10.9.0.8", "10.9.0.7").map((item) => item.replace(" }", ", interfaces: [eth0] }"));
  await rig.serve({ interfaces: "[eth0, eth1]", vips: items });
  await rig.answersWith(NODE_MAC, "10.9.0.8");
  await rig.answersWith(NODE_MAC, "10.9.0.7");
  rig.namespaces.ip("node", ["addr del 10.9.0.8/32 dev lo", "addr del 10.9.0.7/32 dev eth1"]);
});

const atReload = suite("bad input at a reload");
const SOUND: Settings = { more: `metrics: { listen: "${METRICS}" }`, vips: owned(VIP) };
let speaker: Process;
/** True if the speaker is as each row has to leave it. If a row fails, the next one starts a new speaker. */
let isSound = false;

atReload.before.each(async () => {
  if (isSound) return;
  put(SOUND);
  await rig.reset();
  speaker = await rig.serve();
  await rig.answersWith();
});
atReload.after(() => rig.reset());

/** The kernel's state: the maps without counters and ticks, the programs, the pins. */
async function held() {
  const maps = rig.maps(({ vips, interfaces }) => ({
    vips: [...vips.entries()].map(([{ ip, ifindex }, { state }]) => `${ip.join(".")} ${ifindex} ${state}`).sort(),
    interfaces: [...interfaces.entries()].map(([, { tick_ns: _, ...entry }]) => entry),
  }));
  return { ...maps, ...(await standing()) };
}

/** How it looks from outside: `status` both ways, and the metric. (The broken file tells no runDir.) */
async function shown() {
  const text = await rig.isat(["status", "--run-dir", rig.runDir]);
  const json = await rig.isat(["status", "--run-dir", rig.runDir, "--json"]);
  const metrics = await rig.must("node", "curl", "--silent", "--max-time", "5", `http://${METRICS}/metrics`);
  assert.equal([text.status, json.status], [0, 0], text.stderr + json.stderr);
  return {
    text: text.stdout,
    json: JSON.parse(json.stdout),
    refused: /^isat_config_refused (\d)$/m.exec(metrics)?.[1],
  };
}

for (const { name, file, says } of rows.filter(({ atReload }) => atReload)) {
  atReload(`${name}: the old state stays, and log, status and metric say why until it is repaired`, async () => {
    isSound = false;
    const before = await held();
    let from = speaker.log.length;
    // Nothing is wrong with it but that one thing.
    put(typeof file === "function" ? file : { ...file, more: [SOUND.more, file?.more].join("\n").trim() });
    // (For a moment there may be no file, which is refused as well.)
    const said = new RegExp(
      `^configuration refused, the old one is served: .*${says.map((line) => line.source).join(".*")}`,
      "s",
    );
    const line = await speaker.says(said, { from });
    assert.is(line.level, "error");
    assert.not.match(line.msg, /^\s+at /m);
    await rig.answersWith();
    assert.equal(await held(), before);
    const broken = await shown();
    for (const each of says) {
      assert.match(broken.text, each);
      assert.match(broken.json.configError, each);
    }
    assert.match(broken.text, /^CONFIG REFUSED, the old one is served: /m);
    assert.equal([broken.refused, broken.json.pid], ["1", speaker.pid]);

    from = speaker.log.length;
    put(SOUND);
    await speaker.says(/^configuration applied$/, { from });
    const repaired = await shown();
    assert.not.match(repaired.text, /REFUSED/);
    assert.equal([repaired.refused, repaired.json.configError, repaired.json.pid], ["0", undefined, speaker.pid]);
    assert.equal(await held(), before);
    await rig.answersWith();
    isSound = true;
  });
}

const usage = suite("usage");
usage.after(() => rig[Symbol.dispose]());

const NOWHERE = join(rig.folder, "nowhere");
const wrong: [args: string[], says: RegExp][] = [
  [["rum"], /^error: unknown command 'rum'\n\(Did you mean run\?\)\n\(isat --help lists/],
  [["run", "--conifg", "x"], /^error: unknown option '--conifg'\n\(Did you mean --config\?\)\n\(isat --help lists/],
  [["run", "--config"], /^error: option '-c, --config <file>' argument missing/],
  [["run", "x"], /^error: too many arguments for 'run'/],
  [["status", VIP, "10.9.0.2"], /^error: too many arguments for 'status'/],
  [["status", "10.9.0"], /^isat: Cannot read "10\.9\.0" as an address: four numbers from 0 to 255 are needed/],
  [
    ["status", "--run-dir", NOWHERE],
    /^isat: Cannot find a speaker by \S+\/nowhere as none has run there\. Say which by/,
  ],
  [
    ["clean", "--run-dir", NOWHERE],
    /^isat: Cannot find a speaker by \S+\/nowhere as none has run there\. Say which by/,
  ],
  [
    ["status", "--config", NOWHERE],
    /^isat: Cannot read the configuration \S+\/nowhere: there is no such file\. Write it/,
  ],
  [
    ["clean", "--config", NOWHERE],
    /^isat: Cannot read the configuration \S+\/nowhere: there is no such file\. Write it/,
  ],
  [
    ["doctor", "--config", NOWHERE],
    /^isat: Cannot read the configuration \S+\/nowhere: there is no such file\. Write it/,
  ],
  [["map", "burn"], /^isat: Cannot burn a map\. What can be done is: isat map dump \[NAME\]\n$/],
  [["map", "dump", "treasure"], /^isat: Cannot find a map treasure\. There are interfaces, .*, vips, vips6\n$/],
];
const plain = (args: string[]) => args.map((arg) => arg.replace(/^.*\//, "")).join(" ");

function isRefusal({ status, stdout, stderr }: Outcome, says: RegExp): void {
  assert.equal([status, stdout], [1, ""]);
  assert.match(stderr, says);
  assert.not.match(stderr, /^\s+at /m);
}
for (const [args, says] of wrong) {
  usage(`isat ${plain(args)}: status 1, and what to do`, async () => isRefusal(await rig.isat(args), says));
}

usage("status, map dump, and clean, where a configuration's speaker never ran", async () => {
  rig.configure();
  const asked = await rig.isat(["status", "--config", rig.config]);
  isRefusal(asked, /^isat: no speaker runs on \S+\/run, and nothing is pinned under \S+\/isat: nothing is answered\n$/);
  const dumped = await rig.isat(["map", "dump", "--config", rig.config]);
  isRefusal(dumped, /^isat: Cannot find this isat's maps under \S+\/isat: nothing is pinned there\n$/);
  const { status, stdout } = await rig.clean();
  assert.is(status, 0);
  assert.match(stdout, /^nothing to do: nothing is pinned under \S+\/isat\n$/);
});

const help: [command: string, options: string[]][] = [
  ["run", ["-c, --config <file>", "--clean-on-exit", "--no-goodbye", ...Object.keys(KEYS)]],
  ["status", ["[vip]", "-c, --config <file>", "--run-dir <dir>", "--json"]],
  ["doctor", ["-c, --config <file>", "--json"]],
  ["controller", ["-c, --config <file>", "--namespace <name>"]],
  ["map", ["-c, --config <file>", "--run-dir <dir>"]],
  ["clean", ["-c, --config <file>", "--run-dir <dir>", "--no-goodbye"]],
];
for (const [command, options] of help) {
  usage(`isat ${command} --help: status 0, and every option`, async () => {
    const { status, stdout, stderr } = await rig.isat([command, "--help"]);
    assert.equal([status, stderr], [0, ""]);
    const lines = stdout.split("\n").map((line) => line.trim());
    assert.ok(lines[0]!.startsWith(`Usage: isat ${command}`), stdout);
    for (const option of options.filter((each) => each !== "[vip]")) {
      assert.ok(
        lines.some((line) => line.startsWith(`${option} `)),
        `${option} is missing in:\n${stdout}`,
      );
    }
  });
}

usage("isat --help: status 0, and every command; isat alone prints it as well", async () => {
  const asked = await rig.isat(["--help"]);
  assert.equal([asked.status, asked.stderr], [0, ""]);
  for (const [command] of help) assert.match(asked.stdout, new RegExp(`^ {2}${command} `, "m"));
  const alone = await rig.isat([]);
  assert.is(alone.stdout + alone.stderr, asked.stdout);
});

// Bonds and teams, which this kernel may not have: made-up links through the same plan.

const planning = suite("ports");
const LINK = linkOf(2, "eth0", { addresses: [{ address: parseAddress(NODE_IP), prefix: 16 }] });
const MASTER = { ...LINK, ifindex: 3, name: "up0", addresses: [] };
const CONFIG: Config = {
  node: "n1",
  interfaces: ["eth0"],
  excludeInterfaces: [],
  hook: "auto",
  pinDir: "/p",
  runDir: "/r",
  stateDir: "/s",
  hold: 1,
  fence: 2,
  garp: { refresh: 1, rate: 1, form: "request" },
  membership: { kind: "static" },
  metrics: undefined,
  pools: [],
  allocation: { choice: "stable", rest: 1 },
  source: { kind: "file", cluster: "", nodes: [{ name: "n1", address: undefined }], vips: [], accept: true },
};
const DEMAND = fileDemand(CONFIG.source as FileSettings);
const plan = (config: Config, links: readonly Link[]) => makePlan(config, DEMAND, networkOf(links));
const names = (config: Config, links: readonly Link[]) => plan(config, links).links.map(({ link }) => link.name);
const ports: [name: string, link: Partial<Link>, refusal: string | undefined][] = [
  ["nobody's port", {}, undefined],
  ["a bond's slave", { portOf: { kind: "bond", ifindex: 3 } }, "eth0 is a slave of bond up0: announce on up0"],
  ["a bridge's port", { portOf: { kind: "bridge", ifindex: 3 } }, "eth0 is a port of bridge up0: announce on up0"],
  ["a team's port", { portOf: { kind: "team", ifindex: 3 } }, "eth0 is a port of team up0: announce on up0"],
  [
    "Open vSwitch's port",
    { portOf: { kind: "openvswitch", ifindex: 3 } },
    "eth0 is a port of Open vSwitch bridge up0: announce on up0",
  ],
  ["a VRF's slave", { portOf: { kind: "vrf", ifindex: 3 } }, undefined],
  ["no Ethernet", { isEthernet: false }, "eth0 is not an Ethernet interface, or has ARP switched off"],
];
for (const [name, change, reason] of ports) {
  planning(`${name} ${reason ? "is refused, and alone is left out when it becomes so later" : "may announce"}`, () => {
    const links = [{ ...LINK, ...change }, MASTER];
    assert.is(cannotAnnounceOn(links[0]!, links)?.slice(0, reason?.length), reason);
    if (reason === undefined) {
      assert.equal(names(CONFIG, links), ["eth0"]);
      assert.equal(plan(CONFIG, links).problems, []);
      return;
    }
    assert.ok(plan(CONFIG, links).problems[0]!.startsWith(`Cannot announce on eth0 as ${reason}`));
    const both = { ...CONFIG, interfaces: ["eth0", "up0"] };
    assert.equal(names(both, links), ["up0"]);
    assert.ok(plan(both, links).warnings[0]!.startsWith(`Cannot announce on eth0 as ${reason}`));
    // A glob that means a port and its master takes the master.
    assert.equal(names({ ...CONFIG, interfaces: ["*0"] }, links), ["up0"]);
    assert.equal(plan({ ...CONFIG, interfaces: ["*0"] }, links).problems, []);
  });
}

planning.run();
atStart.run();
atReload.run();
usage.run();
