// limit: 300 s
import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Flood, type Toll } from "../../lab/kernel/flood.ts";
import { becomes, must } from "../../lab/kernel/process.ts";
import { measured, NODE_MAC, pinnedId, Rig, VIP } from "../../lab/kernel/rig.ts";
import { LAYOUT } from "../../src/core/abi.ts";

type Hook = "tcx" | "tc" | "xdp";

const test = suite("a speaker that is restarted, killed or upgraded");
const rig = new Rig("isat-t-kern-adopt-");
let programs = "";

test.before(async () => {
  programs = await rig.othersPrograms();
  await rig.letClientRunXdp(programs);
  await Flood.prepare(rig, programs);
});
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

/**
 * Compares three counts: the requests that left the client, by its interface's counter; the answers that reached it;
 * the answers that isat's program counted (except for a migration, where that counter starts again).
 */
function nothingMissed(what: string, toll: Toll, answered?: number): void {
  const counted = answered === undefined ? "" : `, ${answered} counted by isat`;
  measured(what, `${toll.left} requests left (${toll.rate}/s), ${toll.came} answers came${counted}`);
  assert.ok(toll.left > 1000, `only ${toll.left} requests left: that is no flood`);
  assert.is(toll.sent, toll.left, "what trafgen sent and what left the client differ");
  assert.is(toll.left - toll.came, 0, "requests unanswered");
  if (answered !== undefined) assert.is(answered, toll.came, "isat counted another number of answers than arrived");
}

/** Asserts that exactly the programs of the last speaker are attached and pinned. */
async function isConsistent(hook: Hook): Promise<void> {
  assert.equal(rig.pins(), rig.expectedPins(hook));
  const program = (name: string) => pinnedId("prog", join(rig.pinDir, `v${LAYOUT}/programs`, name));
  const [ingress, egress, xdp] = await Promise.all(["isat_ingress", "isat_egress", "isat_xdp"].map(program));
  const expected: Record<Hook, Record<string, number[]>> = {
    tcx: { "tcx ingress": [ingress!], "tcx egress": [egress!] },
    tc: { "tc ingress": [ingress!], "tc egress": [egress!] },
    xdp: { xdp: [xdp!], "tcx egress": [egress!] },
  };
  await becomes(() => rig.attached(), expected[hook]);
}

const ROUNDS: [hook: Hook, rounds: number][] = [
  ["tcx", 20],
  ["tc", 5],
  ["xdp", 5],
];

for (const [hook, rounds] of ROUNDS) {
  test(`${hook}: no request goes unanswered over ${rounds} restarts under a flood of 20,000 requests a second`, async () => {
    let speaker = await rig.serve({ hook });
    const before = rig.answered();
    await using flood = await Flood.start(rig, programs);
    for (let round = 0; round < rounds; round++) {
      assert.is(await speaker.end("SIGTERM"), 0);
      speaker = await rig.serve();
      assert.match(speaker.said(/^interface eth0/)!.msg, new RegExp(`${hook} adopted$`));
    }
    nothingMissed(`${hook}, ${rounds} restarts`, await flood.stop(), rig.answered() - before);
    await isConsistent(hook);
    await speaker.end();
  });

  test(`${hook}: no request goes unanswered over ${rounds} kills and starts, at any moment of a start`, async () => {
    let speaker = await rig.serve({ hook });
    const before = rig.answered();
    await using flood = await Flood.start(rig, programs);
    await speaker.end("SIGKILL");
    for (let round = 0; round < rounds; round++) {
      speaker = rig.start();
      // In every other round isat is killed while it starts; in the others some time after it is ready.
      if (round % 2 === 0) await sleep(20 + (130 * round) / rounds);
      else {
        await speaker.ready();
        await sleep(10 * round);
      }
      await speaker.end("SIGKILL");
    }
    speaker = await rig.serve();
    nothingMissed(`${hook}, ${rounds} kills`, await flood.stop(), rig.answered() - before);
    await isConsistent(hook);
    await speaker.end();
  });
}

test("after a kill, the next start adopts the same links, and the counters go on", async () => {
  const speaker = await rig.serve({ hook: "tcx" });
  assert.match(speaker.said(/^interface eth0/)!.msg, /tcx attached$/);
  await rig.answersWith();
  const [answered, links] = [rig.answered(), await linkIds()];
  assert.ok(answered > 0);
  await speaker.end("SIGKILL");
  await rig.answersWith();
  const next = await rig.serve();
  assert.match(next.said(/^interface eth0/)!.msg, /tcx adopted$/);
  assert.equal(await linkIds(), links);
  await rig.answersWith();
  assert.is(rig.answered(), answered + 2);
  await next.end();
});

