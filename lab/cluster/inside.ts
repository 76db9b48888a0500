import { execute, type Outcome } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";

/** Runs a command in a namespace (its short name) to its end, for at most 20 s. */
export function inside(namespaces: Namespaces, name: string, command: string, ...args: string[]): Promise<Outcome> {
  return execute("nsenter", [`--net=/run/netns/${namespaces.full(name)}`, command, ...args]);
}

/** Runs a command in a namespace that must succeed. @returns its standard output */
export async function mustInside(
  namespaces: Namespaces,
  name: string,
  ...command: [string, ...string[]]
): Promise<string> {
  const { status, stdout, stderr } = await inside(namespaces, name, ...command);
  if (status === 0) return stdout;
  throw new Error(`${command.join(" ")} in ${namespaces.full(name)} ended with status ${status}: ${stderr}`);
}

/** Runs curl in a namespace for at most 2 s, without a proxy that this machine's environment may name. */
export function curl(namespaces: Namespaces, name: string, ...args: string[]): Promise<Outcome> {
  return inside(namespaces, name, "curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "2", ...args);
}
