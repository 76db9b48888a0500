import { createHash } from "node:crypto";
import { type FSWatcher, readFileSync, realpathSync, statSync, watch } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { type Config, ConfigError, parseConfig, readConfigText } from "./config.ts";
import { keyFilesOf } from "./keys.ts";

export interface WatchOptions {
  /** Ends the watch and closes everything it holds. */
  signal: AbortSignal;
  /**
   * Called when the content of the file, or of a key file that it names, differs from the last one given: with the
   * configuration, or why it is refused.
   */
  onChange(result: Config | ConfigError): void;
  /** An event `read` makes the file be read at once, and given even if its content is the same. */
  reread?: EventTarget;
  /** Called when the system refuses to watch, as for want of inotify watches: changes then take up to `poll`. */
  onTrouble?(message: string): void;
  /**
   * The time in ms for which the file must be left alone before it is read, so that a half-written one is rarely read.
   * @default 10
   */
  settle?: number;
  /** How often, in ms, the file's status is compared in case the system did not report a change. @default 2000 */
  poll?: number;
  /** @default fs.watch */
  watch?: (path: string, listener: (event: string, name: string | null) => void) => FSWatcher;
}

type Filled = WatchOptions & Required<Pick<WatchOptions, "settle" | "poll" | "watch">>;

/**
 * Reads the configuration and watches it and its key files from then on: no change between the two is missed.
 * @throws ConfigError where the file is refused to begin with; nothing is watched then.
 */
export function watchConfig(path: string, options: WatchOptions): Config {
  options.signal.throwIfAborted();
  const filled: Filled = { settle: 10, poll: 2000, watch, ...options };
  /** The configuration first. A refused one names no key files: those of the last one stay. */
  let files: readonly string[] = [path];
  const directories = new Directories(() => files, filled);
  let pending: ReturnType<typeof setTimeout> | undefined;

  // Within one tick of the file system's clock two writes leave the same status, so an event that names the file counts
  // even if the status is the same. Other names count only if it is not: a busy directory must not put off the reading.
  const look = (isNamed: boolean): void => {
    directories.arm();
    const now = files.map(statusOf).join();
    if (!isNamed && now === status) return;
    status = now;
    clearTimeout(pending);
    pending = setTimeout(deliver, filled.settle);
  };
  const deliver = (isAsked = false): void => {
    const now = take();
    if (!isAsked && now.content === given.content) return;
    given = now;
    options.onChange(now.result);
  };
  const take = () => {
    status = files.map(statusOf).join();
    const { content, result } = read(path);
    if (!(result instanceof ConfigError)) files = [path, ...keyFilesOf(result)];
    directories.arm();
    return { result, content: [content, ...files.slice(1).map(digestOf)].join("\n") };
  };

  directories.onEvent = look;
  directories.arm();
  let status = "";
  let given = take();
  const timer = setInterval(look, filled.poll, false);
  const close = (): void => {
    clearInterval(timer);
    clearTimeout(pending);
    directories.close();
  };
  if (given.result instanceof ConfigError) {
    close();
    throw given.result;
  }
  options.signal.addEventListener("abort", close, { once: true });
  options.reread?.addEventListener("read", () => deliver(true), { signal: options.signal });
  return given.result;
}

/**
 * Watches the directories of files. A watch on a file itself would follow its inode, which editors and Kubernetes
 * replace. Each file has two: the one of its path, and the one to which its symbolic links lead (a ConfigMap's file is a
 * link through `..data`, which is swapped in the first).
 */
class Directories {
  readonly #paths: () => readonly string[];
  readonly #options: Filled;
  readonly #watchers = new Map<string, { inode: string; watcher: FSWatcher }>();
  /** Where each path's links led when they last led anywhere: it is there that a deleted file comes back. */
  readonly #real = new Map<string, string>();
  #isTroubled = false;
  /** Called for each event, with true if it names one of the files. */
  onEvent: (isNamed: boolean) => void = () => {};

  constructor(paths: () => readonly string[], options: Filled) {
    this.#paths = paths;
    this.#options = options;
  }

  /** The paths as they are written, and where their links lead. */
  get #places(): string[] {
    const absolute = this.#paths().map((path) => resolve(path));
    return absolute.flatMap((path) => [path, this.#real.get(path) ?? path]);
  }

  /** Watches the directories as they are now. */
  arm(): void {
    for (const path of this.#paths()) {
      const real = orUndefined(() => realpathSync(path));
      if (real !== undefined) this.#real.set(resolve(path), real);
    }
    const wanted = new Set(this.#places.map(dirname));
    for (const [directory, { inode }] of this.#watchers) {
      if (!wanted.has(directory) || inode !== inodeOf(directory)) this.#drop(directory);
    }
    let hasFailed = false;
    for (const directory of wanted) {
      const inode = inodeOf(directory);
      if (this.#watchers.has(directory) || inode === undefined) continue;
      try {
        const watcher = this.#options.watch(directory, (_, name) => this.#notice(directory, name));
        this.#watchers.set(directory, { inode, watcher });
        watcher.on("error", (error) => {
          this.#drop(directory); // the next poll arms it again: at once could be for ever
          this.#report(directory, error);
        });
      } catch (error) {
        hasFailed = true;
        this.#report(directory, error as Error);
      }
    }
    if (!hasFailed) this.#isTroubled = false;
  }

  close(): void {
    for (const directory of this.#watchers.keys()) this.#drop(directory);
  }

  #drop(directory: string): void {
    this.#watchers.get(directory)?.watcher.close();
    this.#watchers.delete(directory);
  }

  #notice(directory: string, name: string | null): void {
    // inotify names the directory itself when it is deleted or moved; a new one may get the old one's inode.
    if (name === basename(directory)) this.#drop(directory);
    this.onEvent(name === null || this.#places.some((path) => name === basename(path)));
  }

  #report(directory: string, { message }: Error): void {
    if (!this.#isTroubled) {
      const { poll, onTrouble } = this.#options;
      onTrouble?.(
        `Cannot watch ${directory}: ${message}. Until that works again, changes of ${this.#paths().join(", ")} take up to ${poll} ms`,
      );
    }
    this.#isTroubled = true;
  }
}

/** A refusal is a value here: a refused file is news, not a fault. Without a text, the error is the content. */
function read(path: string): { content: string; result: Config | ConfigError } {
  let text: string | undefined;
  try {
    text = readConfigText(path);
    return { content: text, result: parseConfig(text, path) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { content: text ?? String(error), result: error };
  }
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function inodeOf(directory: string): string | undefined {
  const status = orUndefined(() => statSync(directory, { bigint: true }));
  return status && `${status.dev}:${status.ino}`;
}

/** Stands for a key file: its content, and who may read it; the error's code where it cannot be read. */
function digestOf(path: string): string {
  try {
    return `${statSync(path).mode} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

/** Differs after each change, links followed; the error's code for a file that cannot be reached. */
function statusOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
