import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { libc } from "../ffi/libc.ts";
import { requireOwnFolder } from "../files.ts";

const { O_CREAT, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const LOCK_EX = 2;
const LOCK_NB = 4;
/** How often a lock is tried that another process holds, ms. */
const RETRY = 20;

/** The pid that holds the flock on an inode; undefined if it is in another PID namespace: /proc/locks hides it. */
function lockHolder(inode: number): number | undefined {
  const locks = readFileSync("/proc/locks", "utf8").matchAll(/FLOCK\s+\S+\s+WRITE\s+(\d+)\s+\S+:(\d+)\s/g);
  const [, pid] = [...locks].find(([, pid, locked]) => Number(locked) === inode && pid !== "0") ?? [];
  return pid === undefined ? undefined : Number(pid);
}

const fileIn = (folder: string) => `${folder}/lock`;

/** An exclusive lock on a folder. The kernel releases it when the process ends, however it ends. */
export class FolderLock implements Disposable {
  readonly #fd: number;
  /** The file that is removed with the lock. */
  readonly #file: string | undefined;

  /**
   * Locks a file in the folder that only root can open: a folder that others can read can also be locked by them. On a
   * bpffs, which has no files of ours, `on` is "itself": the folder has mode 0700.
   * @throws Error if another process holds the lock, with its pid if known, or if the folder is not ours alone
   */
  constructor(folder: string, on: "file" | "itself" = "file") {
    requireOwnFolder(folder);
    this.#file = on === "file" ? fileIn(folder) : undefined;
    for (;;) {
      this.#fd = this.#file ? openSync(this.#file, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600) : openSync(folder, O_RDONLY);
      if (libc.flock(this.#fd, LOCK_EX | LOCK_NB) < 0) break;
      // The holder before may have removed the file after we opened it: then the lock is on a file that nobody finds.
      if (!this.#file || fstatSync(this.#fd).nlink > 0) return;
      closeSync(this.#fd);
    }
    const pid = lockHolder(fstatSync(this.#fd).ino);
    closeSync(this.#fd);
    throw new Error(
      `Cannot use ${folder} as another isat${pid === undefined ? "" : ` (pid ${pid})`} is running on it.` +
        " Stop it, or give this one a pinDir and a runDir of its own",
    );
  }

  /** True if another process holds the lock on the folder's file. */
  static isHeld(folder: string): boolean {
    if (!existsSync(fileIn(folder))) return false;
    requireOwnFolder(folder);
    const fd = openSync(fileIn(folder), O_RDONLY | O_NOFOLLOW);
    const isFree = libc.flock(fd, LOCK_EX | LOCK_NB) === 0;
    closeSync(fd);
    return !isFree;
  }

  /** Resolves when no process holds the lock any more, or the signal has come. */
  static async released(folder: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && FolderLock.isHeld(folder)) await sleep(RETRY);
  }

  [Symbol.dispose](): void {
    if (this.#file) rmSync(this.#file, { force: true }); // first, while nobody else can hold it
    closeSync(this.#fd);
  }
}
