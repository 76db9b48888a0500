// Lets `node --import ./scripts/ts.mjs FILE.ts` run TypeScript through ts-node, which only transpiles: tsc checks types.
import { register } from "node:module";

register("ts-node/esm", import.meta.url);
