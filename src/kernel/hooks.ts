import { existsSync, readdirSync } from "node:fs";
import { errno } from "../ffi/libc.ts";
import { makeOwnFolder } from "../files.ts";
import { deviceName, explainAttach } from "./explain.ts";
import { check, Fd, getPinned, infoOf, KernelError, libbpf } from "./libbpf.ts";
import { unpin } from "./pins.ts";

/** The kinds of hook that a program can be attached to. `tcx` needs Linux >= 6.6; `tc` is clsact. */
export type HookKind = "tcx" | "tc" | "xdp";
export type Direction = "ingress" | "egress";

/** One hook of a device. */
export interface Point {
  readonly kind: HookKind;
  readonly direction: Direction;
}

/** enum bpf_attach_type; libbpf 1.1's headers lack the TCX names. */
const ATTACH_TYPE = { tcx: { ingress: 46, egress: 47 }, xdp: { ingress: 37 } } as const;

/** enum bpf_link_type */
const LINK_TYPE: Record<number, HookKind> = { 6: "xdp", 11: "tcx" };

/** isat's own handle and priority among clsact's filters: it never replaces another program's filter. */
const TC_HANDLE = 0x15a7;
const TC_PRIORITY = 1;

const tcPoint = { ingress: 1, egress: 2 } as const; // enum bpf_tc_attach_point

/** struct bpf_tc_hook */
function tcHook(ifindex: number, direction: Direction): Uint8Array {
  const bytes = new Uint8Array(24);
  new Uint32Array(bytes.buffer).set([bytes.length, 0, ifindex, tcPoint[direction]]);
  return bytes;
}

/** struct bpf_tc_opts */
function tcOptions(programFd = 0, flags = 0): Uint8Array {
  const bytes = new Uint8Array(32);
  new Uint32Array(bytes.buffer).set([bytes.length, 0, programFd, flags, 0, TC_HANDLE, TC_PRIORITY]);
  return bytes;
}

/** The id of the program at isat's handle and priority; undefined if there is none. */
function tcProgramId(ifindex: number, direction: Direction): number | undefined {
  const options = tcOptions();
  const result = libbpf.bpf_tc_query(tcHook(ifindex, direction), options);
  if (result < 0) return undefined; // there is no such filter, no clsact, or no such device
  return new Uint32Array(options.buffer)[4]!;
}

/** Ids of the programs attached to a device of this network namespace, in running order. At clsact: isat's own only. */
export function programIds(ifindex: number, { kind, direction }: Point): number[] {
  if (kind === "tc") {
    const id = tcProgramId(ifindex, direction);
    return id === undefined ? [] : [id];
  }
  if (kind === "xdp") {
    const id = new Uint32Array(1);
    const result = libbpf.bpf_xdp_query_id(ifindex, 0, new Uint8Array(id.buffer));
    return result < 0 || id[0] === 0 ? [] : [id[0]!];
  }
  const ids = new Uint32Array(64);
  const count = Uint32Array.of(ids.length);
  const result = libbpf.bpf_prog_query(
    ifindex,
    ATTACH_TYPE.tcx[direction],
    0,
    null,
    new Uint8Array(ids.buffer),
    new Uint8Array(count.buffer),
  );
  return result < 0 ? [] : Array.from(ids.subarray(0, count[0]));
}

/** True if this kernel has tcx. A kernel without it rejects the query itself. */
export function hasTcx(): boolean {
  const LOOPBACK = 1;
  const count = Uint32Array.of(0);
  const result = libbpf.bpf_prog_query(LOOPBACK, ATTACH_TYPE.tcx.ingress, 0, null, null, new Uint8Array(count.buffer));
  return result !== -errno.EINVAL;
}

/** Id and name of a loaded program. To open another process's program by its id takes CAP_SYS_ADMIN. */
export function programInfo(fd: Fd): { id: number; name: string } {
  const info = infoOf("program", fd, 80);
  const name = new TextDecoder().decode(new Uint8Array(info.buffer, 64, 16)).split("\0")[0]!;
  return { id: info[1]!, name };
}

export function describeProgram(id: number): string {
  const fd = libbpf.bpf_prog_get_fd_by_id(id);
  if (fd < 0) return `program id ${id}`;
  using program = new Fd(fd);
  return `program id ${id} (${programInfo(program).name})`;
}

/** The `ifindex` is 0 after the device is gone. */
function linkInfo(link: Fd): { kind: HookKind | undefined; programId: number; ifindex: number } {
  const info = infoOf("link", link, 64);
  return { kind: LINK_TYPE[info[0]!], programId: info[2]!, ifindex: info[4]! };
}

const PROGRAM_NAMES: readonly string[] = ["isat_ingress", "isat_egress", "isat_xdp"];

