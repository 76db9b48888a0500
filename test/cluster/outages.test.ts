// limit: 900 s
/**
 * Faults around three speakers on a real API, while a client asks for every VIP all the time. Tests assert which nodes
 * answered, in turn. No test fails because of a time, unless it is far too long.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { best, NODES, PATIENCE, Scene, vipsOf } from "../../lab/cluster/scene.ts";
import { until } from "../../lab/kernel/process.ts";
import { randomOf } from "../../lab/random.ts";
import { checker } from "../../lab/skip.ts";
import { type Report, sumOf, turns } from "../../lab/watch/watch.ts";
import { formatAddress, parseRange } from "../../src/core/address.ts";
import { Election, equals, Wish } from "../../src/core/ownership.ts";
import { type Kind, type Objects, readers } from "../../src/source/kubernetes/objects.ts";
import { type ClusterObjects, demandOf } from "../source/kubernetes/clusters.ts";

const test = suite("outages on a cluster");
const check = checker(test, noCluster);
const stack = new AsyncDisposableStack();
let scene: Scene;

/** Four VIPs for each node, all of them served. */
const VIPS = NODES.flatMap((node) => vipsOf(node, 3, 4));
/** A generous bound for any silence, ms. */
const MOST = 5_000;

test.before(async () => {
  if (noCluster) return;
  scene = stack.use(await Scene.start("isat-t-outage-", { wire: "bridge" }));
  for (const [index, vip] of VIPS.entries()) await scene.cluster.serve(`s${index}`, vip);
  await scene.speakers.startAll();
  await scene.shared(VIPS);
});

/** Restores the nodes, so that a failed test does not make the next one fail. */
test.after.each(async () => {
  if (noCluster) return;
  for (const node of [...scene.speakers.unreachable]) await scene.revive(node);
  await scene.shared(VIPS);
});

test.after(() => stack.disposeAsync());

const measured = (text: string) => console.log(`MEASURED ${text}`);
const without = (...names: string[]) => NODES.filter((name) => !names.includes(name));
const said = (node: string, pattern: RegExp, from = 0) =>
  scene.speakers
    .of(node)
    .log.slice(from)
    .some(({ msg }) => pattern.test(msg));

/** The nodes that should answer for each VIP, in turn, while these nodes are alive, then those. */
function shares(vips: readonly string[], ...alive: (readonly string[])[]): Record<string, string> {
  const inTurn = (vip: string) => alive.map((nodes) => best(vip, nodes));
  return Object.fromEntries(
    vips.map((vip) => [
      vip,
      inTurn(vip)
        .filter((name, at, names) => name !== names[at - 1])
        .join(" > "),
    ]),
  );
}

/** Asserts that the VIPs moved just as they had to, that no request had two answers, and that no silence was long. */
function assertMoves(report: Report, ...alive: (readonly string[])[]): void {
  const { doubled, mute, silence } = sumOf(report);
  const vips = report.vips.map(({ vip }) => vip);
  assert.equal({ ...turns(report), doubled, mute }, { ...shares(vips, ...alive), doubled: 0, mute: 0 });
  assert.ok(silence < MOST, `silent for ${silence} ms`);
  const moved = new Set(vips.filter((vip) => new Set(alive.map((nodes) => best(vip, nodes))).size > 1));
  const unanswered = report.vips.filter(({ vip, unanswered }) => !moved.has(vip) && unanswered > 0);
  assert.equal(unanswered, [], "a VIP that did not move is answered all the time");
}

check(
  "three nodes die in turn: each one's VIPs move to the elected nodes and back, and no request has two answers",
  async () => {
    for (const node of NODES) {
      const report = await scene.speakers.watched(VIPS, async () => {
        await sleep(300);
        await scene.die(node);
        await scene.shared(VIPS, without(node));
        await sleep(500);
        await scene.revive(node);
        await scene.shared(VIPS);
        await sleep(500);
      });
      assertMoves(report, NODES, without(node), NODES);
      measured(`${node} dies and comes back: at most ${sumOf(report).silence.toFixed(0)} ms of silence`);
    }
  },
);

