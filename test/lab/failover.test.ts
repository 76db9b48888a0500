// limit: 300 s
/**
 * Three real speakers on a real bridge, and a client that asks for every VIP all the time: who answered it, in turn, is
 * what is asserted. No test fails for a time, but for one that is far too long; the benchmarks have the times.
 */
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nodeState, wireHeader, wireType } from "../../src/core/abi.ts";
import { BROADCAST, formatMac, parseMac } from "../../src/core/frame.ts";
import { decodeWire, encodeWire, nodeId, PUBLIC_KEY, wireKeyOf } from "../../src/core/wire.ts";
import { speak } from "../bpf/speech.ts";
import { until } from "../kernel/process.ts";
import { Namespaces } from "./namespaces.ts";
import { PacketPort } from "./packet-port.ts";
import { Tap } from "./tap.ts";
import { CLIENT, type LabNode, NODES, nodeByMac, ownerOf, VIPS } from "./topology.ts";
import { type Speaker, Trio, type TrioSettings } from "./trio.ts";
import { type Report, sumOf } from "./watch.ts";

const test = suite("failover");
const namespaces = new Namespaces("isat-t-fail-");
test.after(() => namespaces[Symbol.dispose]());

const [n1, n2, n3] = NODES as [LabNode, LabNode, LabNode];
/** No silence here may be longer, ms: a generous bound. */
const MOST = 5_000;

let trios = 0;

/** Three speakers that have their shares. */
async function makeTrio(settings: Partial<TrioSettings> = {}): Promise<Trio> {
  const trio = makeSilentTrio(settings);
  await trio.start();
  return trio;
}

/** The same before any speaker has started. */
const makeSilentTrio = (settings: Partial<TrioSettings> = {}) =>
  new Trio(namespaces, `t${++trios}`, { vips: VIPS, more: "hold: 4s", ...settings });

const speakerOf = (trio: Trio, { name }: LabNode): Speaker => trio.speakers.find(({ node }) => node.name === name)!;
const without = (...nodes: LabNode[]) => NODES.filter((node) => !nodes.includes(node));
const measured = (text: string) => console.log(`MEASURED ${text}`);

/** Who answered for each VIP, in turn: `n1 > n3`. */
function turns({ vips }: Report): Record<string, string> {
  const nameOf = (mac: string) => nodeByMac(mac)?.name ?? mac;
  return Object.fromEntries(
    vips.map(({ vip, answerers }) => [vip, answerers.map(({ mac }) => nameOf(mac)).join(" > ")]),
  );
}

/** Who should, where these nodes are alive, and then those. */
function shares(...alive: (readonly LabNode[])[]): Record<string, string> {
  const inTurn = (vip: string) => alive.map((nodes) => ownerOf(vip, nodes).name);
  const isChange = (name: string, i: number, names: readonly string[]) => name !== names[i - 1];
  return Object.fromEntries(VIPS.map((vip) => [vip, inTurn(vip).filter(isChange).join(" > ")]));
}

/** The VIPs moved as they had to, and no request had two answers. */
function assertMoves(report: Report, ...alive: (readonly LabNode[])[]): void {
  const { doubled, mute, silence } = sumOf(report);
  assert.equal({ ...turns(report), doubled, mute }, { ...shares(...alive), doubled: 0, mute: 0 });
  assert.ok(silence < MOST, `silent for ${silence} ms`);
}

/** Nothing happened that a client could see. */
function assertQuiet(report: Report): void {
  assert.equal({ ...turns(report), unanswered: sumOf(report).unanswered }, { ...shares(NODES), unanswered: 0 });
  assert.is(sumOf(report).doubled, 0);
}

const silenceOf = (report: Report) => `${sumOf(report).silence.toFixed(0)} ms of silence`;

/** Changes the text of a speaker's file. */
function rewrite({ config }: Speaker, change: (text: string) => string): void {
  writeFileSync(config, change(readFileSync(config, "utf8")));
}

/** All that it logged, in one text. */
const words = ({ log }: Speaker) => log.map(({ level, msg }) => `${level}: ${msg}`).join("\n");

async function applied(trio: Trio, settings: Partial<TrioSettings>): Promise<void> {
  const before = trio.speakers.map(({ log }) => log.length);
  trio.configure(settings);
  await until("every speaker takes the new file", () =>
    trio.speakers.every(({ log }, i) => log.slice(before[i]).some(({ msg }) => msg === "configuration applied")),
  );
}

test("a node dies: each of its VIPs moves once, to whom the election says, and nobody answers twice", async () => {
  await using trio = await makeTrio();
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    trio.link(n1, "down");
    await speakerOf(trio, n1).signal("SIGKILL");
    await sleep(2_000);
  });
  assertMoves(report, NODES, without(n1));
  measured(`a node dies: ${silenceOf(report)}`);
});

