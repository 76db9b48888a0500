import { type Logger, pino } from "pino";

export type Log = Logger;

/** Logs to stderr: text on a terminal, otherwise one JSON object per line. LOG_LEVEL sets the level (default: info). */
export async function makeLog(): Promise<Log> {
  const options = {
    level: process.env.LOG_LEVEL ?? "info",
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: 2, sync: true }));
  const { default: pretty } = await import("pino-pretty"); // here, so that a daemon does not spend memory on it
  return pino(options, pretty({ destination: 2, sync: true, translateTime: "HH:MM:ss.l", colorize: true }));
}
