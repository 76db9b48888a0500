import { existsSync, readdirSync, readlinkSync, renameSync } from "node:fs";
import {
  answers as answersLayout,
  type InterfaceEntry,
  LAYOUT,
  nodeState,
  rawLayout,
  vip,
  vipState,
} from "../core/abi.ts";
import { requireCapabilities } from "./capabilities.ts";
import { type HookKind, Hooks, hasTcx, type Point, programInfo } from "./hooks.ts";
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
import { makeFolder, removeFolder, removeIfEmpty, requireBpffs, unpin } from "./pins.ts";

/** Inode of this process's network namespace: ifindexes mean something only beside it. */
export function networkNamespace(): number {
  return Number(/\d+/.exec(readlinkSync("/proc/self/ns/net"))![0]);
}

/** `pinDir/v1`: the folder of this layout's pins. */
export const layoutFolder = (pinDir: string) => `${pinDir}/v${LAYOUT}`;

/** Where this layout's links are pinned. */
export const linksFolder = (pinDir: string) => `${layoutFolder(pinDir)}/links`;

/** The layouts' folders under `pinDir`, this layout's excepted. */
function otherLayouts(pinDir: string): string[] {
  const own = `v${LAYOUT}`;
  const names = existsSync(pinDir) ? readdirSync(pinDir) : [];
  return names.filter((name) => /^v\d+$/.test(name) && name !== own).map((name) => `${pinDir}/${name}`);
}

/** The points at which a hook setting attaches: first the guard, so that no frame meets the one without the other. */
export function pointsOf(hook: HookKind): Point[] {
  const guard: HookKind = hook === "xdp" ? (hasTcx() ? "tcx" : "tc") : hook;
  return [
    { kind: guard, direction: "egress" },
    { kind: hook, direction: "ingress" },
  ];
}

/** Every point at which isat may stand. */
export const ALL_POINTS: readonly Point[] = [
  { kind: "tcx", direction: "egress" },
  { kind: "tcx", direction: "ingress" },
  { kind: "tc", direction: "egress" },
  { kind: "tc", direction: "ingress" },
  { kind: "xdp", direction: "ingress" },
];

/** The programs that stand at hooks. */
const PINNED = ["isat_ingress", "isat_egress", "isat_xdp"] as const satisfies readonly ProgramName[];

function programFor({ kind, direction }: Point): ProgramName {
  if (kind === "xdp") return "isat_xdp";
  return direction === "ingress" ? "isat_ingress" : "isat_egress";
}

/** Ids of the programs pinned by isat under `pinDir`, of whatever layout: a filter with one of these is ours. */
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
 * The kernel's side of one speaker: its maps, programs and hooks, pinned under one folder so that they outlive the
 * process. Nothing is attached by opening; what an earlier speaker left attached goes on answering meanwhile.
 */
export class Kernel implements Disposable {
  readonly maps: Maps;
  readonly #pinDir: string;
  readonly #lock: FolderLock;
  readonly #object: LoadedObject;
  readonly #hooks: Hooks;
  readonly #ownIds: Set<number>;
  /** Ids of the programs that this process loaded. */
  readonly #ids = new Map<ProgramName, number>();
  /** Whether nothing was pinned here before. */
  readonly isFresh: boolean;
  readonly #isOurs = (id: number) => this.#ownIds.has(id);

  /**
   * Locks `pinDir`, loads the programs and opens or makes the maps.
   * @throws Error, in one line that says what to do, without capabilities or a bpffs, with a second speaker on `pinDir`,
   * or where the pins are another network namespace's.
   */
  constructor(pinDir: string) {
    requireCapabilities();
    requireBpffs(pinDir);
    makeFolder(pinDir);
    this.#pinDir = pinDir;
    this.#lock = new FolderLock(pinDir);
    const folder = layoutFolder(pinDir);
    this.isFresh = !existsSync(folder);
    try {
      this.#hooks = new Hooks(linksFolder(pinDir));
      refuseForeignPins(pinDir, folder, this.#hooks);
      this.#ownIds = pinnedProgramIds(pinDir);
      makeFolder(`${folder}/programs`);
      this.#object = loadObject(findObject(), folder);
      this.maps = this.#object.maps;
      this.#pinPrograms();
    } catch (error) {
      this.discard();
      this.#lock[Symbol.dispose]();
      throw error;
    }
  }

  #program(point: Point): Fd {
    return this.#object.programs[programFor(point)];
  }

