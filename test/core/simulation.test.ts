// limit: 300 s
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Act, type Machine, MS } from "./machine.ts";
import { type Settings, SIZE, Simulation } from "./simulation.ts";
import { storm } from "./storm.ts";

/** Nodes that have found each other, and hold their share. */
function started(settings: Partial<Settings> = {}): Simulation {
  const simulation = new Simulation(settings);
  for (const machine of simulation.machines) if (machine.kernel.interface === undefined) machine.start();
  simulation.run(5_000);
  simulation.longestSilence = 0;
  simulation.moves = 0;
  return simulation;
}

const inMs = (nanoseconds: number) => Math.round(nanoseconds / MS);

test("three nodes start, and each VIP is answered by one of them", () => {
  const simulation = started();
  for (const address of simulation.addresses) assert.is(simulation.owners(address).length, 1);
});

interface Row {
  what: string;
  settings?: Partial<Settings>;
  play: (simulation: Simulation, machines: Machine[]) => void;
  /** ms that a VIP is silent at most. */
  silence: number;
  /** Whether VIPs moved at all. */
  moves: "none" | "some";
}

const rows: Row[] = [
  {
    what: "a node dies",
    play: (simulation, [, two]) => {
      two!.die();
      simulation.run(5_000);
    },
    silence: 500,
    moves: "some",
  },
  ...[1, 5, 25].map(
    (seconds): Row => ({
      what: `a speaker is killed, and started again ${seconds} s later`,
      play: (simulation, [, two]) => {
        two!.kill();
        simulation.run(seconds * 1000);
        two!.start();
        simulation.run(10_000);
      },
      silence: 0,
      moves: "none",
    }),
  ),
  {
    what: "a speaker is killed for good",
    play: (simulation, [, two]) => {
      two!.kill();
      simulation.run(60_000);
    },
    silence: 50,
    moves: "some",
  },
  {
    what: "a speaker is frozen for good",
    play: (simulation, [, two]) => {
      two!.freeze();
      simulation.run(60_000);
    },
    silence: 50,
    moves: "some",
  },
  {
    what: "a speaker is frozen for 20 s",
    play: (simulation, [, two]) => {
      two!.freeze();
      simulation.run(20_000);
      two!.thaw();
      simulation.run(10_000);
    },
    silence: 0,
    moves: "none",
  },
  {
    what: "a speaker is frozen for 40 s",
    play: (simulation, [, two]) => {
      two!.freeze();
      simulation.run(40_000);
      two!.thaw();
      simulation.run(10_000);
    },
    silence: 50,
    moves: "some",
  },
  {
    what: "all speakers are killed at once, and started again after 60 s",
    play: (simulation, machines) => {
      for (const machine of machines) machine.kill();
      simulation.run(60_000);
      for (const machine of machines) machine.start();
      simulation.run(60_000);
    },
    silence: 0,
    moves: "none",
  },
  {
    what: "all speakers are killed at once, and started again one after the other",
    play: (simulation, machines) => {
      for (const machine of machines) machine.kill();
      simulation.run(60_000);
      for (const machine of machines) {
        machine.start();
        simulation.run(2_000);
      }
      simulation.run(60_000);
    },
    silence: 0,
    moves: "none",
  },
  ...(
    [
      ["the only node that may own the VIPs loses its source beside a fresh one", { eligible: [0] }, [[0, 0, 60_000]]],
      [
        "the two nodes that may own the VIPs lose their source at different times beside a fresh one, and find it again",
        { eligible: [0, 1] },
        [
          [0, 0, 60_000],
          [1, 1_700, 63_000],
        ],
      ],
      [
        "a speaker whose source is stale is started again, where only two such nodes may own the VIPs",
        { eligible: [0, 1] },
        [
          [0, 0, 90_000],
          [1, 500, 91_000],
        ],
        40_000,
      ],
    ] as [string, Partial<Settings>, [machine: number, from: number, to: number][], number?][]
  ).map(
    ([what, settings, losses, restart]): Row => ({
      what,
      settings,
      play: (simulation, machines) => {
        const at = (ms: number, machine: number, act: Act) => simulation.at(ms * MS, { kind: "act", machine, act });
        for (const [machine, from, to] of losses) {
          at(from, machine, "stale");
          at(to, machine, "fresh");
        }
        if (restart !== undefined) {
          at(restart, 0, "kill");
          at(restart + 2_000, 0, "start");
        }
        simulation.run(120_000);
        assert.ok(machines.every(({ speaker }) => speaker!.segment.isJoined));
      },
      silence: 0,
      moves: "none",
    }),
  ),
  {
    what: "a node loses its source beside fresh ones that may own the VIPs, and finds it again",
    play: (simulation, [, two]) => {
      two!.setSourceStale(true);
      simulation.run(20_000);
      for (const address of simulation.addresses) assert.not(simulation.owners(address).includes("n2"));
      two!.setSourceStale(false);
      simulation.run(20_000);
    },
    silence: 20,
    moves: "some",
  },
  {
    what: "nodes that lost their source still have a VIP that is another one's by now: it is taken from them",
    settings: { eligible: [0, 1] },
    play: (simulation, [one, two]) => {
      one!.setSourceStale(true);
      two!.setSourceStale(true);
      simulation.run(1_000);
      simulation.allow(["n3"]);
      simulation.run(40_000);
      for (const address of simulation.addresses) assert.equal(simulation.owners(address), ["n3"]);
      one!.setSourceStale(false);
      two!.setSourceStale(false);
      simulation.run(20_000);
    },
    silence: 20,
    moves: "some",
  },
  {
    what: "a node is drained",
    play: (simulation, [, two]) => {
      two!.drain(true);
      simulation.run(5_000);
    },
    silence: 20,
    moves: "some",
  },
  {
    what: "a machine is shut down by order: its speaker is stopped when its VIPs are elsewhere, and then its network goes",
    play: (simulation, [, two]) => {
      two!.setEnding(true);
      simulation.run(1_000);
      for (const address of simulation.addresses) assert.not(simulation.owners(address).includes("n2"));
      two!.kill();
      simulation.run(50);
      two!.die();
      simulation.run(5_000);
    },
    silence: 20,
    moves: "some",
  },
  {
    what: "a machine is shut down by order, and it alone may own the VIPs: they stay",
    settings: { eligible: [0] },
    play: (simulation, [one]) => {
      one!.setEnding(true);
      simulation.run(60_000);
      one!.setEnding(false);
      simulation.run(5_000);
    },
    silence: 0,
    moves: "none",
  },
  {
    what: "a node joins and wins VIPs",
    play: (simulation, [, two]) => {
      two!.die();
      simulation.run(20_000);
      simulation.longestSilence = 0;
      two!.boot();
      simulation.run(20_000);
    },
    silence: 20,
    moves: "some",
  },
  {
    what: "a speaker is started again while another one is past hold",
    play: (simulation, [one, two]) => {
      two!.kill();
      simulation.run(60_000);
      one!.kill();
      simulation.run(1_000);
      one!.start();
      simulation.run(60_000);
    },
    silence: 50,
    moves: "some",
  },
  {
    what: "two speakers are started again shortly before a third node, whose speaker is dead, passes its fence",
    settings: { silence: 2_500 },
    play: (simulation, machines) => {
      for (const machine of machines) machine.kill();
      simulation.run(287_000);
      for (const machine of [machines[0]!, machines[2]!]) machine.start();
      simulation.run(30_000);
    },
    silence: 2_100,
    moves: "some",
  },
];
/** What of the peer protocol is lost while ARP passes, and for how long, ms. */
const losses: [what: string, lose: (machines: Machine[]) => [from: Machine, to: Machine][]][] = [
  ["no node hears another", (machines) => machines.flatMap(({ pairs }) => pairs)],
  ["one node neither hears nor is heard", ([, two]) => two!.pairs],
  ["one node hears nobody", ([, two]) => two!.pairs.filter(([, to]) => to === two)],
  ["one node is heard by nobody", ([, two]) => two!.pairs.filter(([from]) => from === two)],
  ["one node does not hear one other", ([one, two]) => [[one!, two!]]],
];
for (const [what, lose] of losses) {
  for (const seconds of [1, 20]) {
    rows.push({
      what: `${what} for ${seconds} s, though all answer ARP`,
      play: (simulation, machines) => {
        simulation.hush(lose(machines), true);
        simulation.run(seconds * 1000);
        simulation.hush(lose(machines), false);
        simulation.run(10_000);
      },
      silence: 0,
      moves: "none",
    });
  }
  rows.push(
    {
      what: `${what}, and a node dies`,
      play: (simulation, machines) => {
        simulation.hush(lose(machines), true);
        simulation.run(3_000);
        machines[2]!.die();
        simulation.run(5_000);
      },
      silence: 500,
      moves: "some",
    },
    {
      what: `${what}, and its speaker starts again`,
      play: (simulation, machines) => {
        simulation.hush(lose(machines), true);
        simulation.run(3_000);
        machines[1]!.kill();
        machines[1]!.start();
        simulation.run(10_000);
      },
      silence: 0,
      moves: "none",
    },
  );
}
/** Two of three nodes do not hear each other, by ARP neither, and the third one hears both. */
const part = (simulation: Simulation, [one, , three]: Machine[], isCut: boolean) => {
  simulation.cut(one!, three!, isCut);
  simulation.cut(three!, one!, isCut);
};
rows.push(
  ...[1, 20].map(
    (seconds): Row => ({
      what: `two of three nodes do not hear each other for ${seconds} s`,
      play: (simulation, machines) => {
        part(simulation, machines, true);
        simulation.run(seconds * 1000);
        part(simulation, machines, false);
        simulation.run(10_000);
      },
      silence: 0,
      moves: "none",
    }),
  ),
  {
    what: "one of three nodes no longer hears one other for 20 s, and is heard by it",
    play: (simulation, [one, , three]) => {
      simulation.cut(one!, three!, true);
      simulation.run(20_000);
      simulation.cut(one!, three!, false);
      simulation.run(10_000);
    },
    silence: 0,
    moves: "none",
  },
  {
    what: "two of three nodes do not hear each other, and one of them dies",
    play: (simulation, machines) => {
      part(simulation, machines, true);
      simulation.run(3_000);
      machines[2]!.die();
      simulation.run(5_000);
    },
    silence: 800,
    moves: "some",
  },
  {
    what: "two of three nodes do not hear each other, and the third one's speaker starts again",
    play: (simulation, machines) => {
      part(simulation, machines, true);
      simulation.run(3_000);
      machines[1]!.kill();
      simulation.run(5_000);
      machines[1]!.start();
      simulation.run(10_000);
    },
    silence: 0,
    moves: "none",
  },
  {
    what: "two of three nodes do not hear each other, and one of their speakers starts again",
    play: (simulation, machines) => {
      part(simulation, machines, true);
      simulation.run(3_000);
      machines[2]!.kill();
      simulation.run(1_000);
      machines[2]!.start();
      simulation.run(10_000);
    },
    silence: 0,
    moves: "none",
  },
  ...[500, 3_000, 20_000].map(
    (ms): Row => ({
      what: `a speaker starts again ${ms} ms after another node has died, which a third one heard`,
      play: (simulation, machines) => {
        machines[2]!.die();
        simulation.run(ms);
        simulation.longestSilence = 0;
        machines[0]!.kill();
        machines[0]!.start();
        simulation.run(10_000);
      },
      silence: 0,
      moves: "some",
    }),
  ),
  {
    what: "two of three nodes do not hear each other, and one of them boots, or is drained",
    play: (simulation, machines) => {
      part(simulation, machines, true);
      machines[2]!.die();
      simulation.run(3_000);
      machines[2]!.boot();
      simulation.run(10_000);
      machines[0]!.drain(true);
      simulation.run(5_000);
      machines[0]!.drain(false);
      simulation.run(10_000);
    },
    silence: 800,
    moves: "some",
  },
  {
    what: "two of three nodes do not hear each other, and their demand changes",
    play: (simulation, machines) => {
      part(simulation, machines, true);
      simulation.run(1_000);
      for (const names of [["n1"], ["n3"], ["n1", "n3"], ["n2"], undefined]) {
        simulation.allow(names);
        simulation.run(5_000);
      }
    },
    silence: 800,
    moves: "some",
  },
);
for (const { what, settings, play, silence, moves } of rows) {
  test(`${what}: VIPs are silent for at most ${silence} ms, and ${moves} move`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const simulation = started({ ...settings, seed });
      play(simulation, simulation.machines);
      const found = inMs(simulation.longestSilence);
      assert.ok(found <= silence, `seed ${seed}: silent for ${found} ms`);
      if (moves === "none") assert.is(simulation.moves, 0, `seed ${seed}`);
      else assert.ok(simulation.moves > 0, `seed ${seed}`);
      assert.equal(simulation.misled, [], `seed ${seed}: announced by another node last`);
    }
  });
}

