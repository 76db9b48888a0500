import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Credentials } from "../../../src/source/kubernetes/credentials.ts";

const test = suite("a credential plugin");
const folder = mkdtempSync(join(tmpdir(), "isat-t-credentials-"));
const pids = join(folder, "pids");
test.after(() => rmSync(folder, { recursive: true }));
test.before.each(() => rmSync(pids, { force: true }));

/** A kubeconfig whose plugin notes its pid, and then runs a script. */
function configOf(script: string): KubeConfig {
  const config = new KubeConfig();
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "sh",
    args: ["-c", `echo $$ >> ${pids}; ${script}`],
  };
  config.loadFromOptions({
    clusters: [{ name: "c", server: "https://127.0.0.1:1" }],
    users: [{ name: "u", exec }],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
  });
  return config;
}

const started = () => readFileSync(pids, "utf8").trim().split("\n").map(Number);
const runs = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));

async function ended(pid: number): Promise<void> {
  for (let round = 0; runs(pid); round++) {
    assert.ok(round < 1_000, `${pid} still runs`);
    await sleep(10);
  }
}

const TOKEN = `echo '{"status":{"token":"secret"}}'`;

test("its token goes into the headers, and it is asked once for all requests", async () => {
  const credentials = new Credentials();
  const config = configOf(`cat; ${TOKEN}`); // it may read: nobody types
  const all = await Promise.all([credentials.of(config), credentials.of(config), credentials.of(config)]);
  for (const { headers } of all) assert.equal(headers, { Authorization: "Bearer secret" });
  assert.is(started().length, 1);
});

test("one that hangs is ended with its children, which all who wait are told; the next request asks again", async () => {
  const credentials = new Credentials(300);
  const config = configOf(`sleep 60 & echo $! >> ${pids}; wait`);
  const all = await Promise.allSettled([credentials.of(config), credentials.of(config)]);
  for (const each of all) {
    assert.match(
      String((each as PromiseRejectedResult).reason),
      /plugin sh of the kubeconfig has not answered within 0.3 s/,
    );
  }
  const [plugin, child, ...more] = started();
  assert.equal(more, []);
  for (const pid of [plugin!, child!]) await ended(pid);
  assert.equal((await credentials.of(configOf(TOKEN))).headers, { Authorization: "Bearer secret" });
});

test("one that runs ends with isat", async () => {
  const credentials = new Credentials();
  const failed = credentials.of(configOf("sleep 60")).catch(() => {});
  while (!existsSync(pids)) await sleep(5);
  await sleep(20);
  credentials.close();
  await ended(started()[0]!);
  await failed;
});

test.run();
