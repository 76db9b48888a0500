/**
 * scripts/chart: writes what follows from other files: the chart's version, the schema of its values, the list of keys in
 * values.yaml, and the manifests for kubectl, which are the chart's rendering.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { binary } from "../lab/cluster/binaries.ts";
import { KEYS, type Key } from "../src/config/schema.ts";

type Schema = Record<string, unknown>;

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
const CHART = fileURLToPath(new URL("chart", import.meta.url));

/** What the pod is made for, and so no value can change. */
const FIXED = new Set([
  "node",
  "pinDir",
  "runDir",
  "stateDir",
  "source.cluster",
  "source.accept",
  "source.kubeconfig",
  "source.nodes",
  "source.vips",
]);

/** The keys that a value of the chart can give, by their path. */
export const keys = new Map(
  Object.entries<Key>(KEYS).filter(([path]) => ![...FIXED].some((fixed) => new RegExp(`^${fixed}\\b`).test(path))),
);

const text = { type: "string" };
const flag = { type: "boolean" };
const mapping = { type: "object" };
const list = { type: "array" };
/** Accepts these properties and no others. */
const exactly = (properties: Schema): Schema => ({ type: "object", additionalProperties: false, properties });

function configSchema(path = ""): Schema {
  const prefix = path && `${path}.`;
  const below = [...keys.keys()].filter((key) => key.startsWith(prefix) && /^\w+$/.test(key.slice(prefix.length)));
  const its = keys.get(path);
  const description = its ? { description: `${its.about}. Accepts ${its.accepts}` } : {};
  if (below.length > 0) {
    const properties = Object.fromEntries(below.map((key) => [key.slice(prefix.length), configSchema(key)]));
    return { ...exactly(properties), ...description };
  }
  if (path === "source.kind") return { enum: ["kubernetes"], ...description };
  if (its?.accepts === "true or false") return { type: "boolean", ...description };
  const words = /^[\w-]+(, [\w-]+)* or [\w-]+$/.test(its?.accepts ?? "");
  if (words) return { enum: its!.accepts.split(/, | or /), ...description };
  if (keys.has(`${path}[]`)) return { type: "array", ...description };
  return description;
}

function valuesSchema(): string {
  const toggle = (more: Schema) => exactly({ enabled: flag, ...more });
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    ...exactly({
      global: mapping,
      namespace: exactly({ name: text }),
      image: exactly({
        repository: text,
        tag: text,
        digest: { ...text, pattern: "^(sha256:[0-9a-f]{64})?$" },
        pullPolicy: { enum: ["Always", "IfNotPresent", "Never"] },
      }),
      imagePullSecrets: list,
      config: configSchema(),
      controller: toggle({ metrics: text }),
      metallb: flag,
      wireKey: exactly({ existingSecret: text }),
      resources: mapping,
      tolerations: list,
      nodeSelector: mapping,
      affinity: mapping,
      priorityClassName: text,
      updateStrategy: mapping,
      podLabels: mapping,
      podAnnotations: mapping,
      capabilities: {
        ...list,
        minItems: 3,
        items: { enum: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_RESOURCE"] },
      },
      appArmorProfile: mapping,
      seLinuxOptions: mapping,
      openshift: exactly({ securityContextConstraints: flag }),
      podMonitor: toggle({ interval: text, labels: mapping }),
      networkPolicy: toggle({ ingress: list }),
      extraObjects: list,
      clean: flag,
    }),
  };
  const biome = fileURLToPath(new URL("../node_modules/.bin/biome", import.meta.url));
  const input = JSON.stringify(schema, null, 2);
  return execFileSync(biome, ["format", "--stdin-file-path=values.schema.json"], { input, encoding: "utf8" });
}

/** values.yaml, with each key of the configuration as a comment. */
function values(): string {
  const leaves = [...keys].filter(
    ([path]) => !path.includes("[]") && ![...keys.keys()].some((key) => key.startsWith(`${path}.`)),
  );
  const lines = leaves.map(
    ([path, { about, default: value }]) => `  #   ${path}: ${about}${value ? ` (${value})` : ""}`,
  );
  return read("chart/values.yaml").replace(
    /(\(written by scripts\/chart\):\n).*?(?= {2}# end)/s,
    `$1${lines.join("\n")}\n`,
  );
}

function chart(): string {
  const { version } = JSON.parse(read("../package.json"));
  return read("chart/Chart.yaml").replace(/^(version|appVersion): .*$/gm, `$1: ${version}`);
}

/** What kubectl applies: the rendering with the default values, and those given. */
function manifest(about: string, ...options: string[]): string {
  const args = ["template", "isat", CHART, ...options];
  const rendered = execFileSync(binary("helm"), args, { encoding: "utf8" });
  return `${about.replace(/^/gm, "# ").replace(/ +$/gm, "")}\n${rendered.replace(/^# Source: .*\n/gm, "").replace(/^---\n/, "")}`;
}

const ABOUT = `isat on every node of a cluster, as docs/install.md tells. Written by scripts/chart from deploy/chart, which has more settings.
After it is applied, make the key that the nodes sign with, once:

  kubectl -n isat-system create secret generic isat-wire --from-literal=wire.key="$(head -c 32 /dev/urandom | base64)"`;
const ABOUT_METALLB = `Lets isat read MetalLB's resources, in the namespace metallb-system alone. Written by scripts/chart from deploy/chart.`;
const ABOUT_CLEAN = `Takes isat off every node, before isat.yaml is deleted: docs/install.md. Written by scripts/chart from deploy/chart.`;

/** The files, in the order in which one is made from another. @returns each with the text that it should have */
export const FILES: readonly (readonly [path: string, text: () => string])[] = [
  ["chart/Chart.yaml", chart],
  ["chart/values.schema.json", valuesSchema],
  ["chart/values.yaml", values],
  ["isat.yaml", () => manifest(ABOUT)],
  ["clean.yaml", () => manifest(ABOUT_CLEAN, "--set", "clean=true")],
  ["metallb.yaml", () => manifest(ABOUT_METALLB, "--set", "metallb=true", "--show-only", "templates/metallb.yaml")],
];

if (import.meta.main) for (const [path, make] of FILES) writeFileSync(new URL(path, import.meta.url), make());
