import { spawnSync } from "node:child_process";
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

test.run();
