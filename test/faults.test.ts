/** docs/faults.md: every row of both tables is there, and each test that it names exists. */
import { existsSync, readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";

const page = readFileSync("docs/faults.md", "utf8");
const rows = [...page.matchAll(/^\| ([WF]\d+) \| .* \| (.*) \|$/gm)].map(([, row, named]) => ({
  row: row!,
  named: named!,
}));
const numbered = (letter: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${letter}${index + 1}`);

test("every fault has a row", () => {
  assert.equal(
    rows.map(({ row }) => row),
    [...numbered("W", 30), ...numbered("F", 33)],
  );
  const open = rows.filter(({ named }) => /(^|; )open/.test(named)).map(({ row }) => row);
  console.log(`MEASURED of ${rows.length} faults, open or open in part: ${open.length} (${open.join(", ")})`);
});

for (const { row, named } of rows) {
  const [, path, words] = /^(\S+) > ([^;]*)/.exec(named) ?? [];
  if (path === undefined || words === undefined) continue;
  test(`${row}: ${path} has a test with these words: ${words}`, () => {
    const file = `test/${path}.test.ts`;
    assert.ok(existsSync(file), `there is no ${file}`);
    assert.ok(readFileSync(file, "utf8").includes(words), `no name of a test in ${file} has these words`);
  });
}

test.run();