/** Pauses between the starts, or the ends, of isat on three nodes, ms. */
for (const pause of [0, 300, 800, 5_000]) {
  test(`isat takes over from another speaker, and gives back to it, ${pause} ms between nodes: nothing moves`, () => {
    for (let seed = 1; seed <= 5; seed++) {
      const simulation = new Simulation({ seed, latency: [0.1, 20] });
      for (const machine of simulation.machines) machine.hasOther = true;
      simulation.run(1_000);
      for (const machine of simulation.machines) {
        machine.start();
        simulation.run(pause * (0.5 + simulation.random()));
      }
      simulation.run(20_000);
      assert.ok(simulation.machines.every(({ speaker }) => speaker!.segment.isReady));
      assert.equal(
        simulation.machines.map(({ speaker }) => speaker!.segment.warnings(simulation.clock)),
        [[], [], []],
      );
      for (const machine of simulation.machines) {
        machine.clean();
        simulation.run(pause * (0.5 + simulation.random()));
      }
      simulation.run(10_000);
      const { longestSilence, longestDouble, moves, addresses } = simulation;
      assert.equal([longestSilence, longestDouble, moves], [0, 0, addresses.length], `seed ${seed}`);
    }
  });
}

const HEALED = 300;
/** A node comes to want VIPs that others have, and cannot ask them by a claim: the wire is asked by ARP for each. */
const returns: [what: string, seconds: number, leave: (machine: Machine) => void, come: (machine: Machine) => void][] =
  [
    ["boots", 5, (machine) => machine.die(), (machine) => machine.boot()],
    ["is undrained", 5, (machine) => machine.drain(true), (machine) => machine.drain(false)],
    ["no longer lags", 20, (machine) => machine.setSourceStale(true), (machine) => machine.setSourceStale(false)],
    ["starts past its hold", 40, (machine) => machine.kill(), (machine) => machine.start()],
  ];
