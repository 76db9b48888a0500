import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { isDrained, writeDrained } from "../../src/control/drain.ts";
import { readRunFile, writeRunFile } from "../../src/control/runfile.ts";
import { isUnwritable, makeOwnFolder, replaceFile, requireOwnFolder } from "../../src/files.ts";
import { FolderLock } from "../../src/kernel/lock.ts";

const test = suite("files beside other users");
const NOBODY = 65_534;
const top = mkdtempSync(join(tmpdir(), "isat-t-files-"));
chmodSync(top, 0o755);
let count = 0;

/** Makes a folder below one of its own. */
function folder(mode = 0o700, owner = 0, parent = { mode: 0o755, owner: 0 }): string {
  const above = join(top, `${++count}`);
  const path = join(above, "isat");
  mkdirSync(path, { recursive: true });
  for (const [each, its, who] of [
    [path, mode, owner],
    [above, parent.mode, parent.owner],
  ] as const) {
    chmodSync(each, its);
    chownSync(each, who, who);
  }
  return path;
}

test.after(() => rmSync(top, { recursive: true, force: true }));

const ROWS: [shows: string, path: () => string, refusal: RegExp | undefined][] = [
  ["root's own folder is used", () => folder(), undefined],
  ["one that others can read is used", () => folder(0o755), undefined],
  ["one that others can write is refused", () => folder(0o777), /as others can write \S+\/isat:/],
  ["one that others can write is refused, sticky or not", () => folder(0o1777), /as others can write \S+\/isat:/],
  ["one of its group's is refused", () => folder(0o770), /as others can write/],
  ["another user's is refused", () => folder(0o700, NOBODY), /as \S+\/isat belongs to user 65534:/],
  [
    "one in another user's folder is refused",
    () => folder(0o700, 0, { mode: 0o755, owner: NOBODY }),
    /belongs to user/,
  ],
  ["one in a folder that others can write is refused", () => folder(0o700, 0, { mode: 0o777, owner: 0 }), /can write/],
  ["one in a sticky folder is used, as a bpffs is", () => folder(0o700, 0, { mode: 0o1777, owner: 0 }), undefined],
  [
    "a link to another user's folder is refused",
    () => {
      const link = join(top, `${++count}`);
      symlinkSync(folder(0o700, NOBODY), link);
      return link;
    },
    /belongs to user/,
  ],
  [
    "a link to a sticky folder is refused",
    () => {
      const link = join(top, `${++count}`);
      symlinkSync(folder(0o1777), link);
      return link;
    },
    /can write/,
  ],
];
for (const [shows, path, refusal] of ROWS) {
  test(shows, () => {
    const made = path();
    if (!refusal) return requireOwnFolder(made);
    assert.throws(() => requireOwnFolder(made), refusal);
    assert.throws(() => new FolderLock(made), refusal);
  });
}

test("a user who locks the folder keeps nobody out, and cannot open the lock file", async () => {
  const path = folder(0o755);
  const user = { uid: NOBODY, gid: NOBODY } as const;
  const holder = spawn("flock", ["-n", path, "sh", "-c", "echo locked; exec sleep 60"], user);
  try {
    const [first] = await holder.stdout.take(1).toArray();
    assert.is(String(first), "locked\n");
    using _lock = new FolderLock(path);
    assert.is(statSync(join(path, "lock")).mode & 0o777, 0o600);
    const { status, stderr } = spawnSync("flock", ["-n", join(path, "lock"), "true"], { ...user, encoding: "utf8" });
    assert.not.equal(status, 0);
    assert.match(stderr, /Permission denied/);
    assert.throws(() => new FolderLock(path), /another isat/);
  } finally {
    holder.kill("SIGKILL");
  }
});

test("a file is never written through a link", () => {
  const path = folder();
  const victim = join(top, "victim");
  writeFileSync(victim, "as it was");
  for (const name of ["file", "file.new"]) symlinkSync(victim, join(path, name));
  replaceFile(join(path, "file"), "new");
  assert.is(readFileSync(victim, "utf8"), "as it was");
  assert.is(readFileSync(join(path, "file"), "utf8"), "new");
  assert.ok(lstatSync(join(path, "file")).isFile());
  assert.is(statSync(join(path, "file")).mode & 0o777, 0o600);
});

