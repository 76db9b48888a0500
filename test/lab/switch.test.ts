import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseMac } from "../../lab/mac.ts";
import { decodeEcho, ECHO_REPLY, ECHO_REQUEST, encodeEcho } from "../../lab/switch/icmp.ts";
import { H3C, PLAIN, type Settings } from "../../lab/switch/settings.ts";
import { type Out, Switch } from "../../lab/switch/switch.ts";
import { ARP_REPLY, ARP_REQUEST, announcement, BROADCAST, decodeArp, encodeArp, NO_MAC } from "../../src/core/arp.ts";

const GATEWAY = "02:00:00:00:00:fe";
const GATEWAY_IP = "10.9.255.254";
const VIP = "10.9.0.1";
/** Node n has the MAC 02:..:0n, the address 10.9.255.n, and is behind port n. */
const mac = (node: number) => Uint8Array.of(2, 0, 0, 0, 0, node);
const bytes = (ip: string) => Uint8Array.from(ip.split("."), Number);

/** A step of a story: it changes the switch or the time, and says in words what left the switch, or what is in it. */
type Step = (story: Story) => string;

interface Story {
  gateway: Switch;
  now: number;
  /** The last frames that left. */
  out: Out[];
}

const frameIn =
  (port: number, frame: () => Uint8Array): Step =>
  (story) =>
    read((story.out = story.gateway.frameIn(port, frame(), story.now)));

/** A request of `node`'s. */
const asks = (node: number, tpa: string, spa = `10.9.255.${node}`, port = node): Step =>
  frameIn(port, () =>
    encodeArp({
      destination: BROADCAST,
      source: mac(node),
      op: ARP_REQUEST,
      sha: mac(node),
      spa: bytes(spa),
      tha: NO_MAC,
      tpa: bytes(tpa),
    }),
  );

/** A node says something, so that the FDB knows it. */
const talks = (node: number, port = node): Step => asks(node, "10.9.0.99", `10.9.255.${node}`, port);

/** `from` announces that the VIP is at `owner`. */
const announces = (from: number, owner = from): Step =>
  frameIn(from, () => {
    const frame = announcement(mac(owner), bytes(VIP));
    frame.set(mac(from), 6);
    return frame;
  });

/** `from` answers the switch that the VIP is at `owner`. */
const answers = (from: number, owner = from, change: { destination?: Uint8Array; tha?: Uint8Array } = {}): Step =>
  frameIn(from, () =>
    encodeArp({
      destination: parseMac(GATEWAY),
      source: mac(from),
      op: ARP_REPLY,
      sha: mac(owner),
      spa: bytes(VIP),
      tha: parseMac(GATEWAY),
      tpa: bytes(GATEWAY_IP),
      ...change,
    }),
  );

const echoRequest = (from: number, destination: Uint8Array, ip: string) =>
  encodeEcho({
    destination,
    source: mac(from),
    from: bytes(`10.9.255.${from}`),
    to: bytes(ip),
    type: ECHO_REQUEST,
    identifier: 1,
    sequence: 1,
  });

/** `from` pings another node. */
const unicast = (from: number, to: number): Step => frameIn(from, () => echoRequest(from, mac(to), `10.9.255.${to}`));

/** The switch pings the VIP. */
const ping: Step = (story) => read((story.out = story.gateway.ping(VIP, story.now)));

/** A node answers the ping that has just left the switch. */
const echoes =
  (node: number): Step =>
  (story) => {
    const request = decodeEcho(story.out[0]!.frame)!;
    const [from, to, destination, source] = [request.to, request.from, request.source, mac(node)];
    const reply = encodeEcho({ ...request, destination, source, from, to, type: ECHO_REPLY });
    story.gateway.frameIn(node, reply, story.now);
    return "";
  };

const milliseconds =
  (time: number): Step =>
  (story) => {
    story.now += time;
    return read((story.out = story.gateway.tick(story.now)));
  };

/** Seconds of the switch's own time. */
const seconds = (time: number): Step => milliseconds((time * 1000) / PLAIN.timeScale);

const reset: Step = (story) => {
  story.gateway.reset(PLAIN);
  return "";
};

const entry: Step = ({ gateway, now }) => {
  const row = gateway.arpRows(now).find(({ ip }) => ip === VIP);
  return row ? `n${parseMac(row.mac)[5]} at p${row.port}` : "no entry";
};
const tables: Step = ({ gateway, now }) => `${gateway.arpRows(now).length} IPs, ${gateway.fdbRows(now).length} MACs`;
const disabled: Step = ({ gateway }) => `${ports(gateway.disabledPorts()) || "none"} disabled`;
const tally: Step = ({ gateway }) => `${gateway.tally(VIP).answered} of ${gateway.tally(VIP).sent}`;
const dropped: Step = ({ gateway }) => `${gateway.drops("unknown unicast")} dropped`;

