import { type LogFn, type Logger, type LoggerOptions, pino } from "pino";
import { Bound } from "./core/notices.ts";

export type Log = Logger;

/** How often it is looked for lines that were left out and have had no successor, ms. */
const FLUSH = 10_000;

/** The most that waits for a reader of the log, bytes. */
const MOST_WAITING = 1 << 20;

/** Logs to stderr: text on a terminal, otherwise one JSON object per line. LOG_LEVEL sets the level (default: info). */
export async function makeLog(): Promise<Log> {
  const bound = new Bound();
  const options = {
    hooks: {
      /** Others decide how often things happen: two controllers that fight over a status change it ten times a second. */
      logMethod(this: Logger, args: Parameters<LogFn>, method: LogFn): void {
        const [fields, text] = typeof args[0] === "object" ? [args[0], String(args[1])] : [{}, String(args[0])];
        const leftOut = bound.take(text, performance.now());
        if (leftOut === undefined) return;
        if (leftOut === 0) method.apply(this, args);
        else method.apply(this, [{ ...fields, leftOut }, text]);
      },
    },
    level: process.env.LOG_LEVEL ?? "info",
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const log = await open(options);
  const flush = () => {
    for (const { text, leftOut } of bound.flush(performance.now()))
      log.info({ leftOut }, `left out, the last one: ${text}`);
  };
  setInterval(flush, FLUSH).unref();
  return log;
}

async function open(options: LoggerOptions): Promise<Log> {
  if (!process.stderr.isTTY) {
    // Whoever reads the log may stall, and must not stall the speaker: what does not fit is dropped, and that is told.
    const destination = pino.destination({ dest: 2, sync: false, maxLength: MOST_WAITING });
    const log = pino(options, destination);
    let dropped = 0;
    destination.on("drop", () => (dropped += 1));
    destination.on("drain", () => {
      if (dropped > 0) log.warn({ dropped }, "lines were dropped, as nobody read the log fast enough");
      dropped = 0;
    });
    return log;
  }
  const { default: pretty } = await import("pino-pretty"); // here, so that a daemon does not spend memory on it
  return pino(options, pretty({ destination: 2, sync: true, translateTime: "HH:MM:ss.l", colorize: true }));
}
