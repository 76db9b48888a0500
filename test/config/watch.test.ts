import {
  chmodSync,
  type FSWatcher,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  watch,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Config, ConfigError } from "../../src/config/config.ts";
import { type WatchOptions, watchConfig } from "../../src/config/watch.ts";

const text = (hold: string) => `node: n1\nhold: ${hold}\nsource: { kind: file, nodes: [n1], vips: [] }\n`;

/** A watched file in a directory of its own, and what was told of it. */
class Watched implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "isat-file-"));
  path = join(this.directory, "isat.yaml");
  readonly results: (Config | ConfigError)[] = [];
  readonly troubles: string[] = [];
  readonly #abort = new AbortController();
  first: Config | undefined;

  start(options: Partial<WatchOptions> = {}): void {
    this.first = watchConfig(this.path, {
      signal: this.#abort.signal,
      onChange: (result) => this.results.push(result),
      onTrouble: (message) => this.troubles.push(message),
      ...options,
    });
  }

  /** The results so far, shortened: the `hold` of a configuration, "refused" for an error. */
  get told(): (number | "refused")[] {
    return this.results.map((result) => (result instanceof ConfigError ? "refused" : result.hold));
  }

  /** Waits until the last thing told is `last`; an event that is missed would take longer than `within` ms. */
  async until(last: number | "refused", within = 1500): Promise<void> {
    for (const end = performance.now() + within; this.told.at(-1) !== last; ) {
      if (performance.now() > end) assert.unreachable(`${last} was not told within ${within} ms: ${this.told}`);
      await sleep(2);
    }
  }

  stop(): void {
    this.#abort.abort();
  }

  [Symbol.dispose](): void {
    this.stop();
    rmSync(this.directory, { recursive: true });
  }
}

/** None of these waits for the poll. */
const quick = { poll: 60_000 };

function filesOf(watched: Watched) {
  return (name: string) => join(watched.directory, name);
}

/** A ConfigMap's volume, as the kubelet's atomic writer lays it out: the file links through ..data. */
function configMap(at: string, hold: string, version: string): void {
  mkdirSync(join(at, version));
  writeFileSync(join(at, version, "isat.yaml"), text(hold));
  symlinkSync(version, join(at, "..data_tmp"));
  renameSync(join(at, "..data_tmp"), join(at, "..data"));
}

/** A configuration whose keys are these files, by their names beside it. */
const keyed = (watched: Watched, hold: string, ...keys: string[]) => {
  const files = keys.map(filesOf(watched)).join(", ");
  return `node: n1\nhold: ${hold}\nmembership: { kind: wire, keys: [${files}] }\nsource: { kind: file, nodes: [n1], vips: [] }\n`;
};

/** A Secret's volume, as a ConfigMap's. */
function secret(at: string, key: string, version: string): void {
  mkdirSync(join(at, version), { recursive: true });
  writeFileSync(join(at, version, "wire.key"), key);
  symlinkSync(version, join(at, "..data_tmp"));
  renameSync(join(at, "..data_tmp"), join(at, "..data"));
}

interface Row {
  name: string;
  before?: (watched: Watched) => void;
  change: (watched: Watched) => void | Promise<void>;
  told: (number | "refused")[];
}