for (const [what, lose] of losses) {
  for (const [how, seconds, leave, come] of returns) {
    // A node that boots, and does not hear one that others hear, has not heard its MAC either.
    if (what === "one node does not hear one other" && how === "boots") continue;
    test(`${what}, and one ${how} meanwhile: it takes nothing that another one answers`, () => {
      for (let seed = 1; seed <= 4; seed++) {
        const simulation = started({ seed });
        const { machines } = simulation;
        leave(machines[1]!);
        simulation.run(1000 * seconds);
        simulation.longestSilence = 0;
        simulation.hush(lose(machines), true);
        simulation.run(3_000);
        simulation.moves = 0;
        come(machines[1]!);
        simulation.run(10_000);
        // Of the others, the one that it hears gives up what it has.
        if (what !== "one node does not hear one other") assert.is(simulation.moves, 0, `seed ${seed}`);
        simulation.hush(lose(machines), false);
        simulation.run(5_000);
        assert.ok(simulation.moves > 0, `seed ${seed}`);
        assert.ok(
          inMs(simulation.longestSilence) <= 1,
          `seed ${seed}: silent for ${inMs(simulation.longestSilence)} ms`,
        );
        assert.equal(simulation.misled, [], `seed ${seed}: announced by another node last`);
      }
    });
  }
}

