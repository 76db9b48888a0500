import { type Logger, pino } from "pino";
import pretty from "pino-pretty";

export type Log = Logger;

/** Logs to stderr: for a person where that is a terminal, else a line of JSON each. Level by LOG_LEVEL, default info. */
export function makeLog(): Log {
  const options = {
    level: process.env.LOG_LEVEL ?? "info",
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const isTerminal = process.stderr.isTTY;
  const stream = isTerminal
    ? pretty({ destination: 2, sync: true, translateTime: "HH:MM:ss.l", colorize: true })
    : pino.destination({ dest: 2, sync: true });
  return pino(options, stream);
}
