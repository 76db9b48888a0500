import { existsSync, readdirSync, readlinkSync, renameSync } from "node:fs";
import { type InterfaceEntry, LAYOUT, rawLayout, type Vip, vip, vipState } from "../core/abi.ts";
import { makeOwnFolder } from "../files.ts";
import { requireCapabilities } from "./capabilities.ts";
import { sayDrained, sayGoodbye } from "./goodbye.ts";
import { detachNamed, type HookKind, Hooks, hasTcx, type Point, programIds, programInfo } from "./hooks.ts";
import { check, type Fd, getPinned, libbpf } from "./libbpf.ts";
import { FolderLock } from "./lock.ts";
import { KernelMap } from "./map.ts";
import {
  findObject,
  type LoadedObject,
  loadObject,
  type Maps,
  mapSizes,
  type ProgramName,
  readPinnedMaps,
} from "./object.ts";
import { removeIfEmpty, requireBpffs, unpin } from "./pins.ts";
import type { Writer } from "./writer.ts";

/** Inode of this process's network namespace. An ifindex means a device only within one namespace. */
export function networkNamespace(): number {
  return Number(/\d+/.exec(readlinkSync("/proc/self/ns/net"))![0]);
}

/** The folder with the pins of this layout: `pinDir/v${LAYOUT}`. */
export const layoutFolder = (pinDir: string) => `${pinDir}/v${LAYOUT}`;

/** The folder with the links of this layout. */
export const linksFolder = (pinDir: string) => `${layoutFolder(pinDir)}/links`;

/** The folders of other layouts under `pinDir`. */
function otherLayouts(pinDir: string): string[] {
  const own = `v${LAYOUT}`;
  const names = existsSync(pinDir) ? readdirSync(pinDir) : [];
  return names.filter((name) => /^v\d+$/.test(name) && name !== own).map((name) => `${pinDir}/${name}`);
}

/** The points at which a hook setting attaches. The egress filter is first, so that ingress never runs without it. */
export function pointsOf(hook: HookKind): Point[] {
  const egress: HookKind = hook === "xdp" ? (hasTcx() ? "tcx" : "tc") : hook;
  return [
    { kind: egress, direction: "egress" },
    { kind: hook, direction: "ingress" },
  ];
}

/** All points at which isat may be attached. */
export const ALL_POINTS: readonly Point[] = [
  ...pointsOf("tcx"),
  ...pointsOf("tc"),
  { kind: "xdp", direction: "ingress" },
];

/** The programs that are attached to hooks, and therefore pinned. */
const PINNED = ["isat_ingress", "isat_egress", "isat_xdp"] as const satisfies readonly ProgramName[];

function programFor({ kind, direction }: Point): ProgramName {
  if (kind === "xdp") return "isat_xdp";
  return direction === "ingress" ? "isat_ingress" : "isat_egress";
}

/** Ids of the programs that isat has pinned under `pinDir`, of all layouts. A clsact filter with one of them is ours. */
export function pinnedProgramIds(pinDir: string): Set<number> {
  const ids = new Set<number>();
  for (const layout of [layoutFolder(pinDir), ...otherLayouts(pinDir)]) {
    const folder = `${layout}/programs`;
    for (const name of existsSync(folder) ? readdirSync(folder) : []) {
      using program = getPinned(`${folder}/${name}`);
      if (program) ids.add(programInfo(program).id);
    }
  }
  return ids;
}

/**
 * The maps, programs and hooks of one speaker, pinned under one folder so that they outlive the process. The
 * constructor attaches nothing: meanwhile the programs that an earlier speaker has left attached go on answering.
 */
export class Kernel implements Disposable {
  readonly maps: Maps;
  readonly #pinDir: string;
  readonly #lock: FolderLock;
  readonly #object: LoadedObject;
  readonly #hooks: Hooks;
  readonly #ownIds: Set<number>;
  /** Ids of the programs that this process has loaded. */
  readonly #ids = new Map<ProgramName, number>();
  /** The programs' pins have their last names. */
  #isSettled = false;
  /** True for the id of a program of isat's, this speaker's or an earlier one's. */
  readonly isOurs = (id: number): boolean => this.#ownIds.has(id);
  /** True if nothing was pinned here before. */
  readonly isFresh: boolean;

