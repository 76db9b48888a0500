// limit: 600 s
/**
 * The compiled programs against the model, on random frames in random worlds: same verdict, same bytes, same counters,
 * same maps. The seed is printed; SEED=N npm test -- bpf/model repeats a run, but for the clock.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { blur, build, copySources, strayOf } from "./build.ts";
import { Bench, IFINDEX } from "./run.ts";
import { PROGRAMS, search } from "./search.ts";

const FRAMES = 210_000;
/** How many of them are of the peer protocol: there a frame costs the model a dozen times as much. */
const SPOKEN = 0.2;

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`MEASURED SEED=${seed}, ${FRAMES} frames through each of ${PROGRAMS.length} programs`);

test(`${FRAMES} random frames: the programs do what the model says`, () => {
  using bench = new Bench("isat-t-bpf-model-");
  assert.is(search(bench, seed, FRAMES, SPOKEN), undefined);
});

test("so they do where the interface's entry becomes another one's under their eyes", () => {
  using scratch = new Namespaces("isat-t-bpf-blurred-");
  using bench = new Bench("isat-t-bpf-model-", build(copySources(scratch.folder(), blur)));
  assert.is(search(bench, seed + 1, FRAMES / 10, SPOKEN, strayOf(IFINDEX)), undefined);
});

test.run();
