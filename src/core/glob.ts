/** Globs of interface names: `*` is any text, `?` any character, `[ab]`, `[a-z]` and `[!ab]` one of a set, or none of it. */

/** Longer than any interface's name (15), with room for sets. */
const MAX_LENGTH = 64;
const TOKENS = /\[!?[^[\]\\^!]+\]|\*+|[^[\]*]/gu;

/** True for a text that {@link matches} reads as a glob; all others match only themselves. */
export const isGlob = (text: string): boolean => compile(text) !== undefined;

/** Globs by the list in which they stand: each list is compiled once. */
const compiled = new WeakMap<readonly string[], readonly RegExp[]>();

/** True if the name is one of the globs, or fits one. */
export function matches(name: string, globs: readonly string[]): boolean {
  if (globs.includes(name)) return true;
  let all = compiled.get(globs);
  if (!all) compiled.set(globs, (all = globs.flatMap((glob) => compile(glob) ?? [])));
  return all.some((glob) => glob.test(name));
}

/**
 * A lookahead is atomic: what stands behind each star is taken where it fits first, and never sought again, so the time is
 * bounded by name times glob.
 */
function compile(text: string): RegExp | undefined {
  if (text.length > MAX_LENGTH || !/[*?[]/.test(text) || /[\s/:]/.test(text)) return undefined;
  if (text.match(TOKENS)?.join("") !== text) return undefined; // a bracket without its partner
  let stars = 0;
  const body = text.replace(TOKENS, (token) => {
    if (token.startsWith("*")) return `${stars++ > 0 ? `))\\${stars - 1}` : ""}(?=(.*?`;
    if (token === "?") return ".";
    return token.startsWith("[") ? token.replace("[!", "[^") : token.replace(/[\\^$.|+(){}]/, "\\$&");
  });
  try {
    return new RegExp(`^${body}$${stars > 0 ? "))" : ""}`, "su");
  } catch {
    return undefined; // a range that ends before it begins, as in [b-a]
  }
}
