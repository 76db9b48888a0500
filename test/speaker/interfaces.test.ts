// limit: 240 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, until } from "../../lab/kernel/process.ts";
import { NODE_IP, NODE_MAC, Rig, VIP } from "../../lab/kernel/rig.ts";
import { whoHas } from "../../lab/who-has.ts";
import type { Status } from "../../src/report/status.ts";

const test = suite("where a speaker announces, and where it keeps its node silent");
const rig = new Rig("isat-t-spk-where-");
const MAC = "02:00:00:00:00:11";
const CLIENT = { mac: "02:00:00:00:01:64", ip: "10.10.255.100" };

test.after(() => rig[Symbol.dispose]());
test.after.each(async () => {
  await rig.reset();
  for (const line of [
    "link del eth1",
    "link del enp3s0",
    "link del wan0",
    "link del mv0",
    "addr flush dev lo label lo",
  ])
    await rig.execute("node", "ip", line.split(" "));
  await rig.execute("node", "ip", ["route", "flush", "default"]);
  await rig.execute("node", "ip", ["addr", "del", `${VIP}/32`, "dev", "lo"]);
  await rig.execute("node", "ip", ["addr", "add", `${NODE_IP}/16`, "dev", "eth0"]);
});

const ip = (...lines: string[]) => rig.namespaces.ip("node", lines);

/** A second NIC of the node, in a subnet of its own, and the client's port on its wire. */
function second(name = "eth1", address = "10.10.255.1/16") {
  rig.wire(name, "c1", MAC, CLIENT.mac);
  ip(`addr add ${address} dev ${name}`);
  return rig.port("client", "c1");
}

/** The MACs that answer for the VIP on a port, after a second request had time to be answered too. */
async function answeredOn(port: ReturnType<typeof second>, vip = VIP): Promise<string[]> {
  rig.heard(port);
  port.send(whoHas(vip, CLIENT));
  return rig.answers(vip, port);
}

const attachedTo = async (name: string) => Object.keys(await rig.attached(name)).length > 0;
const announcing = async () => {
  const { stdout } = await rig.isat(["status", "--config", rig.config, "--json"]);
  return (JSON.parse(stdout) as { interfaces: { name: string }[] }).interfaces.map(({ name }) => name).sort();
};

for (const interfaces of ["[eth0, enp3s0]", "[eth*, en*]"]) {
  test(`interfaces: ${interfaces} serves what is there, says what is not, and takes it when it comes`, async () => {
    const speaker = await rig.serve({ interfaces });
    await rig.answersWith();
    const { stdout } = await rig.isat(["status", "--config", rig.config]);
    assert.match(stdout, /en(p3s0|\*): no interface of this node has that name/);
    assert.is(speaker.log.filter(({ level }) => level === "error").length, 0);
    using port = second("enp3s0");
    await rig.answersWith(MAC, VIP, port);
    assert.equal(await announcing(), ["enp3s0", "eth0"]);
  });
}

test("where no configured interface is there, and none ever was, the start is refused", async () => {
  rig.configure({ interfaces: "[eth7, en*]" });
  const speaker = rig.start();
  assert.is((await speaker.ended()).code, 1);
  assert.match(speaker.stderr, /Cannot announce on eth7 as there is no such interface\. There are: .*eth0/);
});

test("status of a VIP that this node does not announce says why, and who may own it", async () => {
  const vips = [`{ address: ${VIP}, nodes: [n1] }`, "{ address: 10.9.0.2, nodes: [n2], interfaces: [eth7] }"];
  await rig.serve({ vips });
  const one = await rig.isat(["status", "--config", rig.config, "10.9.0.2"]);
  assert.is(one.status, 1);
  assert.is(
    one.stderr.trim(),
    "isat: 10.9.0.2 is a VIP, and not announced here: it is for eth7 only, and this node announces on eth0. The nodes that may own it: n2",
  );
  const json = await rig.isat(["status", "--config", rig.config, "--json", "10.9.0.2"]);
  const told = JSON.parse(json.stdout) as Status;
  assert.equal([told.vips, told.rankings], [[], undefined]);
  assert.match(told.absent!, /eth7 only/);
});

