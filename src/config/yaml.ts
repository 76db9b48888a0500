import { distance } from "fastest-levenshtein";
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";

/** Everything that is wrong with one file: a line each, which is also the message. */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly lines: string[];

  constructor(lines: string[]) {
    super(lines.join("\n"));
    this.lines = lines;
  }
}

/** The way to a value: keys of mappings, and indexes of lists. */
export type Path = readonly (string | number)[];

/** Names that JavaScript's objects have a use for. valibot reads past them. */
const RESERVED: readonly unknown[] = ["__proto__", "constructor", "prototype"];

/** The YAML document, and what is wrong with it. */
export class Sheet {
  readonly #doc: Document.Parsed;
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #problems: { line: number; text: string }[] = [];
  /** The paths at which something is wrong. */
  readonly #broken = new Set<string>();
  /** The paths on the way to those. */
  readonly #above = new Set<string>();
  /** The document as plain values; an empty mapping for an empty text. */
  readonly input: unknown;

  /** @throws ConfigError for a text that is not YAML. */
  constructor(text: string, file: string) {
    this.#file = file;
    this.#doc = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, stringKeys: true });
    const refuse = (offset: number, problem: string) => {
      this.#problems.push({ line: this.#lines.linePos(offset).line, text: problem });
    };
    const refuseYaml = (offset: number, problem: string) => {
      const at = text.slice(offset).split("\n", 1)[0]?.trim().slice(0, 40);
      refuse(offset, `this is no valid YAML: ${problem}${at ? `, at ${at}` : ""}`);
    };
    for (const { pos, message } of [...this.#doc.errors, ...this.#doc.warnings]) refuseYaml(pos[0], message);
    visit(this.#doc, {
      Alias: (_, alias) => {
        if (alias.resolve(this.#doc)) return;
        refuseYaml(alias.range?.[0] ?? 0, `no anchor &${alias.source} stands before it`);
      },
      Pair: (_, { key }) => {
        if (!isScalar(key) || !RESERVED.includes(key.value)) return;
        refuse(key.range?.[0] ?? 0, `${key.value}: unknown key, and no key or label can have this name`);
      },
    });
    this.finish();
    try {
      this.input = this.#doc.toJS() ?? {};
    } catch (error) {
      refuseYaml(0, (error as Error).message); // aliases that unfold to more than memory holds
      this.finish();
    }
  }

  /** Notes a problem with the value at the path, or with its absence. */
  report(path: Path, problem: string): void {
    this.distrust(path);
    this.#problems.push({ line: this.lineOf(path), text: path.length ? `${format(path)}: ${problem}` : problem });
  }

  /** Takes the path for unsound, though there is nothing to report at it. */
  distrust(path: Path): void {
    this.#broken.add(format(path));
    for (let end = 0; end < path.length; end++) this.#above.add(format(path.slice(0, end)));
  }

  /** True if nothing is wrong on the way to the path, at it or, unless only `itself` is asked for, below it. */
  sound(path: Path, itself?: "itself"): boolean {
    if (!itself && this.#above.has(format(path))) return false;
    for (let end = 0; end <= path.length; end++) if (this.#broken.has(format(path.slice(0, end)))) return false;
    return true;
  }

  /** The line of the key or list item at the path, or of the last one that is there on the way to it. */
  lineOf(path: Path): number {
    let node: unknown = this.#doc.contents;
    let offset = this.#doc.contents?.range[0] ?? 0;
    for (const step of path) {
      if (isAlias(node)) node = node.resolve(this.#doc);
      const pair = isMap(node) ? node.items.find(({ key }) => isScalar(key) && key.value === step) : undefined;
      const next = isSeq(node) ? node.items[Number(step)] : pair?.key;
      if (!isNode(next)) break;
      offset = next.range?.[0] ?? offset;
      node = pair ? pair.value : next;
    }
    return this.#lines.linePos(offset).line;
  }

  /** @throws ConfigError if problems were noted. */
  finish(): void {
    if (!this.#problems.length) return;
    const sorted = this.#problems.toSorted((a, b) => a.line - b.line);
    throw new ConfigError(sorted.map(({ line, text }) => `${this.#file}:${line}: ${text}`));
  }
}

/** `source.vips[2].address`. */
export function format(path: Path): string {
  return path
    .map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`))
    .join("")
    .replace(/^\./, "");
}

/** The name that was probably meant: at most two letters in five differ. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const lower = name.toLowerCase();
  const near = names.toSorted((a, b) => distance(lower, a.toLowerCase()) - distance(lower, b.toLowerCase()))[0];
  return near && distance(lower, near.toLowerCase()) <= near.length * 0.4 ? near : undefined;
}
