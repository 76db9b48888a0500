import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { Store, sha256, tar } from "../../deploy/image/oci.ts";
import { METALLB_FILES, RUNTIME } from "../cluster/binaries.ts";
import { must } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";
import { CLIENT } from "../topology.ts";

/** The machine of an ELF file (`e_machine`): EM_AARCH64. */
const ELF_ARM64 = 183;
/** The size of a layer that a node has to fetch, bytes. */
const PADDING = 12e6;

export const PAUSE = "localhost/pause:1";
/** The address of the lab's registry, on the client. */
export const REGISTRY = `${CLIENT.ip}:5000`;
const TOP = fileURLToPath(new URL("../..", import.meta.url));
/** Where the image of this checkout is kept, for the labs. */
const OUT = join(TOP, "dist/image");
const ARCHITECTURE = process.arch === "arm64" ? "arm64" : "amd64";

/** The archive of isat's image, assembled where it is older than what is in it. */
export function isatArchive(): string {
  const find = () => (existsSync(OUT) ? readdirSync(OUT) : []).find((name) => name.endsWith(`-${ARCHITECTURE}.tar`));
  const inputs = ["dist/isat.mjs", "dist/isat.bpf.o", "deploy/image", "deploy/image/lock.json", "deploy/image/isat.c"];
  const newest = Math.max(...inputs.map((path) => statSync(join(TOP, path)).mtimeMs));
  const found = find();
  if (found === undefined || statSync(join(OUT, found)).mtimeMs < newest)
    execFileSync(join(TOP, "scripts/image"), ["--arch", ARCHITECTURE], { stdio: ["ignore", "ignore", "inherit"] });
  return join(OUT, find()!);
}

/** An x86-64 program of 129 bytes that waits until it is killed: for (;;) pause(). It holds a pod's namespaces. */
function pauseProgram(machine = 62): Buffer {
  const code = Buffer.from([0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]);
  const elf = Buffer.alloc(0x78 + code.length);
  const base = 0x400000n;
  elf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  for (const [at, value] of [
    [16, 2],
    [18, machine],
    [52, 64],
    [54, 56],
    [56, 1],
  ] as const)
    elf.writeUInt16LE(value, at);
  for (const [at, value] of [
    [20, 1],
    [64, 1],
    [68, 5],
  ] as const)
    elf.writeUInt32LE(value, at);
  const long = [
    [24, base + 0x78n],
    [32, 64n],
    [80, base],
    [88, base],
    [96, elf.length],
    [104, elf.length],
    [112, 0x1000],
  ] as const;
  for (const [at, value] of long) elf.writeBigUInt64LE(BigInt(value), at);
  code.copy(elf, 0x78);
  return elf;
}

/** Copies an image, an OCI layout, with one more layer: a node that has the image has to fetch that one. */
function pad(from: string, to: string): void {
  cpSync(from, to, { recursive: true });
  const blob = (digest: string) => join(to, "blobs", digest.replace(":", "/"));
  const read = (digest: string) => JSON.parse(readFileSync(blob(digest), "utf8"));
  const put = (bytes: Uint8Array) => {
    const digest = `sha256:${sha256(bytes)}`;
    writeFileSync(blob(digest), bytes);
    return { digest, size: bytes.length };
  };
  const json = (value: object) => put(Buffer.from(JSON.stringify(value)));
  const [top] = JSON.parse(readFileSync(join(to, "index.json"), "utf8")).manifests;
  const { manifests } = read(top.digest);
  const manifest = read(manifests[0].digest);
  const config = read(manifest.config.digest);
  const layer = tar(new Map([["padding", { data: randomBytes(PADDING), mode: 0o644 }]]));
  config.rootfs.diff_ids.push(`sha256:${sha256(layer)}`);
  Object.assign(manifest.config, json(config));
  manifest.layers.push({ ...manifest.layers[0], ...put(gzipSync(layer, { level: 0 })) });
  writeFileSync(join(to, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [json(manifest)] }));
}

