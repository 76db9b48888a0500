import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../src/config/config.ts";
import { FileSource } from "../../src/source/file.ts";
import { openSource } from "../../src/source/open.ts";
import type { Surroundings } from "../../src/source/source.ts";

const configOf = (...vips: string[]) => {
  const list = vips.map((vip) => `{ address: ${vip} }`).join(", ");
  return parseConfig(`node: n1\nsource: { kind: file, nodes: [n1, n2], vips: [${list}] }\n`, "isat.yaml");
};

/** A file's source says all that it has to say when it is asked. */
const surroundings: Surroundings = {
  emit: ({ kind }) => assert.unreachable(`it emitted ${kind}`),
  log: (_, message) => assert.unreachable(message),
  unserved: () => [],
};

test("the demand of a file is its own lists", async () => {
  const config = configOf("10.9.0.1", "10.9.1.0/24");
  using source = await openSource(config, surroundings);
  assert.instance(source, FileSource);
  const { nodes, vips, checks } = await source.start();
  assert.is(nodes, config.source.kind === "file" && config.source.nodes);
  assert.is(vips, config.source.kind === "file" && config.source.vips);
  assert.equal(checks(vips[0]!.first, "n1"), []);
  assert.equal(source.report, { counts: undefined, troubles: [] });
});

test("changed settings have their demand at once, and a start takes those that are in force", async () => {
  const [before, now] = [configOf("10.9.0.1"), configOf("10.9.0.2")];
  using source = await openSource(before, surroundings);
  assert.is(source.demandFor(now.source).vips[0]?.first, 0x0a090002);
  assert.is((await source.start()).vips[0]?.first, 0x0a090001, "they were only asked for");
  source.configure(now.source);
  assert.is((await source.start()).vips[0]?.first, 0x0a090002);
});

test.run();
