import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseMac } from "../../lab/mac.ts";
import { Witness } from "../../lab/outage/witness.ts";
import { GATEWAY, NODES } from "../../lab/topology.ts";
import { ARP_REPLY, ARP_REQUEST, BROADCAST, encodeArp, NO_MAC } from "../../src/core/arp.ts";

const VIP = "10.9.0.1";
const [N1, N2] = [NODES[0]!, NODES[1]!];
const CLIENT_MAC = "02:00:00:00:00:64";

type Step = (witness: Witness) => void;
const bytes = (ip: string) => Uint8Array.from(ip.split("."), Number);

const request = (mac: string, spa: string, tpa: string, source = mac) =>
  encodeArp({
    destination: BROADCAST,
    source: parseMac(source),
    op: ARP_REQUEST,
    sha: parseMac(mac),
    spa: bytes(spa),
    tha: NO_MAC,
    tpa: bytes(tpa),
  });

const hostAsks: Step = (witness) => witness.see("in", 4, request(CLIENT_MAC, "10.9.255.100", VIP), 0);
const gatewayAsks: Step = (witness) => {
  const frame = request(GATEWAY.mac, GATEWAY.ip, VIP);
  for (const port of [1, 2, 3]) witness.see("out", port, frame, 0);
};
const answers =
  (port: number, sha: string, asker: string, source = sha): Step =>
  (witness) =>
    witness.see(
      "in",
      port,
      encodeArp({
        destination: parseMac(asker),
        source: parseMac(source),
        op: ARP_REPLY,
        sha: parseMac(sha),
        spa: bytes(VIP),
        tha: parseMac(asker),
        tpa: bytes("10.9.255.100"),
      }),
      1,
    );
const announces =
  (port: number, mac: string, source = mac): Step =>
  (witness) =>
    witness.see("in", port, request(mac, VIP, VIP, source), 0);
const handOver: Step = (witness) => witness.expect(VIP, [N1, N2]);

const fine: [name: string, steps: Step[]][] = [
  ["the owner answers a host once", [hostAsks, answers(2, N2.mac, CLIENT_MAC)]],
  [
    "the owner answers the gateway once, though the request left by three ports",
    [gatewayAsks, answers(2, N2.mac, GATEWAY.mac)],
  ],
  ["the owner announces", [announces(2, N2.mac)]],
  [
    "two hosts ask, and two are answered",
    [hostAsks, gatewayAsks, answers(2, N2.mac, CLIENT_MAC), answers(2, N2.mac, GATEWAY.mac)],
  ],
  ["in a hand-over either may claim", [handOver, announces(2, N2.mac), announces(1, N1.mac)]],
];
for (const [name, steps] of fine) {
  test(`as promised: ${name}`, () => assert.equal(run(steps), []));
}

const wrong: [name: string, steps: Step[], words: RegExp][] = [
  [
    "another node answers",
    [hostAsks, answers(1, N1.mac, CLIENT_MAC)],
    /of n2, was claimed for 02:00:00:00:00:01 from port p1/,
  ],
  [
    "a leader answers for the owner",
    [hostAsks, answers(1, N2.mac, CLIENT_MAC, N1.mac)],
    /Ethernet source .*:01 and SHA .*:02/,
  ],
  [
    "the owner's answer comes from another port",
    [hostAsks, answers(1, N2.mac, CLIENT_MAC)],
    /of n2, was claimed from port p1/,
  ],
  ["another node announces", [announces(1, N1.mac)], /claimed for 02:00:00:00:00:01/],
  [
    "one request has two answers",
    [hostAsks, answers(2, N2.mac, CLIENT_MAC), answers(2, N2.mac, CLIENT_MAC)],
    /had two answers/,
  ],
  [
    "a gateway's broadcast counts as one request",
    [gatewayAsks, answers(2, N2.mac, GATEWAY.mac), answers(2, N2.mac, GATEWAY.mac)],
    /had two answers/,
  ],
];
for (const [name, steps, words] of wrong) {
  test(`not as promised: ${name}`, () => assert.match(run(steps).join("\n"), words));
}

test("ARP for other addresses is ignored", () => {
  const witness = new Witness(GATEWAY.mac);
  witness.see("in", 1, request(N1.mac, "10.9.255.1", "10.9.255.2"), 0);
  assert.equal([witness.claims, witness.broken.size], [0, 0]);
});

function run(steps: Step[]): string[] {
  const witness = new Witness(GATEWAY.mac);
  witness.expect(VIP, [N2]);
  for (const step of steps) step(witness);
  return [...witness.broken];
}

test.run();
