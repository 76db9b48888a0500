// limit: 420 s
/**
 * Three real speakers receive frames that are forged or replayed, and meet nodes with a name that is taken, with
 * another key, or with another version. A client asks for every VIP all the time, and notices nothing.
 */
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { parseMac } from "../../lab/mac.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import type { Speaker, SpeakerSettings } from "../../lab/speaker.ts";
import { CLIENT, type LabNode, NODES, ownerOf, VIPS } from "../../lab/topology.ts";
import { Tap } from "../../lab/trio/tap.ts";
import type { Trio } from "../../lab/trio/trio.ts";
import {
  assertMoves,
  assertQuiet,
  measured,
  n1,
  n2,
  n3,
  rewrite,
  speakerOf,
  Trios,
  without,
  words,
} from "../../lab/trio/trios.ts";
import { sumOf } from "../../lab/watch/watch.ts";
import { askStatus, tellDrain } from "../../src/control/socket.ts";
import { nodeState, type WireHeader, wireType } from "../../src/core/abi.ts";
import { BROADCAST, formatMac } from "../../src/core/arp.ts";
import {
  clusterId,
  decodeWire,
  encodeWire,
  type FileKey,
  keyring,
  nodeId,
  PUBLIC_KEY,
  wireKeyOf,
} from "../../src/core/wire.ts";
import { bootTime } from "../../src/ffi/libc.ts";
import { headerOf, speak } from "../bpf/speech.ts";

const test = suite("strangers");
const trios = new Trios("isat-t-str-");
const ringOf = (key: FileKey) => keyring([key], clusterId(""), true);
const RING = ringOf(PUBLIC_KEY);
test.after(() => trios[Symbol.dispose]());

async function applied(trio: Trio, settings: Partial<SpeakerSettings>): Promise<void> {
  const before = trio.speakers.map(({ log }) => log.length);
  trio.configure(settings);
  await until("every speaker takes the new file", () =>
    trio.speakers.every(({ log }, i) => log.slice(before[i]).some(({ msg }) => msg === "configuration applied")),
  );
}

/** The status of each speaker. */
const statuses = (trio: Trio) =>
  Promise.all(trio.speakers.map(async ({ runDir }) => (await askStatus(runDir, undefined))!));

/** The state that meaningless frames must not change: peers, owners and log lines. */
async function viewOf(trio: Trio) {
  const view = (await statuses(trio)).map(({ members, vips, warnings, contested, lastError }) => ({
    members: members.map(({ node, isAlive, state, mac }) => `${node} ${isAlive} ${state} ${mac}`).sort(),
    vips: vips.map(({ address, owner, state }) => `${address} ${owner} ${state}`),
    warnings,
    contested,
    lastError,
  }));
  return { view, said: trio.speakers.map(words) };
}

/** The sum of a counter over all nodes. */
async function counted(trio: Trio, name: "wire_refused" | "wire_stale" | "wire_foreign"): Promise<number> {
  const all = (await statuses(trio)).flatMap(({ interfaces }) => interfaces.map(({ verdicts }) => verdicts[name]));
  return all.reduce((sum, count) => sum + count, 0);
}

