import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readWireKeys } from "../../src/config/keys.ts";
import { PUBLIC_KEY, wireKeyOf } from "../../src/core/wire.ts";

const directory = mkdtempSync(join(tmpdir(), "isat-keys-"));
test.after(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode); // whatever the umask is
  return path;
}

const text = (seed: number) => `${seed}`.padStart(32, "k");
/** A key with another id than the first. */
const second = Array.from({ length: 9 }, (_, i) => text(i + 2)).find(
  (it) => wireKeyOf(it).id !== wireKeyOf(text(1)).id,
)!;
/** Another key of the same id as the first: of 255 ids, one soon comes again. */
const twin = Array.from({ length: 10_000 }, (_, i) => text(i + 2)).find(
  (it) => wireKeyOf(it).id === wireKeyOf(text(1)).id,
)!;

test("no key is the public one, with which everybody signs", () => assert.equal(readWireKeys("none"), [PUBLIC_KEY]));

test("in a list, none is that key too, so that a first key can be introduced", () => {
  assert.equal(readWireKeys([file("1", text(1)), "none"]), [wireKeyOf(text(1)), PUBLIC_KEY]);
});

test("keys are read in their order, and nothing but keys comes of it", () => {
  const files = [file("1", text(1)), file("2", `\n${second}\n`)];
  assert.equal(readWireKeys(files), [text(1), second].map(wireKeyOf));
  assert.equal(readWireKeys(files.toReversed()), [second, text(1)].map(wireKeyOf));
});

for (const mode of [0o400, 0o600, 0o640, 0o660]) {
  test(`a key file of mode ${mode.toString(8)} is read: its group is its owner's choice`, () => {
    assert.is(readWireKeys([file("mode", text(1), mode)]).length, 1);
  });
}

const REMEDY = "head -c 32 /dev/urandom | base64 > ";

const refused: [what: string, files: () => string[], ...says: string[]][] = [
  [
    "that is missing",
    () => [join(directory, "none")],
    "none as there is no such file",
    REMEDY,
    "chmod 600",
    "Or, where nobody else reaches the network, write membership: { keys: none }",
  ],
  [
    "that is a directory",
    () => {
      mkdirSync(join(directory, "d"));
      return [join(directory, "d")];
    },
    "it cannot be read",
    REMEDY,
  ],
  ["that is empty", () => [file("empty", "\n")], "it holds 0 characters, and 32 are the least", REMEDY],
  ["of 31 characters", () => [file("short", `${text(1).slice(1)}\n\n`)], "it holds 31 characters", REMEDY],
  ["that others may read", () => [file("read", text(1), 0o604)], "others may read or write it (mode 604)", "chmod o= "],
  ["that others may write", () => [file("write", text(1), 0o602)], "others may read or write it (mode 602)"],
  ["whose second one is short", () => [file("1", text(1)), file("short", "x")], "short as it holds 1 characters"],
  [
    "with another one of the same id",
    () => [file("1", text(1)), file("2", second), file("twin", twin)],
    "Cannot tell the wire keys",
    "1 and ",
    "twin apart: they have the same id. Make a new one",
  ],
  ["twice", () => [file("1", text(1)), file("1", text(1))], "they have the same id"],
];
for (const [what, files, ...says] of refused) {
  test(`a key file ${what} is refused in one line: ${says[0]}`, () => {
    const paths = files();
    assert.throws(
      () => readWireKeys(paths),
      ({ message }: Error) =>
        !message.includes("\n") && message.startsWith("Cannot ") && says.every((piece) => message.includes(piece)),
    );
  });
}

test("what is wrong with a file says nothing of the key that it holds", () => {
  const secret = "secretsecretsecretsecret";
  assert.throws(
    () => readWireKeys([file("short", secret)]),
    ({ message }: Error) => !message.includes(secret),
  );
});

test.run();
