// Lets `node --import ./scripts/ts.mjs FILE.ts` run TypeScript through ts-node (transpile only: tsc checks the types).
import { register } from "node:module";

register("ts-node/esm", import.meta.url);
