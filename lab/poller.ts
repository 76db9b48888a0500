/**
 * Calls `work` again and again: at once while it returns true for "there was something to do", else every millisecond.
 * Other callbacks run in between. A poller keeps the process alive.
 */
export class Poller implements Disposable {
  readonly #work: () => boolean;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;

  constructor(work: () => boolean) {
    this.#work = work;
    this.#turn();
  }

  #turn(): void {
    if (this.#work()) this.#immediate = setImmediate(() => this.#turn());
    else this.#timer = setTimeout(() => this.#turn(), 1);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }
}
