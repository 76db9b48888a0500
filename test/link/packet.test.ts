/** What a listening socket takes of a host's frames. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { CLIENT_MAC, NODE_MAC, Rig } from "../../lab/kernel/rig.ts";
import { parseMac } from "../../lab/mac.ts";
import { inNamespace } from "../../lab/namespaces.ts";
import { addressBytes, formatAddress, parseAddress, parseRange } from "../../src/core/address.ts";
import { ARP_REPLY, announcement, formatMac } from "../../src/core/arp.ts";
import { ETH_P_ISAT } from "../../src/core/wire.ts";
import { type Claimant, Claimants } from "../../src/link/claimants.ts";
import { ListeningSocket } from "../../src/link/packet.ts";

const test = suite("a listening socket");
const rig = new Rig("isat-t-link-pkt-");
const POD_MAC = "02:00:00:00:00:31";
rig.wire("eth1", "c1", POD_MAC, "02:00:00:00:00:32");
const pod = rig.port("client", "c1");
test.after(() => {
  pod[Symbol.dispose]();
  rig[Symbol.dispose]();
});

const ISAT = "88b5";
const EVERYBODY = "ff:ff:ff:ff:ff:ff";
/** A frame with a number of its own. */
function frameOf(number: number, destination: string, tag = ""): Uint8Array {
  const head = `${destination}${CLIENT_MAC}`.replaceAll(":", "");
  return Uint8Array.from(
    Buffer.from(`${head}${tag}${ISAT}${number.toString(16).padStart(2, "0")}`.padEnd(120, "0"), "hex"),
  );
}
const numberOf = (frame: Uint8Array) => frame[14]!;

test("it takes untagged frames of its interfaces that are for this host or for all, and no others", async () => {
  const socket = inNamespace(rig.namespaces.full("node"), () => new ListeningSocket(ETH_P_ISAT, []));
  const heard: number[] = [];
  const done = socket.listen(
    ({ ifindex, frame }) => heard.push(100 * ifindex + numberOf(frame)),
    (error) => assert.unreachable(error.message),
  );
  const [eth0, eth1] = ["eth0", "eth1"].map((name) => rig.ifindex(name)) as [number, number];
  const sendAll = (from: number) => {
    rig.client.send(frameOf(from, NODE_MAC));
    rig.client.send(frameOf(from + 1, EVERYBODY));
    rig.client.send(frameOf(from + 2, "02:00:00:00:00:99")); // for another host
    rig.client.send(frameOf(from + 3, NODE_MAC, "81000005")); // in a VLAN
    rig.client.send(frameOf(from + 4, NODE_MAC, "8100e000")); // with a priority only
    pod.send(frameOf(from, POD_MAC));
    pod.send(frameOf(from + 1, EVERYBODY));
  };
  try {
    sendAll(1);
    await sleep(300);
    assert.equal(heard, [], "it has no interfaces yet");
    socket.only([eth0]);
    sendAll(11);
    await until("three frames", () => heard.length >= 3);
    await sleep(300);
    assert.equal(
      heard.splice(0),
      [11, 12, 15].map((number) => 100 * eth0 + number),
    );
    socket.only([eth1, eth0]);
    sendAll(21);
    await until("five frames", () => heard.length >= 5);
    assert.equal(
      heard.sort(),
      [...[21, 22, 25].map((number) => 100 * eth0 + number), ...[21, 22].map((number) => 100 * eth1 + number)].sort(),
    );
  } finally {
    socket[Symbol.dispose]();
    await done;
  }
});

test("what fails in one frame keeps no other from being taken, and other work has its turn after 64", async () => {
  const socket = inNamespace(rig.namespaces.full("node"), () => new ListeningSocket(ETH_P_ISAT, [rig.ifindex("eth0")]));
  const turns: number[] = [];
  let inTurn = 0;
  let isScheduled = false;
  const errors: string[] = [];
  for (let i = 0; i < 200; i++) rig.client.send(frameOf(i, NODE_MAC));
  const done = socket.listen(
    ({ frame }) => {
      inTurn += 1;
      if (!isScheduled)
        setImmediate(() => {
          turns.push(inTurn);
          [inTurn, isScheduled] = [0, false];
        });
      isScheduled = true;
      if (numberOf(frame) % 50 === 0) throw new Error(`frame ${numberOf(frame)}`);
    },
    ({ message }) => errors.push(message),
  );
  const count = () => turns.reduce((sum, each) => sum + each, 0);
  await until("all frames", () => count() === 200);
  assert.equal(errors, ["frame 0", "frame 50", "frame 100", "frame 150"]);
  assert.ok(Math.max(...turns) <= 64, turns.join());
  socket[Symbol.dispose]();
  await done;
});

test("of ARP it takes, where it is told, what senders in some ranges say; a flood of that is cut short each second", async () => {
  const heard: Claimant[] = [];
  const claimants = inNamespace(
    rig.namespaces.full("node"),
    () =>
      new Claimants(
        (claimant) => heard.push(claimant),
        (error) => assert.unreachable(error.message),
      ),
  );
  const [eth0, eth1] = ["eth0", "eth1"].map((name) => rig.ifindex(name)) as [number, number];
  const rangeOf = (text: string) => parseRange(text)!;
  const claim = (address: string, mac = CLIENT_MAC, port = rig.client) =>
    port.send(announcement(parseMac(mac), addressBytes(parseAddress(address)), ARP_REPLY));
  const texts = () =>
    heard.splice(0).map(({ ifindex, address, mac }) => [ifindex, formatAddress(address), formatMac(mac)]);
  try {
    const many = Array.from({ length: 200 }, (_, i) => rangeOf(`10.7.${i}.1`)); // more than a filter has
    const ranges = ["10.9.0.10-10.9.0.19", "10.9.1.0/24", "255.255.255.0/24"].map(rangeOf);
    claimants.listenOn([
      { link: { ifindex: eth0, mac: parseMac(NODE_MAC) }, ranges: [...ranges, ...many] },
      { link: { ifindex: eth1, mac: parseMac(POD_MAC) }, ranges: [] },
    ]);
    for (const address of ["10.9.0.9", "10.9.0.10", "10.9.0.19", "10.9.0.20", "10.9.1.0", "10.9.1.255", "10.9.2.0"])
      claim(address);
    for (const address of ["10.7.0.1", "10.7.199.1", "10.7.199.2", "255.255.255.7", "0.0.0.0"]) claim(address);
    claim("10.9.0.11", NODE_MAC); // a loop
    claim("10.9.0.12", CLIENT_MAC, pod);
    await until("all have come", () => heard.length >= 7);
    await sleep(300);
    const expected = ["10.9.0.10", "10.9.0.19", "10.9.1.0", "10.9.1.255", "10.7.0.1", "10.7.199.1", "255.255.255.7"];
    assert.equal(
      texts(),
      expected.map((address) => [eth0, address, CLIENT_MAC]),
    );
    for (let i = 0; i < 3_000; i++) claim("10.9.0.10");
    await until("some have come", () => heard.length >= 150);
    assert.ok(heard.length <= 700, `${heard.length} of 3,000 were looked at`);
    await sleep(2_100);
    heard.length = 0;
    claim("10.9.0.10");
    await until("it is heard again", () => heard.length === 1);
  } finally {
    claimants[Symbol.dispose]();
  }
});

test.run();
