import process from "node:process";
import type { Port } from "./port.ts";

/**
 * The FFI in use: Deno's own on Deno; on Node koffi, or what ISAT_FFI names. The others are not even loaded: Deno has
 * no need of koffi, and ffi-napi is there only where it could be compiled.
 */
export const ffi: Port = await choose("Deno" in globalThis, process.env.ISAT_FFI || undefined);

/** @throws Error where the name is none of an adapter that this runtime can use */
async function choose(isDeno: boolean, name: string | undefined): Promise<Port> {
  if (isDeno) {
    if (name !== undefined && name !== "deno") throw refusal(name, "Deno has its own FFI. Unset it");
    return (await import("./deno.ts")).denoPort;
  }
  switch (name) {
    case undefined:
    case "koffi":
      return (await import("./koffi.ts")).koffiPort;
    case "ffi-napi":
      return (await import("./ffi-napi.ts")).ffiNapiPort;
    default:
      throw refusal(name, "on Node it is koffi (the default) or ffi-napi");
  }
}

function refusal(name: string, advice: string): Error {
  return new Error(`Cannot use the FFI that ISAT_FFI names: it is "${name}", and ${advice}`);
}
