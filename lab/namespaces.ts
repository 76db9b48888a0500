import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { ffi } from "../src/ffi/ffi.ts";
import { errnoName, libc } from "../src/ffi/libc.ts";
import { fn } from "../src/ffi/port.ts";

const CLONE_NEWNET = 0x40000000;
const LOCK_EX_NB = 2 | 4;
/** The folder in which iproute2 keeps named namespaces. */
const NETNS = "/run/netns";
/** A killed process may take this long to be gone, ms. */
const DEATH_MS = 2000;

const { setns } = ffi.open(null, { setns: fn(["i32", "i32"], "i32") });

/**
 * The environment variable in which scripts/test.ts names its run. Every prefix begins with it, so runs do not meet.
 */
export const RUN = "ISAT_TEST_RUN";

/** One end of a veth pair. `namespace` is the short name. */
export interface End {
  namespace: string;
  name: string;
  /** @default the kernel's choice */
  mac?: string;
}

/**
 * Network namespaces, veth pairs, processes and bpffs mounts that share one prefix, and are removed together. The
 * constructor sweeps what a crashed process with the same prefix has left, so no prefix may be the beginning of
 * another. Methods take short names, and add the prefix.
 */
export class Namespaces implements Disposable {
  readonly prefix: string;
  readonly #lock: number;
  readonly #children = new Set<ChildProcess>();
  readonly #onExit = () => this[Symbol.dispose]();
  #isDisposed = false;

