// limit: 600 s
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Files, tar } from "../../deploy/image/oci.ts";
import { ARCHITECTURES, type Architecture, Packages } from "../../deploy/image/packages.ts";
import { NODE_FLAGS } from "../../lab/bundle.ts";
import { execute } from "../../lab/kernel/process.ts";
import { skip } from "../../lab/skip.ts";
import { serveReady } from "../../src/control/ready.ts";

const test = suite("image");

const folder = mkdtempSync(join(tmpdir(), "isat-image-"));
/** As a command on the machine's own path would be taken for what the image holds. */
const EMPTY = {};
const HERE: Architecture = process.arch === "arm64" ? "arm64" : "amd64";
const QEMU = "/usr/bin/qemu-aarch64-static";

const readJson = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));
const build = (name: string) => {
  execFileSync("scripts/image", ["--out", join(folder, name)], { stdio: ["ignore", "ignore", "inherit"] });
  return join(folder, name);
};
const blob = (image: string, digest: string) => join(image, "oci/blobs", digest.replace(":", "/"));
const digestOf = (image: string): string => readJson(image, "oci/index.json").manifests[0].digest;

interface Manifest {
  layers: { digest: string; size: number }[];
  config: { digest: string };
}

function manifestOf(image: string, architecture: Architecture): Manifest {
  const { manifests } = readJson(blob(image, digestOf(image)));
  const its = manifests.find(
    (each: { platform: { architecture: string } }) => each.platform.architecture === architecture,
  );
  return readJson(blob(image, its.digest));
}

/** The root file system of an image, as a container runtime unpacks it. */
function unpack(image: string, architecture: Architecture): string {
  const root = join(folder, `root-${architecture}`);
  mkdirSync(root);
  for (const { digest } of manifestOf(image, architecture).layers)
    execFileSync("tar", ["--extract", "--gzip", "--file", blob(image, digest), "--directory", root]);
  return root;
}

