/** The kinds of value that a configuration holds, as schemas that carry what --help, the docs and errors say of them. */
import { isIPv4, isIPv6 } from "node:net";
import * as v from "valibot";
import { parseAddress, parseRange, RANGE_FORMS, type Range, readAddress, reservedBlock } from "../core/address.ts";
import { isGlob } from "../core/glob.ts";

/** The metadata of a schema. A default in words stands here; one that can be written is that of v.optional(). */
export interface Description {
  about?: string;
  accepts?: string;
  default?: string;
}

/** Says in an error, and in the docs, what a kind of value accepts. */
export function accepting<S extends v.GenericSchema>(accepts: string, schema: S) {
  return v.pipe(schema, v.metadata({ accepts }));
}

/** A key of a mapping. `accepts` is needed where the kind of value does not say it. */
export function key<S extends v.GenericSchema>(schema: S, about: string, more: Omit<Description, "about"> = {}) {
  return v.pipe(schema, v.metadata({ about, ...more }));
}

const isMapping = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Valibot's objects take a list as well. */
export function mapping<S extends v.GenericSchema>(schema: S) {
  return v.pipe(v.custom<v.InferInput<S>>(isMapping), schema);
}

/** An object of these keys and no others. An optional one that is left out is present as undefined. */
export function keys<T extends v.ObjectEntries>(entries: T) {
  const names = Object.keys(entries);
  const absent = Object.fromEntries(names.map((name) => [name, undefined]));
  return v.pipe(
    v.objectWithRest(entries, v.never(names.join(", "))), // an unknown key's issue tells which keys are known
    v.transform((value) => ({ ...absent, ...value }) as { [K in keyof T]: v.InferOutput<T[K]> }),
  );
}

/** Converts a value. Where `read` returns undefined, it is refused; where it throws, with the message as its error. */
export function parsed<In, Out>(schema: v.GenericSchema<unknown, In>, read: (value: In) => Out | undefined) {
  return v.pipe(
    schema,
    v.rawTransform<In, Out>(({ dataset, addIssue, NEVER }) => {
      let message = "";
      try {
        const result = read(dataset.value);
        if (result !== undefined) return result;
      } catch (error) {
        ({ message } = error as Error);
      }
      addIssue({ message });
      return NEVER;
    }),
  );
}

/** A longer setTimeout() fires at once. */
const MAX_DURATION = 24 * 86_400_000;
const DURATION = "a whole number with a unit, longer than 0, such as 500ms, 30s, 5m or 1h, and at most 24 days";
const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

function parseDuration(value: string | number): number | undefined {
  const [, count, unit] = /^(\d+) ?(ms|s|m|h)?$/.exec(String(value)) ?? [];
  if (Number(count) > 0 && !unit) throw new Error(`found ${show(value)}, which has no unit; accepted: ${DURATION}`);
  const duration = Number(count) * UNITS[unit as keyof typeof UNITS];
  return duration > 0 && duration <= MAX_DURATION ? duration : undefined;
}

function parseListen(value: string): { host: string; port: number } | undefined {
  const [, v6, name, port] = /^(?:\[([^\]]*)\]|([^:[\]]+)):(\d{1,5})$/.exec(value) ?? [];
  const host = v6 ?? name ?? "";
  const isHost = v6 !== undefined ? isIPv6(host) : isIPv4(host) || /^(?![\d.]+$)[\w-]+(\.[\w-]+)*$/.test(host);
  return isHost && Number(port) >= 1 && Number(port) <= 65_535 ? { host, port: Number(port) } : undefined;
}

function parseVips(value: string): Range {
  const range = parseRange(value);
  const reason = reservedBlock(range);
  if (reason) throw new Error(`found ${show(value)}, but ${reason}; accepted: unicast addresses of a network`);
  return range;
}

/** In milliseconds. */
export const duration = accepting(DURATION, parsed(v.union([v.string(), v.number()]), parseDuration));
export const listen = accepting(
  'an address and a port in quotes, such as "127.0.0.1:9121" or "[::]:9121"',
  parsed(v.string(), parseListen),
);
export const vips = accepting(RANGE_FORMS, parsed(v.string(), parseVips));
export const nodeAddress = accepting(
  "an address, such as 10.9.255.2 or 2001:db8::2",
  parsed(v.string(), (text) => (readAddress(text) === undefined ? undefined : parseAddress(text))),
);
export const absolutePath = accepting("an absolute path", v.pipe(v.string(), v.startsWith("/")));
export const nodeName = accepting(
  "a node's name, of at most 253 characters and without spaces",
  v.pipe(v.string(), v.regex(/^\S{1,253}$/)),
);
/** dev_valid_name() of the kernel, an altname (ALTIFNAMSIZ is 128), or a glob. */
const interfaceName = v.pipe(
  v.string(),
  v.check((name) => isGlob(name) || /^([^\s/:]{1,15}|[^\s/:*?[\]]{1,127})$/.test(name)),
);
export const interfaces = accepting(
  "a list of interface names or globs, such as [eth0] or [ens*]",
  v.pipe(v.array(interfaceName), v.minLength(1)),
);

/** A value as an error quotes it. */
export function show(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return value.length ? "a list" : "an empty list";
  if (typeof value === "object") return "a mapping";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** The number of names that fit into a line. */
export function list(names: readonly string[]): string {
  return names.length > 12 ? `${names.slice(0, 12).join(", ")} and ${names.length - 12} more` : names.join(", ");
}
