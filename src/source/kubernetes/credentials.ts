import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import type { RequestOptions } from "node:https";
import process from "node:process";
import type { KubeConfig } from "@kubernetes/client-node/dist/config.js";

/** A credential plugin may take so long, ms. Nobody is there whom it could ask for a password. */
const LIMIT = 10_000;

/** The way in which client-node starts a credential plugin (a user's key `exec`). It neither limits nor stops one. */
type ExecAuthenticator = { execFn?: (command: string, args: string[], options: SpawnOptions) => ChildProcess };

/** Reads a kubeconfig's credentials for requests; at most one credential plugin runs at a time. */
export class Credentials {
  readonly #limit: number;
  /** All requests that come meanwhile wait for it. */
  #pending: Promise<RequestOptions> | undefined;
  #plugin: ChildProcess | undefined;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  /** The options that authenticate a request. @throws Error in one line if there are none */
  of(config: KubeConfig): Promise<RequestOptions> {
    this.#pending ??= this.#read(config).finally(() => {
      this.#pending = undefined;
      this.#plugin = undefined;
    });
    return this.#pending;
  }

  async #read(config: KubeConfig): Promise<RequestOptions> {
    const { authenticators } = config as unknown as { authenticators: ExecAuthenticator[] };
    for (const each of authenticators.filter(({ execFn }) => execFn)) {
      each.execFn = (command, args, options) => {
        // A group of its own, so that what the plugin has started ends with it: that holds its output open too.
        this.#plugin = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"], detached: true });
        return this.#plugin;
      };
    }
    const found: RequestOptions = { headers: {} };
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const what = `the credential plugin ${config.getCurrentUser()?.exec?.command ?? ""} of the kubeconfig`;
      late.reject(new Error(`${what} has not answered within ${this.#limit / 1000} s, and was ended`));
      this.close();
    }, this.#limit);
    try {
      await Promise.race([config.applyToHTTPSOptions(found), late.promise]);
      return found;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends a plugin that runs. */
  close(): void {
    const { pid } = this.#plugin ?? {};
    if (pid === undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // it has ended by itself
    }
  }
}
