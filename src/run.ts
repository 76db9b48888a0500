import { mkdirSync } from "node:fs";
import type { Server } from "node:http";
import { type Config, ConfigError, type KubernetesSource } from "./config/config.ts";
import { watchConfig } from "./config/watch.ts";
import { isDrained } from "./control/drain.ts";
import { removeRunFile, writeRunFile } from "./control/runfile.ts";
import { removeSocket, serveControl } from "./control/socket.ts";
import type { Demand } from "./core/demand.ts";
import { requireCapabilities } from "./kernel/capabilities.ts";
import { clean } from "./kernel/kernel.ts";
import { FolderLock } from "./kernel/lock.ts";
import { stripVlanTags } from "./link/ethtool.ts";
import { Links } from "./link/links.ts";
import { type Log, makeLog } from "./log.ts";
import { requireRestart } from "./plan.ts";
import { runningSummary } from "./report/collect.ts";
import { formatDuration } from "./report/status.ts";
import { fileDemand } from "./source/file.ts";
import { removeSaved } from "./source/kubernetes/snapshot.ts";
import type { KubernetesWatch } from "./source/kubernetes/source.ts";
import { Speaker } from "./speaker.ts";

/** When so much time has passed since the start, what it left behind is collected, ms: a third of all memory. */
const SETTLED = 2_000;

/** How often the default gateways are looked up, which are never announced, ms. */
const GATEWAYS = 60_000;

export interface RunOptions {
  config: string;
  cleanOnExit: boolean;
}

