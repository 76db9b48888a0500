// limit: 300 s
/**
 * The wire loses the peer protocol's frames (EtherType 0x88B5), and lets ARP pass: between all nodes, into one, out of one.
 * Whoever answers for its VIPs keeps them, and whoever does not is replaced.
 */
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import type { Speaker } from "../../lab/speaker.ts";
import { NODES, VIPS } from "../../lab/topology.ts";
import { swallow } from "../../lab/trio/swallow.ts";
import type { Trio } from "../../lab/trio/trio.ts";
import {
  assertMoves,
  measured,
  n1,
  n2,
  n3,
  shares,
  silenceOf,
  speakerOf,
  Trios,
  without,
  words,
} from "../../lab/trio/trios.ts";
import { type Report, sumOf, turns } from "../../lab/watch/watch.ts";

const test = suite("deaf");
const trios = new Trios("isat-t-deaf-");
test.after(() => trios[Symbol.dispose]());

/** The client asks this often, ms. */
const EACH = 10;

/** While nothing of the node's was lost but isat's frames, clients noticed next to nothing, and nothing moved. */
function assertKept(what: string, report: Report): void {
  const { unanswered, doubled } = sumOf(report);
  measured(`${what}: ${unanswered} requests unanswered, ${doubled * EACH} ms of double answers in sum`);
  assert.is(unanswered, 0);
  assert.ok(doubled * EACH <= 500, `${doubled} requests had two answers`);
  assert.equal(turns(report), shares(NODES));
}

const warnings = (trio: Trio, node = n1) => speakerOf(trio, node).status().warnings.join("\n");

