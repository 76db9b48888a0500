import { buffer } from "node:stream/consumers";
import type { Connection } from "./connection.ts";
import { parse } from "./lines.ts";
import { pathOf, type Resource } from "./watch.ts";

const PAGE = "500";

/** Reads all objects of a resource once, in pages. @throws ApiError, or Error if the API cannot be reached */
export async function* list(connection: Connection, resource: Resource, signal: AbortSignal): AsyncGenerator<unknown> {
  for (let next: string | undefined = ""; next !== undefined; ) {
    const query = new URLSearchParams({ ...resource.query, limit: PAGE, ...(next && { continue: next }) });
    const response = await connection.send("GET", `${pathOf(resource)}?${query}`, signal);
    const page: { items?: unknown[]; metadata?: { continue?: string } } = parse(await buffer(response));
    yield* page.items ?? [];
    next = page.metadata?.continue || undefined;
  }
}
