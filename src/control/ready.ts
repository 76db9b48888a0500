import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer } from "node:net";

/**
 * Answers everybody who connects to a UNIX socket with "ready" or with the reason why not. A probe costs less than HTTP, and
 * the socket stands in a folder of the pod's own, as during an upgrade two speakers share runDir.
 * @param whyNot undefined if all is well @throws Error if the socket cannot be made
 */
export async function serveReady(path: string, whyNot: () => string | undefined): Promise<Disposable> {
  rmSync(path, { force: true }); // left by this container's process before
  const server = createServer((socket) => {
    socket.on("error", () => {}); // it has hung up
    socket.end(whyNot() ?? "ready");
  });
  await once(server.listen(path), "listening").catch(({ message }: Error) => {
    throw new Error(`Cannot serve readiness at ${path}: ${message}`);
  });
  server.on("error", () => {}); // as for want of descriptors, with which a caller could be accepted
  return { [Symbol.dispose]: () => void server.close() };
}