check(
  "the API server is away for 30 s: the VIPs of a node that dies meanwhile move, and nothing else, then or later",
  async () => {
    const { cluster, speakers } = scene;
    const report = await speakers.watched(VIPS, async () => {
      await sleep(300);
      const began = performance.now();
      await cluster.killServer();
      try {
        await until("all are stale", async () => {
          const found = await Promise.all(NODES.map((node) => speakers.ask(node)));
          return found.every(({ isSourceStale }) => isSourceStale);
        });
        await scene.die("n2");
        await scene.shared(VIPS, ["n1", "n3"]);
        await sleep(Math.max(0, 30_000 - (performance.now() - began)));
      } finally {
        await cluster.startServer();
      }
      await until(
        "n1 and n3 read again",
        async () => {
          const found = await Promise.all(["n1", "n3"].map((node) => speakers.ask(node)));
          return found.every(({ isSourceStale }) => !isSourceStale);
        },
        PATIENCE,
      );
      await sleep(1_000);
      await scene.revive("n2");
      await scene.shared(VIPS);
      await sleep(500);
    });
    assertMoves(report, NODES, ["n1", "n3"], NODES);
  },
);

check(
  "a speaker that is killed and started while the API is away serves its snapshot, and nothing happens",
  async () => {
    const { cluster, speakers } = scene;
    for (const node of NODES) await speakers.saved(node, VIPS[0]!);
    const report = await speakers.watched(VIPS, async () => {
      await cluster.killServer();
      try {
        for (const node of ["n1", "n3"]) {
          const from = speakers.of(node).log.length;
          await speakers.restart(speakers.of(node));
          assert.ok(said(node, /what was saved of the cluster is served/, from));
        }
        await sleep(4_000); // a tick counts for 3 s
        const { interfaces, isSourceStale } = await speakers.ask("n1");
        assert.equal([interfaces[0]!.state, isSourceStale], ["live", true]);
      } finally {
        await cluster.startServer();
      }
      await until("n1 reads again", async () => !(await speakers.ask("n1")).isSourceStale, PATIENCE);
      await sleep(500);
    });
    assertMoves(report, NODES);
  },
);

check(
  "after a compaction, a node that missed a deletion lists again, drops that VIP, and keeps the others",
  async () => {
    const { cluster, speakers } = scene;
    const [vip] = vipsOf("n1", 4, 1) as [string];
    await cluster.serve("doomed", vip);
    await scene.at(vip, "n1");
    const from = speakers.of("n1").log.length;
    const report = await speakers.watched(VIPS, async () => {
      await cluster.killServer();
      await until("n1 has noticed", () => said("n1", /Cannot reach the API/, from), PATIENCE);
      await cluster.cut("n1"); // with no connection left by which it could still hear
      try {
        await cluster.startServer();
        await cluster.deleteService("doomed");
        await cluster.compact();
        assert.equal(speakers.owners(vip), ["n1"], "n1 has not heard of it");
      } finally {
        await cluster.mend("n1");
      }
      await until(`${vip} is gone`, () => !speakers.vips(speakers.of("n1")).has(vip), PATIENCE);
      assert.not(said("n1", /are listed anew/, from), "now and then it does, which is in order");
    });
    assertMoves(report, NODES);
  },
);

/**
 * Runs `body` with a Service whose one endpoint is on n2. The Service is always deleted, as the next test uses its VIP.
 */
async function served(cluster: Scene["cluster"], name: string, vip: string): Promise<AsyncDisposable> {
  await cluster.serve(name, vip, { policy: "Local", endpoints: ["n2"] });
  return { [Symbol.asyncDispose]: () => cluster.deleteService(name) };
}

check(
  "a change that a half-open connection has lost arrives by a new one, and no request has two answers",
  async () => {
    const { cluster, speakers } = scene;
    const vip = vipsOf("n2", 4, 40).find((each) => best(each, ["n2", "n3"]) === "n2")!;
    await using _service = await served(cluster, "half", vip);
    await scene.at(vip, "n2");
    const began = performance.now();
    const report = await speakers.watched([vip, ...VIPS], async () => {
      await cluster.halfOpen("n2");
      try {
        await cluster.setEndpoints("half", ["n3"]);
        await until("n3 has it", () => speakers.owners(vip).join() === "n3", PATIENCE);
        measured(`a half-open connection noticed after ${Math.round(performance.now() - began)} ms`);
        await sleep(500);
      } finally {
        await cluster.mend("n2");
      }
    });
    assert.equal(turns(report), { ...shares(VIPS, NODES), [vip]: "n2 > n3" });
    assert.is(sumOf(report).doubled, 0);
  },
);

