import type { Demand } from "../core/demand.ts";
import type { FileSettings } from "./settings.ts";
import type { Source, SourceReport, SourceSettings } from "./source.ts";

export function fileDemand({ cluster, nodes, vips }: FileSettings): Demand {
  return { cluster, nodes, vips, checks: () => [] };
}

/** Takes nodes and VIPs from the configuration file itself, which run.ts watches. It is never stale. */
export class FileSource implements Source {
  readonly report: SourceReport = { counts: undefined, troubles: [] };
  #settings: SourceSettings;

  constructor(settings: FileSettings) {
    this.#settings = settings;
  }

  async start(): Promise<Demand> {
    return this.demandFor(this.#settings);
  }

  demandFor(settings: SourceSettings): Demand {
    return fileDemand(settings as FileSettings);
  }

  configure(settings: SourceSettings): void {
    this.#settings = settings;
  }

  [Symbol.dispose](): void {}
}
