import { existsSync } from "node:fs";
import { type Config, ConfigError } from "./config/config.ts";
import { readWireKeys } from "./config/keys.ts";
import { watchConfig } from "./config/watch.ts";
import { type Folders, isDrained } from "./control/drain.ts";
import { comesTrue, giveAway, isMachineStopping } from "./control/ending.ts";
import { serveReady } from "./control/ready.ts";
import { removeRunFile, writeRunFile } from "./control/runfile.ts";
import { removeSocket, serveControl } from "./control/socket.ts";
import { nodeState } from "./core/abi.ts";
import { formatAddress, parseAddress } from "./core/address.ts";
import type { Demand } from "./core/demand.ts";
import { doubled } from "./core/time.ts";
import { isUnwritable, makeOwnFolder } from "./files.ts";
import { requireCapabilities } from "./kernel/capabilities.ts";
import { clean } from "./kernel/kernel.ts";
import { FolderLock } from "./kernel/lock.ts";
import { stripVlanTags } from "./link/ethtool.ts";
import { leaveGroups } from "./link/groups.ts";
import { Links } from "./link/links.ts";
import { Loopback } from "./link/loopback.ts";
import { probe } from "./link/probe.ts";
import { type Log, makeLog } from "./log.ts";
import { requireRestart } from "./plan.ts";
import { type Reports, runningSummary } from "./report/collect.ts";
import { formatDuration } from "./report/status.ts";
import { removeSnapshot } from "./source/kubernetes/snapshot.ts";
import { openSource } from "./source/open.ts";
import type { Probed, Source, SourceEvent } from "./source/source.ts";
import { Speaker } from "./speaker.ts";

/** So long after the start its garbage is collected, ms: a third of all memory. Then what saving its state has left. */
const STARTED = [2_000, 20_000];

/** The pauses after which a refused configuration is tried again, ms: twice as long each time. */
const RETRIES = { first: 1_000, most: 60_000 };

export interface RunOptions {
  config: string;
  cleanOnExit: boolean;
  /** Where it cleans: peers take the VIPs first. */
  goodbye: boolean;
  /** The speaker waits for another one to stop, in place of refusing to start. */
  standBy: boolean;
  /** The path of a socket for a probe. */
  ready?: string;
}

/** `isat run`: serves until a signal. @throws Error in one or more lines if it cannot start */
export async function run({ config: path, cleanOnExit, goodbye, standBy, ready }: RunOptions): Promise<void> {
  const log = await makeLog();
  const reread = new EventTarget();
  // The kernel answers for `hold` only: to go on is better than a crash loop over a timer or a callback.
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (error: unknown) => log.error(`isat did not expect this error, and goes on: ${stackOf(error)}`));
  const signalled = nextSignal(log, reread); // from here on, so that a signal during the start does not skip the end
  await using stack = new AsyncDisposableStack();
  const daemon = stack.use(new Daemon(path, log, reread));
  const { runDir } = daemon.config;
  requireCapabilities();
  const { membership } = daemon.config;
  if (membership.kind === "wire") readWireKeys(membership.keys); // before a cluster that is away makes this wait
  await unlessUnwritable(log, () => makeRunDir(runDir));
  if (ready) stack.use(await serveReady(ready, () => daemon.whyNotReady));
  let reading: Promise<Demand> | undefined;
  const read = () => (reading ??= daemon.openSource().then((source) => stack.use(source).start()));
  if (standBy && FolderLock.isHeld(runDir)) {
    const signal = await standBeside(runDir, read, daemon, signalled);
    if (signal) return log.info(`stopped by ${signal} while it stood by`);
  }
  // These may fail, so they come before anything is attached.
  await unlessUnwritable(log, async () => {
    makeRunDir(runDir);
    stack.use(new FolderLock(runDir));
    stack.use(await serveControl(runDir, daemon));
  });
  if (daemon.config.metrics) stack.use(await serveDaemonMetrics(daemon, daemon.config.metrics));

  // Until the first demand is known, the kernel goes on answering for what it answered before.
  const first = await Promise.race([read(), signalled]);
  if (typeof first === "string") return log.info(`stopped by ${first} before the cluster could be read`);
  const { config } = daemon;
  const speaker = stack.use(new Speaker(config, daemon.latestDemand ?? first, log, isDrained(config)));
  daemon.serve(speaker);
  introduce(config, log);

  const signal = await Promise.race([signalled, untilFailure(speaker, log)]).catch(async (error) => {
    // The kernel would go on answering under a name that belongs to another node.
    await stack.disposeAsync();
    cleanUp(config);
    throw error;
  });
  if (signal === "SIGTERM" && !cleanOnExit && (await daemon.isEnding())) {
    const left = await giveAway(speaker);
    log.info(`this machine is being shut down: its VIPs are with other nodes, but for ${left} that none of them takes`);
  }
  const { owned } = speaker.counts;
  await stack.disposeAsync();
  if (cleanOnExit) {
    cleanUp(config, goodbye);
    return log.info(`stopped by ${signal}: detached, and everything removed`);
  }
  const vips = owned === 1 ? "1 VIP" : `${owned} VIPs`;
  log.info(
    `stopped by ${signal}: the kernel goes on answering for ${vips}, for ${formatDuration(config.fence)} at most.` +
      ` To detach and remove everything: isat clean --config ${path} (or use isat run --clean-on-exit)`,
  );
}

