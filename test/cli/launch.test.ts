import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NODE_FLAGS } from "../../lab/bundle.ts";

const test = suite("launch");
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("tests and benchmarks run isat with the flags of scripts/isat", () => {
  const [, flags] = /^node="\S+ (.+)"$/m.exec(read("scripts/isat")) ?? [];
  assert.equal(flags?.split(" "), NODE_FLAGS);
});

test.run();
