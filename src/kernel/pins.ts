import { existsSync, rmdirSync, rmSync, statfsSync } from "node:fs";
import { dirname } from "node:path";

const BPF_FS_MAGIC = 0xcafe4a11;

/**
 * Checks the nearest existing folder, because `pinDir` itself is made later.
 * @throws Error if `pinDir` is not on a bpffs, with the command that mounts one
 */
export function requireBpffs(pinDir: string): void {
  let folder = pinDir;
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  if ((statfsSync(folder).type & 0xffffffff) >>> 0 === BPF_FS_MAGIC) return;
  // Never suggest to mount on that existing folder: it may be / or /tmp, and a mount would hide everything in it.
  const isUsual = pinDir.startsWith("/sys/fs/bpf/");
  const mount = isUsual
    ? "mount -t bpf bpf /sys/fs/bpf"
    : `mkdir -p ${pinDir} && mount -t bpf -o mode=0700 bpf ${pinDir}`;
  throw new Error(
    `Cannot pin under ${pinDir} as no bpffs is mounted there. Run: ${mount}` +
      " (in a Pod: mount the host's /sys/fs/bpf)",
  );
}

/** Removes a pin or a folder of pins, if it exists. Unpinning a link that no process holds open detaches it. */
export function unpin(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/** Removes a folder, unless it has entries or is a mount point. */
export function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (!["ENOTEMPTY", "EBUSY", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
