import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { replaceFile, replaceFileLater } from "../../../src/files.ts";
import type { Cluster } from "../../../src/source/kubernetes/cluster.ts";
import { loadSnapshot, removeSnapshot, saveSnapshot } from "../../../src/source/kubernetes/snapshot.ts";

const test = suite("the snapshot of a cluster");
const top = mkdtempSync(join(tmpdir(), "isat-t-snapshot-"));
const [stateDir, runDir] = [join(top, "state"), join(top, "run")];

test.after(() => rmSync(top, { recursive: true }));
test.after.each(() => {
  for (const folder of [stateDir, runDir]) rmSync(folder, { recursive: true, force: true });
});

/** A cluster without objects that tells whether MetalLB's resources are served. */
function clusterOf(hasAdvertisements: boolean): Cluster {
  const given = { hasAdvertisements };
  return {
    given,
    all: () => new Map(),
    set() {},
    past: [],
    recall() {},
    update() {},
    give: (more: object) => Object.assign(given, more),
  } as unknown as Cluster;
}

function loaded(): boolean | undefined {
  const cluster = clusterOf(false);
  return loadSnapshot([stateDir, runDir], cluster) ? cluster.given.hasAdvertisements : undefined;
}

test("it outlives runDir, which a power cut empties", () => {
  saveSnapshot(stateDir, clusterOf(true), replaceFile);
  assert.is(loaded(), true);
  removeSnapshot(stateDir);
  assert.is(loaded(), undefined);
});

test("one that an earlier version left in runDir is read, until there is a newer one", () => {
  saveSnapshot(runDir, clusterOf(true), replaceFile);
  assert.is(loaded(), true);
  saveSnapshot(stateDir, clusterOf(false), replaceFile);
  assert.is(loaded(), false);
});

test("it is written without making the speaker wait for the disk, for root alone", async () => {
  const file = join(stateDir, "cluster.json");
  const writing = saveSnapshot(stateDir, clusterOf(true), replaceFileLater);
  assert.not(existsSync(file));
  await writing;
  assert.ok(JSON.parse(readFileSync(file, "utf8")).hasAdvertisements);
  assert.is(statSync(file).mode & 0o777, 0o600);
  assert.not(existsSync(`${file}.new`));
});

test.run();
