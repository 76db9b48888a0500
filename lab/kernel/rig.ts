import { mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LAYOUT, type Verdicts } from "../../src/core/abi.ts";
import { addressBytes, addressOfBytes, formatAddress, parseAddress } from "../../src/core/address.ts";
import { ARP_REPLY, ARP_REQUEST, type Arp, decodeArp, formatMac } from "../../src/core/arp.ts";
import { ffi } from "../../src/ffi/ffi.ts";
import { fn } from "../../src/ffi/port.ts";
import { libbpf } from "../../src/kernel/libbpf.ts";
import { type Maps, readPinnedMaps } from "../../src/kernel/object.ts";
import { ISAT } from "../bundle.ts";
import { inNamespace, Namespaces } from "../namespaces.ts";
import { PacketPort } from "../packet-port.ts";
import { whoHas } from "../who-has.ts";
import { execute, must, type Outcome, Process, until } from "./process.ts";

export const VIP = "10.9.0.1";
export const CLIENT_MAC = "02:00:00:00:00:64";
export const CLIENT_IP = "10.9.255.100";
export const NODE_MAC = "02:00:00:00:00:01";
export const NODE_IP = "10.9.255.1";
/** The handle and priority that isat promises to use among clsact's filters. */
export const TC_HANDLE = "0x15a7";
export const TC_PRIORITY = 1;

/** Changes to the configuration that most tests need. */
export interface Settings {
  node?: string;
  /** YAML; null leaves the key out. */
  interfaces?: string | null;
  hook?: string;
  pinDir?: string;
  runDir?: string;
  /** More top-level keys, as YAML. */
  more?: string;
  nodes?: string;
  /** Items, as YAML. */
  vips?: readonly string[];
}

const { if_nametoindex } = ffi.open(null, { if_nametoindex: fn(["string"], "u32") });

/**
 * A node and a client, each in a network namespace, joined by a veth pair: eth0 of `node`, c0 of `client`. Pins go to a
 * bpffs of our own.
 */
export class Rig implements Disposable {
  readonly namespaces: Namespaces;
  readonly bpffs: string;
  readonly folder: string;
  readonly pinDir: string;
  readonly runDir: string;
  readonly config: string;
  readonly client: PacketPort;
  readonly #started: Process[] = [];

  constructor(prefix: string) {
    this.namespaces = new Namespaces(prefix);
    this.bpffs = this.namespaces.bpffs();
    this.folder = this.namespaces.folder();
    this.pinDir = join(this.bpffs, "isat");
    this.runDir = join(this.folder, "run");
    this.config = join(this.folder, "isat.yaml");
    this.namespaces.add("node");
    this.namespaces.add("client");
    this.wire("eth0", "c0");
    this.namespaces.ip("node", [`addr add ${NODE_IP}/16 dev eth0`]);
    this.namespaces.sysctl("node", "net/ipv4/conf/all/arp_ignore", 0);
    this.client = this.port("client", "c0");
    this.configure();
  }

  /** Joins a new interface of the node and one of the client. */
  wire(name: string, peer: string, mac = NODE_MAC, peerMac = CLIENT_MAC): void {
    this.namespaces.link({ namespace: "node", name, mac }, { namespace: "client", name: peer, mac: peerMac });
  }

  port(namespace: string, name: string): PacketPort {
    return new PacketPort(this.namespaces.full(namespace), name);
  }

  /** Writes a configuration and renames it into place. */
  configure(settings: Settings = {}, path = this.config): void {
    const { node = "n1", interfaces = "[eth0]", hook = "auto", pinDir = this.pinDir, runDir = this.runDir } = settings;
    const lines = [
      `node: ${node}`,
      ...(interfaces === null ? [] : [`interfaces: ${interfaces}`]),
      `hook: ${hook}`,
      `pinDir: ${pinDir}`,
      `runDir: ${runDir}`,
      // Announcements are not repeated, so that frames can be counted.
      ...(/^garp:/m.test(settings.more ?? "") ? [] : ["garp: { refresh: 500h }"]),
      // There is one speaker; other nodes exist by name only.
      ...(/^membership:/m.test(settings.more ?? "") ? [] : ["membership: { kind: static }"]),
      ...(settings.more ? [settings.more] : []),
      "source:",
      "  kind: file",
      `  nodes: ${settings.nodes ?? "[n1, n2]"}`,
      `  vips: [${(settings.vips ?? [`{ address: ${VIP}, nodes: [n1] }`]).join(", ")}]`,
    ];
    writeFileSync(`${path}.new`, `${lines.join("\n")}\n`);
    renameSync(`${path}.new`, path);
  }

  /** Starts `isat` in a namespace. @param prefix a command, with its arguments, that runs `isat` */
  launch(namespace: string, args: readonly string[], prefix?: readonly string[]): Process {
    const started = new Process(this.namespaces, namespace, args, prefix);
    this.#started.push(started);
    return started;
  }

