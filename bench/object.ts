import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ffi } from "../src/ffi/ffi.ts";
import { check, collectMessages, Fd, KernelError, libbpf } from "../src/kernel/libbpf.ts";

const SOURCE = fileURLToPath(new URL("./bench.bpf.c", import.meta.url));
const PROGRAMS = [
  "bench_pass",
  "bench_drop",
  "bench_sink",
  "bench_answer",
  "bench_tag",
  "bench_xdp_pass",
  "bench_xdp_sink",
] as const;
type Name = (typeof PROGRAMS)[number];

/** Compiles the benchmarks' own kernel programs into `folder`, and loads them. */
export class BenchPrograms implements Disposable {
  readonly programs: Readonly<Record<Name, Fd>>;
  readonly #replies: number;
  readonly #object: bigint;
  readonly #cpus = possibleCpus();

  constructor(folder: string) {
    const output = join(folder, "bench.o");
    const machine = { x64: "x86_64", arm64: "aarch64" }[process.arch as string] ?? process.arch;
    const flags = [
      "-g",
      "-O2",
      "-Wall",
      "-Werror",
      "-target",
      "bpf",
      "-mcpu=v3",
      `-I/usr/include/${machine}-linux-gnu`,
    ];
    execFileSync("clang", [...flags, "-c", SOURCE, "-o", output], { stdio: ["ignore", "ignore", "inherit"] });
    this.#object = collectMessages((said) => {
      const object = BigInt(libbpf.bpf_object__open_file(output, null));
      if (object === 0n) throw new KernelError("Cannot open bench.bpf.c's object", ffi.errno());
      const result = libbpf.bpf_object__load(object);
      if (result < 0) throw new KernelError("Cannot load bench.bpf.c's object", -result, said());
      return object;
    });
    const fd = (name: Name) => libbpf.bpf_program__fd(libbpf.bpf_object__find_program_by_name(this.#object, name));
    // The object owns its descriptors: they are closed with it.
    this.programs = Object.fromEntries(PROGRAMS.map((name) => [name, new Fd(fd(name))])) as Record<Name, Fd>;
    this.#replies = libbpf.bpf_map__fd(libbpf.bpf_object__find_map_by_name(this.#object, "replies"));
  }

  /** The number of ARP replies that the sinks have counted. */
  replies(): number {
    const counts = new BigUint64Array(this.#cpus);
    check(
      "Cannot read the count of replies",
      libbpf.bpf_map_lookup_elem(this.#replies, new Uint8Array(4), new Uint8Array(counts.buffer)),
    );
    return Number(counts.reduce((sum, count) => sum + count, 0n));
  }

  [Symbol.dispose](): void {
    libbpf.bpf_object__close(this.#object);
  }
}

/** The number of values in an entry of a per-CPU map. */
function possibleCpus(): number {
  const text = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim();
  return Number(text.split(/[-,]/).at(-1)) + 1;
}
