import { text } from "node:stream/consumers";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { type Command, noDeno, onDeno, onNode } from "../../lab/runtimes.ts";
import { skip } from "../../lab/skip.ts";
import type { Outcome } from "./body.ts";

const FILE = "test/ffi/body.ts";
const LIMIT = 40_000;

const test = suite("adapters");
const namespaces = new Namespaces("isat-t-ffi-");
test.after(() => namespaces[Symbol.dispose]());

const cache = namespaces.folder();
const pins = namespaces.bpffs();

/** Runs the body in a child process. @throws Error with its output, if it does not reach its end */
async function run(name: string, { command, args, env }: Command): Promise<Outcome> {
  namespaces.add(name);
  namespaces.link({ namespace: name, name: "eth0" }, { namespace: name, name: "peer0" });
  const child = namespaces.spawn(name, command, [...args, `${pins}/${name}`], { env, timeout: LIMIT });
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`the child of ${name} ended early and said: ${stdout}${stderr}`);
  }
}

const runtimes: { name: string; missing?: string | undefined; command: () => Command }[] = [
  { name: "koffi", command: () => onNode(FILE, "koffi") },
  { name: "ffi-napi", command: () => onNode(FILE, "ffi-napi") },
  { name: "deno", missing: noDeno, command: () => onDeno(FILE, cache) },
];

for (const { name, missing, command } of runtimes) {
  const outcome = missing ? new Error(missing) : await run(name, command()).catch((error: Error) => error);
  // The adapter's own error says what is missing, and the command that installs it.
  const reason =
    missing ?? /^Error: (Cannot use ffi-napi.*)/m.exec(outcome instanceof Error ? outcome.message : "")?.[1];
  if (reason) {
    skip(test, `${name}: all`, reason);
    continue;
  }
  test(`${name}: reaches its end`, () => {
    if (outcome instanceof Error) throw outcome;
    assert.is(outcome.adapter, name);
  });
  if (outcome instanceof Error) continue;
  for (const [check, trouble] of Object.entries(outcome.results)) {
    test(`${name}: ${check}`, () => {
      if (trouble !== null) throw new Error(trouble);
    });
  }
  const { bytesPerCall, microsecondsPerCall } = outcome.measured;
  const mebibytes = (bytesPerCall * 100_000) / 2 ** 20;
  console.log(
    `MEASURED ${name}: ${microsecondsPerCall.toFixed(1)} us a call; over 100,000 calls resident memory grows by` +
      ` ${mebibytes.toFixed(1)} MiB (${bytesPerCall.toFixed(0)} bytes a call)`,
  );
}

test.run();
