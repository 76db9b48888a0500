import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { parseAddress } from "../core/address.ts";
import { type Reports, type RunFile, runningStatus } from "../report/collect.ts";
import type { Status } from "../report/status.ts";
import type { Speaker } from "../speaker.ts";
import { writeDrained } from "./drain.ts";

const socketPath = (runDir: string) => `${runDir}/isat.sock`;
const runFilePath = (runDir: string) => `${runDir}/speaker.json`;

/** Asked for by `status`, told by `drain` and `undrain`: HTTP over a UNIX socket in runDir, for root's eyes. @throws Error where it cannot be made */
export async function serveStatus(
  runDir: string,
  speaker: () => Speaker,
  reports: () => Reports,
): Promise<AsyncDisposable> {
  const path = socketPath(runDir);
  rmSync(path, { force: true }); // of a speaker that was killed: the lock on runDir says that it is gone
  const server = createServer((incoming, response) => {
    try {
      if (incoming.method === "POST") {
        const isDrained = incoming.url === "/drain";
        const told = speaker();
        if (isDrained) told.requireDrainable();
        writeDrained(runDir, isDrained); // first: what is said now is to hold over a restart
        told.drain(isDrained);
      }
      const vip = new URL(incoming.url ?? "/", "http://isat").searchParams.get("vip");
      const status = runningStatus(speaker().snapshot(), reports(), vip ? parseAddress(vip) : undefined);
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(status));
    } catch (error) {
      response.writeHead(500).end((error as Error).message);
    }
  });
  const mask = process.umask(0o077);
  await new Promise<void>((resolve, reject) => {
    server.once("error", ({ message }) => {
      reject(new Error(`Cannot serve status at ${path}: ${message}. Set runDir: to another, or a shorter, path`));
    });
    server.listen(path, resolve);
  }).finally(() => process.umask(mask));
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Says where a speaker is to be found once it has stopped. */
export function writeRunFile(file: RunFile): void {
  const path = runFilePath(file.runDir);
  try {
    writeFileSync(`${path}.new`, `${JSON.stringify(file, null, 2)}\n`);
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true });
    throw new Error(`Cannot write ${path}: ${(error as Error).message}. Make room, or set runDir: to another folder`);
  }
}

/** What the last speaker on `runDir` wrote; undefined where none ever ran. */
export function readRunFile(runDir: string): RunFile | undefined {
  const path = runFilePath(runDir);
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${(error as Error).message}. Say which speaker by --config FILE`);
  }
}

/** Removes that, and the socket of a speaker that was killed. */
export function removeRunFile(runDir: string): void {
  for (const path of [runFilePath(runDir), socketPath(runDir)]) rmSync(path, { force: true });
}

/** The running speaker's own word; undefined where none runs on `runDir`. */
export function askStatus(runDir: string, vip: string | undefined): Promise<Status | undefined> {
  return ask(runDir, "GET", vip ? `/?vip=${encodeURIComponent(vip)}` : "/");
}

/** Tells the running speaker to give everything away, or to take its share again; undefined where none runs. */
export function tellDrain(runDir: string, isDrained: boolean): Promise<Status | undefined> {
  return ask(runDir, "POST", isDrained ? "/drain" : "/undrain");
}

function ask(runDir: string, method: "GET" | "POST", path: string): Promise<Status | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: socketPath(runDir), method, path, timeout: 5_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`the speaker says: ${text}`));
      });
    });
    asked.on("timeout", () => asked.destroy(new Error("the speaker runs, and has not answered for 5 s")));
    asked.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else if (error.code === "EACCES")
        reject(new Error(`Cannot ask the speaker on ${runDir}: ${error.message}. Run as root`));
      else reject(error);
    });
    asked.end();
  });
}
