// Bundles isat into one file, dist/isat.mjs. It ships, and tests, lab and benchmarks run it. koffi stays outside, as it is a
// native library with its own loader.
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

/**
 * isat uses client-node to find the configuration and to authenticate. Two of its modules are never called: undici, and
 * the clients of every API. They would be four fifths of the bundle, and 12 MB of memory.
 */
const leaveOut = {
  name: "leave out",
  setup(build) {
    build.onResolve({ filter: /^undici$|^\.\/gen\/index\.js$/ }, ({ path, importer }) =>
      importer.includes("@kubernetes/client-node") ? { path, namespace: "left out" } : undefined,
    );
    const names = ["Agent", "ProxyAgent", "createConfiguration", "ServerConfiguration"];
    const contents = `export const ${names.map((name) => `${name} = undefined`).join(", ")};`;
    build.onLoad({ filter: /./, namespace: "left out" }, () => ({ contents }));
  },
};

const { metafile } = await build({
  entryPoints: ["src/main.ts"],
  outfile: "dist/isat.mjs",
  bundle: true,
  metafile: true,
  platform: "node",
  format: "esm",
  target: "node24",
  external: ["koffi"],
  plugins: [leaveOut],
  // The text is a good part of a speaker's memory, so it is made small. Names stay, for stack traces.
  minifyWhitespace: true,
  minifySyntax: true,
  sourcemap: "linked",
  legalComments: "linked",
  define: { ISAT_VERSION: JSON.stringify(version) },
  // prom-client and pino are CommonJS, and call require() for Node's modules.
  banner: {
    js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
  },
});

// The files that went into it: the image carries the licences of their packages.
writeFileSync("dist/isat.inputs.json", `${JSON.stringify(Object.keys(metafile.inputs).toSorted(), null, 2)}\n`);
