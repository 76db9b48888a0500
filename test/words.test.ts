import { readdirSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";

const files = ["src", "bpf"].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.[tch]s?$/.test(name))
    .map((name) => `${folder}/${name}`),
);

test("no comment begins with What, Whether or Of: it names its subject (docs/contributing.md)", () => {
  assert.ok(files.length > 100);
  const found = files.flatMap((file) =>
    readFileSync(file, "utf8")
      .split("\n")
      .flatMap((line, i) => (isWithoutSubject(line) ? `${file}:${i + 1}: ${line.trim()}` : [])),
  );
  assert.equal(found, []);
});

test("such comments are found", () => {
  assert.ok(["/** What it is. */", " * Whether it is.", "// Of two, the first."].every(isWithoutSubject));
  assert.not(isWithoutSubject("/** The whole of it. */"));
});

/** A line within a comment counts too, as a sentence may begin there. */
function isWithoutSubject(line: string): boolean {
  return /^\s*(\/\/|\/?\*\*?) (What|Whether|Of)\b/.test(line);
}

test.run();
