import { type Logger, pino } from "pino";

export type Log = Logger;

/** Logs to stderr: for a person where that is a terminal, else a line of JSON each. Level by LOG_LEVEL, default info. */
export async function makeLog(): Promise<Log> {
  const options = {
    level: process.env.LOG_LEVEL ?? "info",
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  const { default: pretty } = await import("pino-pretty"); // only here: a daemon does without its memory
  return pino(options, pretty({ destination: 2, sync: true, translateTime: "HH:MM:ss.l", colorize: true }));
}