check(
  "a node that is cut off from the API keeps its VIPs for ten seconds, then releases them, and takes them back later",
  async () => {
    const { cluster, speakers } = scene;
    const vip = vipsOf("n2", 4, 40).find((each) => best(each, ["n2", "n3"]) === "n2")!;
    await using _service = await served(cluster, "moving", vip);
    await scene.at(vip, "n2");
    const began = performance.now();
    const after = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
    const report = await speakers.watched([vip, ...VIPS], async () => {
      await cluster.cut("n2");
      try {
        await cluster.setEndpoints("moving", ["n3"]);
        await until(`${vip} is at n3`, () => speakers.owners(vip).join() === "n3", PATIENCE);
        measured(`a VIP whose owner changed left the node that was cut off after ${after()}`);
        await scene.shared(VIPS, ["n1", "n3"]);
        measured(`all that it owned left it after ${after()}`);
      } finally {
        await cluster.mend("n2");
      }
      await scene.shared(VIPS);
      await sleep(500);
    });
    assertMoves({ vips: report.vips.slice(1) }, NODES, ["n1", "n3"], NODES);
    assert.is(turns(report)[vip], "n2 > n3");
    assert.is(sumOf(report).doubled, 0);
  },
);

check(
  "nodes that are cut off keep what no fresh node may own: a Local Service's only node, and two nodes beside an excluded one",
  async () => {
    const { cluster, speakers } = scene;
    const vip = vipsOf("n2", 4, 40).find((each) => best(each, ["n2", "n3"]) === "n2")!;
    await using _service = await served(cluster, "local", vip);
    await using _label = await excluded(cluster, "n1");
    const others = without("n1");
    await scene.shared(VIPS, others);
    await scene.at(vip, "n2");
    const all = await speakers.watched([vip, ...VIPS], async () => {
      for (const node of others) await cluster.cut(node);
      try {
        const lag = async () => {
          const found = await Promise.all(others.map((node) => speakers.ask(node)));
          return found.every(({ interfaces }) => interfaces[0]!.state === "lagging");
        };
        await until("both lag", lag, PATIENCE);
        await speakers.restart(speakers.of("n2"));
        await sleep(3_000);
      } finally {
        for (const node of others) await cluster.mend(node);
      }
      await until("both read again", async () => {
        const found = await Promise.all(others.map((node) => speakers.ask(node)));
        return found.every(({ isSourceStale, interfaces }) => !isSourceStale && interfaces[0]!.state === "live");
      });
      await sleep(500);
    });
    assertMoves({ vips: all.vips.slice(1) }, others);
    assert.equal([turns(all)[vip], all.vips[0]!.unanswered, sumOf(all).doubled], ["n2", 0, 0]);
  },
);

async function excluded(cluster: Scene["cluster"], node: string): Promise<AsyncDisposable> {
  const label = "node.kubernetes.io/exclude-from-external-load-balancers";
  await cluster.labelNode(node, { [label]: "" });
  return { [Symbol.asyncDispose]: () => cluster.labelNode(node, { [label]: null }) };
}

// Two hundred Services ----------------------------------------------------------------------------------------------