test("a speaker killed, stopped or frozen for less than hold: nothing happens", async () => {
  await using trio = await makeTrio({ more: "hold: 10s" });
  for (const [what, node, signal, pause] of [
    ["kill -9, started again 1 s later", n1, "SIGKILL", 1_000],
    ["SIGTERM, started again 5 s later", n2, "SIGTERM", 5_000],
    ["SIGSTOP, SIGCONT 5 s later", n3, "SIGSTOP", 5_000],
  ] as const) {
    const speaker = speakerOf(trio, node);
    const report = await trio.watched(VIPS, async () => {
      await sleep(200);
      await speaker.signal(signal);
      await sleep(pause);
      if (signal === "SIGSTOP") await speaker.signal("SIGCONT");
      else {
        speaker.start();
        await speaker.ready();
      }
      await sleep(1_500);
    });
    assertQuiet(report);
    measured(`${what}: ${sumOf(report).unanswered} of ${sumOf(report).asked} requests unanswered`);
  }
});

test("a speaker that never comes back, killed or frozen: one move after hold, and nobody answers twice", async () => {
  await using trio = await makeTrio();
  let alive: readonly LabNode[] = NODES;
  for (const [signal, node] of [
    ["SIGKILL", n2],
    ["SIGSTOP", n1],
  ] as const) {
    const rest = alive.filter((each) => each !== node);
    const began = Date.now();
    const report = await trio.watched(VIPS, async () => {
      await speakerOf(trio, node).signal(signal);
      await sleep(6_500);
    });
    assertMoves(report, alive, rest);
    const moved = report.vips.flatMap(({ answerers }) => answerers.slice(1).map(({ at }) => at - began));
    assert.ok(Math.min(...moved) > 3_000, `moved ${Math.min(...moved)} ms after ${signal}`);
    measured(
      `${signal} for good, hold 4 s: moved after ${(Math.max(...moved) / 1_000).toFixed(1)} s, ${silenceOf(report)}`,
    );
    alive = rest;
  }
});

test("all three speakers killed at once, and back after more than hold: nothing happens", async () => {
  await using trio = await makeTrio();
  const report = await trio.watched(VIPS, async () => {
    await Promise.all(trio.speakers.map((speaker) => speaker.signal("SIGKILL")));
    await sleep(6_000);
    await trio.start();
    await sleep(2_000);
  });
  assertQuiet(report);
});

test("a drained node gives everything away, stays out over a restart, and takes its share again when undrained", async () => {
  await using trio = await makeTrio();
  const speaker = speakerOf(trio, n1);
  const drained = await trio.watched(
    VIPS,
    async () => {
      await sleep(200);
      assert.match(speaker.isat("drain"), /^drained: /m);
      await sleep(1_500);
      await speaker.signal("SIGKILL");
      speaker.start();
      await speaker.ready();
      assert.ok(speaker.status().vips.every(({ state }) => state === "not owned"));
      await sleep(500);
    },
    4,
  );
  assertMoves(drained, NODES, without(n1));
  const back = await trio.watched(
    VIPS,
    async () => {
      await sleep(200);
      speaker.isat("undrain");
      await sleep(2_000);
    },
    4,
  );
  assertMoves(back, without(n1), NODES);
  measured(`drain: ${silenceOf(drained)}; undrain: ${silenceOf(back)} (asked each 4 ms)`);
});

test("a node joins and wins VIPs: they move once, and nobody answers twice", async () => {
  await using trio = makeSilentTrio();
  const [first, second, third] = trio.speakers as [Speaker, Speaker, Speaker];
  for (const speaker of [first, second]) speaker.start();
  for (const speaker of [first, second]) await speaker.ready();
  const report = await trio.watched(
    VIPS,
    async () => {
      await sleep(200);
      third.start();
      await third.ready();
      await sleep(1_500);
    },
    4,
  );
  assertMoves(report, [n1, n2], NODES);
  measured(`a node joins: ${silenceOf(report)} (asked each 4 ms)`);
});

test("a link that goes down and comes up again: its VIPs go and come back", async () => {
  await using trio = await makeTrio();
  const report = await trio.watched(VIPS, async () => {
    await sleep(200);
    trio.link(n2, "down");
    await sleep(2_000);
    trio.link(n2, "up");
    await sleep(3_000);
  });
  assertMoves(report, NODES, without(n2), NODES);
});

