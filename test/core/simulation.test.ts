import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Machine, MS, type Settings, Simulation } from "./simulation.ts";
import { storm } from "./storm.ts";

/** Nodes that have found each other, and hold their share. */
function started(settings: Partial<Settings> = {}): Simulation {
  const simulation = new Simulation(settings);
  for (const machine of simulation.machines) if (machine.entry === undefined) machine.start();
  simulation.run(5_000);
  simulation.longestSilence = 0;
  simulation.moves = 0;
  return simulation;
}

const inMs = (nanoseconds: number) => Math.round(nanoseconds / MS);

test("three nodes start, and each VIP is answered by one of them", () => {
  const simulation = started();
  for (const key of simulation.keys) assert.is(simulation.owners(key).length, 1);
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
];
for (const { what, settings, play, silence, moves } of rows) {
  test(`${what}: VIPs are silent for at most ${silence} ms, and ${moves} move`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const simulation = started({ ...settings, seed });
      play(simulation, simulation.machines);
      const found = inMs(simulation.longestSilence);
      assert.ok(found <= silence, `seed ${seed}: silent for ${found} ms`);
      if (moves === "none") assert.is(simulation.moves, 0, `seed ${seed}`);
      else assert.ok(simulation.moves > 0, `seed ${seed}`);
    }
  });
}

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
const SEEDS = Number(process.env.SEEDS ?? 20);
for (const [what, settings] of storms) {
  test(`whatever happens to ${what}, no VIP is answered twice and none is left`, () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const simulation = started({ ...settings, seed, vips: 6 });
      storm(simulation, 300);
    }
  });
}
test.run();