test("a lock that is released leaves no file, and can be taken again", () => {
  const path = folder();
  for (let round = 0; round < 2; round++) {
    const lock = new FolderLock(path);
    assert.ok(existsSync(join(path, "lock")));
    lock[Symbol.dispose]();
    assert.not(existsSync(join(path, "lock")));
  }
});

/** Mounts a tmpfs, and hands it to the body. */
function onTmpfs(options: string, body: (mount: string) => void): void {
  const mount = folder();
  const run = (command: string, ...args: string[]) => assert.is(spawnSync(command, args).status, 0, command);
  run("mount", "-t", "tmpfs", "-o", options, "tmpfs", mount);
  try {
    body(mount);
  } finally {
    run("umount", mount);
  }
}

const FULL: [shows: string, options: string, says: RegExp][] = [
  [
    "a read-only file system is named, which Node calls ENOENT",
    "ro",
    /^Cannot make \S+\/a\/b: EROFS\. .*Mount it writ/,
  ],
  [
    "a full file system is named",
    "nr_inodes=1",
    /^Cannot make \S+\/a\/b: ENOSPC\. Its file system is full. Make room$/,
  ],
];
for (const [shows, options, says] of FULL) {
  test(`${shows}, and is no reason not to serve`, () => {
    onTmpfs(options, (mount) => {
      try {
        makeOwnFolder(`${mount}/a/b`);
        assert.unreachable();
      } catch (error) {
        assert.match((error as Error).message, says);
        assert.ok(isUnwritable(error));
      }
    });
  });
}

test("a folder that cannot be made for another reason is a reason not to serve", () => {
  writeFileSync(join(top, "file"), "");
  try {
    makeOwnFolder(join(top, "file/a"));
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /ENOTDIR/);
    assert.not(isUnwritable(error));
  }
});

test("too many open files are named as what they are", () => {
  const script = `import { PacketSocket } from "./src/link/packet.ts";
    import { openSync } from "node:fs";
    try { new PacketSocket()[Symbol.dispose](); for (;;) openSync("/", "r"); } catch {}
    try { new PacketSocket(); } catch (error) { console.log(error.message); }`;
  const [node, ts] = ["node_modules/.bin/node --no-warnings", "--import ./scripts/ts.mjs --input-type=module"];
  const command = `ulimit -n 60; exec ${node} ${ts} -e '${script}'`;
  const { stdout, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  assert.match(stdout, /^Cannot open a packet socket: EMFILE\. .*LimitNOFILE/, stderr);
});

test("the lock is never taken through a link", () => {
  const path = folder();
  symlinkSync(join(top, "made"), join(path, "lock"));
  assert.throws(() => new FolderLock(path), /ELOOP/);
  assert.not(existsSync(join(top, "made")));
});

test("the run file and the mark of a drained node are root's alone", () => {
  const path = folder();
  const stateDir = join(path, "state");
  const folders = { runDir: path, stateDir };
  const file = { node: "n1", pid: 1, pinDir: "/p", ...folders, membership: "wire" } as const;
  assert.is(readRunFile(path), undefined);
  writeRunFile(file);
  assert.equal(readRunFile(path), file);
  assert.not(isDrained(folders));
  writeDrained(folders, true);
  assert.ok(isDrained(folders));
  for (const name of ["speaker.json", "state/drained"]) assert.is(statSync(join(path, name)).mode & 0o777, 0o600);
  writeDrained(folders, false);
  assert.not(isDrained(folders));
});

test("a node stays drained when its runDir is gone, as it is after a power cut", () => {
  const folders = { runDir: folder(), stateDir: join(folder(), "state") };
  writeDrained(folders, true);
  rmSync(folders.runDir, { recursive: true });
  assert.ok(isDrained(folders));
  writeDrained(folders, false);
  assert.not(isDrained(folders));
});

test("a mark that an earlier version left in runDir counts, and undrain removes it", () => {
  const folders = { runDir: folder(), stateDir: join(folder(), "state") };
  writeFileSync(join(folders.runDir, "drained"), "");
  assert.ok(isDrained(folders));
  writeDrained(folders, false);
  assert.not(isDrained(folders));
});

test.run();