/** The parts of a running isat, and what goes between them: the configuration file, the source and the speaker. */
class Daemon implements Disposable {
  readonly log: Log;
  readonly #closed = new AbortController();
  /** As it was accepted last. */
  config: Config;
  /** Why the configuration file is refused as it is now. */
  #refusal: string | undefined;
  /** When a configuration that was refused is tried again: what it lacked may be there by then. */
  #retry: NodeJS.Timeout | undefined;
  #source: Source | undefined;
  #speaker: Speaker | undefined;
  /** The last event of each kind that came before there was a speaker. */
  readonly #waiting = new Map<SourceEvent["kind"], SourceEvent>();
  #isReady = false;
  #isEnding = false;
  /** Its source is read, and it waits for another speaker to stop. */
  isStandingBy = false;

  /** @throws ConfigError */
  constructor(path: string, log: Log, reread: EventTarget) {
    this.log = log;
    this.config = watchConfig(path, {
      signal: this.#closed.signal,
      reread,
      onTrouble: (message) => log.warn(message),
      onChange: (result) => this.#change(result),
    });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
    this.#closed.abort();
  }

  /** @throws Error while isat starts */
  get speaker(): Speaker {
    if (this.#speaker) return this.#speaker;
    throw new Error("isat is starting: ask again in a moment");
  }

  /** undefined: there was no other demand since the first. */
  get latestDemand(): Demand | undefined {
    const event = this.#waiting.get("demand");
    return event?.kind === "demand" ? event.demand : undefined;
  }

  /** The reason why a probe must fail; undefined if all is well. */
  get whyNotReady(): string | undefined {
    if (this.isStandingBy) return undefined;
    if (!this.#speaker || !this.#isReady) return "isat is starting";
    const { segments } = this.#speaker.snapshot();
    const bare = segments.find(({ hooks, isGuard }) => !isGuard && hooks.some(({ isAttached }) => !isAttached));
    if (bare) return `a program is not attached to ${bare.link.name}`;
    const { HEADLESS, PAST_HOLD } = nodeState;
    const late = segments.find(({ state }) => state === HEADLESS || state === PAST_HOLD);
    if (late) return `nothing was verified on ${late.link.name} for seconds: see the log`;
    return segments.find(({ blocked }) => blocked)?.blocked;
  }

  get reports(): Reports {
    return { configError: this.#refusal, source: this.#source?.report };
  }

  async openSource(): Promise<Source> {
    const { source } = this.config;
    const opened = await openSource(this.config, {
      emit: (event) => this.#take(event),
      log: (level, message) => this.log[level](message),
      unserved: () => this.#speaker?.unserved ?? [],
      probe: (addresses) => this.#probe(addresses),
    });
    if (this.config.source !== source) opened.configure(this.config.source); // it has changed meanwhile
    this.#source = opened;
    return opened;
  }

  /** Asks the wire on the interfaces on which this node announces. */
  async #probe(texts: readonly string[]): Promise<Probed> {
    const links = (this.#speaker?.snapshot().segments ?? []).filter(({ isGuard }) => !isGuard).map(({ link }) => link);
    const { taken, unable } = await probe(texts.map(parseAddress), links);
    const named = [...taken].map(([address, mac]) => [formatAddress(address), mac]);
    return { taken: Object.fromEntries(named), unable: unable.map(formatAddress) };
  }

  serve(speaker: Speaker): void {
    this.#speaker = speaker;
    for (const event of this.#waiting.values()) speaker.take(event);
    speaker.ready.then(
      () => (this.#isReady = true),
      () => {}, // untilFailure() reports it
    );
  }

  /** Its machine is shut down by order, as far as is known. */
  async isEnding(): Promise<boolean> {
    if (await isMachineStopping()) return true;
    return this.config.source.kind === "kubernetes" && (await comesTrue(() => this.#isEnding));
  }

  #take(event: SourceEvent): void {
    if (event.kind === "ending") {
      if (event.isEnding === this.#isEnding) return;
      this.#isEnding = event.isEnding;
    }
    if (this.#speaker) this.#speaker.take(event);
    else this.#waiting.set(event.kind, event);
  }

  /** @param tries how often a configuration was tried that is refused for what is not in its file */
  #change(result: Config | ConfigError, tries = 0): void {
    clearTimeout(this.#retry);
    try {
      if (result instanceof ConfigError) throw result;
      requireRestart("source.kind", result.source.kind, this.config.source.kind);
      if (this.#speaker) this.#speaker.reload(result, this.#source!.demandFor(result.source));
      const { node, runDir, stateDir, metrics } = this.config; // they are in use already
      this.config = { ...result, node, runDir, stateDir, metrics };
      this.#source?.configure(result.source);
      this.#refusal = undefined;
      if (this.#speaker) this.log.info("configuration applied");
    } catch (error) {
      const { message } = error as Error;
      const isNews = message !== this.#refusal || tries === 0;
      this.#refusal = message;
      if (isNews) this.log.error(`configuration refused, the old one is served: ${message}`);
      if (result instanceof ConfigError) return;
      this.#retry = setTimeout(() => this.#change(result, tries + 1), doubled(RETRIES, tries));
    }
  }
}

/**
 * Reads the source and waits until the speaker that serves this node stops. An upgrade starts the next speaker beside the
 * old one, so that neither its start nor what comes before it is time without a speaker.
 * @returns the signal that came first, if one did
 */
async function standBeside(
  runDir: string,
  read: () => Promise<Demand>,
  daemon: Daemon,
  signalled: Promise<string>,
): Promise<string | undefined> {
  daemon.log.info("another speaker serves this node: this one reads its source and stands by");
  const stopped = new AbortController();
  const released = read().then(() => {
    daemon.isStandingBy = true;
    return FolderLock.released(runDir, stopped.signal);
  });
  const signal = await Promise.race([released, signalled]);
  stopped.abort();
  daemon.isStandingBy = false;
  return signal ?? undefined;
}

async function serveDaemonMetrics(daemon: Daemon, listen: NonNullable<Config["metrics"]>): Promise<Disposable> {
  const { makeRegistry, serveMetrics } = await import("./report/metrics.ts"); // here, to save its memory otherwise
  const read = () => ({ ...runningSummary(daemon.speaker.snapshot(), daemon.reports), ...daemon.speaker.counts });
  const server = await serveMetrics(makeRegistry(read), listen);
  return { [Symbol.dispose]: () => void server.close() };
}

/** Writes the run file, by which other commands find this speaker. */
function introduce({ node, pinDir, runDir, stateDir, membership }: Config, log: Log): void {
  try {
    writeRunFile({ node, pid: process.pid, pinDir, runDir, stateDir, membership: membership.kind });
  } catch (error) {
    log.warn(`${(error as Error).message}. Until then this speaker is found by --config only`); // it can serve all the same
  }
}

/** Logs when the speaker is ready. @throws Error if it must not serve; otherwise it never returns */
async function untilFailure(speaker: Speaker, log: Log): Promise<never> {
  await speaker.ready;
  log.info({ ...speaker.counts, node: speaker.config.node, pid: process.pid }, "ready");
  const collect = () => globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  for (const after of STARTED) setTimeout(collect, after).unref();
  return new Promise<never>(() => {});
}

/** Does what needs runDir. One that is full or read-only keeps no VIP from being served. */
async function unlessUnwritable(log: Log, body: () => void | Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    log.error(`${(error as Error).message}. VIPs are served all the same, without status, drain and saved state`);
  }
}

function makeRunDir(runDir: string): void {
  try {
    makeOwnFolder(runDir);
  } catch (cause) {
    const { message } = cause as Error;
    throw new Error(`Cannot make runDir: ${message}. Set runDir: to a folder that can be made`, { cause });
  }
}

const stackOf = (error: unknown): string => (error instanceof Error && error.stack) || String(error);

/** Without a handler these end the process without a word. */
const ENDING = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGXCPU", "SIGIO", "SIGPWR"] as const;

/** Resolves with the first signal that ends isat. @param reread gets an event `read` for SIGHUP */
function nextSignal(log: Log, reread: EventTarget): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  for (const signal of ENDING) process.once(signal, () => resolve(signal));
  process.on("SIGHUP", () => {
    if (process.stderr.isTTY) return resolve("SIGHUP, as its terminal is gone");
    log.info("SIGHUP: the configuration and its keys are read again");
    reread.dispatchEvent(new Event("read"));
  });
  // Node would open its inspector for SIGUSR1, which runs the code of anybody who connects. --disable-sigusr1 blocks it;
  // this is for a command line without that.
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const)
    process.on(signal, () => log.warn(`${signal} means nothing to isat`));
  return promise;
}

/** Detaches and removes everything. @returns true if there was something */
export function cleanUp({ pinDir, runDir, stateDir = runDir }: Folders & { pinDir: string }, goodbye = true): boolean {
  requireCapabilities();
  using _lock = existsSync(runDir) ? new FolderLock(runDir) : undefined;
  using loopback = new Loopback();
  const hasAccepted = loopback.keep(new Set()); // first, as without the programs the node's kernel answers for them
  using links = new Links();
  const ifindexes = links.read().map(({ ifindex }) => ifindex);
  const restore: Parameters<typeof clean>[2] = ({ name, vlan_strip_off }) => {
    if (vlan_strip_off) stripVlanTags(name, true);
    leaveGroups(name);
  };
  const found = clean(pinDir, ifindexes, restore, goodbye);
  removeRunFile(runDir);
  removeSocket(runDir);
  for (const folder of [runDir, stateDir]) removeSnapshot(folder);
  return found || hasAccepted;
}