test("a node that sleeps through its own death asks for what it owns, though the one that took it has no speaker any more", () => {
  for (let seed = 1; seed <= 10; seed++) {
    const simulation = started({ seed, nodes: 2, silence: 3_000 });
    const [one, two] = simulation.machines as [Machine, Machine];
    one.freeze();
    one.part(two, true);
    simulation.run(450);
    assert.ok(simulation.addresses.every((address) => simulation.owners(address).includes("n2")));
    two.kill();
    one.part(two, false);
    one.thaw();
    simulation.run(2_500);
    for (const address of simulation.addresses) assert.is(simulation.owners(address).length, 1, `seed ${seed}`);
  }
});

test(`two sides that hear each other again: each VIP is answered by one node within ${HEALED} ms`, () => {
  for (let seed = 1; seed <= 20; seed++) {
    const simulation = started({ seed, nodes: 5, heal: HEALED });
    const apart = simulation.machines.slice(0, 2);
    for (const machine of apart) machine.moveTo(1);
    simulation.run(20_000);
    for (const machine of apart) machine.moveTo(0);
    simulation.run(10_000);
    for (const address of simulation.addresses) assert.is(simulation.owners(address).length, 1);
  }
});

for (const apart of [2_000, 20_000]) {
  test(`after ${apart / 1_000} s apart, clients know each VIP's owner again within 500 ms, by at most 6 announcements of each`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const simulation = started({ seed, heal: 500 });
      const [, two] = simulation.machines as [Machine, Machine, Machine];
      two.moveTo(1);
      simulation.run(apart);
      assert.equal(simulation.misled, [], `seed ${seed}, apart`);
      two.moveTo(0);
      simulation.announcements = 0;
      simulation.run(500);
      assert.equal(simulation.misled, [], `seed ${seed}`);
      simulation.run(9_500);
      assert.equal(simulation.misled, [], `seed ${seed}, later`);
      const { announcements, addresses } = simulation;
      assert.ok(announcements <= 6 * addresses.length, `seed ${seed}: ${announcements} announcements`);
    }
  });
}

