import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Files } from "./oci.ts";
import type { Architecture, Package, Packages } from "./packages.ts";

/** Something in the image that has a name, a version and a licence of its own. */
export interface Component {
  name: string;
  version: string;
  /** Package URL, as an SBOM has it. */
  purl: string;
  /** SPDX, where it is known. */
  licence?: string;
}

export interface Contents {
  /** By what changes least first, each with a name. */
  layers: readonly (readonly [name: string, Files])[];
  components: readonly Component[];
}

/** What differs between architectures: the names that Debian's libraries, Node, koffi and clang have for it. */
const MACHINES = {
  amd64: { triplet: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2", node: "x64" },
  arm64: { triplet: "aarch64-linux-gnu", loader: "lib/ld-linux-aarch64.so.1", node: "arm64" },
} as const;

/** Debian's packages, and the libraries of each that Node, koffi and libbpf load. */
const LIBRARIES: Readonly<Record<string, readonly string[]>> = {
  libc6: ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"],
  "libgcc-s1": ["libgcc_s.so.1"],
  "libstdc++6": ["libstdc++.so.6"],
  libbpf1: ["libbpf.so.1"],
  libelf1: ["libelf.so.1"],
  zlib1g: ["libz.so.1"],
};
/** Whose files they need: the licence of GCC's libraries, and the texts that all of Debian's refer to. */
const TEXTS = ["gcc-12-base", "base-files"];
const COMMON = ["Apache-2.0", "GPL-2", "GPL-3", "LGPL-2", "LGPL-2.1", "LGPL-3"];

const put = (files: Files, path: string, from: string, mode = 0o644) =>
  void files.set(path, { data: readFileSync(from), mode });

/** Everything that the image of one architecture holds. @throws Error where a library would be missing in it */
export function contentsOf(architecture: Architecture, project: string, packages: Packages): Contents {
  const components: Component[] = [];
  const layers = [
    ["Debian's libraries", libraries(architecture, packages, components)],
    ["Node", node(architecture, project, packages, components)],
    ["koffi", koffi(architecture, project, packages, components)],
    ["isat", isat(architecture, project, components)],
  ] as const;
  const files: Files = new Map(layers.flatMap(([, its]) => [...its]));
  requireLibraries(files);
  return { layers, components };
}

function libraries(architecture: Architecture, packages: Packages, components: Component[]): Files {
  const { triplet, loader } = MACHINES[architecture];
  const files: Files = new Map();
  const note = ({ name, version }: Package) => {
    components.push({ name, version, purl: `pkg:deb/debian/${name}@${version}?arch=${architecture}` });
  };
  for (const [name, wanted] of Object.entries(LIBRARIES)) {
    const its = packages.debian(name, architecture);
    note(its);
    const find = (library: string) => {
      const found = ["lib", "usr/lib"].map((at) => join(its.folder, at, triplet, library)).find(existsSync);
      if (!found) throw new Error(`Cannot find ${library} in ${name} ${its.version}`);
      return found;
    };
    for (const library of wanted) put(files, `usr/lib/${triplet}/${library}`, find(library), 0o755);
    if (name === "libc6") put(files, loader, find(basename(loader)), 0o755);
    const copyright = join(its.folder, "usr/share/doc", name, "copyright");
    if (existsSync(copyright)) put(files, `usr/share/doc/${name}/copyright`, copyright);
  }
  const [gcc, base] = TEXTS.map((name) => packages.debian(name, architecture));
  put(files, `usr/share/doc/${gcc!.name}/copyright`, join(gcc!.folder, "usr/share/doc", gcc!.name, "copyright"));
  for (const name of ["libgcc-s1", "libstdc++6"]) files.set(`usr/share/doc/${name}`, { link: gcc!.name });
  const texts = join(base!.folder, "usr/share/common-licenses");
  for (const name of COMMON) put(files, `usr/share/common-licenses/${name}`, join(texts, name));
  for (const [name, target] of [
    ["GPL", "GPL-3"],
    ["LGPL", "LGPL-3"],
  ] as const) {
    if (readlinkSync(join(texts, name)) === target) files.set(`usr/share/common-licenses/${name}`, { link: target });
  }
  return files;
}

function node(architecture: Architecture, project: string, packages: Packages, components: Component[]): Files {
  const { version } = readJson(join(project, "node_modules/node/package.json"));
  const its = packages.npm(`node-linux-${MACHINES[architecture].node}`, version);
  const files: Files = new Map();
  put(files, "usr/bin/node", join(its.folder, "bin/node"), 0o755);
  put(files, "usr/share/doc/node/LICENSE", join(its.folder, "LICENSE"));
  components.push({ name: "node", version, purl: `pkg:npm/${its.name}@${version}`, licence: "MIT" });
  return files;
}

function koffi(architecture: Architecture, project: string, packages: Packages, components: Component[]): Files {
  const machine = MACHINES[architecture].node;
  const source = join(project, "node_modules/koffi");
  const { version, license } = readJson(join(source, "package.json"));
  const native = packages.npm(`@koromix/koffi-linux-${machine}`, version);
  const files: Files = new Map();
  for (const path of ["package.json", "index.js", "src/koffi/index.js", "src/koffi/src/static.js"])
    put(files, `isat/node_modules/koffi/${path}`, join(source, path));
  for (const path of ["package.json", "index.js", `linux_${machine}/koffi.node`])
    put(files, `isat/node_modules/${native.name}/${path}`, join(native.folder, path));
  put(files, "usr/share/doc/koffi/LICENSE", join(source, "LICENSE.txt"));
  components.push({ name: "koffi", version, purl: `pkg:npm/koffi@${version}`, licence: license });
  return files;
}

function isat(architecture: Architecture, project: string, components: Component[]): Files {
  const files: Files = new Map();
  const { version, license } = readJson(join(project, "package.json"));
  for (const name of ["isat.mjs", "isat.bpf.o"]) put(files, `isat/${name}`, join(project, "dist", name));
  files.set("usr/bin/isat", { data: launcher(architecture, project), mode: 0o755 });
  for (const name of ["dist/isat.mjs.LEGAL.txt", ...globSync("{LICENSE,NOTICE}*", { cwd: project }).toSorted()]) {
    if (existsSync(join(project, name))) put(files, `usr/share/doc/isat/${basename(name)}`, join(project, name));
  }
  const licence = typeof license === "string" ? { licence: license } : {};
  components.push({ name: "isat", version, purl: `pkg:generic/isat@${version}`, ...licence });
  for (const folder of bundled(project)) {
    const its = readJson(join(project, folder, "package.json"));
    const texts = globSync("{LICEN[CS]E,licen[cs]e,COPYING}*", { cwd: join(project, folder) }).toSorted();
    for (const text of texts)
      put(files, `usr/share/doc/isat/bundled/${its.name}/${basename(text)}`, join(project, folder, text));
    const purl = `pkg:npm/${its.name.replace("@", "%40")}@${its.version}`;
    components.push({ name: its.name, version: its.version, purl, licence: its.license });
  }
  return files;
}

/** The packages that went into the bundle. */
function bundled(project: string): string[] {
  const inputs: string[] = readJson(join(project, "dist/isat.inputs.json"));
  const folder = /^(node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+)\//;
  return [...new Set(inputs.map((input) => folder.exec(input)?.[1]).filter((each) => each !== undefined))].toSorted();
}

/** Clang compiles for any architecture, and lld links for any. */
function launcher(architecture: Architecture, project: string): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "isat-launcher-"));
  try {
    const flags = [
      "-Os",
      "-ffreestanding",
      "-nostdlib",
      "-static",
      "-fno-stack-protector",
      "-Wall",
      "-Wextra",
      "-Werror",
    ];
    const more = ["-fno-asynchronous-unwind-tables", "-fuse-ld=lld", "-Wl,--build-id=none", "-Wl,-s"];
    const target = `--target=${MACHINES[architecture].triplet}`;
    const out = join(folder, "isat");
    execFileSync("clang", [target, ...flags, ...more, "-o", out, join(project, "deploy/image/isat.c")]);
    return readFileSync(out);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @throws Error where a program or library of the image needs one that is not in it. */
function requireLibraries(files: Files): void {
  const present = new Set([...files.keys()].map((path) => basename(path)));
  for (const [path, file] of files) {
    const isElf = "data" in file && Buffer.from(file.data.subarray(0, 4)).toString("latin1") === "\x7fELF";
    const missing = isElf ? neededBy(file.data).filter((name) => !present.has(name)) : [];
    if (missing.length > 0) throw new Error(`Cannot assemble the image: ${path} needs ${missing.join(", ")}`);
  }
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;

/** The libraries that a 64-bit little-endian ELF file names: its DT_NEEDED entries. */
function neededBy(bytes: Uint8Array): string[] {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const at = Number(file.readBigUInt64LE(32));
  const [size, count] = [file.readUInt16LE(54), file.readUInt16LE(56)];
  const segments = Array.from({ length: count }, (_, index) => {
    const start = at + index * size;
    const number = (offset: number) => Number(file.readBigUInt64LE(start + offset));
    return { type: file.readUInt32LE(start), offset: number(8), address: number(16), length: number(32) };
  });
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (!dynamic) return [];
  const entries = Array.from({ length: dynamic.length / 16 }, (_, index) => {
    const start = dynamic.offset + index * 16;
    return [file.readBigInt64LE(start), Number(file.readBigUInt64LE(start + 8))] as const;
  });
  const table = entries.find(([tag]) => tag === DT_STRTAB)?.[1] ?? 0;
  const segment = segments.find(
    ({ type, address, length }) => type === PT_LOAD && table >= address && table < address + length,
  );
  if (!segment) return [];
  const strings = table - segment.address + segment.offset;
  return entries
    .filter(([tag]) => tag === DT_NEEDED)
    .map(([, offset]) => {
      const from = strings + offset;
      return file.toString("latin1", from, file.indexOf(0, from));
    });
}

// biome-ignore lint/suspicious/noExplicitAny: package.json and source maps, of which a few keys are read
const readJson = (file: string): any => JSON.parse(readFileSync(file, "utf8"));
