import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, must, type Outcome, type Process } from "../../lab/kernel/process.ts";
import { measured, Rig } from "../../lab/kernel/rig.ts";

const test = suite("a second speaker");
const rig = new Rig("isat-t-kern-lock-");
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

/** Starts a second speaker with its own configuration, which must fail. @returns its error */
async function startError(settings: Parameters<Rig["configure"]>[0], namespace = "node"): Promise<string> {
  const path = join(rig.folder, "second.yaml");
  rig.configure(settings, path);
  const second = rig.launch(namespace, ["run", "--config", path]);
  assert.is((await second.ended()).code, 1);
  assert.not.match(second.stderr, /^\s+at /m);
  assert.is(second.stderr.trim().split("\n").length, 1, second.stderr);
  return second.stderr;
}

/** Asserts that the first speaker serves as before. */
async function unaffected(first: Process, pins: string[]): Promise<void> {
  assert.is(first.child.exitCode, null);
  assert.equal(rig.pins(), pins);
  await rig.answersWith();
  assert.is(first.log.filter(({ level }) => level === "error").length, 0, first.stderr);
  const status = JSON.parse((await rig.isat(["status", "--config", rig.config, "--json"])).stdout);
  assert.is(status.pid, first.pid);
  assert.is(status.interfaces[0].state, "live");
}

const rows: [name: string, settings: Parameters<Rig["configure"]>[0], folder: () => string][] = [
  ["the same pinDir, with a runDir of its own", { runDir: join(rig.folder, "run2") }, () => rig.pinDir],
  ["the same runDir, with a pinDir of its own", { pinDir: join(rig.bpffs, "isat2") }, () => rig.runDir],
  ["both the same", {}, () => rig.runDir],
];
for (const [name, settings, folder] of rows) {
  test(`${name}: it is refused and names the first one's pid, and the first is unaffected`, async () => {
    const first = await rig.serve();
    const pins = rig.pins();
    const said = await startError(settings);
    assert.match(
      said,
      new RegExp(`Cannot use ${folder()} as another isat \\(pid ${first.pid}\\) is running on it. Stop it`),
    );
    assert.equal(rig.pins(join(rig.bpffs, "isat2")), []);
    await unaffected(first, pins);
  });
}

test("isat clean is refused while a speaker runs, and changes nothing", async () => {
  const first = await rig.serve();
  const pins = rig.pins();
  const { status, stderr }: Outcome = await rig.clean();
  assert.is(status, 1);
  assert.match(stderr, new RegExp(`^isat: Cannot use ${rig.runDir} as another isat \\(pid ${first.pid}\\)`));
  await unaffected(first, pins);
});

test("once the first is killed, the second starts", async () => {
  const first = await rig.serve();
  await first.end("SIGKILL");
  await rig.serve({ runDir: join(rig.folder, "run2") });
  await rig.answersWith();
});

for (const hook of ["tcx", "tc"] as const) {
  test(`${hook}: the pinDir of another network namespace is refused while that exists, and can be used after it is gone${hook === "tc" ? " and cleaned" : ""}`, async () => {
    rig.namespaces.add("pod");
    rig.namespaces.link({ namespace: "pod", name: "eth0" }, { namespace: "client", name: "c1" });
    rig.namespaces.ip("pod", ["addr add 10.9.255.2/16 dev eth0"]);
    rig.configure({ hook });
    const first = rig.launch("pod", ["run", "--config", rig.config]);
    await first.ready();
    await first.end();
    const attached = await rig.attached("eth0", "pod");
    const inode = (name: string) => must("stat", "-L", "-c", "%i", `/run/netns/${rig.namespaces.full(name)}`);
    const [there, here] = [(await inode("pod")).trim(), (await inode("node")).trim()];

    const said = await startError({ hook, runDir: join(rig.folder, "run2") });
    assert.match(
      said,
      new RegExp(`Cannot use pinDir ${rig.pinDir} as it belongs to network namespace ${there}, and this is ${here}`),
    );
    await becomes(() => rig.attached("eth0", "pod"), attached, "what is attached there stays");
    await becomes(() => rig.attached(), {});

    await must("ip", "netns", "delete", rig.namespaces.full("pod"));
    // A clsact filter has no link from which isat could see that its device is gone. So clean is needed.
    if (hook === "tc") assert.is((await rig.clean()).status, 0);
    const began = performance.now();
    const next = await takenOver(hook);
    measured(`${hook}: taken over, after the namespace was deleted`, `${Math.round(performance.now() - began)} ms`);
    await rig.answersWith();
    assert.equal(rig.pins(), rig.expectedPins(hook));
    await next.end();
  });
}

/** Starts isat until it is ready: the kernel removes the links of a deleted namespace some time later. */
async function takenOver(hook: "tcx" | "tc"): Promise<Process> {
  rig.configure({ hook });
  for (const end = performance.now() + 10_000; ; ) {
    const speaker = rig.start();
    try {
      await speaker.ready();
      return speaker;
    } catch (error) {
      if (performance.now() > end) throw error;
    }
  }
}

test("a broken run file that a killed speaker has left does not stop the next speaker", async () => {
  const first = await rig.serve();
  await first.end("SIGKILL");
  const file = join(rig.runDir, "speaker.json");
  assert.is(JSON.parse(readFileSync(file, "utf8")).pid, first.pid);
  writeFileSync(file, '{ "node": ');
  const next = await rig.serve();
  assert.is(JSON.parse(readFileSync(file, "utf8")).pid, next.pid);
});

test.run();
