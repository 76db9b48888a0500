import { type Machine, MS } from "./machine.ts";
import type { Simulation } from "./simulation.ts";

/** Things happen to nodes at random, some at once. */
export function storm(simulation: Simulation, seconds: number): void {
  const { machines } = simulation;
  const deeds: ((machine: Machine) => void)[] = [
    (machine) => machine.kill(),
    (machine) => machine.start(),
    (machine) => machine.start(),
    (machine) => machine.freeze(),
    (machine) => machine.thaw(),
    (machine) => machine.thaw(),
    (machine) => machine.die(),
    (machine) => machine.boot(),
    (machine) => machine.boot(),
    (machine) => machine.drain(true),
    (machine) => machine.drain(false),
    (machine) => machine.setEnding(true),
    (machine) => machine.setEnding(false),
    (machine) => machine.moveTo(1),
    (machine) => machine.moveTo(0),
    (machine) => machine.moveTo(0),
    (machine) => machine.setSourceStale(true),
    (machine) => machine.setSourceStale(false),
  ];
  for (const end = simulation.now + seconds * 1000 * MS; simulation.now < end; ) {
    simulation.pick(deeds)(simulation.pick(machines));
    const pause = simulation.pick([0, 0.1, 1, 30, 150, 400, 1_000, 3_000, 10_000, 40_000]);
    simulation.run(pause * simulation.random());
  }
}