let image: string;
const roots = {} as Record<Architecture, string>;
test.before(() => {
  image = build("first");
  for (const architecture of ARCHITECTURES) roots[architecture] = unpack(image, architecture);
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

test("two builds have one digest, and so have their archives", () => {
  const again = build("second");
  assert.is(digestOf(again), digestOf(image));
  const archives = globSync("*.tar", { cwd: image });
  assert.is(archives.length, ARCHITECTURES.length);
  for (const name of archives) assert.ok(readFileSync(join(image, name)).equals(readFileSync(join(again, name))), name);
});

test("an architecture is at most 60 MB compressed, and a new isat at most 2 MB of it", () => {
  for (const architecture of ARCHITECTURES) {
    const sizes = manifestOf(image, architecture).layers.map(({ size }) => size);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    console.log(
      `\nMEASURED ${architecture}: ${(total / 1e6).toFixed(1)} MB, of which isat ${(sizes.at(-1)! / 1e6).toFixed(2)} MB`,
    );
    assert.ok(total <= 60e6, `${architecture}: ${total}`);
    assert.ok(sizes.at(-1)! <= 2e6);
  }
});

test("the image starts isat with the options of one small process, and has no shell", () => {
  const { config } = readJson(blob(image, manifestOf(image, "amd64").config.digest));
  assert.equal(config.Entrypoint, ["/usr/bin/isat"]);
  const source = readFileSync("deploy/image/isat.c", "utf8");
  assert.equal(
    [...source.matchAll(/"(--[\w=-]+)"/g)].map(([, flag]) => flag),
    NODE_FLAGS,
  );
  assert.equal(globSync("{usr/bin,bin,usr/local/bin,sbin,usr/sbin}/*", { cwd: roots.amd64 }).toSorted(), [
    "usr/bin/isat",
    "usr/bin/node",
  ]);
});

test("isat of this architecture runs in nothing but the image: its own Node, libbpf by koffi", () => {
  const { version } = readJson("package.json");
  const run = (...args: string[]) =>
    spawnSync("/usr/sbin/chroot", [roots[HERE], "/usr/bin/isat", ...args], { env: EMPTY, encoding: "utf8" });
  assert.is(run("--version").stdout.trim(), version);
  mkdirSync(join(roots[HERE], "etc/isat"), { recursive: true });
  writeFileSync(join(roots[HERE], "etc/isat/isat.yaml"), "source: { kind: file, nodes: [n1], vips: [] }\nnode: n1\n");
  const { stdout, stderr } = run("doctor");
  assert.match(stdout, /ok +libbpf +v1\./, stderr);
});

test("without a speaker, `isat ready` says so", () => {
  const { status, stderr } = spawnSync("/usr/sbin/chroot", [roots[HERE], "/usr/bin/isat", "ready"], {
    env: EMPTY,
    encoding: "utf8",
  });
  assert.is(status, 1);
  assert.is(stderr, "isat: no speaker serves /run/isat-pod/ready.sock\n");
});

test("`isat ready` passes on what the speaker says", async () => {
  const root = roots[HERE];
  mkdirSync(join(root, "run/isat-pod"), { recursive: true });
  let reason: string | undefined = "isat is starting";
  using _ = await serveReady(join(root, "run/isat-pod/ready.sock"), () => reason);
  const ask = () => execute("/usr/sbin/chroot", [root, "/usr/bin/isat", "ready"]);
  assert.equal(await ask(), { status: 1, stdout: "", stderr: "isat is starting\n" });
  reason = undefined;
  assert.equal(await ask(), { status: 0, stdout: "", stderr: "" });
});

const emulated = "arm64 starts under emulation";
if (process.arch !== "x64" || !existsSync(QEMU)) skip(test, emulated, "no qemu-user-static, or no x86-64 machine");
else
  test(emulated, () => {
    const { arm64: root } = roots;
    const emulate = (...args: string[]) => spawnSync(QEMU, ["-L", root, ...args], { env: EMPTY, encoding: "utf8" });
    assert.is(emulate(join(root, "usr/bin/isat"), "ready").status, 1);
    const found = emulate(join(root, "usr/bin/node"), "--no-warnings", join(root, "isat/isat.mjs"), "--version");
    assert.is(found.stdout.trim(), readJson("package.json").version, found.stderr);
    const load = `const {default: k} = await import("${root}/isat/node_modules/koffi/index.js");
      const version = k.load("libbpf.so.1").func("const char *libbpf_version_string()"); console.log(version())`;
    const loaded = emulate(join(root, "usr/bin/node"), "--input-type=module", "--eval", load);
    assert.match(loaded.stdout, /^v1\./, loaded.stderr);
  });

test("every component has its licence in the image", () => {
  const { components } = readJson(image, "sbom.cdx.json");
  assert.ok(components.length > 40, String(components.length));
  for (const { name } of components as { name: string }[]) {
    if (name === "isat") continue;
    const places = [`usr/share/doc/${name}`, `usr/share/doc/isat/bundled/${name}`];
    const found = places.flatMap((place) => globSync(`${place}/*`, { cwd: roots.amd64 }));
    assert.ok(
      found.some((path) => statSync(join(roots.amd64, path)).size > 200),
      `no licence of ${name}`,
    );
  }
});

test("a package that is not what the lock says is refused", () => {
  const wrong = new Packages(join(folder, "packages"), { debian: {}, npm: { "once@1.4.0": "sha512-AAAA" } }, "present");
  assert.throws(
    () => wrong.npm("once", "1.4.0"),
    /Cannot use once@1.4.0 as its integrity is sha512-.*, and in the lock/,
  );
  assert.throws(() => wrong.debian("zlib1g", "arm64"), /Cannot find zlib1g:arm64 in the lock/);
});

test("the archive's format takes names of more than 100 bytes", () => {
  const path = `${"folder/".repeat(20)}file`;
  const files: Files = new Map([[path, { data: Buffer.from("text"), mode: 0o644 }]]);
  const listed = execFileSync("tar", ["--list", "--file", "-"], { input: tar(files), encoding: "utf8" });
  assert.is(listed.trim().split("\n").at(-1), path);
});

test.run();
