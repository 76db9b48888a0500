import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { libc } from "../ffi/libc.ts";

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

/** An exclusive lock on a folder. The kernel releases it when the process ends, however it ends. */
export class FolderLock implements Disposable {
  readonly #fd: number;

  /** @throws Error if another process holds the lock, with its pid if known */
  constructor(folder: string) {
    this.#fd = openSync(folder, "r");
    if (libc.flock(this.#fd, LOCK_EX | LOCK_NB) === 0) return;
    const pid = lockHolder(fstatSync(this.#fd).ino);
    closeSync(this.#fd);
    throw new Error(
      `Cannot use ${folder} as another isat${pid === undefined ? "" : ` (pid ${pid})`} is running on it.` +
        " Stop it, or give this one a pinDir and a runDir of its own",
    );
  }

  /** True if another process holds the lock. */
  static isHeld(folder: string): boolean {
    const fd = openSync(folder, "r");
    const isFree = libc.flock(fd, LOCK_EX | LOCK_NB) === 0;
    closeSync(fd);
    return !isFree;
  }

  /** Resolves when no process holds the lock any more, or the signal has come. */
  static async released(folder: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && FolderLock.isHeld(folder)) await sleep(RETRY);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
