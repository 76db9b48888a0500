import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { machine } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BPF = fileURLToPath(new URL("../../bpf", import.meta.url));

/** The files of bpf/. */
export const SOURCES = readdirSync(BPF);

/** Copies bpf/ to `folder`, with the files' text as `edit` changes it; returns the folder. */
export function copySources(folder: string, edit: (text: string, name: string) => string): string {
  cpSync(BPF, folder, { recursive: true });
  for (const name of SOURCES) {
    const path = join(folder, name);
    writeFileSync(path, edit(readFileSync(path, "utf8"), name));
  }
  return folder;
}

/** Another interface's number, which {@link blur}red programs take for this one when they look for its entry. */
export const strayOf = (ifindex: number): number => ifindex + 0x1_0000;

/**
 * An edit of bpf/ by which an interface's entry is found by half of its number. An entry with the number of {@link strayOf}
 * is then as one whose place was given to another interface when a program had just found it.
 */
export function blur(text: string, name: string): string {
  if (name !== "state.h") return text;
  const exact = /interface && interface->ifindex == ifindex\)/g;
  if (text.match(exact)?.length !== 2) throw new Error(`bpf/state.h does not look for an interface twice by ${exact}`);
  return text.replace(exact, "interface && (__u16)interface->ifindex == (__u16)ifindex)");
}

/** Compiles and links as scripts/build-bpf does, without its check; returns the object's path. */
export function build(folder: string): string {
  const include = `-I/usr/include/${machine()}-linux-gnu`;
  const flags = ["-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", include];
  const parts = ["tc", "xdp", "egress", "write"].map((name) => {
    const out = join(folder, `${name}.o`);
    execFileSync("clang", [...flags, "-c", join(folder, `${name}.bpf.c`), "-o", out], { stdio: "pipe" });
    return out;
  });
  const out = join(folder, "isat.bpf.o");
  execFileSync("bpftool", ["gen", "object", out, ...parts], { stdio: "pipe" });
  return out;
}
