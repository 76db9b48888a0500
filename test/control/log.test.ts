import { spawn, spawnSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";

test("a thousand lines of a kind are a few, with a count of the others; a line of another kind is logged", () => {
  const script = `import { makeLog } from "./src/log.ts";
    const log = await makeLog();
    for (let at = 0; at < 1000; at++) log.warn({ at }, "Service web-" + at + " flaps");
    log.info("ready");`;
  const args = ["--no-warnings", "--import", "./scripts/ts.mjs", "--input-type=module", "-e", script];
  const { stderr } = spawnSync("node_modules/.bin/node", args, { encoding: "utf8" });
  const lines = stderr
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.is(lines.at(-1).msg, "ready");
  assert.ok(lines.length > 10 && lines.length < 40, stderr.slice(0, 1_000));
  assert.equal([lines[0].at, lines[0].msg, lines[0].level], [0, "Service web-0 flaps", "warn"]);
});

test("a reader that stalls does not stall who logs; what does not fit is dropped and counted", async () => {
  const script = `import { makeLog } from "./src/log.ts";
    const log = await makeLog();
    for (let at = 0; at < 4_000; at++) {
      log.info(at.toString(36).replace(/\\d/g, (digit) => "ghijklmnop"[digit]) + "-".repeat(500));
      if (at % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    console.log("done");
    process.stdin.once("data", () => setTimeout(() => process.stdin.destroy(), 100));`;
  const args = ["--no-warnings", "--import", "./scripts/ts.mjs", "--input-type=module", "-e", script];
  const child = spawn("node_modules/.bin/node", args);
  // Nobody reads stderr, whose pipe holds 64 kB.
  const [done] = await child.stdout.take(1).toArray();
  assert.is(String(done), "done\n");
  child.stdin.write("\n");
  const text = Buffer.concat(await child.stderr.toArray()).toString();
  const lines = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const told = lines.find(({ dropped }) => dropped > 0);
  assert.match(told.msg, /^lines were dropped/);
  assert.is(lines.length - 1 + told.dropped, 4_000);
});

test.run();