test("recorded, mutated and forged frames change nothing, not even after a restart", async () => {
  await using trio = await trios.start();
  using tap = new Tap(trio);
  speakerOf(trio, n1).isat("drain");
  await sleep(1_200);
  speakerOf(trio, n1).isat("undrain");
  await sleep(1_500);
  const frames = tap.frames.slice();
  const types = new Set(frames.map(({ frame }) => headerOf(frame).type));
  assert.equal([...types].sort(), Object.values(wireType), "every type of frame was recorded");

  const rounds: [string, (frame: Uint8Array, i: number) => Uint8Array, "wire_refused" | "wire_stale"][] = [
    ["replayed", (frame) => frame, "wire_stale"],
    [
      "with a bit turned",
      (frame, i) => {
        const turned = frame.slice();
        const bit = 14 * 8 + ((i * 7919) % ((frame.length - 14) * 8));
        turned[bit >> 3]! ^= 1 << (bit & 7);
        return turned;
      },
      "wire_refused",
    ],
    ["cut short", (frame, i) => frame.subarray(0, 14 + (i % (frame.length - 14))), "wire_refused"],
    [
      "signed by another key",
      (frame) => {
        const { claims, type, ...header } = decodeWire(frame, RING)!;
        const another = ringOf({ ...wireKeyOf("another"), id: PUBLIC_KEY.id });
        return encodeWire({ ...header, type: type as Types, claims }, another, header.version);
      },
      "wire_refused",
    ],
  ];
  type Types = (typeof wireType)[keyof typeof wireType];
  const targets = (frame: Uint8Array) => NODES.filter(({ mac }) => formatMac(frame) !== mac && isFor(frame, mac));
  const isFor = (frame: Uint8Array, mac: string) =>
    [mac, "ff:ff:ff:ff:ff:ff"].includes(formatMac(frame.subarray(0, 6)));
  for (const isRestarted of [false, true]) {
    if (isRestarted) {
      await Promise.all(trio.speakers.map((speaker) => speaker.signal("SIGKILL")));
      await trio.start();
      await sleep(1_000);
    }
    for (const [what, change, counter] of rounds) {
      const before = await viewOf(trio);
      const count = await counted(trio, counter);
      const report = await trio.watched(VIPS, async () => {
        for (const [i, { from, frame }] of frames.entries()) {
          for (const to of targets(frame)) if (to !== from) tap.send(to, change(frame, i));
          if (i % 20 === 0) await sleep(1);
        }
        await sleep(300);
      });
      assertQuiet(report);
      assert.equal(await viewOf(trio), before, what);
      assert.ok((await counted(trio, counter)) - count >= frames.length / 2, `${what}: ${counter} counts them`);
    }
  }
  measured(`${frames.length} frames were recorded, and played ${rounds.length * 2} times`);
});

/** Returns the frame with tags of these VLANs. */
const tagged = (frame: Uint8Array, ...vlans: number[]) =>
  Uint8Array.from([...frame.subarray(0, 12), ...vlans.flatMap((vlan) => [0x81, 0, 0, vlan]), ...frame.subarray(12)]);

