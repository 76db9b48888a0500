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

export function texts(value: unknown, path: string): string[] {
  return items(value, path).map((item, index) => optional(item, `${path}[${index}]`) ?? refuse(path, value, "texts"));
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

function selectorOf(value: unknown, path: string): LabelSelector {
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
        values: texts(values, `${at}.values`),
      };
      const reason = fault(requirement);
      if (reason) throw new Error(`${at}: ${reason}`);
      return requirement;
    }),
  };
}

export const selectorsOf = (value: unknown, path: string) =>
  items(value, path).map((item, index) => selectorOf(item, `${path}[${index}]`));