/**
 * Starts a registry on the client with isat's image as `isat`, which comes for so many seconds to the first node that pulls it,
 * and as `foreign` one that is for another architecture alone.
 */
export async function startRegistry(namespaces: Namespaces, seconds: number): Promise<void> {
  const folder = namespaces.folder();
  isatArchive();
  pad(join(OUT, "oci"), join(folder, "isat"));
  const store = new Store();
  const { manifest } = store.addImage({
    architecture: "arm64",
    layers: [new Map([["isat", { data: pauseProgram(ELF_ARM64), mode: 0o755 }]])],
    config: { Entrypoint: ["/isat"], Env: [] },
  });
  for (const [path, file] of store.layout(manifest, "foreign:1")) {
    if (!("data" in file)) continue;
    mkdirSync(dirname(join(folder, "foreign", path)), { recursive: true });
    writeFileSync(join(folder, "foreign", path), file.data);
  }
  const args = ["--no-warnings", "--import", join(TOP, "scripts/ts.mjs"), join(TOP, "lab/kubelet/registry.ts")];
  const stdio = ["ignore", "pipe", "inherit"] as const;
  const command = [...args, folder, String(seconds)];
  const child = namespaces.spawn(CLIENT.name, process.execPath, command, { stdio: [...stdio] });
  await once(child.stdout!, "data");
}

/** Writes the archive of an image that has one program alone. @returns its file */
function archiveOf(folder: string, name: string, image: string, program: Buffer): string {
  const store = new Store();
  const layers = [new Map([[name, { data: program, mode: 0o755 }]])];
  const { manifest } = store.addImage({ architecture: "amd64", layers, config: { Entrypoint: [`/${name}`], Env: [] } });
  const file = join(folder, `${name}.tar`);
  writeFileSync(file, tar(store.layout(manifest, image)));
  return file;
}

/** The images of MetalLB's manifest, which their own programs are put into. */
function metallbArchives(folder: string): string[] {
  const manifest = readFileSync(join(METALLB_FILES, "metallb-native.yaml"), "utf8");
  return [...manifest.matchAll(/image: (\S+\/(controller|speaker):\S+)/g)].map(([, image, name]) =>
    archiveOf(folder, name!, image!, readFileSync(join(METALLB_FILES, name!))),
  );
}

/** Runs containerd once on a folder, so that it has the images; a node's own starts from a copy of it. */
export async function fillTemplate(folder: string, { metallb = false } = {}): Promise<string> {
  mkdirSync(folder);
  const root = join(folder, "root");
  const socket = join(folder, "sock");
  const config = join(folder, "containerd.toml");
  const lines = [
    "version = 2",
    `root = "${root}"`,
    `state = "${folder}/state"`,
    'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
    `[grpc]\n  address = "${socket}"`,
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const bin = join(RUNTIME, "usr/bin");
  const script = `exec ${bin}/containerd -c ${config} >${folder}/log 2>&1`;
  const containerd = spawn("sh", ["-c", script], { stdio: "ignore" });
  const ended = new Promise((resolve) => containerd.once("exit", resolve));
  try {
    const ctr = (...args: string[]) => must(join(bin, "ctr"), "-a", socket, ...args);
    for (let tries = 0; ; tries++) {
      if (
        await ctr("version").then(
          () => true,
          () => false,
        )
      )
        break;
      if (tries === 100) throw new Error(`Cannot start containerd: see ${folder}/log`);
      await sleep(100);
    }
    const pause = archiveOf(folder, "pause", PAUSE, pauseProgram());
    for (const archive of [pause, isatArchive(), ...(metallb ? metallbArchives(folder) : [])])
      await ctr("-n", "k8s.io", "images", "import", archive);
  } finally {
    containerd.kill("SIGTERM");
    await ended;
  }
  return root;
}
