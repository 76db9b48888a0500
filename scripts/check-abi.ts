/**
 * Compares the compiled object's BTF (bpf/isat.h and bpf/wire.h as the kernel sees them) with src/core/abi.ts (as the
 * control plane reads and writes them): every struct's size, every field's name, offset and size, every enum's values,
 * every map's key, value and number of entries. Prints the differences and exits 1 where there are any.
 *
 * Usage: check-abi.ts OBJECT
 */
import { execFileSync } from "node:child_process";
import { enums, type Layout, maps, wireClaim, wireHeader } from "../src/core/abi.ts";

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

/** Every difference, a line each. */
export function differences(object: string): string[] {
  const { types } = JSON.parse(
    execFileSync("bpftool", ["-j", "btf", "dump", "file", object], { encoding: "utf8" }),
  ) as {
    types: Btf[];
  };
  const byId = new Map(types.map((type) => [type.id, type]));
  const found: string[] = [];

  function resolve(id: number): Btf {
    const type = byId.get(id)!;
    return ["TYPEDEF", "CONST", "VOLATILE", "TYPE_TAG"].includes(type.kind) ? resolve(type.type_id!) : type;
  }
  function sizeOf(id: number): number {
    const type = resolve(id);
    return type.kind === "ARRAY" ? type.nr_elems! * sizeOf(type.type_id!) : type.kind === "PTR" ? 8 : type.size!;
  }
  function same(what: string, c: unknown, ts: unknown): void {
    if (c !== ts) found.push(`${what}: ${c} in bpf/, ${ts} in src/core/abi.ts`);
  }

  function compareStruct(layout: Layout<never>, type: Btf): void {
    same(`struct ${layout.name}: name`, type.name, layout.name);
    same(`struct ${layout.name}: size`, type.size, layout.size);
    const members = (type.members ?? []).map(({ name, type_id, bits_offset }) => ({
      name,
      offset: bits_offset / 8,
      size: sizeOf(type_id),
      enum: resolve(type_id).kind === "ENUM" ? resolve(type_id).name : undefined,
    }));
    const fields = [...layout.fields].map(([name, field]) => ({
      name,
      offset: field.offset,
      size: field.size,
      enum: field.enum,
    }));
    for (let i = 0; i < Math.max(members.length, fields.length); i++) {
      same(`struct ${layout.name}: field ${i}`, JSON.stringify(members[i]), JSON.stringify(fields[i]));
    }
  }

  const mapSection = types.find((type) => type.kind === "DATASEC" && type.name === ".maps");
  const variables = types.filter((type) => type.kind === "VAR");
  same(
    "maps",
    variables.filter((v) => resolve(v.type_id!).members?.some((m) => m.name === "max_entries")).length,
    Object.keys(maps).length,
  );
  if (!mapSection) found.push("the object has no .maps section");
  for (const [name, map] of Object.entries(maps)) {
    const variable = variables.find((candidate) => candidate.name === name);
    if (!variable) {
      found.push(`map ${name}: not in the object`);
      continue;
    }
    const members = new Map(resolve(variable.type_id!).members!.map((member) => [member.name, member.type_id]));
    const pointed = (member: string) => resolve(resolve(members.get(member)!).type_id!);
    same(`map ${name}: max_entries`, pointed("max_entries").nr_elems, map.entries);
    for (const side of ["key", "value"] as const) {
      const layout = map[side] as unknown as Layout<never>;
      const type = pointed(side);
      if (type.kind === "STRUCT") compareStruct(layout, type);
      else same(`map ${name}: size of the ${side}`, type.size, layout.size);
    }
  }

  // What stands on the wire is no map's: it is in the BTF as functions that are not inlined take it.
  for (const layout of [wireHeader, wireClaim] as unknown as Layout<never>[]) {
    const type = types.find((candidate) => candidate.kind === "STRUCT" && candidate.name === layout.name);
    if (type) compareStruct(layout, type);
    else found.push(`struct ${layout.name}: not in the object`);
  }

  for (const [name, values] of Object.entries(enums)) {
    const type = types.find((candidate) => candidate.kind === "ENUM" && candidate.name === name);
    const c = Object.fromEntries((type?.values ?? []).map(({ name, val }) => [name, val]));
    same(`enum ${name}`, JSON.stringify(c), JSON.stringify(values));
  }
  return found;
}

if (import.meta.main) {
  const found = differences(process.argv[2]!);
  for (const line of found) console.error(`ABI: ${line}`);
  if (found.length > 0) process.exit(1);
}