test("frames of a node's earlier speaker, replayed to it while it starts, do not hold it up", async () => {
  await using trio = await trios.start();
  using tap = new Tap(trio);
  const speaker = speakerOf(trio, n1);
  const sent = (type: number, destination: string) =>
    until(`a frame of type ${type}`, () => {
      const is = (frame: Uint8Array) =>
        headerOf(frame).type === type && formatMac(frame.subarray(0, 6)) === destination;
      return tap.frames.find(({ from, frame }) => from === n1 && is(frame))?.frame;
    });
  const hello = await sent(wireType.WIRE_PROBE, "ff:ff:ff:ff:ff:ff");
  await speaker.signal("SIGKILL");
  speaker.start();
  await speaker.ready();
  await sleep(1_000);
  tap.frames.length = 0;
  tap.send(n1, hello); // its kernel reports that the name is taken: to itself
  const echo = await sent(wireType.WIRE_ECHO, n1.mac);
  await sleep(500);

  const played = [hello, echo].flatMap((frame) => [
    frame,
    tagged(frame, 0),
    tagged(frame, 0, 0),
    tagged(frame, 0, 0, 0),
    tagged(frame, 5),
  ]);
  const restart = async () => {
    await speaker.signal("SIGKILL");
    if (isFresh) speaker.isat("clean");
    speaker.start();
    let isReady = false;
    const ready = speaker.ready().finally(() => {
      isReady = true;
    });
    for (let round = 0; round < 2_000 && !isReady; round++) {
      for (const frame of played) tap.send(n1, frame);
      await sleep(2);
    }
    await ready;
    await sleep(1_000);
  };
  let isFresh = false;
  assertQuiet(await trio.watched(VIPS, restart));
  isFresh = true;
  await restart();
  assert.not.match(words(speaker), /has this node's name|come back|on one wire/);
});

test("a granted claim that is replayed while it is fresh takes nothing a second time", async () => {
  await using trio = await trios.start();
  using tap = new Tap(trio);
  const { runDir } = speakerOf(trio, n1);
  await tellDrain(runDir, true);
  await sleep(1_200);
  tap.frames.length = 0;
  await tellDrain(runDir, false); // n1 claims from its peers what is its own
  await sleep(700);
  const claims = tap.frames.filter(({ from, frame }) => from === n1 && headerOf(frame).type === wireType.WIRE_CLAIM);
  assert.ok(claims.length >= 2, `${claims.length} claims were recorded`);
  await tellDrain(runDir, true); // and it is theirs again
  await sleep(300);
  const stale = await counted(trio, "wire_stale");
  const report = await trio.watched(
    VIPS,
    async () => {
      for (const to of [n2, n3]) for (const { frame } of claims) tap.send(to, frame);
      await sleep(1_000);
    },
    4,
  );
  assertMoves(report, without(n1));
  assert.is(sumOf(report).unanswered, 0);
  assert.ok((await counted(trio, "wire_stale")) - stale >= claims.length);
});

test("an echo from elsewhere under the name of a live node is not taken for that node", async () => {
  await using trio = await trios.start();
  using stranger = new Stranger(trio);
  const before = await viewOf(trio);
  let echoes = 0;
  const report = await trio.watched(VIPS, async () => {
    for (const end = performance.now() + 3_000; performance.now() < end; await sleep(1))
      echoes += stranger.echoAs("n1");
  });
  assert.ok(echoes > 0);
  assertQuiet(report);
  const after = await viewOf(trio);
  assert.equal(
    after.view.map(({ members }) => members),
    before.view.map(({ members }) => members),
  );
});

/**
 * Waits until the VIPs of a node on which no speaker runs have been taken too. Its machine answers ARP, and so it is asked
 * for them first.
 */
async function settled(speakers: readonly Speaker[]): Promise<void> {
  const began = performance.now();
  const owned = () =>
    speakers.flatMap((speaker) => speaker.status().vips.filter(({ state }) => state === "owned")).length;
  await until("each VIP has an owner", () => owned() === VIPS.length);
  console.log(`MEASURED ${(performance.now() - began).toFixed(0)} ms`);
}

// If both are asked at once, the switch's ports decide whose frames arrive last, so both orders are tested.
for (const [known, joining] of [
  [n1, n3],
  [n3, n1],
] as const) {
  test(`${joining.name} joins with the name ${known.name}: it ends with status 1, both log the reason, and nothing moves`, async () => {
    await using trio = trios.make();
    const [first, namesake] = [speakerOf(trio, known), speakerOf(trio, joining)];
    const pair = [first, speakerOf(trio, n2)];
    for (const speaker of pair) speaker.start();
    for (const speaker of pair) await speaker.ready();
    await settled(pair);
    rewrite(namesake, (text) => text.replace(`node: ${joining.name}`, `node: ${known.name}`));
    const report = await trio.watched(VIPS, async () => {
      namesake.start();
      assert.is(await namesake.closed, 1);
      await sleep(2_500);
    });
    const others = ({ mac }: LabNode) => `another node on eth0, with MAC ${mac}, has this node's name: ${known.name}`;
    assert.match(words(namesake), `Cannot serve as ${others(known)}`);
    assert.match(words(first), `error: ${others(joining)}`);
    assertMoves(report, [known, n2]);
    assert.is(sumOf(report).unanswered, 0);
    assert.throws(() => namesake.isat("status"), /nothing is answered/);
  });
}

test("a clone with a node's name that crashes all the time does not end that node while it starts again", async () => {
  await using trio = trios.make({ more: "hold: 30s" }); // longer than a start on a busy machine
  const [rightful, clone] = [speakerOf(trio, n1), speakerOf(trio, n3)];
  const pair = [rightful, speakerOf(trio, n2)];
  for (const speaker of pair) speaker.start();
  for (const speaker of pair) await speaker.ready();
  await settled(pair);
  rewrite(clone, (text) => text.replace("node: n3", "node: n1"));
  let isOver = false;
  const crashes = async () => {
    for (let i = 0; !isOver; i++) {
      clone.start();
      // Every other one is killed while it joins.
      await Promise.race([clone.closed, sleep(i % 2 === 0 ? 400 + 50 * (i % 12) : 20_000)]);
      await clone.end();
    }
  };
  const report = await trio.watched(VIPS, async () => {
    const crashing = crashes();
    try {
      for (let i = 0; i < 6; i++) {
        await rightful.signal("SIGKILL");
        rightful.start();
        await rightful.ready();
        await sleep(200);
      }
    } finally {
      isOver = true;
      await crashing;
    }
  });
  assert.match(words(clone), "Cannot serve as another node on eth0");
  assert.match(words(rightful), `error: another node on eth0, with MAC ${n3.mac}, has this node's name`);
  assertMoves(report, [n1, n2]);
  assert.is(sumOf(report).unanswered, 0);
});

test("a key file that is missing, short or readable by others is refused with one line that says what to do", async () => {
  await using trio = trios.make();
  const speaker = speakerOf(trio, n1);
  const file = join(trio.folder, "wire.key");
  for (const [prepare, expected] of [
    [
      () => {},
      `there is no such file. Make one, the same on all nodes: head -c 32 /dev/urandom | base64 > ${file} && chmod 600 ${file}. Or, where nobody else reaches the network, write membership: { keys: none }`,
    ],
    [() => writeFileSync(file, "short\n", { mode: 0o600 }), "it holds 5 characters, and 32 are the least. Make one"],
    [
      () => {
        writeFileSync(file, `${"k".repeat(44)}\n`);
        chmodSync(file, 0o644);
      },
      `others may read or write it (mode 644). Run: chmod o= ${file}`,
    ],
  ] as const) {
    prepare();
    trio.configure({ more: `membership: { keys: [${file}] }` });
    speaker.log.length = 0;
    speaker.start();
    assert.is(await speaker.closed, 1);
    const lines = speaker.log.filter(({ msg }) => msg.includes("wire key"));
    assert.is(lines.length, 1, words(speaker));
    assert.ok(lines[0]!.msg.includes(`Cannot use the wire key ${file} as ${expected}`), lines[0]!.msg);
  }
  chmodSync(file, 0o600);
  speaker.start();
  await speaker.ready();
});

/** Writes a key file for the trio. */
function keyFile(trio: Trio, name: string): string {
  const file = join(trio.folder, name);
  writeFileSync(file, `${name.repeat(20)}\n`, { mode: 0o600 });
  return file;
}

const withKeys = (...files: string[]) => `hold: 4s\nmembership: { keys: [${files.join(", ")}] }`;

test("a node with another key hears nobody, logs that, and takes only the VIPs that it wins among all nodes", async () => {
  await using trio = trios.make();
  const [ours, other] = [keyFile(trio, "ours"), keyFile(trio, "other")];
  trio.configure({ more: withKeys(ours), moreOf: { n3: withKeys(other) } });
  await trio.start();
  const third = speakerOf(trio, n3);
  const warning = await until("it warns", () =>
    third.status().warnings.find((text) => text.startsWith("no peer is heard")),
  );
  assert.match(warning, /^no peer is heard on eth0, though n1, n2 answer ARP there: /);
  assert.match(third.isat("status"), /^WARNING: no peer is heard on eth0/m);
  await sleep(4_500);
  const owned = third.status().vips.filter(({ state }) => state === "owned");
  assert.equal(
    owned.map(({ address }) => address),
    VIPS.filter((vip) => ownerOf(vip) === n3),
  );
});

test("keys are rotated on all nodes in three steps, and nothing happens", async () => {
  await using trio = trios.make();
  const [old, young] = [keyFile(trio, "old"), keyFile(trio, "young")];
  trio.configure({ more: withKeys(old) });
  await trio.start();
  const report = await trio.watched(VIPS, async () => {
    for (const keys of [[old, young], [young, old], [young]]) {
      await applied(trio, { more: withKeys(...keys) });
      await sleep(1_000);
    }
  });
  assertQuiet(report);
  for (const speaker of trio.speakers) {
    const { members } = speaker.status();
    assert.is(members.filter(({ isAlive }) => isAlive).length, 3);
  }
});

/** Makes each node's key a file in a Secret's volume of its own: a link through `..data`, which is swapped. */
function swapSecrets(trio: Trio, text: string): void {
  for (const { name } of NODES) {
    const at = join(trio.folder, `secret-${name}`);
    mkdirSync(join(at, text), { recursive: true });
    writeFileSync(join(at, text, "wire.key"), text.repeat(20), { mode: 0o600 });
    symlinkSync(text, join(at, "..data_tmp"));
    renameSync(join(at, "..data_tmp"), join(at, "..data"));
  }
}

test("a key that is replaced in its place on all nodes, and each speaker restarted after that: nothing happens", async () => {
  await using trio = trios.make();
  swapSecrets(trio, "old");
  const moreOf: Record<string, string> = {};
  for (const { name } of NODES) {
    const file = join(trio.folder, `secret-${name}`, "wire.key");
    symlinkSync("..data/wire.key", file);
    moreOf[name] = withKeys(file);
  }
  trio.configure({ moreOf });
  await trio.start();
  await sleep(500);
  const [old, young] = ["old", "young"].map((text) => wireKeyOf(text.repeat(20)).id);
  const said = (text: string) => () => trio.speakers.every((speaker) => words(speaker).includes(text));
  const report = await trio.watched(VIPS, async () => {
    swapSecrets(trio, "young");
    await until("all have the new key", said("configuration applied"));
    await sleep(500);
    for (const speaker of trio.speakers) {
      await speaker.signal("SIGKILL");
      speaker.start();
      await speaker.ready();
      await sleep(500);
    }
  });
  assertQuiet(report);
  assert.is.not(old, young);
  for (const { members } of await statuses(trio))
    assert.equal(
      members.map(({ key }) => key),
      [young, young, young],
    );

  // A key that is gone is refused while they run, and looked for again.
  const gone = await trio.watched(VIPS, async () => {
    for (const { name } of NODES) rmSync(join(trio.folder, `secret-${name}`, "..data"));
    await until("all refuse it", said("configuration refused, the old one is served: Cannot use the wire key"));
    await sleep(1_000);
    for (const { log } of trio.speakers) log.length = 0;
    swapSecrets(trio, "later");
    await until("all take the next one", said("configuration applied"));
    await sleep(500);
  });
  assertQuiet(gone);
  const later = wireKeyOf("later".repeat(20)).id;
  for (const { members } of await statuses(trio))
    assert.equal(
      members.map(({ key }) => key),
      [later, later, later],
    );
});

test("two announcing interfaces on one segment: the speaker announces on the first only, and logs that", async () => {
  await using trio = trios.make();
  const mac = "02:00:00:00:00:11";
  const place = trio.place("n1");
  trios.namespaces.link({ namespace: place, name: "eth1", mac }, { namespace: trio.place("switch"), name: "p5" });
  trios.namespaces.ip(trio.place("switch"), ["link set p5 master br0"]);
  const first = speakerOf(trio, n1);
  rewrite(first, (text) => text.replace("interfaces: [eth0]", "interfaces: [eth0, eth1]"));
  await trio.start();
  await until("it says so", () => words(first).includes("eth0 and eth1 are on one wire: announcing on eth0 only."));
  await sleep(1_500);
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
  const { warnings } = first.status();
  assert.ok(warnings.includes("Cannot announce on eth1 as it is on one wire with eth0, which announces for both"));

  // The second interface stays off while this lasts, even with a new configuration.
  rewrite(first, (text) => `${text}# again\n`);
  assertQuiet(await trio.watched(VIPS, () => sleep(65_000)));
  assert.is(words(first).match(/interface eth1 .* attached/g)?.length, 1);

  // The cables are corrected.
  trios.namespaces.ip(trio.place("switch"), ["link set p5 nomaster"]);
  const isBack = () => first.status().interfaces.some(({ name }) => name === "eth1");
  assert.not.ok(isBack());
  await until("eth1 is back", isBack, 70_000);
  assert.not.match(first.status().warnings.join(), "eth1 as");
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
});

/** Gives n1 a second interface, whose wire ends at the switch and is no port of it. Its speaker announces there too. */
function addSecondWire(trio: Trio) {
  trios.namespaces.link(
    { namespace: trio.place("n1"), name: "eth1", mac: "02:00:00:00:00:11" },
    { namespace: trio.place("switch"), name: "p5" },
  );
  const first = speakerOf(trio, n1);
  rewrite(first, (text) => text.replace("interfaces: [eth0]", "interfaces: [eth0, eth1]"));
  return first;
}

test("a hello recorded on one interface of a node and replayed on another disables neither", async () => {
  await using trio = trios.make();
  const first = addSecondWire(trio);
  await trio.start();
  using tap = new Tap(trio);
  using other = new PacketPort(trios.namespaces.full(trio.place("switch")), "p5");
  const isHello = (frame: Uint8Array) => formatMac(frame.subarray(0, 6)) === "ff:ff:ff:ff:ff:ff";
  const { frame } = await until("a hello", () => tap.frames.find(({ from, frame }) => from === n1 && isHello(frame)));
  await sleep(3_000); // two others have left since
  for (const to of [frame, tagged(frame, 0), tagged(frame, 0, 0, 0)]) other.send(to);
  await sleep(1_000);
  assert.not.match(words(first), "on one wire");
  assert.is(first.status().interfaces.length, 2);
});

test("a relay that copies hellos from one of a node's wires to another as they come bars neither interface", async () => {
  await using trio = trios.make();
  const first = addSecondWire(trio);
  await trio.start();
  using tap = new Tap(trio);
  using other = new PacketPort(trios.namespaces.full(trio.place("switch")), "p5");
  let copied = 0;
  const relay = async () => {
    for (const end = performance.now() + 8_000; performance.now() < end; await sleep(1)) {
      for (const { from, frame } of tap.frames.splice(0)) {
        if (from !== n1 || formatMac(frame.subarray(0, 6)) !== "ff:ff:ff:ff:ff:ff") continue;
        other.send(frame);
        copied += 1;
      }
    }
  };
  assertQuiet(await trio.watched(VIPS, relay));
  assert.ok(copied >= 4, `${copied} hellos were copied`);
  assert.not.match(words(first), "on one wire");
  assert.is(first.status().interfaces.length, 2);
});

/** A hand-made peer in the client's place. */
class Stranger implements Disposable {
  readonly #port: PacketPort;
  readonly #node = nodeId("n9");
  readonly #incarnation = 9n;

  constructor(trio: Trio) {
    this.#port = new PacketPort(trios.namespaces.full(trio.place(CLIENT.name)), "eth0");
  }

  /** Sends a probe, with the given version and highest version. */
  probe(fields: Partial<WireHeader>): void {
    const header = { type: wireType.WIRE_PROBE, state: nodeState.LIVE, destination: BROADCAST, nonce: 1n, ...fields };
    const who = { source: parseMac(CLIENT.mac), node: this.#node, incarnation: this.#incarnation, name: "n9" };
    this.#port.send(speak({ ...header, ...who }, RING.keys[0]!));
  }

  /** Answers the hellos that have arrived, as a joining node of that name. @returns their number */
  echoAs(name: string): number {
    let count = 0;
    for (let frame = this.#port.receive(); frame; frame = this.#port.receive()) {
      const probe = decodeWire(frame, RING);
      if (probe?.type !== wireType.WIRE_PROBE || probe.node === nodeId(name)) continue;
      const { source: destination, incarnation: to, nonce } = probe;
      const who = { source: parseMac(CLIENT.mac), node: nodeId(name), incarnation: this.#incarnation, name };
      const header = { type: wireType.WIRE_ECHO, state: nodeState.JOINING, destination, to, nonce, stamp: bootTime() };
      this.#port.send(speak({ ...header, ...who }, RING.keys[0]!));
      count += 1;
    }
    return count;
  }

  /** Reads the echo of a node to a probe. */
  echo(node: LabNode, nonce: bigint) {
    return until(`${node.name} echoes`, () => {
      for (let frame = this.#port.receive(); frame; frame = this.#port.receive()) {
        const message = decodeWire(frame, RING);
        if (message?.nonce === nonce && formatMac(message.source) === node.mac) return message;
      }
      return undefined;
    });
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
  }
}

test("frames of a newer protocol are refused and counted; a newer peer that uses our version is understood", async () => {
  await using trio = await trios.start();
  using stranger = new Stranger(trio);
  const refused = await counted(trio, "wire_refused");
  stranger.probe({ version: 3, max_version: 3 });
  await until("all refuse it", async () => (await counted(trio, "wire_refused")) === refused + NODES.length);

  stranger.probe({ max_version: 3, nonce: 2n });
  const { incarnation, stamp } = await stranger.echo(n1, 2n);
  stranger.probe({ max_version: 3, nonce: 3n, destination: parseMac(n1.mac), to: incarnation, stamp });
  await stranger.echo(n1, 3n);
  const known = speakerOf(trio, n1).maps(({ peers }) => [...peers.entries()].map(([, peer]) => peer));
  assert.equal(
    known.filter(({ node }) => node === "n9").map(({ max_version }) => max_version),
    [3],
  );
  assertQuiet(await trio.watched(VIPS, () => sleep(500)));
});

test("another cluster with the same key and the same names changes nothing, is counted and named, and ends nobody", async () => {
  await using trio = await trios.start();
  using port = new PacketPort(trios.namespaces.full(trio.place(CLIENT.name)), "eth0");
  const [foreign] = keyring([PUBLIC_KEY], clusterId("another"), false).keys;
  const speaker = speakerOf(trio, n1);
  const before = await counted(trio, "wire_foreign");
  const report = await trio.watched(VIPS, async () => {
    await speaker.signal("SIGKILL"); // a speaker that joins would end for its name
    speaker.start();
    const ready = speaker.ready();
    for (let nonce = bootTime(), times = 0; times < 90; times++, nonce += 2n) {
      for (const { name } of NODES) {
        const who = { source: parseMac(CLIENT.mac), node: nodeId(name), incarnation: 9n, name, state: nodeState.LIVE };
        const said = { ...who, destination: BROADCAST, nonce, to: 0n };
        port.send(speak({ ...said, type: wireType.WIRE_PROBE }, foreign!));
        port.send(speak({ ...said, type: wireType.WIRE_NOTICE, stamp: bootTime() }, foreign!));
      }
      await sleep(50);
    }
    await ready;
  });
  assertQuiet(report);
  assert.ok((await counted(trio, "wire_foreign")) >= before + 400);
  const all = await statuses(trio);
  for (const { members, warnings } of all) {
    assert.equal(members.map(({ node }) => node).sort(), ["n1", "n2", "n3"]);
    assert.match(warnings.join(), /is of another cluster \(identity [0-9a-f]{16}\), so it is not believed/);
  }
});

test.run();
