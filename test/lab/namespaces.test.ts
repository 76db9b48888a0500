import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, leftovers, Namespaces, RUN } from "../../lab/namespaces.ts";

const NAME = "isat-t-ns-";
const PREFIX = `${process.env[RUN] ?? ""}${NAME}`;
/** Namespaces of another test, in this run and in another one. */
const OTHERS = [`${process.env[RUN] ?? ""}isat-t-other`, `r0-${NAME}other`];
const here = () => readlinkSync("/proc/thread-self/ns/net");
const isMounted = (folder: string) => readFileSync("/proc/self/mounts", "utf8").includes(` ${folder} `);

test("the body of inNamespace runs in the namespace, and the code after it does not", () => {
  using namespaces = new Namespaces(NAME);
  namespaces.add("a");
  const home = here();
  const there = inNamespace(namespaces.full("a"), here);
  assert.is.not(there, home);
  assert.is(here(), home);
});

test("inNamespace comes back from a body that throws", () => {
  using namespaces = new Namespaces(NAME);
  namespaces.add("a");
  const home = here();
  const body = () => {
    throw new Error("on purpose");
  };
  assert.throws(() => inNamespace(namespaces.full("a"), body), /on purpose/);
  assert.is(here(), home);
});

test("disposal removes everything: processes, namespaces, mounts, folders", async () => {
  const namespaces = new Namespaces(NAME);
  namespaces.add("a");
  namespaces.add("b");
  namespaces.link({ namespace: "a", name: "eth0" }, { namespace: "b", name: "eth0" });
  const child = namespaces.spawn("a", "sleep", ["100"], { stdio: "ignore" });
  const folders = [namespaces.bpffs(), namespaces.folder()];
  assert.ok(isMounted(folders[0]!));
  const ended = new Promise((resolve) => child.once("exit", (_, signal) => resolve(signal)));

  namespaces[Symbol.dispose]();
  assert.is(await ended, "SIGKILL");
  assert.equal(leftovers(PREFIX), { namespaces: [], mounts: [], folders: [] });
  assert.not.ok(isMounted(folders[0]!));
  for (const folder of folders) assert.not.ok(existsSync(folder));
});

test("a spawned program is in the namespace and sees our mounts", () => {
  using namespaces = new Namespaces(NAME);
  namespaces.add("a");
  const there = inNamespace(namespaces.full("a"), here);
  const child = namespaces.spawn("a", "sleep", ["100"], { stdio: "ignore" });
  const inside = () => readlinkSync(`/proc/${child.pid}/ns/net`) === there;
  for (const end = performance.now() + 2000; !inside() && performance.now() < end; );
  assert.ok(inside());
  assert.is(readlinkSync(`/proc/${child.pid}/ns/mnt`), readlinkSync("/proc/self/ns/mnt"));
});

test("leftovers of a crashed process are swept, and nothing of another test or run", () => {
  for (const name of [`${PREFIX}left`, ...OTHERS]) execFileSync("ip", ["netns", "add", name]);
  try {
    using namespaces = new Namespaces(NAME);
    assert.equal(leftovers(PREFIX).namespaces, []);
    for (const name of OTHERS) assert.ok(existsSync(`/run/netns/${name}`), name);
    namespaces.add("left");
    assert.equal(leftovers(PREFIX).namespaces, [`${PREFIX}left`]);
  } finally {
    for (const name of OTHERS) execFileSync("ip", ["netns", "delete", name]);
  }
});

test("a prefix that is in use is refused", () => {
  using _namespaces = new Namespaces(NAME);
  assert.throws(() => new Namespaces(NAME), /another process does/);
});

test.run();
