import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { maps } from "../core/abi.ts";
import { ffi } from "../ffi/ffi.ts";
import { errno, errnoName } from "../ffi/libc.ts";
import { hasCapability } from "./capabilities.ts";
import { explainRefusal } from "./explain.ts";
import { check, collectMessages, Fd, getPinned, infoOf, KernelError, libbpf } from "./libbpf.ts";
import { KernelMap } from "./map.ts";
import { InterfaceMap, VerdictMap } from "./places.ts";
import { Writer } from "./writer.ts";

export const PROGRAMS = [
  "isat_ingress",
  "isat_egress",
  "isat_xdp",
  "isat_xdp_probe",
  "isat_write_interface",
  "isat_write_vips",
] as const;
export type ProgramName = (typeof PROGRAMS)[number];

type MapName = keyof typeof maps;
const MAP_NAMES = Object.keys(maps) as MapName[];

type PlainMap<Name extends MapName> = KernelMap<
  ReturnType<(typeof maps)[Name]["key"]["decode"]>,
  ReturnType<(typeof maps)[Name]["value"]["decode"]>
>;
export type Maps = { readonly [Name in Exclude<MapName, "interfaces" | "verdicts">]: PlainMap<Name> } & {
  readonly interfaces: InterfaceMap;
  readonly verdicts: VerdictMap;
};

/** The path of the compiled object: beside the bundle, or in dist/ of the checkout. */
export function findObject(): string {
  const candidates = ["./isat.bpf.o", "../../dist/isat.bpf.o"].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (!found) throw new Error(`Cannot find isat.bpf.o: looked at ${candidates.join(" and ")}. Build it: npm run build`);
  return found;
}

/** The maps, by the descriptor of each. */
function openMaps(fds: ReadonlyMap<MapName, Fd>): Maps {
  const plain = <Name extends MapName>(name: Name) => {
    const { key, value } = maps[name];
    return new KernelMap(name, fds.get(name)!, key as never, value as never) as unknown as PlainMap<Name>;
  };
  const interfaces = new InterfaceMap(plain("interfaces"));
  return {
    ...(Object.fromEntries(MAP_NAMES.map((name) => [name, plain(name)])) as unknown as Maps),
    ...{ interfaces, verdicts: new VerdictMap(fds.get("verdicts")!, interfaces) },
  };
}

/** The sizes of a map's keys and values, in bytes. */
export function mapSizes(fd: Fd): { keySize: number; valueSize: number } {
  const info = infoOf("map", fd, 88); // struct bpf_map_info: type, id, key_size, value_size, max_entries, ...
  return { keySize: info[2]!, valueSize: info[3]! };
}

/**
 * Opens the maps pinned under `folder`, calls `read`, and closes them. It needs no lock.
 * @returns undefined if a map is missing or has another layout
 */
export function readPinnedMaps<T>(folder: string, read: (maps: Maps) => T): T | undefined {
  const opened = new Map<MapName, Fd>();
  try {
    for (const name of MAP_NAMES) {
      const fd = getPinned(`${folder}/${name}`);
      if (!fd) return undefined;
      opened.set(name, fd);
      const { keySize, valueSize } = mapSizes(fd); // with other sizes, a read would write past the end of our buffers
      if (keySize !== maps[name].key.size || valueSize !== maps[name].value.size) return undefined;
    }
    return read(openMaps(opened));
  } finally {
    for (const fd of opened.values()) fd[Symbol.dispose]();
  }
}

/** The loaded programs and maps of one compiled object. */
export interface LoadedObject extends Disposable {
  readonly programs: Readonly<Record<ProgramName, Fd>>;
  readonly maps: Maps;
  readonly writer: Writer;
}

/**
 * Loads the object. Maps that are pinned under `folder` are reused; the others are created and pinned there.
 * @throws KernelError with one line: the verifier's last message and its source line, or libbpf's last message
 */
export function loadObject(path: string, folder: string): LoadedObject {
  return collectMessages((printed) => {
    const what = `Cannot load ${path}`;
    const object = BigInt(libbpf.bpf_object__open_file(path, null));
    if (object === 0n) throw new KernelError(what, ffi.errno());
    try {
      const found = MAP_NAMES.map((name) => ({ name, map: libbpf.bpf_object__find_map_by_name(object, name) }));
      for (const { name, map } of found) check(what, libbpf.bpf_map__set_pin_path(map, `${folder}/${name}`));
      const result = libbpf.bpf_object__load(object);
      if (result < 0) throw new KernelError(what, -result, explainLoadError(-result, printed()));
      // The object owns its descriptors and closes them all, so these Fds are never disposed of one by one.
      const fdOf = (name: ProgramName) => libbpf.bpf_program__fd(libbpf.bpf_object__find_program_by_name(object, name));
      const programs = Object.fromEntries(
        PROGRAMS.map((name) => [name, new Fd(fdOf(name))]),
      ) as LoadedObject["programs"];
      const opened = openMaps(new Map(found.map(({ name, map }) => [name, new Fd(libbpf.bpf_map__fd(map))])));
      return {
        programs,
        maps: opened,
        writer: new Writer(programs, opened),
        [Symbol.dispose]: () => libbpf.bpf_object__close(object),
      };
    } catch (error) {
      libbpf.bpf_object__close(object);
      throw error;
    }
  });
}

/** Picks the one line that matters from the output of libbpf and the verifier. */
export function explainLoadError(number: number, output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const reuse = /couldn't reuse pinned map at '([^']+)'/.exec(output);
  if (reuse) return `the map pinned at ${reuse[1]} has another layout than this isat's. Remove it: isat clean`;
  if (number === errno.EPERM) {
    // libbpf blames RLIMIT_MEMLOCK, which does not limit BPF memory since Linux 5.11.
    return explainRefusal();
  }
  const begin = lines.findIndex((line) => line.includes("BEGIN PROG LOAD LOG"));
  const end = lines.findIndex((line) => line.includes("END PROG LOAD LOG"));
  if (begin >= 0 && end > begin) {
    const log = lines
      .slice(begin + 1, end)
      .filter((line) => line !== "" && !/^(processed \d+ insns|verification time|stack depth)/.test(line));
    const source = log.findLast((line) => line.startsWith("; "));
    const program = /prog '([^']+)'/.exec(lines[begin]!)?.[1] ?? "a program";
    const where = source ? ` (at "${source.slice(2)}")` : "";
    const hint = hasCapability("CAP_PERFMON") ? "" : ". Grant CAP_PERFMON, which Linux 5.16 to 6.7 requires";
    return `the verifier rejects ${program}: ${log.at(-1)}${where}${hint}`;
  }
  const last = lines.findLast((line) => line.startsWith("libbpf:"))?.replace(/^libbpf: /, "");
  return last ? `${last} (${errnoName(number)})` : errnoName(number);
}
