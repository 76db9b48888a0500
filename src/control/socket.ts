import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setImmediate } from "node:timers/promises";
import { type Address, parseAddress } from "../core/address.ts";
import { type Reports, runningRankings, runningSummary, runningVips, whyAbsent } from "../report/collect.ts";
import type { Status } from "../report/status.ts";
import type { Speaker } from "../speaker.ts";
import { writeDrained } from "./drain.ts";

const socketPath = (runDir: string) => `${runDir}/isat.sock`;

/** How long the speaker may take to answer, ms. */
const ANSWER_LIMIT = 5_000;

interface Served {
  /** @throws Error while isat starts */
  readonly speaker: Speaker;
  readonly reports: Reports;
}

/**
 * Serves HTTP on a UNIX socket in `runDir`, to root only: GET reports the status, POST /drain and /undrain change it.
 * @throws Error if the socket cannot be made
 */
export async function serveControl(runDir: string, daemon: Served): Promise<AsyncDisposable> {
  const path = socketPath(runDir);
  removeSocket(runDir); // left by a speaker that was killed: we hold the lock on runDir, so no other one runs
  const server = createServer((incoming, response) => {
    try {
      if (incoming.method === "POST") drain(daemon.speaker, incoming.url === "/drain");
      const vip = new URL(incoming.url ?? "/", "http://isat").searchParams.get("vip");
      const status = Readable.from(statusInParts(daemon, vip ? parseAddress(vip) : undefined));
      response.writeHead(200, { "content-type": "application/json" });
      status.on("error", (error) => response.destroy(error)).pipe(response);
    } catch (error) {
      response.writeHead(500).end((error as Error).message);
    }
  });
  const mask = process.umask(0o077);
  await once(server.listen(path), "listening")
    .catch((cause: Error) => {
      const advice = "Set runDir: to another, or a shorter, path";
      throw new Error(`Cannot serve status at ${path}: ${cause.message}. ${advice}`, { cause });
    })
    .finally(() => process.umask(mask));
  server.on("error", () => {}); // as for want of descriptors, with which a caller could be accepted
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** VIPs a part: they take some 10 ms. */
const PART = 1_000;

/** The status as JSON. Between two parts the speaker does its other work, as probes are due each 100 ms. */
async function* statusInParts({ speaker, reports }: Served, only: Address | undefined): AsyncGenerator<string> {
  const snapshot = speaker.snapshot();
  const one =
    only === undefined ? {} : { rankings: runningRankings(snapshot, only), absent: whyAbsent(snapshot, only) };
  yield `${JSON.stringify({ ...runningSummary(snapshot, reports), ...one }).slice(0, -1)},"vips":[`;
  let part: string[] = [];
  let separator = "";
  for (const vip of runningVips(snapshot, only)) {
    part.push(JSON.stringify(vip));
    if (part.length < PART) continue;
    yield separator + part.join();
    separator = ",";
    part = [];
    await setImmediate();
  }
  yield `${part.length > 0 ? separator : ""}${part.join()}]}`;
}

function drain(speaker: Speaker, isDrained: boolean): void {
  if (isDrained) speaker.requireDrainable();
  writeDrained(speaker.config, isDrained); // first, so that the caller's request survives a restart
  speaker.drain(isDrained);
}

export function removeSocket(runDir: string): void {
  rmSync(socketPath(runDir), { force: true });
}

/** The running speaker's status; undefined if no speaker runs on `runDir`. @param vip the one VIP to report on */
export const askStatus = (runDir: string, vip: string | undefined) =>
  ask(runDir, "GET", vip ? `/?vip=${encodeURIComponent(vip)}` : "/");

/** Makes the running speaker release all of its VIPs, or take its share again; undefined if no speaker runs. */
export const tellDrain = (runDir: string, isDrained: boolean) => ask(runDir, "POST", isDrained ? "/drain" : "/undrain");

function ask(runDir: string, method: "GET" | "POST", path: string): Promise<Status | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: socketPath(runDir), method, path, timeout: ANSWER_LIMIT }, (response) => {
      text(response).then((body) => {
        if (response.statusCode === 200) resolve(JSON.parse(body));
        else reject(new Error(`the speaker says: ${body}`));
      }, reject);
    });
    asked.on("timeout", () => asked.destroy(new Error("the speaker runs, but has not answered for 5 s")));
    asked.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else if (error.code === "EACCES")
        reject(new Error(`Cannot ask the speaker on ${runDir}: ${error.message}. Run as root`));
      else reject(error);
    });
    asked.end();
  });
}
