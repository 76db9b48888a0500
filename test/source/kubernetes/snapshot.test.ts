import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseRange } from "../../../src/core/address.ts";
import { replaceFile, replaceFileLater } from "../../../src/files.ts";
import type { Cluster } from "../../../src/source/kubernetes/cluster.ts";
import { loadSnapshot, removeSnapshot, saveSnapshot } from "../../../src/source/kubernetes/snapshot.ts";

import { clusterOf as full, READY } from "./clusters.ts";
import { advertisement, NODES, node, pool, type Sent, service, slice } from "./objects.ts";

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

test("addresses of both families are read back as they were", () => {
  const settings = { addresses: ["10.9.0.0/16", "fd00::/64"].map(parseRange) };
  const [kind, object] = node("n9", "10.0.0.9") as [Sent[0], { status: { addresses: object[] } }];
  const more = ["fd00::8", "fd00::9"].map((address) => ({ type: "InternalIP", address }));
  const addresses = [...object.status.addresses, ...more];
  const listing: Sent = [kind, { ...object, status: { ...object.status, addresses } }];
  const sent = [
    ...NODES,
    ...[service("web", ["fd00::7", "10.9.0.1"]), slice("web", READY), slice("web", READY, "web-6", "default", "IPv6")],
    advertisement("all"),
    pool("p", ["fd00::/120", "10.9.0.0/24"]),
    listing,
  ];
  const before = full(sent, { settings });
  before.update();
  saveSnapshot(stateDir, before, replaceFile);
  const after = full([], { settings });
  assert.ok(loadSnapshot([stateDir], after));
  const facts = (cluster: Cluster) => [
    [...cluster.all("Node").values()].map(({ internals, others }) => [internals, others]),
    [...cluster.all("IPAddressPool").values()].map(({ ranges }) => ranges),
  ];
  assert.equal(facts(after), facts(before));
  assert.equal(after.update().vips, before.update().vips);
  assert.is(after.update().vips.length, 2);
  assert.equal(after.past, before.past);
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
