/** Globs of interface names: `*` is any text, `?` any character, `[ab]`, `[a-z]` and `[!ab]` one of a set, or none of it. */

/** Longer than any interface's name (15), with room for sets. */
const MAX_LENGTH = 64;
const TOKENS = /\[!?[^[\]\\^!]+\]|\*+|[^[\]*]/gu;

/** Accepts one character; a star stands for any number of them. */
type Token = RegExp | "*";

/** True for a text that {@link matches} reads as a glob; all others match only themselves. */
export const isGlob = (text: string): boolean => compile(text) !== undefined;

/** Globs by the list in which they stand: each list is compiled once. */
const compiled = new WeakMap<readonly string[], (readonly Token[])[]>();

/** True if the name is one of the globs, or fits one. */
export function matches(name: string, globs: readonly string[]): boolean {
  if (globs.includes(name)) return true;
  let all = compiled.get(globs);
  if (!all) compiled.set(globs, (all = globs.flatMap((glob) => [compile(glob) ?? []])));
  return all.some((tokens) => fits(tokens, [...name]));
}

function compile(text: string): readonly Token[] | undefined {
  if (text.length > MAX_LENGTH || !/[*?[]/.test(text) || /[\s/:]/.test(text)) return undefined;
  const tokens = text.match(TOKENS) ?? [];
  if (tokens.join("") !== text) return undefined; // a bracket without its partner
  try {
    return tokens.map(tokenOf);
  } catch {
    return undefined; // a range that ends before it begins, as in [b-a]
  }
}

function tokenOf(token: string): Token {
  if (token.startsWith("*")) return "*";
  if (token === "?") return /./u;
  if (token.startsWith("[")) return new RegExp(`^${token.replace("[!", "[^")}$`, "u");
  return new RegExp(`^${token.replace(/[\\^$.|+(){}]/, "\\$&")}$`, "u");
}

/** Only the last star is ever tried again, at most once a character, so the time is bounded by name times glob. */
function fits(tokens: readonly Token[], name: readonly string[]): boolean {
  let [at, next, star, resume] = [0, 0, -1, 0];
  while (at < name.length) {
    const token = tokens[next];
    if (token === "*") {
      star = next++;
      resume = at;
    } else if (token?.test(name[at]!)) {
      next++;
      at++;
    } else if (star >= 0) {
      next = star + 1;
      at = ++resume;
    } else return false;
  }
  return tokens.slice(next).every((token) => token === "*");
}
