/** The only table of the configuration's keys: types, defaults, --help, the docs and errors are read off it. */
import * as v from "valibot";
import { MAX_KEYS } from "../core/abi.ts";
import { allocation, pools } from "../source/kubernetes/pool-settings.ts";
import { kubernetesSource } from "../source/kubernetes/settings.ts";
import { fileSource } from "../source/settings.ts";
import {
  absolutePath,
  type Description,
  duration,
  interfaces,
  key,
  keys,
  listen,
  mapping,
  nodeName,
} from "./values.ts";

export const EXAMPLE = "source: { kind: file, nodes: [n1, n2], vips: [{ address: 10.9.0.1 }] }";
export const RUN_DIR = "/run/isat";
const STATE_DIR = "/var/lib/isat";
/** The file of the key that nodes sign with, unless membership.keys names others. */
export const KEY_FILE = "/etc/isat/wire.key";

/** MetalLB's list (excludel2.yaml of its chart), and Cilium's and Calico's own interfaces. */
const NO_NICS =
  "cali* cbr* cilium* cni* docker* dummy* flannel* kube-ipvs* lo lxc* nodelocaldns* tunl* veth* virbr* vxlan.calico".split(
    " ",
  );

/** How much gratuitous ARP a switch is trusted to take, a second and NIC. Three refreshes fit into 300 s of FDB ageing. */
const RATES = { open: 1000, guarded: 5 };
const REFRESH = "95s";

const garp = v.pipe(
  mapping(
    keys({
      profile: key(
        v.optional(v.picklist(["open", "guarded"]), "open"),
        `announcements a second and NIC: open ${RATES.open}, guarded ${RATES.guarded} (for switches that police ARP)`,
      ),
      refresh: key(v.optional(duration, REFRESH), "how often each VIP is announced again"),
      rate: key(
        v.optional(v.pipe(v.number(), v.finite(), v.gtValue(0))),
        "the most announcements that a NIC sends in a second",
        { accepts: "a number greater than 0", default: "the profile's" },
      ),
      form: key(
        v.optional(v.picklist(["request", "reply", "both"]), "request"),
        "the form of gratuitous ARP: reply or both for devices that do not learn from requests, where no switch checks the target MAC (DAI)",
      ),
    }),
  ),
  v.transform(({ profile, refresh, rate = RATES[profile], form }) => ({ refresh, rate, form })),
);

/** In the place of key files: everybody may sign. */
export const NO_KEY = "none";
const keyFile = v.union([v.literal(NO_KEY), absolutePath]);

const membership = mapping(
  keys({
    kind: key(
      v.optional(v.picklist(["static", "wire"])),
      "wire: nodes probe each other's kernels; static: every node listed is alive",
      { default: "wire where there is more than one node" },
    ),
    keys: key(
      v.optional(v.union([v.literal(NO_KEY), v.pipe(v.array(keyFile), v.minLength(1), v.maxLength(MAX_KEYS))])),
      "wire: the keys that sign frames between nodes; the first file signs, all verify; none: a key that everybody knows",
      {
        accepts: `a list of 1 to ${MAX_KEYS} key files, such as [${KEY_FILE}], or none (in the list, too: while a first key is introduced)`,
        default: `[${KEY_FILE}]`,
      },
    ),
    interval: key(v.optional(duration, "100ms"), "wire: how often each peer is probed, from 10ms to 1s"),
    dead: key(
      v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100)), 3),
      "wire: after how many unanswered probes a peer counts as dead",
      { accepts: "a whole number from 1 to 100" },
    ),
  }),
);

const metrics = v.pipe(
  mapping(keys({ listen: key(listen, "where the metrics are served") })),
  v.transform(({ listen }) => listen),
);

