// limit: 240 s
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, until } from "../../lab/kernel/process.ts";
import { Rig, VIP } from "../../lab/kernel/rig.ts";

const test = suite("VIPs on lo");
const rig = new Rig("isat-t-spk-accept-");
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

/** The addresses of `lo` with their labels, but for 127.0.0.1. */
async function onLo(namespace = "node", from = rig): Promise<Record<string, string>> {
  const [{ addr_info: all }] = JSON.parse(await from.must(namespace, "ip", "-j", "-4", "addr", "show", "dev", "lo"));
  const others = (all as { local: string; prefixlen: number; label: string }[]).filter(
    ({ prefixlen }) => prefixlen === 32,
  );
  return Object.fromEntries(others.map(({ local, label }) => [local, label]));
}
const isatsOwn = (...vips: string[]) => Object.fromEntries(vips.map((vip) => [vip, "lo:isat"]));
const owned = (...vips: string[]) => vips.map((vip) => `{ address: ${vip}, nodes: [n1] }`);

test("a speaker puts its VIPs on lo, takes off what goes, and leaves alone what an administrator put there", async () => {
  rig.namespaces.ip("node", ["addr add 10.9.0.2/32 dev lo"]);
  try {
    const both = { ...isatsOwn("10.9.0.1", "10.9.0.3"), "10.9.0.2": "lo" };
    const first = await rig.serve({ vips: [...owned("10.9.0.1-10.9.0.3"), "{ address: 10.9.0.4, nodes: [n2] }"] });
    await becomes(() => onLo(), both);
    await first.end("SIGKILL");
    assert.equal(await onLo(), both, "the kernel goes on answering, so the node goes on accepting");
    // What a speaker that was killed has left is known by its label.
    const second = await rig.serve({ vips: owned("10.9.0.3", "10.9.0.2") });
    await becomes(() => onLo(), { ...isatsOwn("10.9.0.3"), "10.9.0.2": "lo" });
    rig.configure({ vips: owned("10.9.0.2") });
    await becomes(() => onLo(), { "10.9.0.2": "lo" });
    rig.configure({ vips: owned("10.9.0.3") });
    await becomes(() => onLo(), { ...isatsOwn("10.9.0.3"), "10.9.0.2": "lo" });
    await second.end();
    assert.is((await rig.clean()).status, 0);
    assert.equal(await onLo(), { "10.9.0.2": "lo" });
  } finally {
    rig.namespaces.ip("node", ["addr del 10.9.0.2/32 dev lo"]);
  }
});

test("a VIP of a block of a thousand is accepted, and clean takes all off", async () => {
  await rig.serve({ vips: owned("10.9.4.0/22") });
  await until("all are there", async () => Object.keys(await onLo()).length === 1024);
  await rig.reset();
  assert.equal(await onLo(), {});
});

test("--clean-on-exit takes them off, too", async () => {
  const speaker = await rig.serve({ vips: owned(VIP) }, "--clean-on-exit");
  await becomes(() => onLo(), isatsOwn(VIP));
  await speaker.end();
  assert.equal(await onLo(), {});
});

