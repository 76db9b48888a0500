import type { Address } from "../../core/address.ts";
import type { ClusterNode, Key, Service } from "./objects.ts";

/**
 * The saved form: the addresses that a Node lists beside its InternalIP, and whether a Service had each of them first.
 */
export type Past = readonly (readonly [Address, boolean])[];

/** Remembers who had an address first, a Service or a Node that lists it: the objects of now do not tell. */
export class History {
  readonly #sides = new Map<Address, boolean>();

  /**
   * Tells which of the addresses that Nodes list beside their InternalIPs a Service had first; of two at once, the
   * Service.
   */
  isOfService(nodes: readonly ClusterNode[], services: ReadonlyMap<Key, Service>): (address: Address) => boolean {
    const listed = new Set(nodes.flatMap(({ others }) => others));
    for (const address of this.#sides.keys()) if (!listed.has(address)) this.#sides.delete(address);
    const unknown = [...listed].filter((address) => !this.#sides.has(address));
    if (unknown.length > 0) {
      const held = new Set([...services.values()].flatMap(({ ingress }) => ingress.map(({ address }) => address)));
      for (const address of unknown) this.#sides.set(address, held.has(address));
    }
    return (address) => this.#sides.get(address) === true;
  }

  get past(): Past {
    return [...this.#sides];
  }

  recall(past: Past): void {
    for (const [address, isOfService] of past) this.#sides.set(address, isOfService);
  }
}
