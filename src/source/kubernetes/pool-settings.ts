import * as v from "valibot";
import { accepting, duration, key, keys, mapping, parsed, vips } from "../../config/values.ts";
import { selector } from "./settings.ts";

const name = accepting("a pool's name, without spaces", v.pipe(v.string(), v.regex(/^\S{1,253}$/)));

const described = mapping(
  keys({
    name: key(name, "its name, which a Service asks for by the annotation isat.io/pool"),
    addresses: key(v.pipe(v.array(key(vips, "some of them")), v.minLength(1), v.readonly()), "its addresses", {
      accepts: "a list of one or more addresses, such as [10.9.0.0/24, 10.9.1.10-10.9.1.19]",
    }),
    priority: key(
      v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000)), 0),
      "which pool a Service gets its address from: the one with the lowest number first, and 0 last",
      { accepts: "a whole number, 0 or more" },
    ),
    autoAssign: key(
      v.optional(v.boolean(), true),
      "false: only Services that ask for the pool, or for an address of it, get its addresses",
    ),
    avoidBuggyIPs: key(v.optional(v.boolean(), false), "true: IPv4 addresses that end in .0 or .255 are not given"),
    shareAcrossNamespaces: key(
      v.optional(v.boolean(), false),
      "true: Services of different namespaces may share an address",
    ),
    namespaces: key(
      v.optional(v.pipe(v.array(v.string()), v.readonly()), []),
      "the namespaces whose Services get its addresses, by name",
      { accepts: "a list of namespaces, such as [web]", default: "all" },
    ),
    namespaceSelector: key(v.optional(selector), "the namespaces whose Services get its addresses, by label", {
      default: "all",
    }),
    serviceSelector: key(v.optional(selector), "the Services that get its addresses", { default: "all" }),
  }),
);

export type PoolSettings = v.InferOutput<typeof described>;

/** Addresses alone: a pool of that name for all Services. */
const plain = parsed(
  v.string(),
  (text): PoolSettings => ({
    name: text,
    addresses: [v.parse(vips, text)],
    priority: 0,
    autoAssign: true,
    avoidBuggyIPs: false,
    shareAcrossNamespaces: false,
    namespaces: [],
    namespaceSelector: undefined,
    serviceSelector: undefined,
  }),
);

const pool = key(v.union([plain, described]), "a pool", {
  accepts: "addresses, or a mapping, such as { name: web, addresses: [10.9.0.0/24] }",
});

export const pools = key(
  v.optional(
    parsed(v.array(pool), (all) => {
      const twice = all.find(({ name }, index) => all.findIndex((its) => its.name === name) < index);
      if (twice) throw new Error(`found two pools ${twice.name}; accepted: each name once`);
      return all as readonly PoolSettings[];
    }),
    [],
  ),
  "(kubernetes) the addresses that isat controller gives to Services",
  { accepts: "a list, such as [10.9.0.0/24] or [{ name: web, addresses: [10.9.0.0/24] }]", default: "none" },
);

export const allocation = key(
  v.optional(
    mapping(
      keys({
        choice: key(
          v.optional(v.picklist(["stable", "lowest"]), "stable"),
          "(kubernetes) which address of a pool is given: stable follows from the Service's name, so that a cluster that is built again gives the same",
        ),
        rest: key(
          v.optional(duration, "5m"),
          "(kubernetes) for how long an address that was released goes to no other Service",
        ),
      }),
    ),
    {},
  ),
  "how addresses are given",
  { accepts: "a mapping, such as { choice: stable, rest: 5m }" },
);