test("a VIP that this node may own, for an interface that no node has, is warned of", async () => {
  const speaker = await rig.serve({
    vips: [`{ address: ${VIP} }`, "{ address: 10.9.0.2, nodes: [n1], interfaces: [eth7] }"],
  });
  const says = /10\.9\.0\.2 is announced by nobody: it is for eth7 only, and no node .* has an interface of that name/;
  await speaker.says(says);
  const { warnings } = JSON.parse((await rig.isat(["status", "--config", rig.config, "--json"])).stdout) as Status;
  assert.match(warnings.join("\n"), says);
});

test("F12: of more VIPs than the kernel's map holds, the first ones are served, a restart goes on so, and it is said", async () => {
  using _port = second();
  const its = (block: string) => `{ address: ${block}, nodes: [n1] }`;
  const vips = [its("10.9.0.1-10.9.128.0"), its("10.10.0.1-10.10.15.0")]; // 36,608 on two interfaces
  const says = /Cannot hold all VIPs in the kernel's map, which takes 65536 entries .*: the youngest are left out/;
  const first = await rig.serve({ interfaces: "[eth0, eth1]", vips });
  await first.says(says);
  await rig.answersWith(NODE_MAC, "10.9.127.255");
  assert.equal(await rig.answers("10.10.0.1"), []);
  const { stderr } = await rig.isat(["status", "--config", rig.config, "10.10.0.1"]);
  assert.match(stderr, /10\.10\.0\.1 is a VIP, and left out on this node/);
  await first.end();
  const again = await rig.serve({ interfaces: "[eth0, eth1]", vips });
  await again.says(says);
  await rig.answersWith(NODE_MAC, "10.9.127.255");
});

test("a restart while the only interface is away waits for it", async () => {
  const first = await rig.serve({});
  await first.end();
  ip("link set eth0 down", "link set eth0 name away0");
  try {
    const speaker = rig.start();
    await speaker.says(/Cannot announce on eth0 as there is no such interface/);
    await speaker.ready();
  } finally {
    ip("link set away0 name eth0", "link set eth0 up");
  }
  await rig.answersWith();
});

test("auto: a VIP is announced where a subnet has it, wherever the default route is", async () => {
  using port = second();
  ip("route add default via 10.10.0.1 dev eth1");
  await rig.serve({ interfaces: null });
  await rig.answersWith();
  assert.equal(await announcing(), ["eth0"]);
  assert.equal(await answeredOn(port), []);
});

for (const [name, make] of [
  [
    "a device that does no ARP",
    [
      "link add wan0 type veth peer wan1",
      "link set wan1 up",
      "link set wan0 arp off up",
      "addr add 192.0.2.1/24 dev wan0",
    ],
  ],
  ["a tunnel", ["tuntap add wan0 mode tun", "addr add 192.0.2.1/24 dev wan0", "link set wan0 up"]],
] as const) {
  test(`auto: a default route on ${name} does not say where to announce`, async () => {
    ip(...make, "route add default via 192.0.2.2 dev wan0 onlink");
    await rig.serve({ interfaces: null });
    await rig.answersWith();
    assert.equal(await announcing(), ["eth0"]);
  });
}

test("auto: a VIP in no subnet is announced on the default route's interface, and a restart without that route keeps it", async () => {
  using port = second();
  const vips = ["{ address: 192.0.2.7, nodes: [n1] }"];
  ip("route add default via 10.10.0.1 dev eth1");
  const first = await rig.serve({ interfaces: null, vips });
  await rig.answersWith(MAC, "192.0.2.7", port);
  await first.end();
  ip("route del default");
  const speaker = await rig.serve({ interfaces: null, vips });
  await rig.answersWith(MAC, "192.0.2.7", port);
  assert.equal(await announcing(), ["eth1"]);
  assert.equal(speaker.said(/^Cannot/), undefined);
});

test("auto: an interface that gets a subnet with a VIP in it is taken", async () => {
  ip("addr flush dev eth0");
  const port = second("eth1", "10.10.255.1/16");
  try {
    const vips = ["{ address: 10.10.0.1, nodes: [n1] }", `{ address: ${VIP}, nodes: [n1] }`];
    await rig.serve({ interfaces: null, vips });
    await rig.answersWith(MAC, "10.10.0.1", port);
    assert.equal(await announcing(), ["eth1"]);
    ip(`addr add ${NODE_IP}/16 dev eth0`);
    await rig.answersWith(NODE_MAC);
    assert.equal(await announcing(), ["eth0", "eth1"]);
  } finally {
    port[Symbol.dispose]();
  }
});

