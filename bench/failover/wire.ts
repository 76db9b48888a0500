import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { NOTIFY_PEERS, tellOfEvent } from "../../lab/kernel/link-event.ts";
import { CLIENT, type LabNode, NODES } from "../../lab/topology.ts";
import { swallow } from "../../lab/trio/swallow.ts";
import { Trio } from "../../lab/trio/trio.ts";
import { rewrite } from "../../lab/trio/trios.ts";
import { Learner } from "../../lab/watch/learner.ts";
import { elect } from "../../src/core/ownership.ts";
import type { Figure } from "../figure.ts";
import type { Context } from "../section.ts";
import { HAND_OVER, STILL } from "./events.ts";
import { figuresOf, outcomeOf, type Wanted } from "./outcome.ts";
import { ASKED, calmDown, type Event, FINE, rounds, SECTION, startAgain, type Times } from "./play.ts";
import type { Site } from "./site.ts";

const MS = 1e6;
/** Double answers for 0.5 s in sum, in requests. */
const DOUBLED = 500 / ASKED;
const KEPT: Wanted = { unanswered: 0, moves: 0, doubled: DOUBLED };
/** The time in which every node has to warn, ms. */
const WARNED = 5_000;

type Way = [
  what: string,
  host: (victim: LabNode) => string,
  hook: "ingress" | "egress",
  device: (node: LabNode) => string,
];
const port = ({ port }: LabNode) => `p${port}`;
const WAYS: Way[] = [
  ["into one node", () => "switch", "egress", port],
  ["out of one node", () => "switch", "ingress", port],
  ["out of one node, at its own egress", ({ name }) => name, "egress", () => "eth0"],
];

const plain = { section: SECTION, ratios: [] };

/** EtherType 0x88B5 is dropped, and ARP passes. */
export async function lostFrames(context: Context, site: Site, times: Times): Promise<Figure[]> {
  const { trio, subject } = site;
  const warned: number[] = [];
  const everywhere: Event = {
    name: `0x88B5 dropped on all ports for ${times.deaf} s`,
    wanted: KEPT,
    rounds: 1,
    async play() {
      const began = performance.now();
      const from = trio.speakers.map(({ log }) => log.length);
      const warnings = () =>
        trio.speakers.map(({ log }, i) =>
          log.slice(from[i]).filter(({ msg }) => msg.startsWith("isat's frames are lost")),
        );
      {
        using _swallowed = swallow(trio, "switch", "ingress", NODES.map(port));
        while (performance.now() - began < times.deaf * 1_000) {
          if (warned.length === 0 && warnings().every(({ length }) => length > 0))
            warned.push(performance.now() - began);
          await sleep(20);
        }
      }
      await calmDown(site);
      if (warned.length === 0 || warnings().some(({ length }) => length !== 1)) warned[0] = Number.POSITIVE_INFINITY;
    },
  };
  const atOne = WAYS.map(
    ([what, host, hook, device]): Event => ({
      name: `0x88B5 dropped ${what} for ${times.deafOne} s`,
      wanted: KEPT,
      rounds: 1,
      async play(victim) {
        {
          using _swallowed = swallow(trio, host(victim), hook, [device(victim)]);
          await sleep(times.deafOne * 1_000);
        }
        await calmDown(site);
      },
    }),
  );
  const figures: Figure[] = [];
  for (const event of [everywhere, ...atOne]) {
    const { outcomes } = await rounds(context, site, event);
    figures.push(...figuresOf(event.name, subject.name, outcomes, event.wanted));
  }
  figures.push({
    ...{ ...plain, what: `${everywhere.name}: one warning on each node`, subject: subject.name, unit: "ns" },
    ...{ values: warned.map((ms) => ms * MS), target: { is: "at most", limit: WARNED * MS, inEachRound: true } },
  });
  return figures;
}