test("no port passes the peer protocol for 15 s: every node keeps its VIPs, and warns once within 5 s", async () => {
  await using trio = await trios.start();
  const ports = NODES.map(({ port }) => `p${port}`);
  const report = await trio.watched(VIPS, async () => {
    await sleep(500);
    {
      using _swallowed = swallow(trio, "switch", "ingress", ports);
      await sleep(5_000);
      assert.match(
        warnings(trio),
        /^isat's frames are lost on eth0, though n2, n3 answer ARP for their VIPs: let the/m,
      );
      assert.match(speakerOf(trio, n2).isat("status"), /^n1 +eth0 +alive +deaf .* 10\.9\.0\.\d+, .* ago$/m);
      await sleep(10_000);
    }
    await sleep(3_000);
  });
  assertKept("0x88b5 is dropped on all ports for 15 s", report);
  for (const speaker of trio.speakers) {
    assert.is(words(speaker).match(/^warn: isat's frames are lost/gm)?.length, 1);
    assert.not.match(speaker.status().warnings.join(), "frames are lost");
  }
});

const ways: [what: string, hook: "ingress" | "egress", host: string, device: string, reason: RegExp][] = [
  ["into one node", "egress", "switch", "p1", /^isat's frames are lost on eth0, .* every firewall/m],
  ["out of one node", "ingress", "switch", "p1", /^isat's frames are lost on eth0, .* their frames come in here/m],
  [
    "out of one node, at its own egress",
    "egress",
    "n1",
    "eth0",
    /^isat's frames are lost on eth0, .* own egress drops/m,
  ],
];
for (const [what, hook, host, device, reason] of ways) {
  test(`the peer protocol does not get ${what} for 8 s: every node keeps its VIPs, and that node says why`, async () => {
    await using trio = await trios.start();
    const report = await trio.watched(VIPS, async () => {
      await sleep(500);
      {
        using _swallowed = swallow(trio, host, hook, [device]);
        await sleep(5_000);
        assert.match(warnings(trio), reason);
        // What its kernel sends back by itself does not pass the hook of its own egress.
        if (host === "switch")
          assert.match(warnings(trio, n2), /^isat's frames are lost on eth0, though n1 answers ARP/m);
        await sleep(3_000);
      }
      await sleep(3_000);
    });
    assertKept(`0x88b5 does not get ${what}`, report);
  });
}

test("a node whose own egress drops the peer protocol starts: it takes its share, and says why it hears nobody", async () => {
  await using trio = await trios.start({ more: "hold: 15s" });
  const speaker = speakerOf(trio, n1);
  await speaker.signal("SIGKILL");
  using _swallowed = swallow(trio, "n1", "egress", ["eth0"]);
  const report = await trio.watched(VIPS, async () => {
    speaker.start();
    await speaker.ready(8_000);
    await until("it says why", () => /own egress drops EtherType 0x88b5/.test(warnings(trio)), 5_000);
  });
  assertKept("a node starts that cannot send 0x88b5", report);
});

test("a node dies while no port passes the peer protocol: the others take its VIPs as soon as ever", async () => {
  await using trio = await trios.start();
  using _swallowed = swallow(
    trio,
    "switch",
    "ingress",
    NODES.map(({ port }) => `p${port}`),
  );
  await sleep(3_000);
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    trio.link(n1, "down");
    await speakerOf(trio, n1).signal("SIGKILL");
    await sleep(3_000);
  });
  const { doubled, silence } = sumOf(report);
  measured(`a node dies while all are deaf: ${silenceOf(report)}`);
  assert.is(doubled, 0);
  assert.ok(silence < 2_000, `silent for ${silence} ms`);
  assert.equal(turns(report), shares(NODES, without(n1)));
});

/** What a node does that comes to want VIPs, of which others answer each meanwhile. */
const returns: [what: string, leave: (speaker: Speaker) => Promise<void>, come: (speaker: Speaker) => Promise<void>][] =
  [
    ["is undrained", async (speaker) => void speaker.isat("drain"), async (speaker) => void speaker.isat("undrain")],
    [
      "boots",
      async (speaker) => {
        await speaker.signal("SIGTERM");
        speaker.isat("clean");
      },
      async (speaker) => {
        speaker.start();
        await speaker.ready(8_000);
      },
    ],
  ];
for (const [what, leave, come] of returns) {
  test(`a node ${what} while no port passes the peer protocol: it takes what is its own once others can be asked`, async () => {
    await using trio = await trios.start();
    const speaker = speakerOf(trio, n1);
    // While nothing of isat is there, the node's kernel would answer for all the VIPs that it has on lo.
    trio.namespaces.sysctl(trio.place(n1.name), "net/ipv4/conf/all/arp_ignore", 1);
    await leave(speaker);
    await sleep(2_000);
    let swallowed: Disposable | undefined = swallow(
      trio,
      "switch",
      "ingress",
      NODES.map(({ port }) => `p${port}`),
    );
    try {
      await sleep(3_000);
      const deaf = await trio.watched(VIPS, async () => {
        await come(speaker);
        await sleep(4_000);
      });
      const { unanswered, doubled } = sumOf(deaf);
      measured(`a node ${what} while all are deaf: ${unanswered} requests unanswered, ${doubled} answered twice`);
      assert.is(unanswered, 0);
      assert.is(doubled, 0);
      assert.equal(turns(deaf), shares(without(n1)));
      assert.match(words(speaker), /^warn: .* is wanted here, and n[23] answers ARP for it, and no claim gets there/m);
      const healed = await trio.watched(VIPS, async () => {
        await sleep(300);
        swallowed?.[Symbol.dispose]();
        swallowed = undefined;
        await sleep(4_000);
      });
      assertMoves(healed, without(n1), NODES);
    } finally {
      swallowed?.[Symbol.dispose]();
    }
  });
}

test("the programs and pins of a node that lives on are torn away: it is replaced as if it had died", async () => {
  await using trio = await trios.start();
  const speaker = speakerOf(trio, n3);
  // Nothing of isat is left that would keep the node's kernel from answering for all the VIPs that it has on lo.
  trio.namespaces.sysctl(trio.place(n3.name), "net/ipv4/conf/all/arp_ignore", 1);
  const report = await trio.watched(VIPS, async () => {
    await sleep(300);
    await speaker.signal("SIGKILL");
    rmSync(speaker.pinDir, { recursive: true });
    await sleep(2_000);
  });
  const { doubled, silence } = sumOf(report);
  measured(`programs and pins are torn away: ${silenceOf(report)}`);
  assert.is(doubled, 0);
  assert.ok(silence < 2_000, `silent for ${silence} ms`);
  assert.equal(turns(report), shares(NODES, without(n3)));
});

test("isat clean says goodbye: its peers take its VIPs before it stops answering", async () => {
  await using trio = await trios.start();
  const speaker = speakerOf(trio, n2);
  const report = await trio.watched(VIPS, async () => {
    await speaker.signal("SIGTERM");
    await sleep(300);
    speaker.isat("clean");
    await sleep(2_000);
  });
  const { doubled, silence } = sumOf(report);
  measured(`isat clean: ${silenceOf(report)}`);
  assert.is(doubled, 0);
  assert.ok(silence < 200, `silent for ${silence} ms: a death takes more to be noticed`);
  assert.equal(turns(report), shares(NODES, without(n2)));
});

test.run();
