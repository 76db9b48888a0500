import { koffiPort } from "./koffi.ts";
import type { Port } from "./port.ts";

/** The FFI in use. */
export const ffi: Port = koffiPort;