test("a link that is down for a moment: whatever is noticed of it, in the end all is as before", async () => {
  await using trio = await makeTrio();
  for (const pause of [20, 120, 250]) {
    const report = await trio.watched(VIPS, async () => {
      trio.link(n3, "down");
      await sleep(pause);
      trio.link(n3, "up");
      await sleep(2_500);
    });
    const { doubled, mute, silence } = sumOf(report);
    assert.equal({ doubled, mute }, { doubled: 0, mute: 0 });
    assert.ok(silence < MOST, `silent for ${silence} ms`);
    const last = report.vips.map(({ vip, answerers }) => [vip, nodeByMac(answerers.at(-1)!.mac)!.name]);
    assert.equal(Object.fromEntries(last), shares(NODES));
    measured(`a link is down for ${pause} ms: ${silenceOf(report)}`);
  }
});

test("a switch cut in two: each part has one answerer for each VIP, and a second after healing there is one again", async () => {
  await using trio = await makeTrio();
  let healed = 0;
  const parted = await trio.watched(VIPS, async () => {
    await sleep(200);
    trio.isolate(n1, true);
    await sleep(2_000);
  });
  assertMoves(parted, NODES, without(n1));
  assert.is(
    speakerOf(trio, n1)
      .status()
      .vips.filter(({ state }) => state === "owned").length,
    VIPS.length,
  );

  const healing = await trio.watched(VIPS, async () => {
    await sleep(200);
    trio.isolate(n1, false);
    healed = Date.now();
    await sleep(1_000);
  });
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
  const doubled = healing.vips.flatMap(({ doubledAt }) => (doubledAt === undefined ? [] : [doubledAt - healed]));
  measured(`healed: the last request with two answers came ${Math.max(0, ...doubled).toFixed(0)} ms after`);
  assert.is(sumOf(healing).mute, 0);
});

test("views that differ: what a peer refuses stays with the peer, and a warning says so", async () => {
  await using trio = makeSilentTrio();
  const third = speakerOf(trio, n3);
  rewrite(third, (text) => text.replace(/nodes: \[\{ name: n1[^}]*\}, /, "nodes: ["));
  for (const speaker of trio.speakers) speaker.start();
  const report = await trio.watched(
    VIPS,
    async () => {
      await until("all have begun", () =>
        trio.speakers.every(({ log }) => log.some(({ msg }) => msg.includes("is owned here"))),
      );
      await sleep(4_000);
    },
    2,
  );
  const last = report.vips.map(({ vip, answerers }) => [vip, nodeByMac(answerers.at(-1)!.mac)!.name]);
  assert.equal(Object.fromEntries(last), shares(NODES));
  assert.is(sumOf(report).doubled, 0);
  assert.match(words(third), /^warn: .* is wanted here, and n1 does not give it: the nodes' views differ$/m);
  assert.ok(third.status().contested > 0);
});

/** What must not change by frames that mean nothing: who is alive, who owns, what the speakers say. */
const viewOf = (trio: Trio) =>
  trio.speakers.map((speaker) => {
    const { members, vips, warnings, contested, lastError } = speaker.status();
    return {
      members: members.map(({ node, isAlive, state, mac }) => `${node} ${isAlive} ${state} ${mac}`).sort(),
      vips: vips.map(({ address, owner, state }) => `${address} ${owner} ${state}`),
      warnings,
      contested,
      lastError,
      said: speaker.log.length,
    };
  });

/** Counted over all nodes. */
function counted(trio: Trio, name: "wire_refused" | "wire_stale" | "wire_echoed" | "wire_own"): number {
  const of = (speaker: Speaker) => speaker.status().interfaces.reduce((sum, { verdicts }) => sum + verdicts[name], 0);
  return trio.speakers.reduce((sum, speaker) => sum + of(speaker), 0);
}

test("recorded, mutated and forged frames change nothing, after a restart neither", async () => {
  await using trio = await makeTrio();
  using tap = new Tap(trio);
  speakerOf(trio, n1).isat("drain");
  await sleep(1_200);
  speakerOf(trio, n1).isat("undrain");
  await sleep(1_500);
  const frames = tap.frames.slice();
  const types = new Set(frames.map(({ frame }) => wireHeader.decode(frame).type));
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
        const { claims, type, ...header } = decodeWire(frame, [PUBLIC_KEY])!;
        return encodeWire({ ...header, type: type as Types, claims }, { ...wireKeyOf("another"), id: PUBLIC_KEY.id });
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
      const before = viewOf(trio);
      const count = counted(trio, counter);
      const report = await trio.watched(VIPS, async () => {
        for (const [i, { from, frame }] of frames.entries()) {
          for (const to of targets(frame)) if (to !== from) tap.send(to, change(frame, i));
          if (i % 20 === 0) await sleep(1);
        }
        await sleep(300);
      });
      assertQuiet(report);
      assert.equal(viewOf(trio), before, what);
      assert.ok(counted(trio, counter) - count >= frames.length / 2, `${what}: ${counter} counts them`);
    }
  }
  measured(`${frames.length} frames were recorded, and played ${rounds.length * 2} times`);
});

