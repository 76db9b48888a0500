/** What a listening socket takes of a host's frames. */
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { CLIENT_MAC, NODE_MAC, Rig } from "../../lab/kernel/rig.ts";
import { inNamespace } from "../../lab/namespaces.ts";
import { ETH_P_ISAT } from "../../src/core/wire.ts";
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

test.run();
