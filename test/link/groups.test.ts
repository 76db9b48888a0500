/** Solicitations reach the node that manages a VIP: its NIC's filter, and a switch that snoops MLD. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import {
  addressBytes,
  formatAddress,
  type IPv6,
  ipv6OfBytes,
  parseAddress,
  parseRange,
} from "../../src/core/address.ts";
import { formatMac } from "../../src/core/arp.ts";
import { decodeNdp, SOLICITATION, solicitation, unsolicited } from "../../src/core/ndp.ts";
import { type Claimant, Claimants } from "../../src/link/claimants.ts";
import { Groups, leaveGroups } from "../../src/link/groups.ts";
import { type Link, Links } from "../../src/link/links.ts";
import { PacketSocket } from "../../src/link/packet.ts";
import { type Answer, WhoHas } from "../../src/link/who-has.ts";

const test = suite("groups of VIPs");
const namespaces = new Namespaces("isat-t-groups-");
const [VIP, OTHER] = ["2001:db8::1:1234", "2001:db8::2:5678"];
/** A switch that asks every second, and forgets who does not answer. */
const BRIDGE =
  "mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 mcast_query_response_interval 50 mcast_membership_interval 300 mcast_startup_query_interval 50";
for (const name of ["switch", "node", "client"]) {
  namespaces.add(name);
  for (const which of ["all", "default"]) {
    namespaces.sysctl(name, `net/ipv6/conf/${which}/disable_ipv6`, 0);
    namespaces.sysctl(name, `net/ipv6/conf/${which}/accept_dad`, 0);
  }
}
namespaces.ip("switch", [`link add br0 address 02:00:00:00:00:fe type bridge ${BRIDGE}`, "link set br0 up"]);
for (const name of ["node", "client"]) {
  namespaces.link({ namespace: name, name: "eth0" }, { namespace: "switch", name });
  namespaces.ip("switch", [`link set ${name} master br0`]);
}
namespaces.ip("client", ["addr add 2001:db8::c/64 dev eth0"]);

const at = <T>(name: string, body: () => T) => inNamespace(namespaces.full(name), body);
const links = at("node", () => new Links());
const link = (): Link => links.read().find(({ name }) => name === "eth0")!;
const socket = at("node", () => new PacketSocket());
const client = new PacketPort(namespaces.full("client"), "eth0");
const node = new PacketPort(namespaces.full("node"), "eth0");
const planned = (...ranges: string[]) => [{ link: link(), ranges: ranges.map(parseRange) }];
const fail = (error: Error) => assert.unreachable(error.message);
const drained = (port: PacketPort) => {
  const frames: Uint8Array[] = [];
  for (let frame = port.receive(); frame; frame = port.receive()) frames.push(frame);
  return frames;
};
const CLIENT_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x64);

test.after(() => {
  for (const each of [links, socket, client, node, namespaces]) each[Symbol.dispose]();
});

/** True if a solicitation for the address comes to the node's port of the switch. */
async function comes(address: string): Promise<boolean> {
  drained(node);
  client.send(solicitation(parseAddress(address) as IPv6, CLIENT_MAC, addressBytes(parseAddress("fe80::64"))));
  await sleep(100);
  const its = (frame: Uint8Array) => {
    const ndp = decodeNdp(frame);
    return ndp?.type === SOLICITATION && formatAddress(ipv6OfBytes(ndp.target)) === address;
  };
  return drained(node).some(its);
}

test("a switch that snoops MLD forwards solicitations for a VIP to the nodes that manage it, also after its queries", async () => {
  await until("the switch snoops", async () => !(await comes(VIP)), 15_000);
  const groups = at("node", () => new Groups(socket, fail));
  try {
    const follow = (...ranges: string[]) => at("node", () => groups.follow(planned(...ranges)));
    follow(VIP);
    await until("VIP's solicitations come", () => comes(VIP), 5_000);
    assert.not(await comes(OTHER));
    await sleep(4_000); // longer than a membership that is not renewed
    assert.ok(await comes(VIP), "it has answered the queries");
    follow(VIP, "2001:db8::2:5670-2001:db8::2:567f");
    await until("the other's come, too", () => comes(OTHER), 5_000);
    follow("2001:db8::2:5678");
    await until("the switch has forgotten the VIP", async () => !(await comes(VIP)), 10_000);
    assert.ok(await comes(OTHER));
  } finally {
    groups[Symbol.dispose]();
  }
});

const received = () => {
  const lines = at("node", () => readFileSync("/proc/thread-self/net/dev_mcast", "utf8")).split("\n");
  return lines.flatMap((line) => /eth0\s+\d+\s+1\s+(3333ff\w+)/.exec(line)?.[1] ?? []).sort();
};

test("the NIC's filter outlives a speaker; the next one takes it over, and cleaning up empties it", () => {
  const [first, second] = [1, 2].map(() => at("node", () => new Groups(socket, fail)));
  at("node", () => first!.follow(planned("2001:db8::1:1-2001:db8::1:3", "10.9.0.1", "2001:db8:7::1:2")));
  first![Symbol.dispose]();
  assert.equal(received(), ["3333ff010001", "3333ff010002", "3333ff010003"]);
  at("node", () => second!.follow(planned("2001:db8::1:3-2001:db8::1:4")));
  assert.equal(received(), ["3333ff010003", "3333ff010004"]);
  at("node", () => second!.follow([]));
  assert.equal(received(), []);
  at("node", () => second!.follow(planned("2001:db8::1:3-2001:db8::1:4")));
  second![Symbol.dispose]();
  at("node", () => leaveGroups("eth0"));
  assert.equal(received(), []);
});

test("who has an address of IPv6 is asked by a solicitation, of everybody or of one MAC", async () => {
  const answers: Answer[] = [];
  const whoHas = at("node", () => new WhoHas(socket, (answer) => answers.push(answer)));
  const mac = at("client", () => {
    using its = new Links();
    return its.read().find(({ name }) => name === "eth0")!.mac;
  });
  try {
    const target = parseAddress("2001:db8::c");
    for (const to of [undefined, mac]) {
      answers.length = 0;
      assert.is(
        at("node", () => whoHas.ask(link(), { node: undefined, target, mac: to })),
        "sent",
      );
      await until("an answer", () => answers.length > 0);
      assert.equal([answers[0]!.address, formatMac(answers[0]!.mac)], [target, formatMac(mac)]);
    }
    const mute = { ...link(), linkLocal: undefined };
    assert.is(whoHas.ask(mute, { node: undefined, target, mac: undefined }), "dropped");
  } finally {
    whoHas[Symbol.dispose]();
  }
});

test("a machine that advertises a VIP is heard", async () => {
  const heard: Claimant[] = [];
  const claimants = at("node", () => new Claimants((claimant) => heard.push(claimant), fail));
  const say = (vip: string, mac: Uint8Array) => client.send(unsolicited(mac, addressBytes(parseAddress(vip))));
  try {
    at("node", () => claimants.listenOn(planned("2001:db8::2:5670-2001:db8::2:567f")));
    for (const vip of [VIP, OTHER]) say(vip, CLIENT_MAC);
    say(OTHER, link().mac); // a loop
    await until("it is heard", () => heard.length > 0);
    await sleep(200);
    assert.equal(
      heard.map(({ address, mac }) => [formatAddress(address), formatMac(mac)]),
      [[OTHER, formatMac(CLIENT_MAC)]],
    );
  } finally {
    claimants[Symbol.dispose]();
  }
});

test.run();
