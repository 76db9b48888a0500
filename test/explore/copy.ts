/** Copies of objects that run, and texts by which two of them are the same. */

/** Whether the value never changes: it is shared by all copies. */
const isFixed = (value: object) => typeof value === "function" || value instanceof Uint8Array || Object.isFrozen(value);

/** A deep copy: what was one object is one in the copy. Functions and frozen objects are shared. */
export function copy<T>(value: T, known = new Map<object, object>()): T {
  if ((typeof value !== "object" && typeof value !== "function") || value === null || isFixed(value)) return value;
  const before = known.get(value);
  if (before) return before as T;
  if (value instanceof Map) {
    const map = new Map();
    known.set(value, map);
    for (const [key, item] of value) map.set(copy(key, known), copy(item, known));
    return map as T;
  }
  if (value instanceof Set) {
    const set = new Set();
    known.set(value, set);
    for (const item of value) set.add(copy(item, known));
    return set as T;
  }
  if (Array.isArray(value)) {
    const list: unknown[] = [];
    known.set(value, list);
    for (const item of value) list.push(copy(item, known));
    return list as T;
  }
  const object = Object.create(Object.getPrototypeOf(value)) as Record<string, unknown>;
  known.set(value, object);
  for (const key of Object.keys(value)) object[key] = copy((value as Record<string, unknown>)[key], known);
  return object as T;
}

/** Times, and nonces, which are readings of a clock, lie between these; ids and hashes are larger. */
const [FIRST, LAST] = [500e9, 1e14];
/** A time that was longer ago has no bearing any more on what happens, ns. */
const OLD = 61e9;

/**
 * What of an object has a bearing on the future, as text: times relative to now, so that two moments at which all is alike
 * have the same text.
 * @param left names of fields that have none
 */
export function textOf(value: unknown, now: number, left: ReadonlySet<string>): string {
  const parts: string[] = [];
  const time = (age: number) => parts.push(age > OLD ? "old" : `t${age}`);
  const add = (item: unknown): void => {
    if (typeof item === "bigint" || typeof item === "number") {
      if (item > FIRST && item < LAST) time(now - Number(item));
      else parts.push(`${item}`);
    } else if (typeof item !== "object" || item === null) parts.push(typeof item === "function" ? "f" : `${item}`);
    else if (item instanceof Uint8Array) parts.push(item.join("."));
    else if (item instanceof Map || item instanceof Set || Array.isArray(item)) {
      parts.push("[");
      for (const each of item) add(each);
      parts.push("]");
    } else {
      parts.push("{");
      for (const [key, each] of Object.entries(item)) if (!left.has(key)) add(each);
      parts.push("}");
    }
  };
  add(value);
  return parts.join(" ");
}
