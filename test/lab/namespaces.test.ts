import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";

const PREFIX = "isat-t-ns-";
const here = () => readlinkSync("/proc/thread-self/ns/net");
const ours = () =>
  existsSync("/run/netns") ? readdirSync("/run/netns").filter((name) => name.startsWith(PREFIX)) : [];
const isMounted = (folder: string) => readFileSync("/proc/self/mounts", "utf8").includes(` ${folder} `);

test("the body of inNamespace runs in the namespace, and what follows does not", () => {
  using namespaces = new Namespaces(PREFIX);
  namespaces.add("a");
  const home = here();
  const there = inNamespace(namespaces.full("a"), here);
  assert.is.not(there, home);
  assert.is(here(), home);
});

test("inNamespace comes back from a body that throws", () => {
  using namespaces = new Namespaces(PREFIX);
  namespaces.add("a");
  const home = here();
  const body = () => {
    throw new Error("on purpose");
  };
  assert.throws(() => inNamespace(namespaces.full("a"), body), /on purpose/);
  assert.is(here(), home);
});

test("everything goes on dispose: processes, namespaces, mounts, folders", async () => {
  const namespaces = new Namespaces(PREFIX);
  namespaces.add("a");
  namespaces.add("b");
  namespaces.link({ namespace: "a", name: "eth0" }, { namespace: "b", name: "eth0" });
  const child = namespaces.spawn("a", "sleep", ["100"], { stdio: "ignore" });
  const folders = [namespaces.bpffs(), namespaces.folder()];
  assert.ok(isMounted(folders[0]!));
  const ended = new Promise((resolve) => child.once("exit", (_, signal) => resolve(signal)));

  namespaces[Symbol.dispose]();
  assert.is(await ended, "SIGKILL");
  assert.equal(ours(), []);
  assert.not.ok(isMounted(folders[0]!));
  for (const folder of folders) assert.not.ok(existsSync(folder));
});

test("a spawned program is in the namespace and sees our mounts", () => {
  using namespaces = new Namespaces(PREFIX);
  namespaces.add("a");
  const there = inNamespace(namespaces.full("a"), here);
  const child = namespaces.spawn("a", "sleep", ["100"], { stdio: "ignore" });
  const inside = () => readlinkSync(`/proc/${child.pid}/ns/net`) === there;
  for (const end = performance.now() + 2000; !inside() && performance.now() < end; );
  assert.ok(inside());
  assert.is(readlinkSync(`/proc/${child.pid}/ns/mnt`), readlinkSync("/proc/self/ns/mnt"));
});

test("what a crashed run has left is swept, and nothing else", () => {
  execFileSync("ip", ["netns", "add", `${PREFIX}left`]);
  execFileSync("ip", ["netns", "add", "isat-t-other"]);
  try {
    using namespaces = new Namespaces(PREFIX);
    assert.equal(ours(), []);
    assert.ok(existsSync("/run/netns/isat-t-other"));
    namespaces.add("left");
  } finally {
    execFileSync("ip", ["netns", "delete", "isat-t-other"]);
  }
});

test("a prefix in use is refused", () => {
  using _namespaces = new Namespaces(PREFIX);
  assert.throws(() => new Namespaces(PREFIX), /another process does/);
});

test.run();
