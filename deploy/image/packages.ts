import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

export const ARCHITECTURES = ["amd64", "arm64"] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** What each package was when the lock was written: `version sha256` of a Debian package, Subresource Integrity of npm's. */
export interface Lock {
  debian: Record<string, { version: string; sha256: string }>;
  npm: Record<string, string>;
}

/** A package that is unpacked. */
export interface Package {
  name: string;
  version: string;
  folder: string;
}

const run = (command: string, args: readonly string[], cwd?: string) =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

/** Fetches packages by the ordinary clients, checks them against the lock, and keeps them unpacked in one folder. */
export class Packages {
  readonly #cache: string;
  readonly #lock: Lock;
  readonly #mode: "locked" | "present" | "write";
  readonly #updated = new Set<Architecture>();
  /** What is not as the lock says: of a package that Debian has replaced since. */
  readonly warnings: string[] = [];

  /**
   * @param mode "locked" takes nothing but what the lock names; "present" takes Debian's present version where the mirror
   *   no longer has that one, with a warning; "write" takes what is present into the lock
   */
  constructor(cache: string, lock: Lock, mode: "locked" | "present" | "write") {
    this.#cache = resolve(cache);
    this.#lock = lock;
    this.#mode = mode;
    mkdirSync(this.#cache, { recursive: true });
  }

  debian(name: string, architecture: Architecture): Package {
    const key = `${name}:${architecture}`;
    const locked = this.#mode === "write" ? undefined : this.#lock.debian[key];
    if (!locked && this.#mode !== "write") throw new Error(`Cannot find ${key} in the lock. Run: scripts/image --lock`);
    if (locked) {
      const folder = this.#place(key, locked.version, locked.sha256);
      if (existsSync(folder)) return { name, version: locked.version, folder };
    }
    return this.#fetchDebian(name, architecture, key, locked);
  }

  #fetchDebian(name: string, architecture: Architecture, key: string, locked: Lock["debian"][string] | undefined) {
    using fetched = this.#temporary();
    const apt = this.#apt(architecture);
    const download = (what: string) => run("apt-get", [...apt, "download", what], fetched.folder);
    try {
      download(locked ? `${name}=${locked.version}` : name);
    } catch (error) {
      if (!locked || this.#mode === "locked") throw new Error(`Cannot fetch ${key} ${locked?.version ?? ""}: ${error}`);
      download(name);
    }
    const file = join(fetched.folder, readdirSync(fetched.folder).find((each) => each.endsWith(".deb"))!);
    const version = run("dpkg-deb", ["--field", file, "Version"]).trim();
    const sha256 = createHash("sha256").update(readFileSync(file)).digest("hex");
    if (locked && version === locked.version && sha256 !== locked.sha256)
      throw new Error(`Cannot use ${key} ${version} as its SHA-256 is ${sha256}, and in the lock ${locked.sha256}`);
    if (locked && version !== locked.version)
      this.warnings.push(`${key} is ${version}, as Debian no longer has ${locked.version}. Run: scripts/image --lock`);
    if (this.#mode === "write") this.#lock.debian[key] = { version, sha256 };
    const folder = this.#place(key, version, sha256);
    if (!existsSync(folder)) {
      run("dpkg-deb", ["--extract", file, join(fetched.folder, "root")]);
      renameSync(join(fetched.folder, "root"), folder);
    }
    return { name, version, folder };
  }

  npm(name: string, version: string): Package {
    const key = `${name}@${version}`;
    const locked = this.#mode === "write" ? undefined : this.#lock.npm[key];
    if (!locked && this.#mode !== "write") throw new Error(`Cannot find ${key} in the lock. Run: scripts/image --lock`);
    const known = locked ? this.#place(name, version, locked) : undefined;
    if (known && existsSync(known)) return { name, version, folder: known };
    using fetched = this.#temporary();
    run("npm", ["pack", key, "--silent", "--ignore-scripts"], fetched.folder);
    const file = join(fetched.folder, readdirSync(fetched.folder).find((each) => each.endsWith(".tgz"))!);
    const integrity = `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
    if (locked && integrity !== locked)
      throw new Error(`Cannot use ${key} as its integrity is ${integrity}, and in the lock ${locked}`);
    if (this.#mode === "write") this.#lock.npm[key] = integrity;
    const folder = this.#place(name, version, integrity);
    if (!existsSync(folder)) {
      run("tar", ["--extract", "--gzip", "--no-same-owner", `--file=${file}`], fetched.folder);
      renameSync(join(fetched.folder, "package"), folder);
    }
    return { name, version, folder };
  }

  #place(name: string, version: string, sum: string): string {
    const short = createHash("sha256").update(sum).digest("hex").slice(0, 12);
    return join(this.#cache, `${name}_${version}_${short}`.replaceAll(/[^\w.@+~-]/g, "_"));
  }

  #temporary(): Disposable & { folder: string } {
    const folder = mkdtempSync(join(this.#cache, "fetch-"));
    return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
  }

  /** apt with lists of its own for one architecture: the machine's settings stay as they are. */
  #apt(architecture: Architecture): string[] {
    const state = join(this.#cache, `apt-${architecture}`);
    for (const folder of ["lists/partial", "cache/archives/partial"])
      mkdirSync(join(state, folder), { recursive: true });
    const options = {
      "APT::Architecture": architecture,
      "APT::Architectures": architecture,
      "APT::Sandbox::User": "root",
      "Dir::State::Lists": join(state, "lists"),
      "Dir::State::Status": "/dev/null",
      "Dir::Cache": join(state, "cache"),
    };
    const flags = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    if (!this.#updated.has(architecture)) {
      this.#updated.add(architecture);
      run("apt-get", [...flags, "update"]);
    }
    return flags;
  }
}