const SETTINGS = { vips: [`{ address: ${VIP}, nodes: [n1] }`] };
for (const [where, settings] of [
  ["an interface that is not listed", { ...SETTINGS, interfaces: "[eth0]" }],
  [
    "an interface that a VIP leaves out",
    { interfaces: "[eth0, eth1]", vips: [`{ address: ${VIP}, nodes: [n1], interfaces: [eth0] }`] },
  ],
  ["an interface that auto does not choose", { ...SETTINGS, interfaces: null }],
] as const) {
  test(`a VIP on lo is not answered by the node's kernel on ${where}`, async () => {
    using port = second();
    rig.namespaces.sysctl("node", "net/ipv4/conf/eth1/arp_ignore", 0);
    ip(`addr add ${VIP}/32 dev lo`);
    assert.equal([...new Set(await answeredOn(port))], [MAC], "without isat, the kernel answers there");
    await rig.serve(settings);
    await rig.answersWith();
    await until("the guard stands", () => attachedTo("eth1"));
    assert.equal(await answeredOn(port), []);
    // Nor does a request of the kernel's own name the VIP as its sender.
    rig.heard(port);
    await rig.execute("node", "ping", ["-c", "1", "-W", "1", "-I", VIP, "10.10.255.77"]);
    const senders = rig.heard(port).map(({ spa }) => spa.join("."));
    assert.not(senders.includes(VIP));
    assert.ok(senders.includes("10.10.255.1"));
    // The node's own address there is answered as ever.
    assert.equal([...new Set(await answeredOn(port, "10.10.255.1"))], [MAC]);
    await rig.answersWith();
  });
}

test("the guard goes with isat clean, and where the interface comes to be announced on, it answers", async () => {
  using port = second();
  await rig.serve({ ...SETTINGS, interfaces: "[eth0]" });
  await until("the guard stands", () => attachedTo("eth1"));
  rig.configure({ ...SETTINGS, interfaces: "[eth0, eth1]" });
  await rig.answersWith(MAC, VIP, port);
  rig.configure({ ...SETTINGS, interfaces: "[eth0]" });
  await until("silent again", async () => (await answeredOn(port)).length === 0);
  await rig.reset();
  await becomes(() => attachedTo("eth1"), false);
});

test("an interface may be named by an altname", async () => {
  ip("link property add dev eth0 altname enp0s31f6");
  try {
    await rig.serve({ interfaces: "[enp0s31f6]" });
    await rig.answersWith();
  } finally {
    ip("link property del dev eth0 altname enp0s31f6");
  }
});

test("a macvlan answers with its own MAC, and with another one once it has that", async () => {
  ip(
    "addr flush dev eth0",
    "link add mv0 link eth0 type macvlan mode bridge",
    "link set mv0 address 02:00:00:00:00:22 up",
  );
  ip(`addr add ${NODE_IP}/16 dev mv0`);
  const speaker = await rig.serve({ interfaces: "[mv0]" });
  await speaker.says(/Cannot keep this node silent about its VIPs on eth0/);
  await rig.answersWith("02:00:00:00:00:22");
  ip("link set mv0 address 02:00:00:00:00:23");
  await rig.answersWith("02:00:00:00:00:23");
});

test("a bridge whose MAC changes with its ports answers with the one that it has", async () => {
  ip("addr flush dev eth0", "link add br0 type bridge", "link set eth0 master br0", "link set br0 up");
  ip(`addr add ${NODE_IP}/16 dev br0`);
  try {
    await rig.serve({ interfaces: "[br0]" });
    await rig.answersWith(NODE_MAC);
    ip("link add low0 address 00:00:00:00:00:05 type veth peer low1", "link set low0 master br0");
    await rig.answersWith("00:00:00:00:00:05");
  } finally {
    await rig.execute("node", "ip", ["link", "del", "low0"]);
    ip("link del br0");
  }
});

test.run();