/** Several steps as one, with the words of all. */
const all =
  (...steps: Step[]): Step =>
  (story) =>
    steps.map((step) => step(story)).join("; ");

const times =
  (count: number, step: Step): Step =>
  (story) =>
    `${Array.from({ length: count }, () => step(story)).filter((words) => words !== "nothing").length} passed`;

/** `ping p2`, `who-has p1 p2 p3`, `who-has (to n1) p1`: what leaves, and where. */
function read(out: Out[]): string {
  const seen = new Map<string, number[]>();
  for (const { port, frame } of out) {
    const what = kind(frame);
    seen.set(what, [...(seen.get(what) ?? []), port]);
  }
  return [...seen].map(([what, leaving]) => `${what} ${ports(leaving)}`).join(", ") || "nothing";
}

function kind(frame: Uint8Array): string {
  const arp = decodeArp(frame);
  if (!arp) return decodeEcho(frame)?.type === ECHO_REQUEST ? "ping" : "other";
  if (arp.op === ARP_REPLY) return "is-at";
  if (arp.spa.join() === arp.tpa.join()) return "announcement";
  return arp.destination[0] === 255 ? "who-has" : `who-has (to n${arp.destination[5]})`;
}

function ports(numbers: readonly number[]): string {
  return numbers.map((port) => `p${port}`).join(" ");
}

/** A name, the settings that matter, the steps, and the expected result of the last step. */
type Row = [name: string, settings: Partial<Settings>, steps: Step[], expected: string];

const replies = { portFromReply: "ingress" } as const;
const gratuitous = { portFromGratuitous: "ingress" } as const;
const fdbAges = { unknownUnicast: "drop" } as const;
const aged = (...steps: Step[]) => [announces(1), seconds(60), announces(2), ...steps];

