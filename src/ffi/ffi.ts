import process from "node:process";
import type { Port } from "./port.ts";

/**
 * The adapter in use: on Deno its own FFI; on Node koffi, or the one that ISAT_FFI names. The others are not imported:
 * ffi-napi exists only where it could be compiled.
 */
export const ffi: Port = await choose("Deno" in globalThis, process.env.ISAT_FFI || undefined);

/** @throws Error if this runtime has no adapter of that name */
async function choose(isDeno: boolean, name = isDeno ? "deno" : "koffi"): Promise<Port> {
  if (isDeno && name === "deno") return (await import("./deno.ts")).denoPort;
  if (!isDeno && name === "koffi") return (await import("./koffi.ts")).koffiPort;
  if (!isDeno && name === "ffi-napi") return (await import("./ffi-napi.ts")).ffiNapiPort;
  const advice = isDeno ? "Deno has its own FFI. Unset it" : "on Node it is koffi (the default) or ffi-napi";
  throw new Error(`Cannot use the FFI that ISAT_FFI names: it is "${name}", and ${advice}`);
}
