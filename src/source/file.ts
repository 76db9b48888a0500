import { type FSWatcher, realpathSync, statSync, watch } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { type Config, ConfigError, type FileSource, parseConfig, readConfigText } from "../config/config.ts";
import type { Demand } from "../core/demand.ts";

/** What the file's own lists come to. */
export function fileDemand({ nodes, vips }: FileSource): Demand {
  return { nodes, vips, checks: () => [] };
}

export interface WatchOptions {
  /** Ends the watch and closes everything it holds. */
  signal: AbortSignal;
  /** Called when the file's content differs from what was given last, with what it says or why it is refused. */
  onChange(result: Config | ConfigError): void;
  /** Called when the system refuses to watch, as for want of inotify watches: changes then take up to `poll`. */
  onTrouble?(message: string): void;
  /**
   * For how long, in ms, the file must be left alone before it is read, so that a half-written one is rarely read.
   * @default 10
   */
  settle?: number;
  /** How often, in ms, the file's status is looked at in case the system did not tell of a change. @default 2000 */
  poll?: number;
  /** @default fs.watch */
  watch?: (path: string, listener: (event: string, name: string | null) => void) => FSWatcher;
}

/**
 * Reads the configuration and watches it from then on: no change between the two is missed.
 *
 * Directories are watched, not the file: a watch on a file follows its inode, which editors and Kubernetes replace.
 * Watched are the one in which the path stands and the one to which its symbolic links lead (a ConfigMap's file is a
 * link through `..data`, which is swapped in the first).
 *
 * @throws ConfigError where the file is refused to begin with; nothing is watched then.
 */
export function watchConfig(path: string, options: WatchOptions): Config {
  const { signal, onChange, onTrouble, settle = 10, poll = 2000, watch: watchDirectory = watch } = options;
  signal.throwIfAborted();
  const absolute = resolve(path);
  const watchers = new Map<string, { inode: string; watcher: FSWatcher }>();
  /** Where the path's links led when they last led anywhere: it is there that a deleted file comes back. */
  let real = absolute;
  let troubled = false;
  let pending: ReturnType<typeof setTimeout> | undefined;

  const drop = (directory: string): void => {
    watchers.get(directory)?.watcher.close();
    watchers.delete(directory);
  };

  const arm = (): void => {
    real = realPath(absolute) ?? real;
    const wanted = new Set([dirname(absolute), dirname(real)]);
    for (const [directory, { inode }] of watchers) {
      if (!wanted.has(directory) || inode !== inodeOf(directory)) drop(directory);
    }
    let failed = false;
    for (const directory of wanted) {
      const inode = inodeOf(directory);
      if (watchers.has(directory) || inode === undefined) continue;
      try {
        const watcher = watchDirectory(directory, (_, name) => notice(directory, name));
        watchers.set(directory, { inode, watcher });
        watcher.on("error", (error) => {
          drop(directory); // the next poll arms it again: at once could be for ever
          trouble(directory, error);
        });
      } catch (error) {
        failed = true;
        trouble(directory, error as Error);
      }
    }
    if (!failed) troubled = false;
  };

  const trouble = (directory: string, error: Error): void => {
    if (!troubled) {
      onTrouble?.(
        `Cannot watch ${directory}: ${error.message}. Until that works again, changes of ${path} take up to ${poll} ms`,
      );
    }
    troubled = true;
  };

  const notice = (directory: string, name: string | null): void => {
    // inotify names the directory itself when it is deleted or moved; a new one may get the old one's inode.
    if (name === basename(directory)) drop(directory);
    look(name === null || name === basename(absolute) || name === basename(real));
  };

  // Within one tick of the file system's clock two writes leave the same status, so an event that names the file counts
  // even if the status is the same. Other names count only if it is not: a busy directory must not put off the reading.
  const look = (named: boolean): void => {
    arm();
    const now = statusOf(absolute);
    if (!named && now === status) return;
    status = now;
    clearTimeout(pending);
    pending = setTimeout(deliver, settle);
  };

  const deliver = (): void => {
    status = statusOf(absolute);
    const content = contentOf(path);
    if (String(content) === String(given)) return;
    given = content;
    onChange(typeof content === "string" ? interpret(content, path) : content);
  };

  arm();
  let status = statusOf(absolute);
  let given = contentOf(path);
  const first = typeof given === "string" ? interpret(given, path) : given;
  const timer = setInterval(look, poll, false);
  const close = (): void => {
    clearInterval(timer);
    clearTimeout(pending);
    for (const directory of watchers.keys()) drop(directory);
  };
  if (first instanceof ConfigError) {
    close();
    throw first;
  }
  signal.addEventListener("abort", close, { once: true });
  return first;
}

function contentOf(path: string): string | ConfigError {
  return refusedOr(() => readConfigText(path));
}

function interpret(content: string, path: string): Config | ConfigError {
  return refusedOr(() => parseConfig(content, path));
}

/** A refused file is news, not a fault. */
function refusedOr<T>(read: () => T): T | ConfigError {
  try {
    return read();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function inodeOf(directory: string): string | undefined {
  try {
    const { dev, ino } = statSync(directory, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** What differs after a change, links followed; of a file that cannot be reached, why. */
function statusOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
