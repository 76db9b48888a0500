import type { Config } from "../config/config.ts";
import type { Demand } from "../core/demand.ts";
import type { Unserved } from "../core/unserved.ts";

export type SourceSettings = Config["source"];

export type SourceEvent =
  | { kind: "demand"; demand: Demand }
  | { kind: "stale"; isStale: boolean }
  /** This machine is shut down by order, or no longer. */
  | { kind: "ending"; isEnding: boolean };

/** The state of a source, for status and metrics. */
export interface SourceReport {
  /** undefined: the source counts nothing. */
  counts:
    | {
        services: number;
        endpointSlices: number;
        /** Objects that cannot be read. */
        unreadable: number;
        /** Addresses that are not announced, by the reason. */
        skipped: Readonly<Record<string, number>>;
      }
    | undefined;
  /** The reasons why the source cannot be read now, a line each. */
  troubles: readonly string[];
}

/** Tells which VIPs there are, and which nodes may own them. It stops when it is disposed. */
export interface Source extends Disposable {
  /**
   * Begins to read. Whatever comes after the first demand is emitted as an event.
   * @returns the first demand, when all of it is known
   * @throws Error in one line if it cannot begin
   */
  start(): Promise<Demand>;
  /** The demand with which changed settings of the same kind begin; they are not in force yet. Only after the first demand. */
  demandFor(settings: SourceSettings): Demand;
  /** Puts changed settings into force. A demand that takes time to follow from them is emitted. */
  configure(settings: SourceSettings): void;
  readonly report: SourceReport;
}

export type Level = "info" | "warn" | "error";

/** The addresses that somebody on the wire has, with the MAC, and those that this node cannot ask for. As text. */
export interface Probed {
  taken: Record<string, string>;
  unable: string[];
}

/** The functions that a source is given. */
export interface Surroundings {
  /** Takes an event; it only queues it. */
  emit(event: SourceEvent): void;
  log(level: Level, message: string): void;
  /** The VIPs of its last demand that nobody announces, for a cause that only the speaker knows, which logs it. */
  unserved(): readonly Unserved[];
  /** Asks the wire for addresses that a controller is about to give; undefined: that cannot be. */
  probe?(addresses: readonly string[]): Promise<Probed>;
}