const rows: Row[] = [
  ["broadcast goes to every other port", {}, [talks(2)], "who-has p1 p3"],
  ["unicast to a MAC not yet heard goes to every other port", {}, [unicast(1, 3)], "ping p2 p3"],
  ["unicast to a MAC that was heard goes to its port", {}, [talks(3), unicast(1, 3)], "ping p3"],
  ["unicast to a MAC heard 299 s ago goes to its port", {}, [talks(3), seconds(299), unicast(1, 3)], "ping p3"],
  ["unicast to a MAC heard 300 s ago goes everywhere", {}, [talks(3), seconds(300), unicast(1, 3)], "ping p2 p3"],
  ["a MAC that moves is found behind its new port", {}, [talks(3), talks(3, 2), unicast(1, 3)], "ping p2"],
  ["the gateway answers ARP for its own IP", {}, [asks(2, GATEWAY_IP)], "who-has p1 p3, is-at p2"],
  ["a ping without an entry asks all ports first", {}, [ping], "who-has p1 p2 p3"],
  ["the ping that waited leaves with the answer", {}, [ping, answers(2)], "ping p2"],
  ["a ping with an entry of 1199 s leaves at once", {}, [answers(2), seconds(1199), talks(2), ping], "ping p2"],
  ["a ping with an entry of 1200 s asks again", {}, [answers(2), seconds(1200), ping], "who-has p1 p2 p3"],
  ["an answer makes an entry", {}, [answers(2), entry], "n2 at p2"],
  ["an announcement makes an entry", {}, [announces(2), entry], "n2 at p2"],
  ["one who asks the gateway is learnt", {}, [asks(2, GATEWAY_IP, VIP), entry], "n2 at p2"],
  ["one who asks another is not learnt", {}, [asks(2, "10.9.0.99", VIP), entry], "no entry"],
  ["one who asks another moves an entry", {}, [answers(1), asks(2, "10.9.0.99", VIP), entry], "n2 at p2"],
  ["a probe (SPA 0.0.0.0) is not learnt", {}, [asks(2, VIP, "0.0.0.0"), tables], "0 IPs, 1 MACs"],

  ["port from a reply by ingress: who answered", replies, [talks(2), answers(1, 2), entry], "n2 at p1"],
  ["port from a reply by FDB: the MAC's", {}, [talks(2), answers(1, 2), entry], "n2 at p2"],
  ["port from a reply by FDB, MAC never heard: who answered", {}, [answers(1, 2), entry], "n2 at p1"],
  ["port from a gratuitous ARP by ingress: who sent it", gratuitous, [talks(2), announces(1, 2), entry], "n2 at p1"],
  ["port from a gratuitous ARP by FDB: the MAC's", {}, [talks(2), announces(1, 2), entry], "n2 at p2"],
  [
    "port from announcements and port from replies differ: a leader's announcement is right and its reply wrong",
    replies,
    [talks(2), all(announces(1, 2), entry, answers(1, 2), entry)],
    "announcement p2 p3; n2 at p2; nothing; n2 at p1",
  ],
  [
    "forwarding by entry: out of the entry's port, right or wrong",
    { ...replies, forwardBy: "entry" },
    [talks(2), answers(1, 2), ping],
    "ping p1",
  ],
  [
    "forwarding by FDB: out of the MAC's port, whatever the entry says",
    { ...replies, forwardBy: "fdb" },
    [talks(2), answers(1, 2), ping],
    "ping p2",
  ],
  [
    "the outage: an H3C pings rightly after a leader's announcement, and wrongly once the entry has aged",
    H3C,
    [talks(2), announces(1, 2), all(ping, seconds(1200), ping, answers(1, 2), ping)],
    "ping p2; nothing; who-has p1 p2 p3; ping p1; ping p1",
  ],
  [
    "the outage, answered by the owner: an H3C pings rightly before and after",
    H3C,
    [announces(2), all(ping, seconds(1200), ping, answers(2), ping)],
    "ping p2; nothing; who-has p1 p2 p3; ping p2; ping p2",
  ],

  ["source-MAC check: an answer for another is dropped", { sourceMacCheck: true }, [answers(1, 2), entry], "no entry"],
  [
    "source-MAC check: an announcement for another goes nowhere",
    { sourceMacCheck: true },
    [all(announces(1, 2), entry)],
    "nothing; no entry",
  ],
  ["source-MAC check: one's own answer passes", { sourceMacCheck: true }, [answers(2), entry], "n2 at p2"],
  ["no source-MAC check: an answer for another passes", {}, [answers(1, 2), entry], "n2 at p1"],

  [
    "reply destination-MAC check: THA as the Ethernet destination passes",
    { replyDestinationMacCheck: true },
    [answers(2), entry],
    "n2 at p2",
  ],
  [
    "reply destination-MAC check: THA zero is dropped",
    { replyDestinationMacCheck: true },
    [answers(2, 2, { tha: NO_MAC }), entry],
    "no entry",
  ],
  [
    "reply destination-MAC check: THA all ones is dropped, even to broadcast",
    { replyDestinationMacCheck: true },
    [answers(2, 2, { tha: BROADCAST, destination: BROADCAST }), entry],
    "no entry",
  ],
  [
    "reply destination-MAC check: THA of another is dropped",
    { replyDestinationMacCheck: true },
    [answers(2, 2, { tha: mac(3) }), entry],
    "no entry",
  ],
  [
    "reply destination-MAC check: requests pass, and so do announcements in that form",
    { replyDestinationMacCheck: true },
    [announces(2), entry],
    "n2 at p2",
  ],
  ["no reply destination-MAC check: THA zero passes", {}, [answers(2, 2, { tha: NO_MAC }), entry], "n2 at p2"],

  [
    "ARP rate limit: 15 in a second pass",
    { arpRateLimit: 15 },
    [all(times(15, talks(2)), disabled)],
    "15 passed; none disabled",
  ],
  [
    "ARP rate limit: the 16th in a second disables the port",
    { arpRateLimit: 15 },
    [all(times(16, talks(2)), disabled)],
    "15 passed; p2 disabled",
  ],
  [
    "ARP rate limit: a disabled port takes nothing",
    { arpRateLimit: 15 },
    [times(16, talks(2)), unicast(2, 3)],
    "nothing",
  ],
  [
    "ARP rate limit: a disabled port gives nothing",
    { arpRateLimit: 15 },
    [times(16, talks(2)), talks(1)],
    "who-has p3",
  ],
  [
    "ARP rate limit: each port counts alone",
    { arpRateLimit: 15 },
    [all(times(15, talks(1)), times(15, talks(2)))],
    "15 passed; 15 passed",
  ],
  [
    "ARP rate limit: 15 now and 15 a second of real time later pass",
    { arpRateLimit: 15 },
    [all(times(15, talks(1)), milliseconds(1000), times(15, talks(1)))],
    "15 passed; nothing; 15 passed",
  ],
  [
    "ARP rate limit: 15 now and 15 in 999 ms do not",
    { arpRateLimit: 15 },
    [all(times(15, talks(1)), milliseconds(999), times(15, talks(1)))],
    "15 passed; nothing; 0 passed",
  ],
  ["ARP rate limit: IP is not counted", { arpRateLimit: 15 }, [times(50, unicast(1, 3))], "50 passed"],

  ["no active-ack: a new MAC is taken at once", {}, [answers(1), announces(2), entry], "n2 at p2"],
  ["active-ack: a first MAC is taken at once", { activeAck: true }, [announces(1), entry], "n1 at p1"],
  [
    "active-ack: an entry of 59 s ignores a new MAC",
    { activeAck: true },
    [announces(1), seconds(59), all(announces(2), entry)],
    "announcement p1 p3; n1 at p1",
  ],
  [
    "active-ack: an entry refreshed 59 s ago ignores it too",
    { activeAck: true },
    [announces(1), seconds(59), announces(1), seconds(59), all(announces(2), entry)],
    "announcement p1 p3; n1 at p1",
  ],
  [
    "active-ack: an entry of 60 s asks its old MAC first",
    { activeAck: true },
    [announces(1), seconds(60), all(announces(2), entry)],
    "announcement p1 p3, who-has (to n1) p1; n1 at p1",
  ],
  [
    "active-ack: after 5 s of the old MAC's silence the new one is asked",
    { activeAck: true },
    aged(all(seconds(4.9), seconds(0.1), entry)),
    "nothing; who-has (to n2) p2; n1 at p1",
  ],
  [
    "active-ack: the new MAC is taken when it answers as well",
    { activeAck: true },
    aged(seconds(5), answers(2), entry),
    "n2 at p2",
  ],
  [
    "active-ack: the old MAC stays where it answers",
    { activeAck: true },
    aged(answers(1), all(seconds(5), entry)),
    "nothing; n1 at p1",
  ],
  [
    "active-ack: the old MAC stays where neither answers",
    { activeAck: true },
    aged(seconds(5), all(seconds(5), entry)),
    "nothing; n1 at p1",
  ],
  [
    "active-ack: an announcement does not count as an answer",
    { activeAck: true },
    aged(seconds(5), announces(2), entry),
    "n1 at p1",
  ],

  ["FDB ages before ARP: the MAC is known for 299 s", fdbAges, [answers(2), seconds(299), ping], "ping p2"],
  [
    "FDB ages before ARP: then pings vanish (drop)",
    fdbAges,
    [answers(2), seconds(300), all(ping, dropped)],
    "nothing; 1 dropped",
  ],
  ["FDB ages before ARP: or go everywhere (flood)", {}, [answers(2), seconds(300), ping], "ping p1 p2 p3"],
  [
    "FDB ages before ARP: the owner's refresh keeps both",
    fdbAges,
    [answers(2), seconds(200), announces(2), seconds(200), ping],
    "ping p2",
  ],
  [
    "FDB ages before ARP: a leader's refresh for another keeps only ARP",
    fdbAges,
    [talks(2), announces(1, 2), seconds(200), announces(1, 2), seconds(200), ping],
    "nothing",
  ],
  [
    "FDB ages before ARP: forwarding by entry does not care",
    { ...fdbAges, forwardBy: "entry" },
    [answers(2), seconds(300), ping],
    "ping p2",
  ],

  [
    "gratuitous learning off: an announcement makes no entry",
    { gratuitousLearning: false },
    [announces(2), entry],
    "no entry",
  ],
  [
    "gratuitous learning off: an announcement moves an entry",
    { gratuitousLearning: false },
    [answers(1), announces(2), entry],
    "n2 at p2",
  ],
  ["gratuitous learning off: an answer makes an entry", { gratuitousLearning: false }, [answers(2), entry], "n2 at p2"],

  ["a ping that comes back is counted", {}, [answers(2), ping, echoes(2), tally], "1 of 1"],
  ["a ping that comes back twice is counted once", {}, [answers(2), ping, echoes(2), echoes(2), tally], "1 of 1"],
  ["a ping that does not come back is counted as sent", {}, [answers(2), ping, tally], "0 of 1"],
  ["a ping from before a reset does not count", {}, [answers(2), ping, reset, echoes(2), tally], "0 of 0"],
  [
    "a reset empties every table and enables every port",
    { arpRateLimit: 1 },
    [answers(2), times(3, talks(1)), reset, all(tables, disabled)],
    "0 IPs, 0 MACs; none disabled",
  ],
];

for (const [name, settings, steps, expected] of rows) {
  test(name, () => {
    const gateway = new Switch(3, GATEWAY, GATEWAY_IP, { ...PLAIN, ...settings });
    const story: Story = { gateway, now: 0, out: [] };
    assert.is(steps.map((step) => step(story)).at(-1), expected);
  });
}

test("the gateway answers pings of its own IP with their payload", () => {
  const gateway = new Switch(3, GATEWAY, GATEWAY_IP, PLAIN);
  const request = echoRequest(2, parseMac(GATEWAY), GATEWAY_IP);
  request.fill(7, 42);
  const [answer, ...more] = gateway.frameIn(2, request, 0);
  const echo = decodeEcho(answer!.frame)!;
  assert.equal([answer!.port, more.length], [2, 0]);
  assert.equal([echo.type, echo.to.join("."), echo.from.join(".")], [ECHO_REPLY, "10.9.255.2", GATEWAY_IP]);
  assert.equal(answer!.frame.subarray(34, 38), encodeEcho(echo).subarray(34, 38), "the checksum is that of a reply");
  assert.equal([...answer!.frame.subarray(42)], Array(18).fill(7));
});

test.run();