const rows: Row[] = [
  { name: "a write in place is told", change: ({ path }) => writeFileSync(path, text("2s")), told: [2000] },
  {
    name: "a file renamed over it is told, and so is the next one",
    change: async (watched) => {
      const at = filesOf(watched);
      writeFileSync(at("new"), text("2s"));
      renameSync(at("new"), watched.path);
      await watched.until(2000);
      writeFileSync(at("new"), text("3s"));
      renameSync(at("new"), watched.path);
    },
    told: [2000, 3000],
  },
  {
    name: "a write in place after a rename is told",
    change: async (watched) => {
      const at = filesOf(watched);
      writeFileSync(at("new"), text("2s"));
      renameSync(at("new"), watched.path);
      await watched.until(2000);
      writeFileSync(watched.path, text("3s"));
    },
    told: [2000, 3000],
  },
  {
    name: "a ConfigMap's swapped ..data is told, and so is the next one",
    before: (watched) => {
      rmSync(watched.path);
      configMap(watched.directory, "1s", "..2026_1");
      symlinkSync("..data/isat.yaml", watched.path);
    },
    change: async (watched) => {
      configMap(watched.directory, "2s", "..2026_2");
      await watched.until(2000);
      rmSync(filesOf(watched)("..2026_1"), { recursive: true });
      configMap(watched.directory, "3s", "..2026_3");
    },
    told: [2000, 3000],
  },
  {
    name: "a write to the file that a link in another directory leads to is told, also after it was made anew",
    before: (watched) => {
      const at = filesOf(watched);
      mkdirSync(at("elsewhere"));
      renameSync(watched.path, at("elsewhere/real.yaml"));
      symlinkSync(at("elsewhere/real.yaml"), watched.path);
    },
    change: async (watched) => {
      const real = filesOf(watched)("elsewhere/real.yaml");
      writeFileSync(real, text("2s"));
      await watched.until(2000);
      rmSync(real);
      await watched.until("refused");
      writeFileSync(real, text("3s"));
    },
    told: [2000, "refused", 3000],
  },
  {
    name: "a link that is made to lead elsewhere is told, and writes there too",
    change: async (watched) => {
      const at = filesOf(watched);
      mkdirSync(at("elsewhere"));
      writeFileSync(at("elsewhere/real.yaml"), text("2s"));
      symlinkSync(at("elsewhere/real.yaml"), at("link"));
      renameSync(at("link"), watched.path);
      await watched.until(2000);
      writeFileSync(at("elsewhere/real.yaml"), text("3s"));
    },
    told: [2000, 3000],
  },
  {
    name: "a key that is replaced in its place is told; one that is written anew with the same content is not",
    before: (watched) => {
      writeFileSync(watched.path, keyed(watched, "1s", "a.key", "b.key"));
      writeFileSync(filesOf(watched)("a.key"), "a");
    },
    change: async (watched) => {
      const at = filesOf(watched);
      writeFileSync(at("new"), "a");
      renameSync(at("new"), at("a.key"));
      await sleep(50);
      assert.equal(watched.told, []);
      writeFileSync(at("b.key"), "b");
      await watched.until(1000);
      chmodSync(at("b.key"), 0o600);
      await sleep(50);
    },
    told: [1000, 1000],
  },
  {
    name: "the keys of a Secret's volume, which are swapped behind a link in another directory, are told each time",
    before: (watched) => {
      writeFileSync(watched.path, keyed(watched, "1s", "secret/wire.key"));
      secret(filesOf(watched)("secret"), "a", "..2026_1");
      symlinkSync("..data/wire.key", filesOf(watched)("secret/wire.key"));
    },
    change: async (watched) => {
      const at = filesOf(watched)("secret");
      for (const version of ["..2026_2", "..2026_3"]) {
        const before = watched.told.length;
        secret(at, version, version);
        for (const end = performance.now() + 1500; watched.told.length === before && performance.now() < end; )
          await sleep(2);
      }
    },
    told: [1000, 1000],
  },
  {
    name: "the keys of a configuration that came later are told, and no longer those of an earlier one",
    before: (watched) => writeFileSync(watched.path, keyed(watched, "1s", "old/a.key")),
    change: async (watched) => {
      const at = filesOf(watched);
      mkdirSync(at("old"));
      mkdirSync(at("young"));
      writeFileSync(watched.path, keyed(watched, "2s", "young/b.key"));
      await watched.until(2000);
      writeFileSync(at("old/a.key"), "a");
      await sleep(50);
      assert.equal(watched.told, [2000]);
      writeFileSync(at("young/b.key"), "b");
      await sleep(50);
    },
    told: [2000, 2000],
  },
  {
    name: "a deletion is told as an error, and the same content made anew as a configuration",
    change: async (watched) => {
      rmSync(watched.path);
      await watched.until("refused");
      writeFileSync(watched.path, text("1s"));
    },
    told: ["refused", 1000],
  },
  {
    name: "a broken file is told as an error, and the mended one as a configuration",
    change: async (watched) => {
      writeFileSync(watched.path, "hold: 30\n");
      await watched.until("refused");
      writeFileSync(watched.path, text("2s"));
    },
    told: ["refused", 2000],
  },
  {
    name: "the same content, written, touched or renamed over it, is not told",
    change: async (watched) => {
      const at = filesOf(watched);
      writeFileSync(watched.path, text("1s"));
      await sleep(50);
      utimesSync(watched.path, 1, 1);
      await sleep(50);
      writeFileSync(at("new"), text("1s"));
      renameSync(at("new"), watched.path);
      await sleep(50);
      writeFileSync(watched.path, text("2s"));
    },
    told: [2000],
  },
  {
    name: "a change in a directory where other files change all the time is told",
    change: async (watched) => {
      const at = filesOf(watched);
      writeFileSync(watched.path, text("2s"));
      for (let i = 0; watched.told.length === 0 && i < 500; i++) {
        writeFileSync(at(`other${i % 3}`), `${i}`);
        await sleep(1);
      }
      assert.equal(watched.told, [2000]);
    },
    told: [2000],
  },
];

for (const { name, before, change, told } of rows) {
  test(name, async () => {
    using watched = new Watched();
    writeFileSync(watched.path, text("1s"));
    before?.(watched);
    watched.start(quick);
    assert.is(watched.first?.hold, 1000);
    await change(watched);
    await watched.until(told.at(-1)!);
    await sleep(50);
    assert.equal(watched.told, told);
    assert.equal(watched.troubles, []);
  });
}

test("a file that is asked for is given though it has not changed; a change is given once", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  const reread = new EventTarget();
  watched.start({ reread });
  reread.dispatchEvent(new Event("read"));
  assert.equal(watched.told, [1000]);
  writeFileSync(watched.path, text("2s"));
  reread.dispatchEvent(new Event("read"));
  await sleep(50);
  assert.equal(watched.told, [1000, 2000]);
});

test("a change right after the start is told", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  watched.start(quick);
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
});