/** isat goes from a node that lives on. */
export async function tornAway(context: Context, site: Site, times: Times): Promise<Figure[]> {
  const { trio } = site;
  const arpIgnore = (victim: LabNode, value: number) =>
    trio.namespaces.sysctl(trio.place(victim.name), "net/ipv4/conf/all/arp_ignore", value);
  const events: Event[] = [
    {
      name: "isat clean",
      wanted: HAND_OVER,
      rounds: times.moves,
      interval: FINE,
      async play(victim) {
        await site.member(victim).signal("SIGTERM");
        site.speaker(victim).isat("clean");
        await calmDown(site);
      },
      restore: (victim) => startAgain(site, victim),
    },
    {
      name: "programs and pins are torn away",
      wanted: { silence: 500, moves: 1, doubled: 0 },
      rounds: times.moves,
      async play(victim) {
        await site.member(victim).signal("SIGKILL");
        // Nothing is left that would keep the node's kernel from answering for the VIPs on its lo.
        arpIgnore(victim, 1);
        rmSync(site.speaker(victim).pinDir, { recursive: true });
        await calmDown(site);
      },
      async restore(victim) {
        arpIgnore(victim, 0);
        await startAgain(site, victim);
      },
    },
  ];
  const figures: Figure[] = [];
  for (const event of events) {
    const { outcomes } = await rounds(context, site, event);
    figures.push(...figuresOf(event.name, site.subject.name, outcomes, event.wanted));
  }
  return figures;
}

/** Three speakers of another cluster, with the same key and the same names of nodes, come to the wire, crash and go. */
export async function otherCluster(context: Context, site: Site): Promise<Figure[]> {
  const name = "another cluster with the same key and names";
  context.progress(`failover: ${name}`);
  const { namespaces } = context.ground;
  const [victim] = await site.settle();
  await using other = new Trio(namespaces, "x", { vips: ["10.9.3.1-10.9.3.9"] });
  namespaces.ip(other.place(CLIENT.name), ["link set eth0 down"]);
  const ours = /10\.9\.255\./g;
  for (const { name, ip, port } of NODES) {
    const commands = ["link set eth0 down", `link set eth0 address 02:00:00:00:01:0${port}`, "addr flush dev eth0"];
    const address = ip.replace(ours, "10.9.254.");
    namespaces.ip(other.place(name), [...commands, `addr add ${address}/16 dev eth0`, "link set eth0 up"]);
  }
  for (const speaker of other.speakers)
    rewrite(speaker, (text) => text.replace(ours, "10.9.254.").replace("kind: file", "kind: file\n  cluster: another"));
  const [here, there] = [site.trio, other].map((trio) => trio.place("switch")) as [string, string];
  namespaces.link({ namespace: here, name: "up0" }, { namespace: there, name: "up0" });
  for (const place of [here, there]) namespaces.ip(place, ["link set up0 master br0"]);
  const report = await site.trio.watched(site.vips, async () => {
    await other.start();
    await sleep(2_000);
    await site.member(victim!).signal("SIGKILL"); // a speaker that joins would end where its name is taken
    await startAgain(site, victim!);
    await Promise.all(other.speakers.map((speaker) => speaker.signal("SIGKILL")));
    await calmDown(site);
  });
  return figuresOf(name, site.subject.name, [outcomeOf(report)], STILL);
}

/** The kernel says that an interface is elsewhere on the network now. */
export async function told(context: Context, site: Site, times: Times): Promise<Figure[]> {
  const what = "NOTIFY_PEERS";
  const [after, bursts]: [number[], number[]] = [[], []];
  for (let round = 0; round < times.moves; round++) {
    context.progress(`failover: ${what}, round ${round + 1} of ${times.moves}`);
    const owners = await site.settle();
    const victim = owners[site.turn++ % owners.length]!;
    const names = NODES.map(({ name }) => name);
    const its = site.vips.filter((vip) => elect(names, vip) === victim.name);
    await sleep(4_000); // what was gained before is announced by now
    using learner = new Learner(site.trio, its);
    const { ifindex } = site.speaker(victim).status().interfaces[0]!;
    tellOfEvent(context.ground.namespaces.full(site.trio.place(victim.name)), "eth0", ifindex, NOTIFY_PEERS);
    const began = performance.now();
    let all = Number.POSITIVE_INFINITY;
    for (; performance.now() - began < 5_000; await sleep(2)) {
      if (its.every((vip) => learner.owners[vip] === victim.name)) all = Math.min(all, performance.now() - began);
    }
    after.push(all * MS);
    bursts.push(learner.count / its.length);
  }
  const figure = { ...plain, subject: site.subject.name };
  return [
    {
      ...{ ...figure, what: `${what}: to the last first announcement of what the node owns`, unit: "ns" },
      ...{ values: after, target: { is: "at most", limit: 500 * MS, inEachRound: true } },
    },
    {
      ...{ ...figure, what: `${what}: announcements of each VIP`, unit: "count", values: bursts },
      target: { is: "at least", limit: 3, inEachRound: true },
    },
  ];
}
