/** Reads the fields of the API's objects. Whatever is not well formed is refused, with its path and its value. Pure. */
import { fault, type LabelSelector, type Labels, OPERATORS } from "./selector.ts";

/** An object as the API sends it: any JSON. */
export type Json = Readonly<Record<string, unknown>>;

export const isJson = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export function refuse(path: string, value: unknown, wanted: string): never {
  const found = value === undefined ? "nothing" : JSON.stringify(value);
  throw new Error(`${path} is ${found.length > 60 ? `${found.slice(0, 57)}...` : found}, not ${wanted}`);
}

/** Takes a value as an object; an absent one is {}. The path is for the error. */
export function part(value: unknown, path: string): Json {
  if (value === undefined || value === null) return NONE;
  return isJson(value) ? value : refuse(path, value, "an object");
}

export function items(value: unknown, path: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : refuse(path, value, "a list");
}

export function optional(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === "string" ? value : refuse(path, value, "a text");
}

export function textOf(value: unknown, path: string): string {
  return optional(value, path) ?? refuse(path, value, "a text");
}

/** Takes note of an entry that cannot be read. */
export type Note = (fault: string) => void;

/** @throws Error in the place of a note: every entry has to be good */
export const strict: Note = (fault) => {
  throw new Error(fault);
};

/**
 * Reads the entries of a list, and notes those that are bad.
 * @throws Error where all are, because many an empty list means everything
 */
export function entries<T>(value: unknown, path: string, read: (item: unknown, path: string) => T, note: Note): T[] {
  const good: T[] = [];
  const faults: Error[] = [];
  for (const [index, item] of items(value, path).entries()) {
    try {
      good.push(read(item, `${path}[${index}]`));
    } catch (error) {
      faults.push(error as Error);
    }
  }
  if (good.length === 0 && faults[0]) throw faults[0];
  for (const { message } of faults) note(message);
  return good;
}

export function flag(value: unknown, path: string): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === "boolean" ? value : refuse(path, value, "true or false");
}

/** One object for all labels that are empty: a big cluster has ten thousand objects without labels. */
export const NONE: Readonly<Record<string, never>> = Object.freeze({});

export function labelsOf(value: unknown, path: string): Labels {
  const labels = part(value, path);
  for (const key in labels) if (typeof labels[key] !== "string") refuse(`${path}["${key}"]`, labels[key], "a text");
  return Object.keys(labels).length > 0 ? (labels as Labels) : NONE;
}

export function selectorOf(value: unknown, path: string): LabelSelector {
  const { matchLabels, matchExpressions } = part(value, path);
  return {
    matchLabels: labelsOf(matchLabels, `${path}.matchLabels`),
    matchExpressions: items(matchExpressions, `${path}.matchExpressions`).map((item, index) => {
      const at = `${path}.matchExpressions[${index}]`;
      const { key, operator, values } = part(item, at);
      const requirement = {
        key: optional(key, `${at}.key`) ?? refuse(`${at}.key`, key, "a label's name"),
        operator:
          OPERATORS.find((name) => name === operator) ?? refuse(`${at}.operator`, operator, OPERATORS.join(", ")),
        values: entries(values, `${at}.values`, textOf, strict),
      };
      const reason = fault(requirement);
      if (reason) throw new Error(`${at}: ${reason}`);
      return requirement;
    }),
  };
}