/** `isat run`: serves until a signal. @throws Error in one or more lines where it cannot start. */
export async function run(options: RunOptions): Promise<void> {
  const log = await makeLog();
  const signalled = nextSignal(); // from here on: one that comes during the start must not skip the end
  const stopped = new AbortController();
  let speaker: Speaker | undefined;
  let configError: string | undefined;

  function refuse(error: Error): void {
    configError = error.message;
    log.error(`configuration refused, the old one is served: ${error.message}`);
  }

  /** A change that comes during the start, which may wait for a name server, is not to be lost. */
  let latest: Config | undefined;
  const running = () => {
    if (speaker) return speaker;
    throw new Error("isat is starting: ask again in a moment");
  };

  let cluster: KubernetesWatch | undefined;
  const reports = () => ({ configError, sourceTroubles: cluster?.troubles ?? [], source: cluster?.counts });
  const first = watchConfig(options.config, {
    signal: stopped.signal,
    onTrouble: (message) => log.warn(message),
    onChange(result) {
      if (result instanceof ConfigError) return refuse(result);
      const { source } = result;
      try {
        requireRestart("source.kind", source.kind, first.source.kind);
        if (source.kind === "kubernetes" && source.kubeconfig !== (first.source as KubernetesSource).kubeconfig) {
          log.warn("source.kubeconfig changed in the file: it takes effect when isat is started again");
        }
        latest = result;
        speaker?.reload(result, source.kind === "file" ? fileDemand(source) : speaker.demand);
        if (source.kind === "kubernetes" && cluster) cluster.settings = source;
        configError = undefined;
        if (speaker) log.info("configuration applied");
      } catch (error) {
        refuse(error as Error);
      }
    },
  });

  await using stack = new AsyncDisposableStack();
  stack.defer(() => stopped.abort());
  requireCapabilities();
  makeRunDir(first.runDir);
  stack.use(new FolderLock(first.runDir));
  // Before anything is attached, for these may fail.
  stack.use(await serveControl(first.runDir, running, reports));
  if (first.metrics) {
    const { makeRegistry, serveMetrics } = await import("./report/metrics.ts"); // only here: for its memory
    const registry = makeRegistry(() => ({ ...runningSummary(running().snapshot(), reports()), ...running().counts }));
    const server: Server = await serveMetrics(registry, first.metrics);
    stack.defer(() => void server.close());
  }
  const wanted = (): Config => ({
    ...(latest ?? first),
    node: first.node,
    runDir: first.runDir,
    metrics: first.metrics,
  });
  let demand: Demand;
  const { source } = wanted();
  if (source.kind === "file") demand = fileDemand(source);
  else {
    // What stands in the kernel goes on being answered until it is known what is wanted now.
    const read = await readCluster(first, source, log, stopped.signal, () => speaker);
    cluster = read.cluster;
    const { source: now } = wanted();
    if (now !== source && now.kind === "kubernetes") cluster.settings = now; // it has changed since
    const found = await Promise.race([read.demand, signalled]);
    if (typeof found === "string") return log.info(`stopped by ${found} before the cluster could be read`);
    demand = found();
  }
  const config = wanted();
  const serving = stack.use(new Speaker(config, demand, log, isDrained(config.runDir)));
  serving.setSourceStale(cluster !== undefined && !cluster.isFresh());
  speaker = serving;
  const { node, pinDir, runDir, membership } = config;
  try {
    writeRunFile({ node, pid: process.pid, pinDir, runDir, membership: membership.kind });
  } catch (error) {
    log.warn(`${(error as Error).message}. Until then this speaker is found by --config only`); // no reason not to serve
  }
  serving.ready.then(
    () => {
      log.info({ ...serving.counts, node: config.node, pid: process.pid }, "ready");
      setTimeout(() => globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" }), SETTLED).unref();
    },
    () => {}, // told below
  );
  const failed = serving.ready.then(() => new Promise<never>(() => {}));

  const signal = await Promise.race([signalled, failed]).catch(async (error) => {
    // Its kernel would go on speaking under a name that is another node's.
    await stack.disposeAsync();
    cleanUp(config.pinDir, config.runDir);
    throw error;
  });
  const { owned } = serving.counts;
  await stack.disposeAsync();
  if (options.cleanOnExit) {
    cleanUp(config.pinDir, config.runDir);
    log.info(`stopped by ${signal}: detached, and everything removed`);
    return;
  }
  const vips = owned === 1 ? "1 VIP" : `${owned} VIPs`;
  log.info(
    `stopped by ${signal}: the kernel goes on answering for ${vips}, for ${formatDuration(config.fence)} at most.` +
      ` To detach and remove everything: isat clean --config ${options.config} (or use isat run --clean-on-exit)`,
  );
}

/** Watches the cluster; `demand` is there when it has been read, and gives what is wanted by then. The speaker is told of what comes later. */
async function readCluster(
  { node, runDir }: Config,
  source: KubernetesSource,
  log: Log,
  signal: AbortSignal,
  speaker: () => Speaker | undefined,
): Promise<{ cluster: KubernetesWatch; demand: Promise<() => Demand> }> {
  const { watchKubernetes } = await import("./source/kubernetes/source.ts"); // only here: for its memory
  const first = Promise.withResolvers<void>();
  let latest: Demand | undefined;
  const cluster = watchKubernetes(source, {
    node,
    runDir,
    signal,
    onDemand(demand) {
      latest = demand;
      first.resolve();
      speaker()?.serve(demand);
    },
    onFreshness: (isFresh) => speaker()?.setSourceStale(!isFresh),
    report: (level, message) => log[level](message),
  });
  const look = () => {
    using links = new Links();
    cluster.addGateways(links.gateways());
  };
  look();
  const lookAgain = () => {
    try {
      look();
    } catch (error) {
      log.warn(`Cannot look up the default gateways: ${(error as Error).message}`);
    }
  };
  const timer = setInterval(lookAgain, GATEWAYS).unref();
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  return { cluster, demand: first.promise.then(() => () => latest!) };
}

function makeRunDir(runDir: string): void {
  try {
    mkdirSync(runDir, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new Error(`Cannot make runDir: ${(error as Error).message}. Set runDir: to a folder that can be made`);
  }
}

function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve(signal));
  });
}

/** Detaches and removes everything; true where there was something. */
export function cleanUp(pinDir: string, runDir: string): boolean {
  using links = new Links();
  const ifindexes = links.read().map(({ ifindex }) => ifindex);
  const found = clean(pinDir, ifindexes, ({ name, vlan_strip_off }) => {
    if (vlan_strip_off) stripVlanTags(name, true);
  });
  removeRunFile(runDir);
  removeSocket(runDir);
  removeSaved(runDir);
  return found;
}