  /**
   * Locks `pinDir`, loads the programs and opens or makes the maps.
   * @throws Error, in one line that says what to do: capabilities or the bpffs are missing, another speaker runs on
   * `pinDir`, or the pins belong to another network namespace.
   */
  constructor(pinDir: string) {
    requireCapabilities();
    requireBpffs(pinDir);
    makeOwnFolder(pinDir);
    this.#pinDir = pinDir;
    this.#lock = new FolderLock(pinDir, "itself");
    const folder = layoutFolder(pinDir);
    this.isFresh = !existsSync(folder);
    try {
      this.#hooks = new Hooks(linksFolder(pinDir), this.isOurs);
      refuseForeignPins(pinDir, folder, this.#hooks);
      this.#ownIds = pinnedProgramIds(pinDir);
      makeOwnFolder(`${folder}/programs`);
      this.#object = loadObject(findObject(), folder);
      this.maps = this.#object.maps;
      this.#pinPrograms();
    } catch (error) {
      this.discard();
      this.#lock[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Pins the programs beside those of earlier starts, until {@link removeLeftovers}. A clsact filter is recognised as
   * ours by its program's pin, and a start may be killed between any two steps.
   */
  #pinPrograms(): void {
    for (const name of PINNED) {
      const program = this.#object.programs[name];
      const { id } = programInfo(program);
      const path = `${this.#programsFolder}/${name}_${id}`;
      check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(program.number, path));
      this.#ownIds.add(id);
      this.#ids.set(name, id);
    }
  }

  /**
   * The VIPs in other layouts' maps. A VIP is owned if its claim is newer than its release; before layout 3 there were no
   * claims, and nothing counts as owned. Call it at the start, before {@link removeLeftovers} removes those maps.
   */
  formerEntries(): { key: Uint8Array; isOwned: boolean }[] {
    const maps = otherLayouts(this.#pinDir).flatMap((folder) => ["", "6"].map((family) => [folder, family] as const));
    return maps.flatMap(([folder, family]) => {
      using vips = getPinned(`${folder}/vips${family}`);
      if (!vips) return [];
      // Up to layout 5, the releases were in a map of their own.
      using answers = getPinned(`${folder}/answers${family}`);
      const releases = answers && new Map([...rawMap(answers).entries()].map(([key, value]) => [key.join(), value]));
      const [stateAt, claimAt] = releases ? [0, 24] : [offsetOf("state"), offsetOf("claim_ns")];
      return [...rawMap(vips).entries()].map(([key, value]) => {
        const state = new DataView(value.buffer, value.byteOffset).getUint32(stateAt, true);
        const released = releases ? word(releases.get(key.join()), 16) : word(value, offsetOf("released_ns"));
        return { key, isOwned: state === vipState.OWNED && word(value, claimAt) > released };
      });
    });
  }

  get #programsFolder(): string {
    return `${layoutFolder(this.#pinDir)}/programs`;
  }

  get writer(): Writer {
    return this.#object.writer;
  }

  get xdpProbe(): Fd {
    return this.#object.programs.isat_xdp_probe;
  }

  /** Attaches to the device. If an earlier speaker is attached there, adopts its link and replaces the program. */
  attach(ifindex: number, point: Point): "adopted" | "attached" {
    const others = otherLayouts(this.#pinDir).map((folder) => `${folder}/links`);
    return this.#hooks.ensure(ifindex, point, this.#object.programs[programFor(point)], others);
  }

  detach(ifindex: number, point: Point): void {
    this.#hooks.detach(ifindex, point);
  }

  /** Detaches from the device at every point that is not `wanted`. */
  detachAllBut(ifindex: number, wanted: readonly Point[]): void {
    for (const point of ALL_POINTS) {
      const isWanted = wanted.some(({ kind, direction }) => kind === point.kind && direction === point.direction);
      if (isWanted) continue;
      this.detach(ifindex, point);
      detachNamed(ifindex, point);
    }
  }

  /** True if this speaker's own program is attached there now. It runs on each tick; at tcx it takes a microsecond. */
  isAttached(ifindex: number, point: Point): boolean {
    return programIds(ifindex, point).includes(this.programId(point));
  }

  /** The id of the program that this speaker attaches there. */
  programId(point: Point): number {
    return this.#ids.get(programFor(point))!;
  }

  /**
   * Removes what earlier starts have left and no later start needs: links of other devices and kinds, other layouts,
   * replaced programs. Call it when everything is attached.
   */
  removeLeftovers(wanted: ReadonlyMap<number, readonly Point[]>): void {
    for (const { ifindex } of this.#hooks.pinned()) if (!wanted.has(ifindex)) this.detachAllBut(ifindex, []);
    for (const [ifindex, points] of wanted) this.detachAllBut(ifindex, points);
    for (const folder of otherLayouts(this.#pinDir)) unpin(folder);
    for (const name of PINNED) {
      renameSync(`${this.#programsFolder}/${name}_${this.#ids.get(name)}`, `${this.#programsFolder}/${name}`);
    }
    this.#isSettled = true;
    const isReplaced = (name: string) => !PINNED.some((pinned) => pinned === name);
    for (const name of readdirSync(this.#programsFolder).filter(isReplaced)) unpin(`${this.#programsFolder}/${name}`);
  }

  /**
   * Makes pins again that were removed, or that a file system was mounted over: without them, the next speaker would find
   * neither maps nor links. @returns how many @throws Error where they cannot be made
   */
  repin(): number {
    if (!this.#isSettled) return 0;
    const programs = PINNED.map((name) => [`${this.#programsFolder}/${name}`, this.#object.programs[name]] as const);
    const maps = Object.entries(this.maps).map(
      ([name, { fd }]) => [`${layoutFolder(this.#pinDir)}/${name}`, fd] as const,
    );
    const missing = [...maps, ...programs].filter(([path]) => !existsSync(path));
    if (missing.length > 0) {
      requireBpffs(this.#pinDir);
      makeOwnFolder(this.#programsFolder);
    }
    for (const [path, fd] of missing) check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(fd.number, path));
    return missing.length + this.#hooks.repin().length;
  }

  /** Removes the pins that a failed start has made. */
  discard(): void {
    if (this.isFresh) unpin(layoutFolder(this.#pinDir));
  }

  /** Closes the descriptors of this process. The pins stay, and the attached programs go on answering. */
  [Symbol.dispose](): void {
    this.#hooks[Symbol.dispose]();
    this.#object[Symbol.dispose]();
    this.#lock[Symbol.dispose]();
  }
}

/** The u64 at an offset; 0 where the value ends before it. */
const word = (value: Uint8Array | undefined, at: number): bigint =>
  value && value.length >= at + 8 ? new DataView(value.buffer, value.byteOffset).getBigUint64(at, true) : 0n;

const offsetOf = (field: keyof Vip): number => vip.fields.get(field)!.offset;

/** A map of any layout, with keys and values as bytes. */
function rawMap(fd: Fd): KernelMap<Uint8Array, Uint8Array> {
  const { keySize, valueSize } = mapSizes(fd);
  return new KernelMap("of another layout", fd, rawLayout(keySize), rawLayout(valueSize));
}

/**
 * An ifindex belongs to one network namespace: speakers in two namespaces that share a pinDir would take over each
 * other's links. @throws Error if the pins belong to another namespace and their devices still exist
 */
function refuseForeignPins(pinDir: string, folder: string, hooks: Hooks): void {
  const here = networkNamespace();
  const foreign = readPinnedMaps(folder, (maps) => [...maps.interfaces.entries()])?.find(([, e]) => e.netns !== here);
  const links = hooks.pinned();
  const isAbandoned = links.length > 0 && !links.some(({ point, ifindex }) => hooks.hasDevice(point, ifindex));
  if (!foreign || isAbandoned) return;
  throw new Error(
    `Cannot use pinDir ${pinDir} as it belongs to network namespace ${foreign[1].netns}, and this is ${here}.` +
      " Give each speaker a pinDir of its own, or run isat clean in that namespace",
  );
}

/** Makes the kernel tell peers that this node is drained, while no speaker runs. @returns true if anything is pinned */
export function markDrained(pinDir: string): boolean {
  if (!existsSync(layoutFolder(pinDir))) return false;
  using _lock = new FolderLock(pinDir, "itself");
  const marked = readPinnedMaps(layoutFolder(pinDir), (maps) => {
    sayDrained(maps);
    return true;
  });
  return marked ?? false;
}

/**
 * Detaches and removes everything that isat has under `pinDir`, with a goodbye once peers have taken over what this node
 * answers for.
 * @param ifindexes the devices of this network namespace
 * @param restore called first, for each interface entry of this namespace
 * @returns true if there was anything to remove
 * @throws Error if a speaker is running on `pinDir`
 */
export function clean(
  pinDir: string,
  ifindexes: readonly number[],
  restore: (entry: InterfaceEntry) => void,
  goodbye: boolean,
): boolean {
  const isPinned = existsSync(pinDir) && cleanPins(pinDir, ifindexes, restore, goodbye);
  // Where the pins are out of reach, the devices still tell of the programs.
  const found = ifindexes.flatMap((ifindex) => ALL_POINTS.map((point) => detachNamed(ifindex, point)));
  return isPinned || found.includes(true);
}

function cleanPins(
  pinDir: string,
  ifindexes: readonly number[],
  restore: (entry: InterfaceEntry) => void,
  goodbye: boolean,
): boolean {
  requireBpffs(pinDir);
  using _lock = new FolderLock(pinDir, "itself");
  const ownIds = pinnedProgramIds(pinDir);
  const folders = [layoutFolder(pinDir), ...otherLayouts(pinDir)].filter((folder) => existsSync(folder));
  const hooks = new Hooks(linksFolder(pinDir), (id) => ownIds.has(id));
  readPinnedMaps(layoutFolder(pinDir), (maps) => {
    if (goodbye) sayGoodbye(maps);
    for (const [, entry] of maps.interfaces.entries()) if (entry.netns === networkNamespace()) restore(entry);
  });
  for (const ifindex of ifindexes) {
    for (const direction of ["ingress", "egress"] as const) {
      hooks.detach(ifindex, { kind: "tc", direction });
    }
  }
  for (const folder of folders) {
    const links = new Hooks(`${folder}/links`);
    for (const { point, ifindex } of links.pinned()) links.detach(ifindex, point);
    unpin(folder);
  }
  removeIfEmpty(pinDir); // other programs' pins may be there too
  return folders.length > 0;
}