export const Schema = mapping(
  keys({
    node: key(v.optional(nodeName), "this node's name: one of source.nodes, or the name of its Node in the cluster", {
      default: "NODE_NAME, else (kind file only) the host's name",
    }),
    interfaces: key(v.optional(interfaces), "where VIPs are answered and announced", {
      default: "each VIP where a subnet has it, else on the interface of the default route",
    }),
    hook: key(
      v.optional(v.picklist(["auto", "tcx", "tc", "xdp"]), "auto"),
      "where the programs attach; auto is tcx, or tc (clsact) where the kernel has no tcx",
    ),
    excludeInterfaces: key(
      v.optional(interfaces, NO_NICS),
      "interfaces that are not the network's, such as those of Pods: not chosen by themselves, and not guarded",
      { default: NO_NICS.join(" ") },
    ),
    pinDir: key(
      v.optional(absolutePath, "/sys/fs/bpf/isat"),
      "where maps, programs and links are pinned, on a BPF file system",
    ),
    runDir: key(v.optional(absolutePath, RUN_DIR), "the folder of the speaker's socket and its files"),
    stateDir: key(v.optional(absolutePath), "the folder of what is to outlive a power cut", {
      default: `${STATE_DIR}; with a runDir of its own, that`,
    }),
    hold: key(v.optional(duration, "30s"), "how long a node without a running speaker keeps its VIPs"),
    fence: key(
      v.optional(duration, "5m"),
      "after how long without a running speaker a node stops answering by itself; longer than hold",
    ),
    garp: key(v.optional(garp, {}), "how fast gratuitous ARP is sent", {
      accepts: "a mapping, such as { profile: open }",
    }),
    membership: key(v.optional(membership, {}), "how isat knows which nodes are alive", {
      accepts: "a mapping, such as { kind: wire }",
    }),
    metrics: key(v.optional(metrics), "Prometheus metrics over HTTP", {
      accepts: 'a mapping, such as { listen: "127.0.0.1:9121" }; leave the key out for no metrics',
      default: "off",
    }),
    pools,
    allocation,
    source: key(mapping(v.variant("kind", [fileSource, kubernetesSource])), "where VIPs and nodes are listed", {
      accepts: `a mapping, such as ${EXAMPLE}`,
    }),
  }),
);

/** Speakers that have a runDir each must not share a mark that drains one of them. */
export const defaultStateDir = (runDir: string): string => (runDir === RUN_DIR ? STATE_DIR : runDir);

/** A file's values, with the defaults that do not depend on other keys. Times are in milliseconds. */
export type Values = v.InferOutput<typeof Schema>;

/** One row of the table of keys. */
export interface Key extends Description {
  about: string;
  accepts: string;
}

/** The parts of valibot's schemas that describe keys. */
interface Layer {
  type: string;
  pipe?: Layer[];
  wrapped?: Layer;
  default?: unknown;
  metadata?: Description;
  literal?: string;
  options?: Layer[] | string[];
  key?: string;
  entries?: Record<string, Layer>;
  item?: Layer;
}

/** The steps by which valibot reads one value, flat, from the inside out. */
function layersOf(schema: Layer): Layer[] {
  if (schema.pipe) return schema.pipe.flatMap(layersOf);
  return schema.wrapped ? [...layersOf(schema.wrapped), schema] : [schema];
}

/** "a, b or c". */
const either = (names: readonly string[]) => names.join(", ").replace(/, ([^,]*)$/, " or $1");

/** The words that a schema's own type gives. */
function implied({ type, options, literal, default: value }: Layer): Description {
  if (type === "picklist") return { accepts: either(options as string[]) };
  if (type === "literal") return { accepts: literal! };
  if (type === "boolean") return { accepts: "true or false" };
  return type === "optional" && ["string", "number", "boolean"].includes(typeof value)
    ? { default: String(value) }
    : {};
}

/** @param kind the kind of source that has the key, where others have not */
function* keysBelow(schema: Layer, path: string, kind?: string): Generator<[path: string, key: Key]> {
  const layers = layersOf(schema);
  const told: Description = Object.assign({}, ...layers.map((layer) => ({ ...implied(layer), ...layer.metadata })));
  const { about, accepts } = told;
  if (about && accepts) {
    const isShared = layers.some(({ type }) => type === "literal");
    yield [path, { ...told, accepts, about: kind && !isShared ? `(${kind}) ${about}` : about }];
  }
  for (const { type, entries = {}, item, options = [], key = "" } of layers) {
    for (const [name, entry] of Object.entries(entries)) yield* keysBelow(entry, path ? `${path}.${name}` : name, kind);
    if (item) yield* keysBelow(item, `${path}[]`, kind);
    if (type !== "union" && type !== "variant") continue;
    for (const option of options as Layer[]) yield* keysBelow(option, path, option.entries?.[key]?.literal ?? kind);
  }
}

function tableOf(schema: Layer): Record<string, Key> {
  const table: Record<string, Key> = {};
  for (const [path, key] of keysBelow(schema, "")) {
    const other = table[path];
    const join = (name: "about" | "accepts", by: string) => (other ? `${other[name]}${by}${key[name]}` : key[name]);
    table[path] = { ...key, about: join("about", "; "), accepts: join("accepts", " or ") };
  }
  return table;
}

/** Every key by its path, as in `source.vips[].address`, in the order of the schema. */
export const KEYS: Readonly<Record<string, Key>> = tableOf(Schema as unknown as Layer);
