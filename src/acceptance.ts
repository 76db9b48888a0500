import type { Address } from "./core/address.ts";
import { Loopback } from "./link/loopback.ts";
import { acceptedVips, type Plan } from "./plan.ts";

/** Has this node accept the packets of VIPs: puts them on `lo` while the programs keep its kernel silent about them. */
export class Acceptance implements Disposable {
  readonly #loopback = new Loopback();
  /** VIPs that are to be on `lo`; undefined: they are there. */
  #wanted: ReadonlySet<Address> | undefined;
  /** Interfaces that keep VIPs from being put on `lo`. */
  #bare: readonly string[] = [];

  /** Takes VIPs off that the plan does not have: before the programs forget them. The others follow by {@link accept}. */
  withdraw(plan: Plan): void {
    this.#wanted = acceptedVips(plan);
    this.#loopback.keep(this.#wanted);
  }

  /** Puts some of the VIPs there that are missing. @param wiring has the interfaces to which not all programs are attached */
  accept({ unguarded }: Plan, wiring: { readonly bare: readonly string[] }): void {
    if (!this.#wanted) return;
    this.#bare = this.#wanted.size > 0 ? [...unguarded.map(({ name }) => name), ...wiring.bare] : [];
    if (this.#bare.length === 0 && this.#loopback.add(this.#wanted)) this.#wanted = undefined;
  }

  get warnings(): string[] {
    if (this.#bare.length === 0) return [];
    const why = `isat's programs are not attached to ${this.#bare.join(", ")}: the node's kernel would answer there`;
    return [`VIPs are not put on lo as ${why}`];
  }

  [Symbol.dispose](): void {
    this.#loopback[Symbol.dispose]();
  }
}