/** True for a program of isat's name, whoever has loaded it. To know takes CAP_SYS_ADMIN; without it, false. */
function isNamedIsat(id: number): boolean {
  const fd = libbpf.bpf_prog_get_fd_by_id(id);
  if (fd < 0) return false;
  using program = new Fd(fd);
  return PROGRAM_NAMES.includes(programInfo(program).name);
}

/**
 * Links of programs of isat's name at a hook of this network namespace, found by asking the device: the pins of an earlier
 * speaker may be out of reach, because pinDir is another now, or a file system was mounted over it.
 */
function* namedLinks(ifindex: number, point: Point): Generator<{ link: Fd; programId: number }> {
  const ids = point.kind === "tc" ? [] : programIds(ifindex, point).filter(isNamedIsat);
  const next = Uint32Array.of(0);
  while (ids.length > 0 && libbpf.bpf_link_get_next_id(next[0]!, new Uint8Array(next.buffer)) === 0) {
    const fd = libbpf.bpf_link_get_fd_by_id(next[0]!);
    if (fd < 0) continue; // it has gone meanwhile
    using link = new Fd(fd);
    const { kind, programId, ifindex: at } = linkInfo(link);
    if (kind === point.kind && at === ifindex && ids.includes(programId)) yield { link, programId };
  }
}

/** Detaches programs of isat's name, but for one. @returns true if there were any */
export function detachNamed(ifindex: number, point: Point, but?: number): boolean {
  const filter = point.kind === "tc" ? tcProgramId(ifindex, point.direction) : undefined;
  let isAny = filter !== undefined && filter !== but && isNamedIsat(filter);
  if (isAny) libbpf.bpf_tc_detach(tcHook(ifindex, point.direction), tcOptions());
  for (const { link, programId } of namedLinks(ifindex, point)) {
    if (programId === but) continue;
    libbpf.bpf_link_detach(link.number);
    isAny = true;
  }
  return isAny;
}

/** Attaches programs to devices, and pins the links under one folder. */
export class Hooks implements Disposable {
  readonly #folder: string;
  /** The links that were attached here, by their pins' paths. */
  readonly #held = new Map<string, Fd>();
  readonly #isOurs: (id: number) => boolean;

  /**
   * @param folder the folder of the links, on a bpffs
   * @param isOurs true for the id of a program of isat's own: at clsact no other one is replaced or detached
   */
  constructor(folder: string, isOurs: (id: number) => boolean = () => false) {
    this.#folder = folder;
    this.#isOurs = isOurs;
  }