  /** @throws Error where another process holds the prefix, or the machine does not let us make namespaces */
  constructor(name: string) {
    const prefix = `${process.env[RUN] ?? ""}${name}`;
    const lock = tryLock(join(tmpdir(), `${prefix}lock`));
    if (lock === undefined) {
      throw new Error(`Cannot use network namespaces ${prefix}* as another process does. Wait for its end, or stop it`);
    }
    this.prefix = prefix;
    this.#lock = lock;
    sweep(prefix);
    process.on("exit", this.#onExit);
  }

  /** The full name of a namespace, as `ip netns` has it. */
  full(name: string): string {
    return this.prefix + name;
  }

  /** Makes a namespace with `lo` up, and with IPv6 off, so that the kernel sends nothing by itself. */
  add(name: string): void {
    run("ip", ["netns", "add", this.full(name)]);
    this.sysctl(name, "net/ipv6/conf/all/disable_ipv6", 1);
    this.sysctl(name, "net/ipv6/conf/default/disable_ipv6", 1);
    this.ip(name, ["link set lo up"]);
  }

  /** The processes in a namespace. */
  pids(name: string): number[] {
    return pidsIn(this.full(name));
  }

  /** Removes a namespace, with its processes and interfaces. */
  remove(name: string): void {
    kill(this.pids(name));
    run("ip", ["netns", "delete", this.full(name)]);
  }

  /** Makes a veth pair and brings both ends up. */
  link(a: End, b: End): void {
    const end = ({ namespace, name, mac }: End) =>
      `name ${name} netns ${this.full(namespace)}${mac === undefined ? "" : ` address ${mac}`}`;
    run("ip", ["-batch", "-"], `link add ${end(a)} type veth peer ${end(b)}\n`);
    for (const { namespace, name } of [a, b]) this.ip(namespace, [`link set ${name} up`]);
  }

  /** Runs lines of `ip` in a namespace: `addr add 10.9.0.1/32 dev lo`. */
  ip(name: string, lines: readonly string[]): void {
    run("ip", ["-netns", this.full(name), "-batch", "-"], `${lines.join("\n")}\n`);
  }

  /** Runs a script of nft in a namespace. */
  nft(name: string, script: string): void {
    run("nsenter", [`--net=${join(NETNS, this.full(name))}`, "nft", "-f", "-"], script);
  }

  /** Writes a sysctl of the namespace, named by its path under /proc/sys. */
  sysctl(name: string, path: string, value: number): void {
    inNamespace(this.full(name), () => writeFileSync(`/proc/sys/${path}`, `${value}\n`));
  }

  /**
   * Starts a program in the namespace; it is killed on disposal. It is run by nsenter, as `ip netns exec` would make a
   * mount namespace of its own, in which our bpffs and pins could not be seen.
   */
  spawn(name: string, command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn("nsenter", [`--net=${join(NETNS, this.full(name))}`, command, ...args], options);
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  /** Makes a folder, which is removed on disposal. */
  folder(): string {
    return mkdtempSync(join(tmpdir(), this.prefix));
  }

  /** Mounts a bpffs of our own. @returns its folder */
  bpffs(): string {
    const folder = join(this.folder(), "bpf");
    mkdirSync(folder);
    run("mount", ["-t", "bpf", "-o", "mode=0700", "bpf", folder]);
    return folder;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    process.off("exit", this.#onExit);
    kill([...this.#children].map(({ pid }) => pid).filter((pid) => pid !== undefined));
    sweep(this.prefix);
    closeSync(this.#lock);
  }
}

/**
 * Runs `body` with the main thread in the named network namespace. A socket that it opens stays in that namespace.
 * `body` must be synchronous: after its first `await` the thread would be back in its own namespace.
 */
export function inNamespace<T>(name: string, body: () => T): T {
  const home = openSync("/proc/thread-self/ns/net", "r");
  const there = openSync(join(NETNS, name), "r");
  const enter = (fd: number) => {
    if (setns(fd, CLONE_NEWNET) < 0) {
      throw new Error(`Cannot enter network namespace ${name}: ${errnoName(ffi.errno())}. CAP_SYS_ADMIN is needed`);
    }
  };
  try {
    enter(there);
    try {
      return body();
    } finally {
      enter(home);
    }
  } finally {
    closeSync(there);
    closeSync(home);
  }
}

const pidsIn = (namespace: string) => run("ip", ["netns", "pids", namespace]).split("\n").filter(Boolean).map(Number);

/**
 * Locks the file for as long as this process lives, or until the descriptor is closed; undefined where another has it.
 */
export function tryLock(file: string): number | undefined {
  const fd = openSync(file, "w");
  if (libc.flock(fd, LOCK_EX_NB) === 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Everything on this machine whose name begins with the prefix. Lock files are left out, as they stay. */
export function leftovers(prefix: string): { namespaces: string[]; mounts: string[]; folders: string[] } {
  const isOurs = (name: string) => name.startsWith(prefix);
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "");
  return {
    namespaces: readNames(NETNS).filter(isOurs),
    mounts: mounts.filter((target) => target.startsWith(join(tmpdir(), prefix))),
    folders: readNames(tmpdir()).filter((name) => isOurs(name) && !name.endsWith("lock")),
  };
}

/** Removes everything whose name begins with the prefix, and ends the processes in such namespaces. */
export function sweep(prefix: string): void {
  const { namespaces, mounts, folders } = leftovers(prefix);
  kill(namespaces.flatMap(pidsIn));
  for (const name of namespaces) run("ip", ["netns", "delete", name]);
  for (const target of mounts) run("umount", ["--lazy", target]);
  for (const name of folders) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

function readNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // iproute2 makes /run/netns with the first namespace
  }
}

/** Kills processes, and waits until they are gone: a folder or a mount that is still in use cannot be removed. */
function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // it has ended by itself
    }
  }
  const end = performance.now() + DEATH_MS;
  while (pids.some(isAlive) && performance.now() < end) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
}

/** A zombie counts as dead: Node reaps it later. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

function run(command: string, args: readonly string[], input = ""): string {
  try {
    return execFileSync(command, args, { input, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] });
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: string };
    const reason = code === "ENOENT" ? "it is not installed" : (stderr?.trim() ?? String(error));
    throw new Error(`Cannot run ${[command, ...args].join(" ")}: ${reason}`);
  }
}
