import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { KEYS } from "../../src/config/schema.ts";

const PAGE = new URL("../../docs/configuration.md", import.meta.url);
const [BEGIN, END] = ["<!-- keys: ", "<!-- /keys -->"];

/** The page with the table of keys as the schema has it. */
function generated(page: string): string {
  const cell = (text: string) => text.replace(/[|*<]/g, "\\$&");
  const rows = Object.entries(KEYS).map(([path, { about, accepts, default: value = "" }]) => {
    return `| \`${path}\` | ${cell(about)} | ${cell(accepts)} | ${cell(value)} |\n`;
  });
  const begin = page.indexOf("\n", page.indexOf(BEGIN)) + 1;
  const head = "\n| key | meaning | accepted | default |\n| --- | --- | --- | --- |\n";
  return `${page.slice(0, begin)}${head}${rows.join("")}\n${page.slice(page.indexOf(END))}`;
}

const page = readFileSync(PAGE, "utf8");
if (process.argv.includes("--write")) writeFileSync(PAGE, generated(page));

test("the docs' table of keys is the schema's", () => {
  const written = readFileSync(PAGE, "utf8");
  assert.ok(written.includes("| `hold` |"), "the page has no table");
  assert.is(written, generated(page), "It is not current. Run this file with --write");
});

test.run();
