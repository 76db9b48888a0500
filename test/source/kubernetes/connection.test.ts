import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
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

test.run();