  /** Starts a speaker on the node. */
  start(...args: string[]): Process {
    return this.launch("node", ["run", "--config", this.config, ...args]);
  }

  /** Starts a speaker on the node, and waits until it is ready. */
  async serve(settings?: Settings, ...args: string[]): Promise<Process> {
    if (settings) this.configure(settings);
    const speaker = this.start(...args);
    await speaker.ready();
    return speaker;
  }

  /** Runs `isat` to its end in a namespace. */
  isat(args: readonly string[], namespace = "node"): Promise<Outcome> {
    return this.execute(namespace, ISAT[0], [...ISAT.slice(1), ...args]);
  }

  /** Runs a command to its end in a namespace. */
  execute(namespace: string, command: string, args: readonly string[]): Promise<Outcome> {
    return execute("nsenter", [`--net=/run/netns/${this.namespaces.full(namespace)}`, command, ...args]);
  }

  /** Runs a command that must succeed in a namespace. */
  must(namespace: string, command: string, ...args: string[]): Promise<string> {
    return must("nsenter", `--net=/run/netns/${this.namespaces.full(namespace)}`, command, ...args);
  }

  async clean(): Promise<Outcome> {
    return this.isat(["clean", "--config", this.config]);
  }

  /**
   * Kills all speakers and cleans up, so that a failed test does not make the next one fail. It does not throw, as uvu
   * would then drop the failed test's own error.
   */
  async reset(): Promise<void> {
    for (const speaker of this.#started.splice(0)) if (!speaker.isClosed) await speaker.end("SIGKILL");
    const { status, stderr } = await this.clean();
    if (status !== 0) console.log(`isat clean ended with status ${status}: ${stderr}`);
  }

  // The kernel's state, read without isat

  ifindex(name: string, namespace = "node"): number {
    return inNamespace(this.namespaces.full(namespace), () => if_nametoindex(name));
  }

  /** Ids of the programs on an interface, by hook; hooks without programs are left out. */
  async attached(name = "eth0", namespace = "node"): Promise<Record<string, number[]>> {
    const found: Record<string, number[]> = {};
    const note = (where: string, ids: number[]) => {
      if (ids.length > 0) found[where] = ids;
    };
    const ifindex = this.ifindex(name, namespace);
    for (const [direction, type] of [
      ["ingress", 46],
      ["egress", 47],
    ] as const) {
      note(`tcx ${direction}`, this.#tcx(ifindex, type, namespace));
      const shown = await this.must(namespace, "tc", "-j", "filter", "show", "dev", name, direction);
      const filters: { pref: number; options?: { handle?: string; id?: number; prog?: { id: number } } }[] = JSON.parse(
        shown || "[]",
      );
      const own = filters.filter(({ pref, options }) => pref === TC_PRIORITY && options?.handle === TC_HANDLE);
      const others = filters.filter((each) => each.options?.handle && !own.includes(each));
      const id = ({ options }: (typeof filters)[number]) => options!.prog?.id ?? options!.id!;
      note(`tc ${direction}`, own.map(id));
      note(`tc ${direction} of others`, others.map(id));
    }
    const [link] = JSON.parse(await this.must(namespace, "ip", "-j", "link", "show", "dev", name));
    note("xdp", link.xdp ? [link.xdp.prog.id] : []);
    return found;
  }

  #tcx(ifindex: number, type: number, namespace: string): number[] {
    return inNamespace(this.namespaces.full(namespace), () => {
      const ids = new Uint32Array(64);
      const count = Uint32Array.of(ids.length);
      const bytes = (words: Uint32Array) => new Uint8Array(words.buffer);
      if (libbpf.bpf_prog_query(ifindex, type, 0, null, bytes(ids), bytes(count)) < 0) return [];
      return Array.from(ids.subarray(0, count[0]));
    });
  }

  /** The paths of all pins below the folder, sorted. */
  pins(folder = this.pinDir): string[] {
    try {
      const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
        .sort();
    } catch {
      return [];
    }
  }

  /** The pins that must exist while a speaker serves with one interface. */
  expectedPins(hook: "tcx" | "tc" | "xdp", ifindex = this.ifindex("eth0")): string[] {
    const links = { tcx: ["tcx_egress", "tcx_ingress"], tc: [], xdp: ["tcx_egress", "xdp_ingress"] }[hook];
    return [
      ...["interfaces", "keys", "peers", "probes", "recent", "verdicts", "vips", "vips6"],
      ...links.map((name) => `links/${name}_${ifindex}`),
      ...["isat_egress", "isat_ingress", "isat_xdp"].map((name) => `programs/${name}`),
    ]
      .map((name) => `v${LAYOUT}/${name}`)
      .sort();
  }

  /** Reads the pinned maps. @throws Error where there are none */
  maps<T>(read: (maps: Maps) => T): T {
    const found = readPinnedMaps(join(this.pinDir, `v${LAYOUT}`), (maps) => ({ it: read(maps) }));
    if (!found) throw new Error(`Cannot find maps under ${this.pinDir}`);
    return found.it;
  }

  /** The number of answers that the kernel has given for the VIP. */
  answered(vip = VIP, name = "eth0"): number {
    const key = { ip: addressBytes(parseAddress(vip)), ifindex: this.ifindex(name) };
    return this.maps(({ vips }) => Number(vips.get(key)?.answered ?? 0n));
  }

  verdicts(name = "eth0"): Verdicts {
    const found = this.maps(({ verdicts }) => verdicts.get(this.ifindex(name)));
    if (!found) throw new Error(`Cannot find the verdicts of ${name}`);
    return found;
  }

  // ARP, as the client sees it

  /** The ARP frames that have arrived at the client since the last call. */
  heard(port = this.client): Arp[] {
    const all: Arp[] = [];
    for (let i = 0; i < 100_000; i++) {
      const frame = port.receive();
      if (!frame) break;
      const arp = decodeArp(frame);
      if (arp) all.push(arp);
    }
    return all;
  }

  ask(vip = VIP, port = this.client): void {
    port.send(whoHas(vip, { mac: CLIENT_MAC, ip: CLIENT_IP }));
  }

  /**
   * Asks once. A veth and its programs run in the sender's own system call (softirq), so an answer is there when it
   * returns; a busy machine may leave the work to ksoftirqd, so some more time is given. An empty result therefore does
   * not prove that nobody answered: {@link verdicts} does.
   *
   * @returns the MAC of each answer
   */
  async answers(vip = VIP, port = this.client): Promise<string[]> {
    this.heard(port);
    this.ask(vip, port);
    const end = performance.now() + 100;
    for (;;) {
      const replies = this.heard(port).filter((arp) => isAnswer(arp, vip));
      if (replies.length > 0) return replies.map(({ sha }) => formatMac(sha));
      if (performance.now() > end) return [];
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** Asks until exactly one answer comes, with the MAC. */
  async answersWith(mac = NODE_MAC, vip = VIP, port = this.client, limit?: number): Promise<void> {
    let last: string[] = [];
    await until(
      `${vip} is answered with ${mac}`,
      async () => {
        last = await this.answers(vip, port);
        return last.length === 1 && last[0] === mac;
      },
      limit,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; the last answers: ${last.join(", ") || "none"}`);
    });
  }

  /** Compiles, loads and pins pass.bpf.c, as somebody else's programs. @returns the folder of their pins */
  async othersPrograms(): Promise<string> {
    const object = join(this.folder, "pass.o");
    const source = fileURLToPath(new URL("./pass.bpf.c", import.meta.url));
    const machine = (await must("uname", "-m")).trim();
    await must(
      "clang",
      "-g",
      "-O2",
      "-target",
      "bpf",
      `-I/usr/include/${machine}-linux-gnu`,
      "-c",
      source,
      "-o",
      object,
    );
    const pins = join(this.bpffs, "others");
    mkdirSync(pins, { recursive: true });
    await must("bpftool", "prog", "loadall", object, pins, "pinmaps", pins);
    return pins;
  }

  /** A counter of pass.bpf.c. */
  async counted(pins: string, what: "frames" | "replies"): Promise<number> {
    const shown = await must(
      "bpftool",
      "-j",
      "map",
      "lookup",
      "pinned",
      join(pins, "seen"),
      "key",
      what === "frames" ? "0" : "1",
      "0",
      "0",
      "0",
    );
    const { value } = JSON.parse(shown);
    return Number(Buffer.from(value.map(Number)).readBigUInt64LE());
  }

  /** Attaches an XDP program to the client: a veth passes XDP_TX frames only to a peer that has one. */
  async letClientRunXdp(pins: string): Promise<void> {
    await this.must("client", "ip", "link", "set", "dev", "c0", "xdpdrv", "pinned", join(pins, "pass_xdp"));
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    this.namespaces[Symbol.dispose]();
  }
}

/** True for an ARP reply that says where the VIP is. */
export function isAnswer(arp: Arp, vip = VIP): boolean {
  return arp.op === ARP_REPLY && spa(arp) === vip;
}

/** True for a gratuitous ARP in request form. */
export function isAnnouncement(arp: Arp, vip = VIP): boolean {
  return arp.op === ARP_REQUEST && spa(arp) === vip && formatAddressOf(arp.tpa) === vip;
}

const formatAddressOf = (bytes: Uint8Array) => formatAddress(addressOfBytes(bytes));
const spa = (arp: Arp) => formatAddressOf(arp.spa);

/** The id of a pinned link or program, as bpftool reports it. */
export async function pinnedId(kind: "link" | "prog", path: string): Promise<number> {
  const shown = JSON.parse(await must("bpftool", "-j", kind, "show", "pinned", path));
  return (Array.isArray(shown) ? shown[0] : shown).id;
}

/** Prints a measured value, which `npm test` shows. The line break ends the line of dots that uvu has begun. */
export function measured(what: string, value: string): void {
  console.log(`\nMEASURED ${what}: ${value}`);
}
