import process from "node:process";
import type { Look } from "./outage/screen.ts";

/** Standard output. On a terminal, one block below the printed lines can be drawn again in place. */
export class Display {
  readonly isTerminal = process.stdout.isTTY === true;
  #drawn = 0;

  get look(): Look {
    const colour = this.isTerminal ? process.stdout.hasColors?.() === true : false;
    return { columns: this.isTerminal ? process.stdout.columns : 120, colour };
  }

  /** Prints a line, above the block. */
  print(line = ""): void {
    this.#clear();
    process.stdout.write(`${line}\n`);
  }

  /** Draws the block anew; does nothing without a terminal. No line may be longer than the look's columns. */
  draw(lines: readonly string[]): void {
    if (!this.isTerminal) return;
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    process.stdout.write(`${up}${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
    this.#drawn = lines.length;
  }

  /** Prints lines, and removes the block. */
  settle(lines: readonly string[]): void {
    for (const line of lines) this.print(line);
  }

  #clear(): void {
    if (this.#drawn > 0) process.stdout.write(`\x1b[${this.#drawn}A\x1b[J`);
    this.#drawn = 0;
  }
}
