import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

/** One file of a tar: its bytes, or where a symbolic link points. */
export type TarFile = { data: Uint8Array; mode: number } | { link: string };

/** Files by their path, without a leading slash. */
export type Files = Map<string, TarFile>;

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: { architecture: string; os: string };
}

export interface Image {
  architecture: string;
  /** From what changes least to what changes most: who has the first ones does not fetch them again. */
  layers: readonly Files[];
  config: { Entrypoint: string[]; Cmd?: string[]; Env: string[]; WorkingDir?: string; Labels?: Record<string, string> };
}

const MEDIA = "application/vnd.oci.image";
export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

/** A ustar archive without times, users or any order but that of the paths, so that equal files make equal bytes. */
export function tar(files: Files): Buffer {
  const folders = new Set<string>();
  for (const path of files.keys()) {
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) folders.add(path.slice(0, at + 1));
  }
  const blocks: Uint8Array[] = [];
  for (const path of [...folders, ...files.keys()].toSorted((a, b) => (a < b ? -1 : 1))) {
    const file = files.get(path);
    if (!file) blocks.push(header(path, 0o755, "5", 0, ""));
    else if ("link" in file) blocks.push(header(path, 0o777, "2", 0, file.link));
    else {
      const { data, mode } = file;
      blocks.push(header(path, mode, "0", data.length, ""), data, new Uint8Array(-data.length & 511));
    }
  }
  return Buffer.concat([...blocks, new Uint8Array(1024)]);
}

function header(path: string, mode: number, type: string, size: number, link: string): Buffer {
  const block = Buffer.alloc(512);
  const put = (at: number, text: string) => block.write(text, at, "utf8");
  const octal = (at: number, length: number, value: number) => put(at, value.toString(8).padStart(length - 1, "0"));
  // The format has 100 bytes for a name, and 155 more for the folders before it.
  let split = 0;
  while (Buffer.byteLength(path.slice(split)) > 100) {
    split = path.indexOf("/", split) + 1;
    if (split === 0) throw new Error(`Cannot write ${path} into a tar as its name has more than 100 bytes`);
  }
  put(0, path.slice(split));
  if (split > 0) put(345, path.slice(0, split - 1));
  octal(100, 8, mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, 0);
  put(148, "        ");
  put(156, type);
  put(157, link);
  put(257, "ustar\u000000");
  octal(
    148,
    7,
    block.reduce((sum, byte) => sum + byte, 0),
  );
  block[154] = 0;
  return block;
}

/** The blobs of images, which an OCI layout and the archives share. */
export class Store {
  readonly blobs = new Map<string, Uint8Array>();

  #add(bytes: Uint8Array, mediaType: string): Descriptor {
    const digest = sha256(bytes);
    this.blobs.set(`blobs/sha256/${digest}`, bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length };
  }

  /** @returns the manifest's descriptor, and those of its layers */
  addImage({ architecture, layers, config }: Image): {
    manifest: Descriptor;
    config: Descriptor;
    layers: Descriptor[];
  } {
    const archives = layers.map(tar);
    const compressed = archives.map((archive) =>
      this.#add(gzipSync(archive, { level: 6 }), `${MEDIA}.layer.v1.tar+gzip`),
    );
    const rootfs = { type: "layers", diff_ids: archives.map((archive) => `sha256:${sha256(archive)}`) };
    const its = this.#add(json({ architecture, os: "linux", config, rootfs }), `${MEDIA}.config.v1+json`);
    const mediaType = `${MEDIA}.manifest.v1+json`;
    const manifest = this.#add(json({ schemaVersion: 2, mediaType, config: its, layers: compressed }), mediaType);
    return { manifest: { ...manifest, platform: { architecture, os: "linux" } }, config: its, layers: compressed };
  }

  /** One image for several architectures. */
  addIndex(manifests: readonly Descriptor[]): Descriptor {
    const mediaType = `${MEDIA}.index.v1+json`;
    return this.#add(json({ schemaVersion: 2, mediaType, manifests }), mediaType);
  }

  /**
   * An OCI layout with what one descriptor reaches, as files. containerd takes the name from the first annotation, skopeo
   * the tag from the second. With `docker`, `docker load` of any version takes it too.
   */
  layout(top: Descriptor, name: string, docker?: { config: Descriptor; layers: readonly Descriptor[] }): Files {
    const files: Files = new Map();
    const put = (path: string, data: Uint8Array) => void files.set(path, { data, mode: 0o644 });
    const tag = name.slice(name.lastIndexOf(":") + 1);
    const annotations = { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag };
    put("oci-layout", json({ imageLayoutVersion: "1.0.0" }));
    put("index.json", json({ schemaVersion: 2, manifests: [{ ...top, annotations }] }));
    for (const path of this.#reach(top)) put(path, this.blobs.get(path)!);
    if (docker) {
      const Config = pathOf(docker.config);
      const RepoTags = [name.replace(/^docker\.io\/library\//, "")];
      put("manifest.json", json([{ Config, RepoTags, Layers: docker.layers.map(pathOf) }]));
    }
    return files;
  }

  #reach(top: Descriptor): string[] {
    const path = pathOf(top);
    if (!/\.(index|manifest)\.v1\+json$/.test(top.mediaType)) return [path];
    const { manifests = [], layers = [], config } = JSON.parse(Buffer.from(this.blobs.get(path)!).toString());
    const below: Descriptor[] = [...manifests, ...layers, ...(config ? [config] : [])];
    return [path, ...below.flatMap((each) => this.#reach(each))];
  }
}

const pathOf = ({ digest }: Pick<Descriptor, "digest">) => `blobs/${digest.replace(":", "/")}`;
