/** A switch's MAC table: the port at which each MAC was last heard. Times are ms, and are passed in as arguments. */
export class Fdb {
  readonly #heard = new Map<string, { port: number; at: number }>();
  readonly #ageing: number;

  /** @param ageing a MAC that was not heard for this long is forgotten, ms */
  constructor(ageing: number) {
    this.#ageing = ageing;
  }

  learn(mac: string, port: number, now: number): void {
    this.#heard.set(mac, { port, at: now });
  }

  /** The MAC's port; undefined if it was never heard, or is forgotten. */
  port(mac: string, now: number): number | undefined {
    const heard = this.#heard.get(mac);
    return heard && now - heard.at < this.#ageing ? heard.port : undefined;
  }

  /** Forgets all MACs of a port whose link has gone down. */
  forget(port: number): void {
    for (const [mac, heard] of this.#heard) if (heard.port === port) this.#heard.delete(mac);
  }

  rows(now: number): { mac: string; port: number; age: number }[] {
    return [...this.#heard]
      .filter(([mac]) => this.port(mac, now) !== undefined)
      .map(([mac, { port, at }]) => ({ mac, port, age: now - at }));
  }
}