test("a node that is off when it is heard no more, and starts anew: clients know who owns its VIPs all the time", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const simulation = started({ seed, nodes: 2 });
    const [one, two] = simulation.machines as [Machine, Machine];
    one.moveTo(1);
    simulation.run(2_000); // the other one takes its VIPs, and announces them
    two.die();
    one.moveTo(0);
    simulation.run(10_000);
    two.boot();
    simulation.run(10_000);
    assert.equal(simulation.misled, [], `seed ${seed}`);
  }
});

const storms: [what: string, settings: Partial<Settings>][] = [
  ["three nodes", {}],
  [
    "three nodes on a slow wire that loses a tenth of the claims",
    { latency: [0.1, 20], loss: 0.1, heal: 3_000, silence: 3_000 },
  ],
  [
    "five nodes whose speakers are put aside in the middle of what they do",
    { nodes: 5, stalls: { chance: 0.02, most: 150 }, heal: 3_000, silence: 3_000 },
  ],
];
const FIRST = Number(process.env.SEED ?? 1);
const SEEDS = Number(process.env.SEEDS ?? 6);
for (const [what, settings] of storms) {
  test(`whatever happens to ${what}, no VIP is answered twice and none is left`, () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const simulation = started({ ...settings, seed, vips: 6 });
      storm(simulation, 300);
    }
  });
}
/**
 * What a node costs its wire, and how soon a death is noticed and mended, at three sizes. Three nodes run speakers and own
 * the VIPs; the others are kernels that answer. Each speaks as each other would.
 */
const sizes: [nodes: number, seeds: number, seconds: number, interval: number][] = [
  [3, 40, 20, 100],
  [3, 40, 20, 10],
  [100, 5, 20, 100],
  [1000, 2, 60, 100],
];
for (const [nodes, seeds, seconds, shortest] of sizes) {
  test(`${nodes} nodes that probe each ${shortest} ms: what is sent, and how long a death takes`, () => {
    const noticed: number[] = [];
    const silences: number[] = [];
    let [probes, hellos] = [0, 0];
    for (let seed = 1; seed <= seeds; seed++) {
      const simulation = new Simulation({ nodes, seed, speakers: 3, silence: 6_000, interval: shortest });
      const [one, two, three] = simulation.machines as [Machine, Machine, Machine];
      for (const machine of [one, two, three]) machine.start();
      simulation.run(nodes === 1000 ? 20_000 : 8_000);
      if (seed === 1) {
        const before = { ...simulation.frames };
        simulation.run(seconds * 1000);
        const each = (now: number, then: number) => (now - then) / 3 / seconds;
        probes = each(simulation.frames.probes, before.probes);
        hellos = each(simulation.frames.hellos, before.hellos);
      }
      simulation.run(1000 * simulation.random());
      simulation.longestSilence = 0;
      const died = simulation.now;
      two.die();
      const knows = () => !one.speaker!.segment.members.some(({ isAlive, heard }) => isAlive && heard.node === two.id);
      while (!knows()) simulation.run(1);
      noticed.push(inMs(simulation.now - died));
      simulation.run(5_000);
      silences.push(inMs(simulation.longestSilence));
    }
    const onTheWire = nodes * (2 * probes + hellos * nodes);
    const range = (values: number[]) => `${Math.min(...values)} to ${Math.max(...values)} ms`;
    const sent = onTheWire / nodes;
    const figures = [
      `each sends ${probes.toFixed(0)} probes/s`,
      `${sent.toFixed(0)} frames/s and ${((sent * SIZE) / 1000).toFixed(0)} kB/s in all`,
      `on the wire ${(nodes * hellos).toFixed(0)} broadcast probes/s`,
      `${(onTheWire / 1000).toFixed(1)}k frames/s and ${((onTheWire * SIZE) / 1e6).toFixed(2)} MB/s in all`,
      `a death is noticed after ${range(noticed)}`,
      `every VIP answered again after ${range(silences)} (${seeds} deaths)`,
    ];
    console.log(`\nMEASURED ${nodes} nodes, ${shortest} ms: ${figures.join(", ")}`);
    assert.ok(probes <= 1_120, `${probes} probes/s`);
    assert.ok(nodes * hellos <= 25, `${nodes * hellos} broadcast probes/s`);
    const interval = Math.max(shortest, nodes);
    assert.ok(Math.max(...noticed) <= 4 * interval + 50, range(noticed));
    assert.ok(Math.max(...silences) <= 4 * interval + (shortest < 100 ? 20 : 100), range(silences));
  });
}

test.run();
