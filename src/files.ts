import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";

/** For a file that is made anew, so never through a link that somebody has put there, and is on the disk once closed. */
const DRAFT = { flag: "wx", mode: 0o600, flush: true } as const;
const STICKY = 0o1000;
const OTHERS_WRITE = 0o022;

const REMEDIES: Readonly<Record<string, string>> = {
  EMFILE: "This process has too many files open. Raise its limit (LimitNOFILE=, ulimit -n)",
  ENFILE: "The machine has too many files open. Raise the sysctl fs.file-max",
  ENOSPC: "Its file system is full. Make room",
  EDQUOT: "The quota of its file system is used up. Make room",
  EROFS: "Its file system is read-only. Mount it writable",
  EPERM: "isat needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW",
};

/** The name of a system error with its cause and what to do: "EMFILE. This process has ...". */
export const explain = (code: string): string => (REMEDIES[code] ? `${code}. ${REMEDIES[code]}` : code);

/** The error, or what caused it, says that nothing can be written there now, through no fault of the configuration. */
export function isUnwritable(error: unknown): boolean {
  const { code, cause } = error as NodeJS.ErrnoException;
  return ["ENOSPC", "EDQUOT", "EROFS"].includes(code ?? "") || (cause !== undefined && isUnwritable(cause));
}

/**
 * Makes a folder that only root can open, and those above it.
 * @throws Error with the cause. (For a read-only file system, Node's recursive mkdir says ENOENT.)
 */
export function makeOwnFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    try {
      accessSync(upTo(path).find((each) => existsSync(each))!, constants.W_OK);
    } catch (deeper) {
      const { code = "" } = deeper as NodeJS.ErrnoException;
      if (code === "EROFS") throw new Error(`Cannot make ${path}: ${explain(code)}`, { cause: deeper });
    }
    const { code = "", message } = error as NodeJS.ErrnoException;
    throw new Error(`Cannot make ${path}: ${REMEDIES[code] ? explain(code) : message}`, { cause: error });
  }
}

/**
 * Refuses a folder that another user could fill, lock or exchange: everything on the way to it has to be root's or this
 * user's, and not writable by others. (In a sticky folder, such as /tmp, others cannot exchange what is not theirs.)
 * @throws Error that says what to do
 */
export function requireOwnFolder(folder: string): void {
  const real = realpathSync(folder);
  for (const path of new Set([...upTo(folder), ...upTo(real)])) {
    const status = lstatSync(path);
    const isOwn = status.uid === 0 || status.uid === process.geteuid?.();
    const isShared = !status.isSymbolicLink() && (status.mode & OTHERS_WRITE) !== 0;
    if (isOwn && (!isShared || (path !== folder && path !== real && (status.mode & STICKY) !== 0))) continue;
    const what = isOwn ? `others can write ${path}` : `${path} belongs to user ${status.uid}`;
    throw new Error(
      `Cannot use ${folder} as ${what}: whoever does could stop isat, or put files into it. Remove it, or` +
        ` run: chown root ${path} && chmod go-w ${path}`,
    );
  }
}

/** The path and all folders above it. */
const upTo = (path: string): string[] => (path === dirname(path) ? [path] : [path, ...upTo(dirname(path))]);

/**
 * Writes a file of root's by another name, and puts it in its place: a reader finds the old text or the new one, over a
 * power cut too. @throws Error of the system; then the old file is as it was
 */
export function replaceFile(path: string, text: string): void {
  const draft = `${path}.new`;
  try {
    rmSync(draft, { force: true });
    writeFileSync(draft, text, DRAFT);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** Does the same without making anybody wait for a slow disk. */
export async function replaceFileLater(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  try {
    await writeFile(draft, text, DRAFT);
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Makes the names in a folder last over a power cut. */
export function syncFolder(folder: string): void {
  const opened = openSync(folder, "r");
  try {
    fsyncSync(opened);
  } finally {
    closeSync(opened);
  }
}