test("a file that is written in pieces is told once, when it is left alone", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  watched.start({ ...quick, settle: 300 });
  for (const end = performance.now() + 500; performance.now() < end; await sleep(5)) {
    writeFileSync(watched.path, text("2s").slice(0, Math.random() * 50));
  }
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
  assert.equal(watched.told, [2000]);
});

test("a directory made anew at once is told, and writes there too", async () => {
  using watched = new Watched();
  const at = filesOf(watched);
  watched.path = at("etc/isat.yaml");
  mkdirSync(at("etc"));
  writeFileSync(watched.path, text("1s"));
  watched.start(quick);
  for (const seconds of [2, 4]) {
    rmSync(at("etc"), { recursive: true });
    mkdirSync(at("etc"));
    writeFileSync(watched.path, text(`${seconds}s`));
    await watched.until(seconds * 1000);
    writeFileSync(watched.path, text(`${seconds + 1}s`));
    await watched.until(seconds * 1000 + 1000);
  }
});

test("a directory whose parent is moved away is watched anew where the path leads now", async () => {
  using watched = new Watched();
  const at = filesOf(watched);
  watched.path = at("etc/isat/isat.yaml");
  mkdirSync(at("etc/isat"), { recursive: true });
  writeFileSync(watched.path, text("1s"));
  let watches = 0;
  const counted = (...args: Parameters<NonNullable<WatchOptions["watch"]>>) => {
    watches++;
    return watch(...args);
  };
  watched.start({ poll: 20, watch: counted });
  renameSync(at("etc"), at("old"));
  mkdirSync(at("etc/isat"), { recursive: true });
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
  assert.is(watches, 2);
});

test("the directory may be deleted, moved away and made anew", async () => {
  using watched = new Watched();
  const at = filesOf(watched);
  mkdirSync(at("etc"));
  const path = at("etc/isat.yaml");
  writeFileSync(path, text("1s"));
  watched.path = path;
  watched.start({ poll: 20 });
  rmSync(at("etc"), { recursive: true });
  await watched.until("refused");
  mkdirSync(at("etc"));
  writeFileSync(path, text("2s"));
  await watched.until(2000);
  renameSync(at("etc"), at("old"));
  await watched.until("refused");
  mkdirSync(at("etc"));
  writeFileSync(path, text("3s"));
  await watched.until(3000);
});

test("a change of which the system does not tell is found by the poll", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  watched.start({ poll: 20, watch: (path) => watch(path, () => {}) });
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
});

test("a watcher that fails is reported once and armed again by the poll", async () => {
  using watched = new Watched();
  const watchers: FSWatcher[] = [];
  writeFileSync(watched.path, text("1s"));
  watched.start({
    poll: 20,
    watch: (path, listener) => {
      const watcher = watch(path, listener);
      watchers.push(watcher);
      return watcher;
    },
  });
  assert.is(watchers.length, 1);
  watchers[0]?.emit("error", new Error("out of order"));
  for (let i = 0; watchers.length < 2 && i < 500; i++) await sleep(10);
  assert.is(watchers.length, 2);
  assert.is(watched.troubles.length, 1);
  assert.match(watched.troubles[0] ?? "", "Cannot watch");
  assert.match(watched.troubles[0] ?? "", "out of order");
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
});

test("a system that refuses to watch is reported once, and changes are found by the poll", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  let calls = 0;
  watched.start({
    poll: 20,
    watch: () => {
      calls++;
      throw new Error("ENOSPC: no watches left");
    },
  });
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
  for (let i = 0; calls < 3 && i < 500; i++) await sleep(10);
  assert.ok(calls >= 3, "it goes on trying");
  assert.is(watched.troubles.length, 1);
  assert.match(watched.troubles[0] ?? "", "ENOSPC");
});

/** Watchers and timers alone: what keeps the process alive. */
function held(): string[] {
  return process.getActiveResourcesInfo().filter((name) => name === "FSEventWrap" || name === "Timeout");
}

test("after an abort nothing is told and nothing is held", async () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  await sleep(20);
  const before = held();
  watched.start({ settle: 200 });
  assert.ok(held().length > before.length);
  writeFileSync(watched.path, text("2s"));
  await watched.until(2000);
  writeFileSync(watched.path, text("3s"));
  await sleep(50);
  watched.stop();
  await sleep(300);
  assert.equal(watched.told, [2000]);
  assert.equal(held(), before);
});

test("a file that is refused to begin with is thrown, and nothing is held", async () => {
  using watched = new Watched();
  await sleep(20);
  const before = held();
  assert.throws(
    () => watched.start(),
    (error: unknown) => error instanceof ConfigError && error.message.includes("there is no such file"),
  );
  writeFileSync(watched.path, "hold: 30\n");
  assert.throws(
    () => watched.start(),
    (error: unknown) => error instanceof ConfigError && error.message.startsWith(`${watched.path}:1: hold: `),
  );
  await sleep(20);
  assert.equal(held(), before);
});

test("a signal that is aborted already is thrown", () => {
  using watched = new Watched();
  writeFileSync(watched.path, text("1s"));
  watched.stop();
  assert.throws(() => watched.start(), /abort/i);
});

test.run();