test("while the guard cannot stand on an interface, no VIP is put on lo, and it is said", async () => {
  rig.wire("eth1", "c1", "02:00:00:00:00:11", "02:00:00:00:01:64");
  rig.namespaces.ip("node", ["addr add 10.10.255.1/16 dev eth1"]);
  const place = ["dev", "eth1", "ingress", "protocol", "all", "prio", "1", "handle", "0x15a7"];
  const programs = join(await rig.othersPrograms(), "pass_tc");
  await rig.must("node", "tc", "qdisc", "add", "dev", "eth1", "clsact");
  await rig.must("node", "tc", "filter", "add", ...place, "bpf", "da", "pinned", programs);
  try {
    const speaker = await rig.serve({ hook: "tc", vips: owned(VIP) });
    await speaker.says(/VIPs are not put on lo as isat's programs are not attached to eth1/);
    assert.equal(await onLo(), {});
    await rig.answersWith();
    await rig.must("node", "tc", "filter", "del", ...place, "bpf");
    await becomes(() => onLo(), isatsOwn(VIP));
  } finally {
    rig.namespaces.ip("node", ["link del eth1"]);
  }
});

test("accept: false leaves lo alone", async () => {
  const text = () => readFileSync(rig.config, "utf8");
  rig.configure({ vips: owned(VIP) });
  writeFileSync(rig.config, `${text()}  accept: false\n`);
  const speaker = rig.start();
  await speaker.ready();
  await rig.answersWith();
  assert.equal(await onLo(), {});
});

/** The file in README.md, as it stands. */
function readmeFile(): string {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const found = /```yaml\n(node: n1[\s\S]*?)```/.exec(readme)?.[1];
  if (!found) throw new Error("Cannot find the example in README.md");
  return found;
}

test("README's example, typed into fresh network namespaces, is answered to ping, and survives a node's death", async () => {
  const file = readmeFile();
  const addresses = [...file.matchAll(/name: (n\d), address: ([\d.]+)/g)].map(([, name, address]) => ({
    name: name!,
    address: address!,
  }));
  const [, vip] = /vips: \[\{ address: ([\d.]+)/.exec(file)!;
  assert.ok(addresses.length >= 2 && vip);
  const { namespaces, folder, bpffs } = rig;
  namespaces.add("wire");
  namespaces.ip("wire", ["link add br0 type bridge", "link set br0 up", "addr add 10.9.255.200/16 dev br0"]);
  const two = addresses.slice(0, 2);
  for (const [at, { name, address }] of two.entries()) {
    namespaces.add(name);
    namespaces.link({ namespace: name, name: "eth0" }, { namespace: "wire", name: `p${at}` });
    namespaces.ip("wire", [`link set p${at} master br0`]);
    namespaces.ip(name, [`addr add ${address}/16 dev eth0`]);
  }
  // Each node has folders of its own at the places that the file leaves to their defaults, as each machine has.
  const mounts = (name: string) => {
    const own = (what: string) => {
      const path = join(what === "bpf" ? bpffs : folder, `${name}-${what}`);
      mkdirSync(path);
      return path;
    };
    writeFileSync(join(own("etc"), "isat.yaml"), file.replace("node: n1", `node: ${name}`));
    writeFileSync(join(folder, `${name}-etc`, "wire.key"), "a key that is the same on all nodes, and long enough\n", {
      mode: 0o600,
    });
    const binds: [string, string][] = [
      [join(folder, `${name}-etc`), "/etc/isat"],
      [own("run"), "/run/isat"],
      [own("lib"), "/var/lib/isat"],
      [own("bpf"), "/sys/fs/bpf/isat"],
    ];
    return binds.map(([from, to]) => `mkdir -p ${to} && mount --bind ${from} ${to}`).join(" && ");
  };
  const start = (name: string) =>
    rig.launch(
      name,
      ["run"],
      [
        "unshare",
        "--mount",
        "sh",
        "-c",
        `mount -t bpf bpf /sys/fs/bpf 2>/dev/null; ${mounts(name)} && exec "$@"`,
        "sh",
      ],
    );
  const speakers = two.map(({ name }) => ({ name, speaker: start(name) }));
  for (const { speaker } of speakers) await speaker.ready();
  const ping = async () => (await rig.execute("wire", "ping", ["-c", "1", "-W", "1", vip!])).status === 0;
  await until("a ping is answered", ping);
  const macOf = async () => /lladdr (\S+)/.exec(await rig.must("wire", "ip", "neigh", "show", vip!))?.[1];
  const macs = await Promise.all(
    two.map(
      async ({ name }) => JSON.parse(await rig.must(name, "ip", "-j", "link", "show", "eth0"))[0].address as string,
    ),
  );
  const mac = await macOf();
  const owner = macs.indexOf(mac!);
  assert.ok(owner >= 0, `the neighbour is ${mac}`);
  // The node dies: its link is cut, with its speaker and its kernel.
  namespaces.ip("wire", [`link set p${owner} down`]);
  await until("a ping is answered by the other node", ping);
  assert.is(await macOf(), macs[1 - owner]);
  assert.is(await ping(), true);
});

test.run();