  /** A link's pin is named after the ifindex, as `tcx_ingress_2`: a device that is renamed keeps its links. */
  #path({ kind, direction }: Point, ifindex: number): string {
    return `${this.#folder}/${kind}_${direction}_${ifindex}`;
  }

  /** The pinned link, if it is still attached to that device of this network namespace. */
  #attachedLink(point: Point, ifindex: number): Fd | undefined {
    const link = getPinned(this.#path(point, ifindex));
    if (!link) return undefined;
    const info = linkInfo(link);
    const isOurs = info.kind === point.kind && info.ifindex === ifindex;
    // If the device has moved to another namespace, the link is still attached there. So ask the device as well.
    if (isOurs && programIds(ifindex, point).includes(info.programId)) return link;
    link[Symbol.dispose]();
    return undefined;
  }

  /**
   * Attaches `program`. If an earlier speaker's program is attached, replaces it atomically.
   * @param from folders with links of other layouts, which are adopted
   */
  ensure(ifindex: number, point: Point, program: Fd, from: readonly string[] = []): "adopted" | "attached" {
    if (point.kind === "tc") return this.#ensureFilter(ifindex, point.direction, program);
    const how = this.#ensureLink(ifindex, point, program, from);
    detachNamed(ifindex, point, programInfo(program).id);
    this.#hold(this.#path(point, ifindex));
    return how;
  }

  /** Keeps a pinned link open, so that it can be pinned again. */
  #hold(path: string): void {
    this.#held.get(path)?.[Symbol.dispose]();
    this.#held.set(path, getPinned(path)!);
  }

  /** Pins links again whose pins were removed, or are out of reach. @returns their paths */
  repin(): string[] {
    const missing = [...this.#held].filter(([path]) => !existsSync(path));
    for (const [path, link] of missing) {
      makeOwnFolder(this.#folder);
      check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(link.number, path));
    }
    return missing.map(([path]) => path);
  }

  [Symbol.dispose](): void {
    for (const link of this.#held.values()) link[Symbol.dispose]();
  }

  #ensureLink(ifindex: number, point: Point, program: Fd, from: readonly string[]): "adopted" | "attached" {
    const path = this.#path(point, ifindex);
    using own = this.#attachedLink(point, ifindex);
    if (own) {
      check(`Cannot swap the program at ${path}`, libbpf.bpf_link_update(own.number, program.number, null));
      return "adopted";
    }
    makeOwnFolder(this.#folder);
    unpin(path);
    for (const folder of from) {
      using link = new Hooks(folder).#attachedLink(point, ifindex);
      if (!link) continue;
      check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(link.number, path));
      check(`Cannot swap the program at ${path}`, libbpf.bpf_link_update(link.number, program.number, null));
      return "adopted";
    }
    for (const { link } of namedLinks(ifindex, point)) {
      check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(link.number, path));
      check(`Cannot swap the program at ${path}`, libbpf.bpf_link_update(link.number, program.number, null));
      return "adopted";
    }
    using link = new Fd(createLink(ifindex, point, program));
    check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(link.number, path));
    return "attached";
  }

  #ensureFilter(ifindex: number, direction: Direction, program: Fd): "adopted" | "attached" {
    const device = deviceName(ifindex);
    const what = `Cannot attach isat to ${device} at clsact ${direction}`;
    const advise = (number: number) => explainAttach("tc", direction, device, number);
    const hook = tcHook(ifindex, direction);
    const created = libbpf.bpf_tc_hook_create(hook);
    if (created !== -errno.EEXIST) check(what, created, advise);
    const present = tcProgramId(ifindex, direction);
    if (present !== undefined && !this.#isOurs(present) && !isNamedIsat(present)) {
      const place = `handle 0x${TC_HANDLE.toString(16)}, priority ${TC_PRIORITY}`;
      throw new KernelError(
        what,
        errno.EBUSY,
        `${describeProgram(present)} is at the place that isat uses (${place}). Remove that filter, or set hook: tcx or xdp`,
      );
    }
    const BPF_TC_F_REPLACE = 1;
    const flags = present === undefined ? 0 : BPF_TC_F_REPLACE;
    check(what, libbpf.bpf_tc_attach(hook, tcOptions(program.number, flags)), advise);
    return present === undefined ? "attached" : "adopted";
  }

  /** Detaches isat's program. Does nothing if it is not attached. */
  detach(ifindex: number, point: Point): void {
    if (point.kind !== "tc") {
      // Unpinning alone would detach as well, but the kernel does that some time later.
      using link = getPinned(this.#path(point, ifindex));
      if (link) libbpf.bpf_link_detach(link.number);
      this.#held.get(this.#path(point, ifindex))?.[Symbol.dispose]();
      this.#held.delete(this.#path(point, ifindex));
      unpin(this.#path(point, ifindex));
      return;
    }
    const present = tcProgramId(ifindex, point.direction);
    if (present !== undefined && (this.#isOurs(present) || isNamedIsat(present))) {
      libbpf.bpf_tc_detach(tcHook(ifindex, point.direction), tcOptions());
    }
  }

  /** The links that are pinned here, whether their devices still exist or not. */
  pinned(): { point: Point; ifindex: number }[] {
    const names = existsSync(this.#folder) ? readdirSync(this.#folder) : [];
    return names.flatMap((name) => {
      const [, kind, direction, ifindex] = /^(tcx|xdp)_(ingress|egress)_(\d+)$/.exec(name) ?? [];
      return kind ? [{ point: { kind, direction } as Point, ifindex: Number(ifindex) }] : [];
    });
  }

  /** True if the link's device exists, in any network namespace. */
  hasDevice(point: Point, ifindex: number): boolean {
    using link = getPinned(this.#path(point, ifindex));
    return link !== undefined && linkInfo(link).ifindex !== 0;
  }
}

function createLink(ifindex: number, { kind, direction }: Point, program: Fd): number {
  const device = deviceName(ifindex);
  const what = `Cannot attach isat to ${device} at ${kind} ${direction}`;
  const type = kind === "xdp" ? ATTACH_TYPE.xdp.ingress : ATTACH_TYPE.tcx[direction];
  const BPF_F_BEFORE = 8; // at tcx: our program runs before the others
  const options = new Uint8Array(48); // struct bpf_link_create_opts
  new Uint32Array(options.buffer).set([options.length, 0, kind === "tcx" ? BPF_F_BEFORE : 0]);
  const link = libbpf.bpf_link_create(program.number, ifindex, type, options);
  if (link === -errno.EBUSY || link === -errno.EEXIST) {
    const [holder] = programIds(ifindex, { kind, direction });
    const by = holder === undefined ? "another program" : describeProgram(holder);
    throw new KernelError(what, -link, `${by} holds its ${kind} hook. Detach it, or set hook: tcx`);
  }
  return check(what, link, (number) => explainAttach(kind, direction, device, number));
}
