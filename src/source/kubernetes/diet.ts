/** Which labels of Services are kept: only those that some selector names, as tenants may write as many as they like. */
import { type LabelSelector, labelsIn } from "./selector.ts";

/**
 * A selector that names a new label takes effect once the Services have been read again with it: until then each of them
 * would seem to lack it.
 */
export class Diet {
  readonly #wanted = new Set<string>();
  /** Those that were wanted when the Services began to be read; undefined: they have not been yet. */
  #reading: ReadonlySet<string> | undefined;
  #read: ReadonlySet<string> | undefined;
  readonly #waiting = new Map<string, { names: readonly string[]; apply: () => boolean }>();

  /** The labels to keep; undefined: all. */
  get names(): ReadonlySet<string> | undefined {
    return this.#reading && this.#wanted;
  }

  /** The Services have to be read again. */
  get isLacking(): boolean {
    return this.#reading !== undefined && [...this.#wanted].some((name) => !this.#reading!.has(name));
  }

  want(selectors: readonly LabelSelector[]): readonly string[] {
    const names = labelsIn(selectors);
    for (const name of names) this.#wanted.add(name);
    return names;
  }

  /**
   * Applies a change as soon as the labels are there that its selectors name. A later change of the same id replaces it.
   * @returns what the change returns; false while it waits
   */
  apply(id: string, selectors: readonly LabelSelector[], apply: () => boolean): boolean {
    const names = this.want(selectors);
    this.#waiting.delete(id);
    if (this.#isThere(names)) return apply();
    this.#waiting.set(id, { names, apply });
    return false;
  }

  begin(): void {
    this.#reading = new Set(this.#wanted);
  }

  /** All Services have been read. */
  end(): void {
    this.#read = this.#reading;
    for (const [id, { names, apply }] of this.#waiting) {
      if (!this.#isThere(names)) continue;
      this.#waiting.delete(id);
      apply();
    }
  }

  #isThere(names: readonly string[]): boolean {
    return this.#read === undefined || names.every((name) => this.#read!.has(name));
  }
}
