// One file of JavaScript, dist/isat.mjs: what ships, and what the lab and the benchmarks run. koffi stays outside: it is
// a native library with its own loader.
import { readFileSync } from "node:fs";
import { build } from "esbuild";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

await build({
  entryPoints: ["src/main.ts"],
  outfile: "dist/isat.mjs",
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  external: ["koffi"],
  sourcemap: "linked",
  legalComments: "linked",
  define: { ISAT_VERSION: JSON.stringify(version) },
  // prom-client and pino are CommonJS inside, and ask for Node's modules by require().
  banner: {
    js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
  },
});
