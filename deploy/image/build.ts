/**
 * scripts/image: assembles the image for each architecture from what npm and Debian ship, without a container engine, and
 * writes an OCI layout with all of them and an archive for each. Equal inputs make equal bytes.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { type Component, type Contents, contentsOf } from "./contents.ts";
import { type Descriptor, type Files, Store, tar } from "./oci.ts";
import { ARCHITECTURES, type Architecture, type Lock, Packages } from "./packages.ts";

const HELP = `scripts/image: assembles isat's container image, from packages of npm and Debian, without a container engine.

  scripts/image                       both architectures, into dist/image
  scripts/image --arch amd64          one of amd64 and arm64
  scripts/image --name NAME:TAG       what it is called; default: docker.io/library/isat and the version
  scripts/image --out DIR             where to write it
  scripts/image --locked              take nothing but what deploy/image/lock.json names, for a release
  scripts/image --lock                write the present versions and sums into that file

It writes oci/ (a layout with all architectures), isat-VERSION-ARCH.tar for each, and sbom.cdx.json. Using them:

  skopeo copy --all oci:dist/image/oci:TAG docker://REGISTRY/isat:TAG     pushes all architectures
  ctr -n k8s.io images import dist/image/isat-VERSION-amd64.tar           into a node's containerd
  docker load < dist/image/isat-VERSION-amd64.tar                         into Docker`;

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const LOCK = join(PROJECT, "deploy/image/lock.json");
const CONFIG = { Entrypoint: ["/usr/bin/isat"], Env: ["PATH=/usr/bin"], WorkingDir: "/isat" };
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

function write(folder: string, files: Files): void {
  for (const [path, file] of files) {
    if (!("data" in file)) continue;
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), file.data);
  }
}

/** What an architecture's image consists of, a line each. */
function describe(architecture: Architecture, { layers }: Contents, compressed: readonly Descriptor[]): string[] {
  const rows = layers.map(([name, files], index) => {
    const bytes = [...files.values()].reduce((sum, file) => sum + ("data" in file ? file.data.length : 0), 0);
    const sizes = `${megabytes(compressed[index]!.size).padStart(8)} of ${megabytes(bytes).padStart(8)}`;
    return `  ${name.padEnd(20)} ${sizes} in ${String(files.size).padStart(2)} files`;
  });
  const total = compressed.reduce((sum, { size }) => sum + size, 0);
  return [`${architecture}: ${megabytes(total)} compressed`, ...rows];
}

/** CycloneDX 1.5, without a serial number or a time, which would differ each time. */
function sbom(version: string, components: readonly Component[]): string {
  const unique = [...new Map(components.map((each) => [each.purl, each])).values()];
  const entries = unique.map(({ name, version, purl, licence }) => ({
    type: "library",
    "bom-ref": purl,
    name,
    version,
    purl,
    ...(licence ? { licenses: [/[ (]/.test(licence) ? { expression: licence } : { license: { id: licence } }] } : {}),
  }));
  const metadata = { component: { type: "container", "bom-ref": "image", name: "isat", version } };
  return `${JSON.stringify({ bomFormat: "CycloneDX", specVersion: "1.5", version: 1, metadata, components: entries }, null, 2)}\n`;
}

function main(): void {
  const options = {
    out: { type: "string", default: join(PROJECT, "dist/image") },
    arch: { type: "string", default: ARCHITECTURES.join() },
    name: { type: "string" },
    locked: { type: "boolean", default: false },
    lock: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  } as const;
  const { values } = parseArgs({ options });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const { version } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
  const name = values.name ?? `docker.io/library/isat:${version}`;
  if (!/:[\w][\w.-]*$/.test(name)) throw new Error(`Cannot name the image ${name} as it has no tag. Write NAME:TAG`);
  const wanted = values.arch.split(",");
  const unknown = wanted.find((each) => !ARCHITECTURES.includes(each as Architecture));
  if (unknown !== undefined)
    throw new Error(`Cannot assemble for ${unknown || "nothing"}; accepted: ${ARCHITECTURES.join(", ")}`);

  const lock: Lock = values.lock ? { debian: {}, npm: {} } : JSON.parse(readFileSync(LOCK, "utf8"));
  const mode = values.lock ? "write" : values.locked ? "locked" : "present";
  const packages = new Packages(join(PROJECT, "dist/packages"), lock, mode);
  const store = new Store();
  const built = (wanted as Architecture[]).map((architecture) => {
    const contents = contentsOf(architecture, PROJECT, packages);
    const layers = contents.layers.map(([, files]) => files);
    const image = store.addImage({ architecture, layers, config: CONFIG });
    for (const line of describe(architecture, contents, image.layers)) console.log(line);
    return { architecture, contents, image };
  });
  if (values.lock) {
    const text = JSON.stringify(lock, null, 2);
    writeFileSync(LOCK, `${text}\n`);
  }

  rmSync(values.out, { recursive: true, force: true });
  const index = store.addIndex(built.map(({ image }) => image.manifest));
  write(join(values.out, "oci"), store.layout(index, name));
  for (const { architecture, image } of built) {
    const { platform: _, ...manifest } = image.manifest;
    const archive = tar(store.layout(manifest, name, image));
    writeFileSync(join(values.out, `isat-${version}-${architecture}.tar`), archive);
  }
  const components = built.flatMap(({ contents }) => contents.components);
  writeFileSync(join(values.out, "sbom.cdx.json"), sbom(version, components));
  for (const warning of packages.warnings) console.error(`isat: warning: ${warning}`);
  console.log(`${name} ${index.digest}`);
}

try {
  main();
} catch (error) {
  console.error(`isat: ${(error as Error).message}`);
  process.exitCode = 1;
}
