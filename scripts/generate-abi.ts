/**
 * Writes the TypeScript of bpf/abi.h and bpf/wire.h, src/core/abi.generated.ts, from the BTF of the compiled object: every
 * struct that a map or the wire format has, every enum, and every map with its types and size.
 *
 * Usage: generate-abi.ts OBJECT [--write]. Without --write it exits 1 where the file is not current.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { bool, bytes, enumOf, type Fields, layout, text, u8, u16, u32, u64 } from "../src/core/layout.ts";

export const GENERATED = fileURLToPath(new URL("../src/core/abi.generated.ts", import.meta.url));

/**
 * The enums that become objects: their names, and the prefix that the keys lose. A field of a closed one has no other value;
 * a peer of a later version may send other values of the open ones.
 */
const ENUMS: Readonly<Record<string, { name: string; prefix: string; isClosed?: boolean }>> = {
  vip_state: { name: "vipState", prefix: "VIP_", isClosed: true },
  node_state: { name: "nodeState", prefix: "NODE_" },
  wire_type: { name: "wireType", prefix: "" },
  claim_verdict: { name: "claimVerdict", prefix: "CLAIM_" },
};
/** The enums whose values become constants. */
const CONSTANTS: Readonly<Record<string, { prefix: string }>> = {
  isat_constant: { prefix: "ISAT_" },
  wire_constant: { prefix: "" },
};
/** The structs whose names would mean something else in TypeScript. */
const RENAMED: Readonly<Record<string, string>> = { interface: "interfaceEntry", wire: "wireHeader" };
const INTEGERS: Readonly<Record<number, Fields[string]>> = { 1: u8, 2: u16, 4: u32, 8: u64 };
/** Map types by their numbers (enum bpf_map_type). */
const MAP_TYPES: Readonly<Record<number, string>> = { 1: "hash", 2: "array", 6: "per-CPU array" };
/** The structs that belong to no map. */
const OTHERS = ["wire", "wire_claim", "wire_old_claim", "vip_change"];

interface Btf {
  id: number;
  kind: string;
  name: string;
  size?: number;
  type_id?: number;
  nr_elems?: number;
  members?: { name: string; type_id: number; bits_offset: number }[];
  values?: { name: string; val: number }[];
}

function typeOf(number: number): string {
  const name = MAP_TYPES[number];
  if (name === undefined) throw new Error(`Cannot express a map of type ${number} in TypeScript`);
  return name;
}
const camel = (name: string) => RENAMED[name] ?? name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
const pascal = (name: string) => camel(name).replace(/^./, (letter) => letter.toUpperCase());
const object = (head: string, lines: readonly string[], tail: string) => `${head}{\n${lines.join("\n")}\n}${tail}\n`;

