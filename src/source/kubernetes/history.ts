/** Who had an address first, where several have it: what the objects of now do not tell. */
import type { Address } from "../../core/address.ts";
import type { ClusterNode, Key, Service } from "./objects.ts";
import type { ServiceAddress } from "./services.ts";

/** As it is saved. */
export interface Past {
  /** The Services of each shared address, in the order in which they came to it. */
  shared: readonly (readonly [Address, readonly Key[]])[];
  /** The addresses that a Node lists beside its InternalIP, and whether a Service had each of them first. */
  sides: readonly (readonly [Address, boolean])[];
}

export class History {
  readonly #sharing = new Map<Address, readonly ServiceAddress[]>();
  readonly #sides = new Map<Address, boolean>();
  /** The order of an earlier speaker, until its Services are here. */
  readonly #recalled = new Map<Address, readonly Key[]>();

  /** The Services that have the address, in the order in which they came to it. */
  sharing(address: Address): readonly ServiceAddress[] {
    return this.#sharing.get(address) ?? [];
  }

  /**
   * A Service that keeps an address keeps its place among those that share it; one that comes to it is the last.
   * @param one undefined: the Service no longer has it
   */
  share(address: Address, key: Key, one: ServiceAddress | undefined): void {
    const all = this.sharing(address);
    const at = all.findIndex(({ service }) => service.key === key);
    const isSame = at >= 0 && all[at]!.service.uid === one?.service.uid;
    const others = all.filter((_, index) => index !== at);
    const now = !one ? others : isSame ? all.with(at, one) : this.#add(address, others, one);
    if (now.length > 0) this.#sharing.set(address, now);
    else this.#sharing.delete(address);
  }

  #add(address: Address, others: readonly ServiceAddress[], one: ServiceAddress): readonly ServiceAddress[] {
    const order = this.#recalled.get(address);
    const placeOf = ({ service }: ServiceAddress) => (order?.indexOf(service.key) ?? -1) >>> 0; // those unknown are the last
    return order ? [...others, one].sort((a, b) => placeOf(a) - placeOf(b)) : [...others, one];
  }

  /** Tells which of the addresses that Nodes list beside their InternalIPs a Service had first; of two at once, the Service. */
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
    const several = [...this.#sharing].filter(([, all]) => all.length > 1);
    const shared = several.map(([address, all]) => [address, all.map(({ service }) => service.key)] as const);
    return { shared, sides: [...this.#sides] };
  }

  recall({ shared, sides }: Past): void {
    for (const [address, keys] of shared) this.#recalled.set(address, keys);
    for (const [address, isOfService] of sides) this.#sides.set(address, isOfService);
  }

  /** The order of the earlier speaker is worked in. */
  settle(): void {
    this.#recalled.clear();
  }
}
