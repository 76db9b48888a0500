import { test } from "uvu";
import * as assert from "uvu/assert";
import { isGlob, matches } from "../../src/core/glob.ts";

const rows: [glob: string, names: string[], others: string[]][] = [
  ["eth[01]", ["eth0", "eth1"], ["eth2", "eth", "eth01", "eth[01]x"]],
  ["eth[0-3]", ["eth0", "eth3"], ["eth4", "eth-"]],
  ["eth[!0-3]", ["eth4", "ethx"], ["eth0", "eth"]],
  ["[ab]?[cd]*", ["axc", "b1dxyz"], ["ac", "cxc", "axe"]],
  ["ens*", ["ens", "ens3", "ens3f0np0"], ["en", "xens3"]],
  ["*", ["eth0", "a"], []],
  ["***", ["eth0"], []],
  ["eth?", ["eth0"], ["eth", "eth10"]],
  ["*np?", ["ens3f0np0", "npnp1"], ["ens3f0np", "np10x"]],
  ["*a*b*c", ["abc", "xaxbxc", "abcabc"], ["acb", "abcx"]],
  ["[*]*", ["*x"], ["x"]],
  ["e.h*", ["e.h0"], ["exh0"]],
  ["(a|b)+$^{1}?", ["(a|b)+$^{1}x"], ["a"]],
  ["enp*f?", ["enp3s0f0"], ["enp3s0", "enpf"]],
  ["eth*", ["eth", "eth0"], ["veth0"]],
  ["[]*", [], ["x"]],
];
for (const [glob, names, others] of rows) {
  test(`${glob} matches ${names.join(", ") || "nothing"}, and not ${others.join(", ") || "less"}`, () => {
    for (const name of names) assert.ok(matches(name, [glob]), name);
    for (const name of others) assert.not.ok(matches(name, [glob]), name);
  });
}

test("a name matches itself, whatever characters it has", () => {
  for (const name of ["eth0", "eth[01]", "a*", "[", "a.b"]) assert.ok(matches(name, ["other", name]), name);
  assert.not.ok(matches("eth0", []));
  for (const [name, other] of [
    ["bond0x100", "bond0.100"],
    ["aab", "a+b"],
    ["eth0\\n", "eth0"],
  ] as const) {
    assert.not.ok(matches(name, [other]), name);
  }
});

test("one of several globs is enough, asked once or often", () => {
  const globs = ["ens*", "eth[01]"];
  for (let i = 0; i < 3; i++)
    assert.equal(
      ["eth0", "ens3", "eth2"].map((name) => matches(name, globs)),
      [true, true, false],
    );
});

const notGlobs = [
  "",
  "eth0",
  "eth[",
  "eth]*",
  "[b-a]",
  "[]",
  "[!]",
  "[a\\]",
  "[^a]",
  "a/*",
  "a:*",
  "a *",
  `${"?".repeat(65)}`,
];
for (const text of notGlobs) {
  test(`"${text}" is not a glob, and matches nothing but itself`, () => {
    assert.not.ok(isGlob(text));
    for (const name of ["eth0", "a", "b", "ax"].filter((each) => each !== text)) {
      assert.not.ok(matches(name, [text]), name);
    }
  });
}

test("stars upon stars are matched without trying every division of the name", () => {
  const stars = "*a".repeat(32);
  assert.ok(isGlob(stars));
  // Backtracking would take longer than the test's limit: of 4,000 letters there are C(4000, 31) divisions.
  assert.not.ok(matches(`${"a".repeat(4_000)}b`, [stars]));
  assert.ok(matches("a".repeat(4_000), [stars]));
  assert.ok(matches("eth0", ["*".repeat(64)]));
  assert.not.ok(matches("eth0", ["*".repeat(100)])); // too long to be a glob
});

test.run();