function linkIds(): Promise<number[]> {
  const links = rig.pins().filter((name) => name.includes("/links/"));
  return Promise.all(links.map((name) => pinnedId("link", join(rig.pinDir, name))));
}

/** Moments of a start, ms: few while Node starts, many from when isat loads its programs until after "ready". */
async function moments(): Promise<number[]> {
  const began = performance.now();
  const speaker = await rig.serve();
  const took = performance.now() - began;
  await speaker.end("SIGKILL");
  const parts = [0.1, 0.3, 0.4, ...Array.from({ length: 20 }, (_, i) => 0.5 + i * 0.03)];
  return parts.map((part) => part * took);
}

for (const hook of ["tcx", "tc", "xdp"] as const) {
  test(`${hook}: first starts killed at every step are repaired by the next`, async () => {
    rig.configure({ hook });
    const all = await moments();
    await rig.clean();
    let readies = 0;
    for (const [i, moment] of all.entries()) {
      const speaker = rig.start();
      await sleep(moment);
      await speaker.end("SIGKILL");
      if (speaker.said(/^ready$/)) readies += 1;
      // Every second start thus meets the remains of another one that was killed.
      if (i % 2 === 0) continue;
      const next = await rig.serve();
      await rig.answersWith();
      await isConsistent(hook);
      await next.end();
      await rig.clean();
      await becomes(async () => [await rig.attached(), rig.pins()], [{}, []]);
    }
    measured(`${hook}, first starts`, `${all.length} killed, ${readies} of them when they were ready`);
  });

  test(`${hook}: restarts killed at every step, one after the other, are repaired by the next`, async () => {
    rig.configure({ hook });
    for (const moment of await moments()) {
      const speaker = rig.start();
      await sleep(moment);
      await speaker.end("SIGKILL");
      assert.equal(await rig.answers(), [NODE_MAC], `killed after ${Math.round(moment)} ms`);
    }
    const last = await rig.serve();
    assert.match(last.said(/^interface eth0/)!.msg, new RegExp(`${hook} adopted$`));
    await rig.answersWith();
    await isConsistent(hook);
    await last.end();
  });
}

/** Makes the pins look like those of an older layout, and starts a flood, which the kernel answers. */
async function makeOldLayout(hook: Hook): Promise<Flood> {
  await (await rig.serve({ hook })).end();
  renameSync(join(rig.pinDir, `v${LAYOUT}`), join(rig.pinDir, "v0"));
  return Flood.start(rig, programs);
}

for (const hook of ["tcx", "tc", "xdp"] as const) {
  test(`${hook}: a pinned layout of another version is migrated, and no request goes unanswered`, async () => {
    await using flood = await makeOldLayout(hook);
    const speaker = await rig.serve();
    assert.match(speaker.said(/^interface eth0/)!.msg, new RegExp(`${hook} adopted$`));
    await isConsistent(hook);
    nothingMissed(`${hook}, migration`, await flood.stop());
    await speaker.end();
  });

  test(`${hook}: a migration killed in between is finished by the next start, and no request goes unanswered`, async () => {
    await using flood = await makeOldLayout(hook);
    for (const moment of [60, 80, 100, 120, 140, 160]) {
      const speaker = rig.start();
      await sleep(moment);
      await speaker.end("SIGKILL");
    }
    const speaker = await rig.serve();
    await isConsistent(hook);
    nothingMissed(`${hook}, migration killed`, await flood.stop());
    await speaker.end();
  });
}

test("a pinned map with another value size is refused in one line that names isat clean, which removes it", async () => {
  rig.configure();
  const folder = join(rig.pinDir, `v${LAYOUT}`);
  mkdirSync(folder, { recursive: true });
  const shape = ["type", "hash", "key", "8", "value", "12", "entries", "65536", "name", "vips", "flags", "1"];
  await must("bpftool", "map", "create", join(folder, "vips"), ...shape);
  const speaker = rig.start();
  assert.is((await speaker.ended()).code, 1);
  assert.is(speaker.stderr.trim().split("\n").length, 1, speaker.stderr);
  assert.match(speaker.stderr, /map pinned at .*\/v\d+\/vips has another layout.*isat clean/);
  await becomes(() => rig.attached(), {});
  assert.is((await rig.clean()).status, 0);
  assert.equal(rig.pins(), []);
  const next = await rig.serve();
  await rig.answersWith(NODE_MAC, VIP);
  await next.end();
});

test.run();
