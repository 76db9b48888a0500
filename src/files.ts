import {
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import process from "node:process";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;
const STICKY = 0o1000;
const OTHERS_WRITE = 0o022;

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
    // O_EXCL and O_NOFOLLOW: never through a link that somebody else has put there.
    const file = openSync(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** Makes the names in a folder last over a power cut. */
export function syncFolder(folder: string): void {
  const opened = openSync(folder, O_RDONLY);
  try {
    fsyncSync(opened);
  } finally {
    closeSync(opened);
  }
}
