import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import { NODE_FLAGS } from "../../lab/bundle.ts";

const test = suite("launch");
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("tests and benchmarks run isat with the flags of scripts/isat", () => {
  const [, flags] = /^node="\S+ (.+)"$/m.exec(read("scripts/isat")) ?? [];
  assert.equal(flags?.split(" "), NODE_FLAGS);
});

test("tests and benchmarks run isat with the flags of the DaemonSet", () => {
  const all = parseAllDocuments(read("deploy/isat.yaml")).map((document) => document.toJS());
  const { containers } = all.find(({ kind }) => kind === "DaemonSet").spec.template.spec;
  assert.equal(containers[0].command, ["node", ...NODE_FLAGS, "/isat/isat.mjs"]);
});

test.run();