/** The VIPs that each node's kernel should have, computed from the API's objects by the pure core alone. */
async function expectedMaps(): Promise<Record<string, string[]>> {
  const paths: [Exclude<Kind, "IPAddressPool" | "L2Advertisement">, string][] = [
    ["Service", "/api/v1/services"],
    ["EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"],
    ["Node", "/api/v1/nodes"],
  ];
  const read = async <K extends Kind>(kind: K, path: string): Promise<Objects[K][]> => {
    const { items } = await scene.cluster.api.list(path);
    return items.map((item) => readers[kind](item)).filter((object) => object !== undefined);
  };
  const found = Object.fromEntries(
    await Promise.all(paths.map(async ([kind, path]) => [kind, await read(kind, path)])),
  );
  const objects = {
    ...found,
    IPAddressPool: [],
    L2Advertisement: undefined,
  } as unknown as ClusterObjects;
  const settings = {
    loadBalancerClass: undefined,
    poolNamespace: "metallb-system",
    addresses: [parseRange("10.9.0.0/18")],
    interfaces: ["eth0"],
    nodeSelector: undefined,
    serviceSelector: undefined,
    ignoreExcludeLabel: false,
  };
  return Object.fromEntries(
    NODES.map((self) => {
      const { vips } = demandOf(objects, settings, self);
      const election = new Election();
      election.hold({ self, ranges: vips, ...equals(NODES) });
      const lines = [...election.keys()].map(
        (address) => `${formatAddress(address)} ${election.get(address) === Wish.ours ? "owned" : "other"}`,
      );
      return [self, lines.sort()];
    }),
  );
}

/** The VIPs that each node's kernel has. */
function actualMaps(): Record<string, string[]> {
  const lines = (name: string) =>
    [...scene.speakers.vips(scene.speakers.of(name))].map(([vip, state]) => `${vip} ${state}`);
  return Object.fromEntries(NODES.map((name) => [name, lines(name).sort()]));
}

check(
  "200 Services come, change and go at random while speakers are killed: the maps end as computed afresh, and no request had two answers",
  async () => {
    const { cluster, speakers } = scene;
    const seed = Number(process.env.ISAT_SEED ?? Date.now() % 1e6);
    const random = randomOf(seed);
    const pick = <T>(items: readonly T[]) => items[Math.floor(random() * items.length)]!;
    const vips = Array.from({ length: 200 }, (_, index) => `10.9.8.${index + 1}`);
    const services = vips.map((vip, index) => ({ name: `r${index}`, vip, isThere: false }));
    const someNodes = () => NODES.filter(() => random() < 0.6);

    async function change(service: (typeof services)[number]): Promise<void> {
      const { name, vip, isThere } = service;
      const roll = random();
      if (!isThere || roll < 0.3) {
        await cluster.serve(name, random() < 0.1 ? [pick(vips), vip] : vip, {
          policy: pick(["Cluster", "Local"]),
          endpoints: someNodes(),
        });
        service.isThere = true;
      } else if (roll < 0.6) await cluster.setEndpoints(name, someNodes());
      else if (roll < 0.8) await cluster.setIngress(name, [random() < 0.5 ? vip : pick(vips)]);
      else {
        await cluster.deleteService(name);
        service.isThere = false;
      }
    }

    let changes = 0;
    let kills = 0;
    const report = await speakers.watched(
      vips,
      async () => {
        for (const service of services) await change(service);
        const end = performance.now() + 30_000;
        const changing = (async () => {
          for (; performance.now() < end; changes++) await change(pick(services));
        })();
        const killing = (async () => {
          for (; performance.now() < end; kills++) {
            const speaker = speakers.of(pick(NODES));
            await speaker.signal(pick(["SIGKILL", "SIGKILL", "SIGTERM"] as const));
            await sleep(random() * 1_500);
            speaker.start();
            if (random() < 0.7) await speaker.ready(PATIENCE);
            else await sleep(random() * 600); // killed while it starts
          }
        })();
        await Promise.all([changing, killing]);
        await Promise.all(speakers.all.map((speaker) => speaker.ready(PATIENCE)));
        const expected = await expectedMaps();
        const isSettled = () => JSON.stringify(actualMaps()) === JSON.stringify(expected);
        await until("the maps are as computed", isSettled, PATIENCE).catch(() => {});
        assert.equal(actualMaps(), expected, `seed ${seed}`);
        await sleep(1_500); // what comes late would show now
        assert.equal(actualMaps(), expected, `seed ${seed}`);
      },
      250,
    );
    const { asked, doubled } = sumOf(report);
    measured(
      `seed ${seed}: ${changes} changes, ${kills} speakers killed, ${asked} requests, ${doubled} with two answers`,
    );
    assert.is(doubled, 0, `seed ${seed}`);
  },
);

test.run();
