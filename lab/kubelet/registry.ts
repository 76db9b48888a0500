/**
 * A registry of container images for a lab: it serves FOLDER/NAME, an OCI layout, as `HOST:5000/NAME`, under any tag. The
 * first one who fetches the biggest blob of an image waits SECONDS for it, as over a thin line.
 *
 * Usage: registry.ts FOLDER SECONDS
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, seconds] = process.argv.slice(2);
/** Blobs smaller than this are no layer worth waiting for. */
const BIG = 10e6;
const fetched = new Set<string>();

const server = createServer(async ({ method, url = "" }, response) => {
  const [, name, kind, reference] = /^\/v2\/(\w+)\/(manifests|blobs)\/([\w.:-]+)$/.exec(url) ?? [];
  if (name === undefined || reference === undefined) return response.end("{}");
  const layout = join(folder!, name);
  const { manifests } = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
  const digest = reference.startsWith("sha256:") ? reference : manifests[0].digest;
  const bytes = readFileSync(join(layout, "blobs", digest.replace(":", "/")));
  const type = kind === "manifests" ? JSON.parse(bytes.toString()).mediaType : "application/octet-stream";
  response.writeHead(200, {
    "content-type": type,
    "content-length": bytes.length,
    "docker-content-digest": digest,
  });
  if (method === "HEAD") return response.end();
  if (bytes.length < BIG || fetched.has(digest)) return response.end(bytes);
  fetched.add(digest);
  const part = Math.ceil(bytes.length / Number(seconds));
  for (let at = 0; at < bytes.length; at += part) {
    response.write(bytes.subarray(at, at + part));
    await sleep(1000);
  }
  return response.end();
});
server.listen(5000, () => console.log("listening"));
