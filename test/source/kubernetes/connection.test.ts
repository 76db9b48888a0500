import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseAddress } from "../../../src/core/address.ts";
import { type ApiError, Connection } from "../../../src/source/kubernetes/connection.ts";

test("a pause that a server asks for is bounded", async () => {
  const folder = mkdtempSync(join(tmpdir(), "isat-t-connection-"));
  const server = createServer((request, response) => {
    response.writeHead(429, { "retry-after": request.url!.slice(1) }).end("later");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const file = join(folder, "kubeconfig");
  const cluster = {
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    "insecure-skip-tls-verify": true,
  };
  const config = {
    clusters: [{ name: "c", cluster }],
    users: [{ name: "u", user: {} }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  writeFileSync(file, JSON.stringify(config));
  const connection = new Connection(file);
  try {
    for (const [asked, pause] of [
      ["2", 2_000],
      ["3600", 30_000],
      ["soon", 0],
    ] as const) {
      const refused = connection.send("GET", `/${asked}`, AbortSignal.timeout(10_000));
      const error = await refused.then(
        () => undefined,
        (error) => error as ApiError,
      );
      assert.equal([error?.status, error?.retryAfter], [429, pause]);
    }
  } finally {
    connection.close();
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true });
  }
});

test("KUBECONFIG lists files: the first entry of a name counts, and a missing file is passed over", async () => {
  const folder = mkdtempSync(join(tmpdir(), "isat-t-connection-"));
  const server = createServer((request, response) => {
    response.writeHead(200).end(request.headers.authorization);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cluster = (port: number) => ({
    name: "c",
    cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true },
  });
  const write = (name: string, config: object) => {
    const file = join(folder, name);
    writeFileSync(file, JSON.stringify(config));
    return file;
  };
  const contexts = [{ name: "x", context: { cluster: "c", user: "u" } }];
  const first = write("a", { clusters: [cluster((server.address() as AddressInfo).port)], contexts });
  const second = write("b", {
    clusters: [cluster(1)],
    users: [{ name: "u", user: { token: "right" } }],
    "current-context": "x",
  });
  const third = write("c", { users: [{ name: "u", user: { token: "wrong" } }], "current-context": "y" });
  const before = process.env.KUBECONFIG;
  process.env.KUBECONFIG = ["", first, join(folder, "missing"), second, third].join(delimiter);
  const connection = new Connection(undefined);
  try {
    const response = await connection.send("GET", "/", AbortSignal.timeout(10_000));
    assert.is((await response.toArray()).join(""), "Bearer right");
    assert.is(connection.address, parseAddress("127.0.0.1"));
  } finally {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
    connection.close();
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true });
  }
});

test.run();
