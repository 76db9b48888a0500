/** Splits what the API sends into objects, with bounds on their size: whoever may write objects must not stop a speaker. */

/** An answer broke off, or it was silent for too long. */
export class BreakError extends Error {}

/** An answer cannot be parsed: something may have been missed. */
export class ContentError extends BreakError {}

/**
 * The longest text that is parsed, in bytes: the parser holds up everything else, for about 20 ms a megabyte, and what it
 * makes takes many times the memory. An EndpointSlice with all of 1,000 endpoints has 400 kB.
 */
export const MAX_OBJECT = 512 * 2 ** 10;
/** The longest line that is read. By default etcd stores objects of at most 1.5 MB, and the API takes at most 3 MB. */
export const MAX_LINE = 32 * 2 ** 20;
/** Go writes the metadata of its types early, and in this order. */
const HEAD = 4_096;
const METADATA = /"metadata":(\{"name":"[^"]+".*?"resourceVersion":"\d+")/;

/** The metadata of a list, or of the first object in a text that is too long to be parsed. */
export interface Metadata {
  resourceVersion?: string;
  continue?: string;
  annotations?: Record<string, string>;
}

/** An event of a watch. */
export interface WatchEvent {
  type?: string;
  object?: { code?: number; message?: string; metadata?: Metadata };
  /** Why the object is no more than its metadata. */
  fault?: string;
}

const faultOf = (bytes: number) => `it has ${bytes} bytes, and isat reads objects of at most ${MAX_OBJECT}`;

export function parse<T>(bytes: Buffer): T {
  try {
    return JSON.parse(bytes.toString()) as T;
  } catch (error) {
    throw new ContentError(`the answer is not JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

/** The first object's metadata, as far as its head tells; undefined: it has another form, such as a custom resource's. */
function firstObject(head: string): object | undefined {
  const [, text] = METADATA.exec(head) ?? [];
  return text === undefined ? undefined : { metadata: parse(Buffer.from(`${text}}`)) };
}

/** Reads an event of a watch. */
export function eventOf(line: Buffer): WatchEvent {
  if (line.length <= MAX_OBJECT) return parse(line);
  const head = line.toString("latin1", 0, HEAD);
  const [, type] = /^\{"type":"(\w+)"/.exec(head) ?? [];
  const object = firstObject(head);
  return type && object
    ? { type, object, fault: faultOf(line.length) }
    : { ...parse<WatchEvent>(line), fault: faultOf(line.length) };
}

/** A page of a list. @throws ContentError if it is none */
export function pageOf(bytes: Buffer): { metadata?: Metadata; items: unknown[]; fault?: string } {
  if (bytes.length <= MAX_OBJECT) return { items: [], ...parse<object>(bytes) };
  const fault = faultOf(bytes.length);
  const head = bytes.toString("latin1", 0, HEAD);
  const [, metadata] = /^\{"kind":"\w+","apiVersion":"[^"]+","metadata":(\{[^{}]*\})/.exec(head) ?? [];
  const first = firstObject(head);
  if (!metadata || !first) return { items: [], ...parse<object>(bytes), fault };
  return { metadata: parse(Buffer.from(metadata)), items: [first], fault };
}

/** Splits into lines, as bytes, so that no text of more than one object is ever made. */
export async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end));
      const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      if (line.length > 0) yield line;
      parts = [];
      length = 0;
      start = end + 1;
    }
    if (start === chunk.length) continue;
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > MAX_LINE) throw new ContentError(`it sent a line of more than ${MAX_LINE} bytes`);
  }
  if (parts.length > 0) throw new BreakError("it ended in the middle of a line");
}