/** The text of src/core/abi.generated.ts for this object. @throws Error where the object has what no layout can express */
export function generate(objectFile: string): string {
  const dump = execFileSync("bpftool", ["-j", "btf", "dump", "file", objectFile], { encoding: "utf8" });
  const { types } = JSON.parse(dump) as { types: Btf[] };
  const byId = new Map(types.map((type) => [type.id, type]));

  const resolve = (id: number): Btf => {
    const type = byId.get(id)!;
    return ["TYPEDEF", "CONST", "VOLATILE", "TYPE_TAG"].includes(type.kind) ? resolve(type.type_id!) : type;
  };
  const named = (kind: string, name: string): Btf => {
    const type = types.find((candidate) => candidate.kind === kind && candidate.name === name);
    if (!type) throw new Error(`Cannot find ${kind.toLowerCase()} ${name} in the BTF of ${objectFile}`);
    return type;
  };

  /** The codec of a field, as src/core/layout.ts has it, and its text. */
  function codecOf(id: number, where: string): [codec: Fields[string], text: string] {
    if (byId.get(id)!.name === "__be16") return [bytes(2), "bytes(2)"];
    const { kind, name, size = 0, type_id, nr_elems = 0 } = resolve(id);
    const element = kind === "ARRAY" ? resolve(type_id!).name : "";
    if (element === "char") return [text(nr_elems), `text(${nr_elems})`];
    if (element === "unsigned char") return [bytes(nr_elems), `bytes(${nr_elems})`];
    if (name === "_Bool") return [bool, "bool"];
    if (name === "bpf_spin_lock") return [u32, "u32"];
    if (kind === "ENUM" && ENUMS[name]) {
      const type = ENUMS[name].isClosed ? `<${pascal(ENUMS[name].name)}>` : "";
      return [enumOf(name), `enumOf${type}("${name}")`];
    }
    const integer = kind === "INT" ? INTEGERS[size] : undefined;
    if (integer) return [integer, `u${size * 8}`];
    throw new Error(`Cannot express ${where} in TypeScript: it is of kind ${kind} and type ${name || "without name"}`);
  }

  function structText({ name, size, members }: Btf): string {
    const fields = members!.map((member) => {
      const [codec, text] = codecOf(member.type_id, `${name}.${member.name}`);
      return { ...member, codec, text };
    });
    // The offsets are not written down: layout() computes them by C's rule. So it has to compute those of this object.
    const computed = layout(name, Object.fromEntries(fields.map(({ name, codec }) => [name, codec])));
    for (const { name: field, bits_offset } of fields) {
      const { offset } = computed.fields.get(field)!;
      if (offset * 8 !== bits_offset)
        throw new Error(`Cannot place ${name}.${field} at ${bits_offset / 8}: C's rule says ${offset}`);
    }
    if (computed.size !== size)
      throw new Error(`Cannot lay out struct ${name} in ${size} bytes: C's rule says ${computed.size}`);
    const lines = fields.map(({ name, text }) => `  ${name}: ${text},`);
    return `${object(`export const ${camel(name)} = layout("${name}", `, lines, ");")}${`export type ${pascal(name)} = ReturnType<typeof ${camel(name)}.decode>;\n`}`;
  }

  const structs = new Map<string, Btf>();
  const maps = types
    .filter(({ kind, type_id }) => kind === "VAR" && resolve(type_id!).members?.some((m) => m.name === "max_entries"))
    .map((variable) => {
      const members = new Map(resolve(variable.type_id!).members!.map((member) => [member.name, member.type_id]));
      const pointed = (member: string) => resolve(resolve(members.get(member)!).type_id!);
      const [key, value] = ["key", "value"].map((side) => {
        const type = pointed(side);
        if (type.kind !== "STRUCT") return "ifindexKey";
        structs.set(type.name, type);
        return camel(type.name);
      });
      return `  ${variable.name}: { key: ${key}, value: ${value}, entries: ${pointed("max_entries").nr_elems}, type: "${typeOf(pointed("type").nr_elems!)}" },`;
    });
  for (const name of OTHERS) structs.set(name, named("STRUCT", name));

  const constants = Object.entries(CONSTANTS).flatMap(([name, { prefix }]) =>
    named("ENUM", name).values!.map((value) => `export const ${value.name.replace(prefix, "")} = ${value.val};`),
  );
  const enums = Object.entries(ENUMS).map(([name, { name: ts, prefix }]) => {
    const lines = named("ENUM", name).values!.map((value) => `  ${value.name.replace(prefix, "")}: ${value.val},`);
    const type = `export type ${pascal(ts)} = (typeof ${ts})[keyof typeof ${ts}];\n`;
    return `${object(`export const ${ts} = `, lines, " as const;")}${type}`;
  });
  return `${[
    "// Written by scripts/generate-abi.ts from the BTF of the kernel programs: bpf/abi.h and bpf/wire.h explain it.",
    'import { bool, bytes, enumOf, ifindexKey, layout, text, u8, u16, u32, u64 } from "./layout.ts";\n',
    `${constants.join("\n")}\n`,
    ...enums,
    ...[...structs.values()].map(structText),
    "/** The maps by name: the type of each one's key and value, and how many entries it holds. */",
  ].join("\n")}\n${object("export const maps = ", maps, " as const;")}`;
}

/** The first line in which the file differs from the object; undefined where it is current. */
export function difference(objectFile: string): string | undefined {
  const [is, should] = [readFileSync(GENERATED, "utf8"), generate(objectFile)].map((text) => text.split("\n"));
  const line = Array.from({ length: Math.max(is!.length, should!.length) }, (_, i) => i).find(
    (i) => is![i] !== should![i],
  );
  return line === undefined
    ? undefined
    : `line ${line + 1} is "${is![line] ?? ""}", and the object says "${should![line] ?? ""}"`;
}

if (import.meta.main) {
  const [objectFile = "", flag] = process.argv.slice(2);
  if (flag === "--write") writeFileSync(GENERATED, generate(objectFile));
  const found = difference(objectFile);
  if (found) {
    console.error(`isat: cannot use src/core/abi.generated.ts, as it is not of these kernel programs: ${found}.`);
    console.error("isat: After a change of bpf/abi.h or bpf/wire.h run: ABI=write sh scripts/build-bpf");
    process.exit(1);
  }
}