// Whose frames come last where both are asked at once depends on the switch's ports: so once this way, and once that.
for (const [known, joining] of [
  [n1, n3],
  [n3, n1],
] as const) {
  test(`${joining.name} comes with the name ${known.name}: it refuses and ends with status 1, both say so, and nothing moves`, async () => {
    await using trio = makeSilentTrio();
    const [first, namesake] = [speakerOf(trio, known), speakerOf(trio, joining)];
    const pair = [first, speakerOf(trio, n2)];
    for (const speaker of pair) speaker.start();
    for (const speaker of pair) await speaker.ready();
    await sleep(500);
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

test("a key file that is missing, short, or readable by others is refused in one line that says what to do", async () => {
  await using trio = makeSilentTrio();
  const speaker = speakerOf(trio, n1);
  const file = join(trio.folder, "wire.key");
  for (const [prepare, expected] of [
    [
      () => {},
      `there is no such file. Make one, the same on all nodes: head -c 32 /dev/urandom | base64 > ${file} && chmod 600 ${file}`,
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

/** A key file of the trio's. */
function keyFile(trio: Trio, name: string): string {
  const file = join(trio.folder, name);
  writeFileSync(file, `${name.repeat(20)}\n`, { mode: 0o600 });
  return file;
}

const withKeys = (...files: string[]) => `hold: 4s\nmembership: { keys: [${files.join(", ")}] }`;

test("a node with another key hears nobody, says so, and takes no more than the election among all gives it", async () => {
  await using trio = makeSilentTrio();
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

test("keys are changed on all nodes in three steps, and nothing happens", async () => {
  await using trio = makeSilentTrio();
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

test("two announcing interfaces on one wire: it announces on the first only, and says so", async () => {
  await using trio = makeSilentTrio();
  const mac = "02:00:00:00:00:11";
  const place = trio.place("n1");
  namespaces.link({ namespace: place, name: "eth1", mac }, { namespace: trio.place("switch"), name: "p5" });
  namespaces.ip(trio.place("switch"), ["link set p5 master br0"]);
  const first = speakerOf(trio, n1);
  rewrite(first, (text) => text.replace("interfaces: [eth0]", "interfaces: [eth0, eth1]"));
  await trio.start();
  await until("it says so", () => words(first).includes("eth0 and eth1 are on one wire: announcing on eth0 only."));
  await sleep(1_500);
  assertQuiet(await trio.watched(VIPS, () => sleep(1_000)));
});

/** A peer made by hand, on the client's place. */
class Stranger implements Disposable {
  readonly #port: PacketPort;
  readonly #node = nodeId("n9");
  readonly #instance = 9n;

  constructor(trio: Trio) {
    this.#port = new PacketPort(namespaces.full(trio.place(CLIENT.name)), "eth0");
  }

  /** Probes; with a version and a highest version of its own. */
  probe({ version = 1, speaks = 1, destination = BROADCAST as Uint8Array, to = 0n, stamp = 0n, nonce = 1n }): void {
    const header = { type: wireType.WIRE_PROBE, version, speaks, destination, to, stamp, nonce, state: nodeState.LIVE };
    const who = { source: parseMac(CLIENT.mac), node: this.#node, instance: this.#instance, name: "n9" };
    this.#port.send(speak({ ...header, ...who }, PUBLIC_KEY));
  }

  /** The echo of a node to a probe. */
  echo(node: LabNode, nonce: bigint) {
    return until(`${node.name} echoes`, () => {
      for (let frame = this.#port.receive(); frame; frame = this.#port.receive()) {
        const message = decodeWire(frame, [PUBLIC_KEY]);
        if (message?.nonce === nonce && formatMac(message.source) === node.mac) return message;
      }
      return undefined;
    });
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
  }
}

test("of a newer protocol, frames are refused and counted; a peer that knows it and speaks ours is understood", async () => {
  await using trio = await makeTrio();
  using stranger = new Stranger(trio);
  const refused = counted(trio, "wire_refused");
  stranger.probe({ version: 2, speaks: 2 });
  await until("all refuse it", () => counted(trio, "wire_refused") === refused + NODES.length);

  stranger.probe({ speaks: 2, nonce: 2n });
  const { instance, stamp } = await stranger.echo(n1, 2n);
  stranger.probe({ speaks: 2, nonce: 3n, destination: parseMac(n1.mac), to: instance, stamp });
  await stranger.echo(n1, 3n);
  const known = speakerOf(trio, n1).maps(({ peers }) => [...peers.entries()].map(([, peer]) => peer));
  assert.equal(
    known.filter(({ node }) => node === "n9").map(({ speaks }) => speaks),
    [2],
  );
  assertQuiet(await trio.watched(VIPS, () => sleep(500)));
});

test.run();