  /**
   * Pins the programs beside those of earlier starts, until {@link settle}: a clsact filter is known as ours by its
   * program, and a start may be killed between any two steps.
   */
  #pinPrograms(): void {
    for (const name of PINNED) {
      const program = this.#object.programs[name];
      const { id } = programInfo(program);
      pin(program, `${this.#programsFolder}/${name}_${id}`);
      this.#ownIds.add(id);
      this.#ids.set(name, id);
    }
  }

  /**
   * What another layout's maps have, by key: whether it is owned, and was not given away since. Of a layout that knew no
   * claims all that is owned counts. To be asked at the start, before the other layout goes.
   */
  formerEntries(): { key: Uint8Array; isOwned: boolean }[] {
    return otherLayouts(this.#pinDir).flatMap((folder) => {
      using vips = getPinned(`${folder}/vips`);
      using answers = getPinned(`${folder}/answers`);
      if (!vips || !answers) return [];
      const CLAIM = vip.fields.get("claim_ns")!.offset;
      const RELEASED = answersLayout.fields.get("released_ns")!.offset;
      const releases = new Map(
        [...rawMap(answers).entries()].map(([key, value]) => [key.join(), word(value, RELEASED)]),
      );
      return [...rawMap(vips).entries()].map(([key, value]) => {
        const state = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
        const claim = word(value, CLAIM);
        const counts = claim === undefined || claim > (releases.get(key.join()) ?? 0n);
        return { key, isOwned: state === vipState.OWNED && counts };
      });
    });
  }

  get #programsFolder(): string {
    return `${layoutFolder(this.#pinDir)}/programs`;
  }

  get xdpProbe(): Fd {
    return this.#object.programs.isat_xdp_probe;
  }

  /** Attaches to the device, or adopts what is attached there and swaps the program. */
  attach(ifindex: number, point: Point): "adopted" | "attached" {
    const others = otherLayouts(this.#pinDir).map((folder) => `${folder}/links`);
    return this.#hooks.ensure(ifindex, point, this.#program(point), this.#isOurs, others);
  }

  detach(ifindex: number, point: Point): void {
    this.#hooks.detach(ifindex, point, this.#isOurs);
  }

  /** Detaches from the device, at all points but these. */
  detachAllBut(ifindex: number, wanted: readonly Point[]): void {
    for (const point of ALL_POINTS) {
      const isWanted = wanted.some(({ kind, direction }) => kind === point.kind && direction === point.direction);
      if (!isWanted) this.detach(ifindex, point);
    }
  }

  /** Whether this speaker's own program is attached there now. */
  isAttached(ifindex: number, point: Point): boolean {
    return this.#hooks.isAttached(ifindex, point, this.#ids.get(programFor(point))!);
  }

  /**
   * Once all is attached: removes what no start needs any more, which is links elsewhere or of other kinds, other
   * layouts, replaced programs.
   */
  settle(ifindexes: readonly number[], points: readonly Point[]): void {
    for (const { ifindex } of this.#hooks.pinned()) if (!ifindexes.includes(ifindex)) this.detachAllBut(ifindex, []);
    for (const ifindex of ifindexes) this.detachAllBut(ifindex, points);
    for (const folder of otherLayouts(this.#pinDir)) removeFolder(folder);
    for (const name of PINNED) {
      renameSync(`${this.#programsFolder}/${name}_${this.#ids.get(name)}`, `${this.#programsFolder}/${name}`);
    }
    const isReplaced = (name: string) => !PINNED.some((pinned) => pinned === name);
    for (const name of readdirSync(this.#programsFolder).filter(isReplaced)) unpin(`${this.#programsFolder}/${name}`);
  }

  /** A start that failed leaves no pins that were not there before. */
  discard(): void {
    if (this.isFresh) removeFolder(layoutFolder(this.#pinDir));
  }

  /** Closes this process's hold. The pins stay, and what is attached goes on answering. */
  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
    this.#lock[Symbol.dispose]();
  }
}

/** 8 bytes of a value; undefined where it is too short to have them. */
function word(value: Uint8Array, at: number): bigint | undefined {
  if (value.length < at + 8) return undefined;
  return new DataView(value.buffer, value.byteOffset).getBigUint64(at, true);
}

/** A map of whatever layout, as bytes. */
function rawMap(fd: Fd): KernelMap<Uint8Array, Uint8Array> {
  const { keySize, valueSize } = mapSizes(fd);
  return new KernelMap("of another layout", fd, rawLayout(keySize), rawLayout(valueSize));
}

function pin(fd: Fd, path: string): void {
  check(`Cannot pin ${path}`, libbpf.bpf_obj_pin(fd.number, path));
}

/**
 * Ifindexes are numbers of one network namespace: two speakers in two of them on one pin folder would take over each
 * other's links. @throws Error where the pins are another's, and still attached.
 */
function refuseForeignPins(pinDir: string, folder: string, hooks: Hooks): void {
  const here = networkNamespace();
  const foreign = readPinnedMaps(folder, (maps) => [...maps.interfaces.entries()])?.find(([, e]) => e.netns !== here);
  const links = hooks.pinned();
  const isDead = links.length > 0 && !links.some(({ point, ifindex }) => hooks.hasDevice(point, ifindex));
  if (!foreign || isDead) return;
  throw new Error(
    `Cannot use pinDir ${pinDir} as it belongs to network namespace ${foreign[1].netns}, and this is ${here}.` +
      " Give each speaker a pinDir of its own, or run isat clean in that namespace",
  );
}

/** Where no speaker runs: the kernel is to say that this node is drained. @returns whether anything is pinned */
export function markDrained(pinDir: string): boolean {
  if (!existsSync(layoutFolder(pinDir))) return false;
  using _lock = new FolderLock(pinDir);
  const marked = readPinnedMaps(layoutFolder(pinDir), ({ interfaces }) => {
    for (const [ifindex, entry] of [...interfaces.entries()]) {
      interfaces.set(ifindex, { ...entry, state: nodeState.DRAINED });
    }
    return true;
  });
  return marked ?? false;
}

/**
 * Detaches and removes all that isat has under `pinDir`; true where there was something.
 * @param ifindexes the devices of this network namespace
 * @param restore called for each interface entry of this namespace first
 * @throws Error where a speaker is running on it.
 */
export function clean(pinDir: string, ifindexes: readonly number[], restore: (entry: InterfaceEntry) => void): boolean {
  requireCapabilities();
  if (!existsSync(pinDir)) return false;
  requireBpffs(pinDir);
  using _lock = new FolderLock(pinDir);
  const ownIds = pinnedProgramIds(pinDir);
  const folders = [layoutFolder(pinDir), ...otherLayouts(pinDir)].filter((folder) => existsSync(folder));
  const hooks = new Hooks(linksFolder(pinDir));
  readPinnedMaps(layoutFolder(pinDir), ({ interfaces }) => {
    for (const [, entry] of interfaces.entries()) if (entry.netns === networkNamespace()) restore(entry);
  });
  for (const ifindex of ifindexes) {
    for (const direction of ["ingress", "egress"] as const) {
      hooks.detach(ifindex, { kind: "tc", direction }, (id) => ownIds.has(id));
    }
  }
  for (const folder of folders) {
    const links = new Hooks(`${folder}/links`);
    for (const { point, ifindex } of links.pinned()) links.detach(ifindex, point, () => true);
    removeFolder(folder);
  }
  removeIfEmpty(pinDir); // what others pinned there is not isat's to remove
  return folders.length > 0;
}
