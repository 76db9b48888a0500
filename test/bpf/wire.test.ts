/**
 * The programs on a real link: a veth pair between a node and a peer, each hook in turn. PROG_TEST_RUN cannot show what
 * a stripped VLAN tag, a redirect, XDP_TX or the node's own kernel makes of a frame.
 *
 * Usage: wire.test.ts [OBJECT], to see the rows fail on an object that was broken on purpose.
 */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseMac } from "../../lab/mac.ts";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import { skip } from "../../lab/skip.ts";
import {
  COUNTERS,
  type Counter,
  claimVerdict,
  interfaceEntry,
  nodeState,
  type VipState,
  vip as vipEntry,
  vipState,
  type WireHeader,
  wireType,
} from "../../src/core/abi.ts";
import { addressBytes, parseAddress } from "../../src/core/address.ts";
import {
  ARP_REPLY,
  ARP_REQUEST,
  type Arp,
  announcement,
  BROADCAST,
  decodeArp,
  encodeArp,
  formatMac,
  NO_MAC,
} from "../../src/core/arp.ts";
import { checkOf } from "../../src/core/vip.ts";
import { ffi } from "../../src/ffi/ffi.ts";
import { bootTime, errnoName, libc } from "../../src/ffi/libc.ts";
import { type HookKind, Hooks, hasTcx } from "../../src/kernel/hooks.ts";
import { pointsOf } from "../../src/kernel/kernel.ts";
import { findObject, loadObject, type Maps } from "../../src/kernel/object.ts";
import { Links } from "../../src/link/links.ts";
import { PacketSocket } from "../../src/link/packet.ts";
import { addressOf, type Claim, ETH_P_ISAT, isSigned, sign, speak, understand } from "./speech.ts";

const OBJECT = process.argv[2] ?? findObject();
const NODE_MAC = parseMac("02:15:a7:00:00:01");
const PEER_MAC = parseMac("02:15:a7:00:00:fe");
const OTHER_MAC = parseMac("02:15:a7:00:00:02");
const ip = (text: string) => addressBytes(parseAddress(text));
const PEER = ip("10.9.255.254");
const NODE = "10.9.255.1";
/** Owned here, and on no interface: only the program knows it. */
const OWNED = "10.9.0.1";
/** Another node's, and on the node's `lo`, as kube-proxy in IPVS mode puts it there. */
const NOT_OWNED = "10.9.0.2";
/** Owned here, and on the node's `lo`. */
const OWNED_ON_LO = "10.9.0.3";
/** Owned here: a request for it follows each frame whose silence is to be shown. */
const MARKER = "10.9.0.4";
/** Owned here until the peer claims it. */
const CLAIMED = "10.9.0.5";

const KEY = { k0: 11n, k1: 12n, id: 1, cluster: 13n };
const OUR = { node: 1n, incarnation: 101n, hello: bootTime() };
const THEIR = { node: 2n, incarnation: 102n, nonce: 1002n };

const HOUR = 3_600_000_000_000n;

/** For a frame that must come, and for one that must not come behind the one that did, ms. */
const PATIENCE = 2_000;
const AFTERWARDS = 30;

const arp = (fields: Partial<Arp>): Uint8Array =>
  encodeArp({
    destination: BROADCAST,
    source: PEER_MAC,
    op: ARP_REQUEST,
    sha: PEER_MAC,
    spa: PEER,
    tha: NO_MAC,
    tpa: ip(OWNED),
    ...fields,
  });

type Counts = Partial<Record<Counter, number>>;

/** The answer that the node must send to a request of the peer. */
const answer = (vip: string) =>
  arp({
    destination: PEER_MAC,
    source: NODE_MAC,
    op: ARP_REPLY,
    sha: NODE_MAC,
    spa: ip(vip),
    tha: PEER_MAC,
    tpa: PEER,
  });

/** The frame with a tag behind its MACs: VLAN tags stand in the bytes, as on a wire. */
const tagged = (frame: Uint8Array, ...tags: [protocol: number, vlan: number][]): Uint8Array =>
  Uint8Array.of(
    ...frame.subarray(0, 12),
    ...tags.flatMap(([protocol, vlan]) => [protocol >> 8, protocol & 255, vlan >> 8, vlan & 255]),
    ...frame.subarray(12),
  );

/** A frame in words, as an assertion shows it. */
function inWords(frame: Uint8Array): string {
  if (frame[12] === ETH_P_ISAT[0] && frame[13] === ETH_P_ISAT[1]) return speechInWords(frame);
  const found = decodeArp(frame);
  if (!found) return Buffer.from(frame).toString("hex");
  const { op, sha, spa, tha, tpa, source, destination } = found;
  const what =
    op === ARP_REQUEST
      ? `who-has ${tpa.join(".")} tell ${spa.join(".")}`
      : `${spa.join(".")} is-at to ${tpa.join(".")} at ${formatMac(tha)}`;
  return `${formatMac(source)} > ${formatMac(destination)}: ${what}, SHA ${formatMac(sha)}`;
}

const nameIn = (names: Record<string, number>, value: number) =>
  Object.entries(names).find(([, number]) => number === value)?.[0] ?? String(value);

function speechInWords(frame: Uint8Array): string {
  const { header, claims } = understand(frame);
  const verdicts = claims.map((claim) => `${addressOf(claim)} ${nameIn(claimVerdict, claim.verdict)}`);
  return [
    `${formatMac(header.source)} > ${formatMac(header.destination)}: ${nameIn(wireType, header.type)} of ${header.name}`,
    nameIn(nodeState, header.state),
    `nonce ${header.nonce}`,
    ...verdicts,
    isSigned(frame, KEY) ? "signed" : "forged",
  ].join(", ");
}

/** A frame of the peer's; its clock is the node's, as both are this machine. */
function say(type: number, said: Partial<WireHeader> = {}, claims: readonly Partial<Claim>[] = []): Uint8Array {
  const header = {
    destination: NODE_MAC,
    source: PEER_MAC,
    type,
    state: nodeState.LIVE,
    node: THEIR.node,
    incarnation: THEIR.incarnation,
    to: OUR.incarnation,
    nonce: THEIR.nonce,
    stamp: bootTime(),
    name: "n2",
  };
  return speak({ ...header, ...said }, KEY, claims);
}

/** The ARP frames that the node's kernel sends to the peer. */
const said = (type: keyof typeof wireType, nonce: bigint, ...verdicts: string[]) =>
  [`${formatMac(NODE_MAC)} > ${formatMac(PEER_MAC)}: ${type} of n1, LIVE, nonce ${nonce}`, ...verdicts, "signed"].join(
    ", ",
  );

const sleep = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** A node and a peer with a wire between them, and one hook on the node's end. */
class Wire implements Disposable {
  readonly #namespaces: Namespaces;
  readonly #hook: HookKind;
  readonly #peer: PacketPort;
  readonly #objects: Disposable[] = [];
  readonly #ifindex: number;
  #maps: Maps | undefined;
  #target = 0;

  constructor(hook: HookKind) {
    this.#namespaces = new Namespaces(`isat-t-bpf-wire-${hook}-`);
    this.#hook = hook;
    for (const name of ["node", "peer"]) this.#namespaces.add(name);
    this.#namespaces.link(
      { namespace: "node", name: "eth0", mac: formatMac(NODE_MAC) },
      { namespace: "peer", name: "eth0", mac: formatMac(PEER_MAC) },
    );
    this.#namespaces.ip("node", [
      `addr add ${NODE}/16 dev eth0`,
      `addr add ${NOT_OWNED}/32 dev lo`,
      `addr add ${OWNED_ON_LO}/32 dev lo`,
    ]);
    // A question that nobody answers is asked once: its repetitions would be seen by the tests that follow.
    this.#namespaces.sysctl("node", "net/ipv4/neigh/eth0/mcast_solicit", 1);
    this.#ifindex = this.#ifindexOf("node");
    this.#peer = new PacketPort(this.#namespaces.full("peer"), "eth0");
  }

  #ifindexOf(namespace: string): number {
    return inNamespace(this.#namespaces.full(namespace), () => {
      using links = new Links();
      return links.read().find(({ name }) => name === "eth0")!.ifindex;
    });
  }

  /** Attaches at the hook, as the speaker does: the egress filter first. */
  attach(): void {
    const folder = this.#namespaces.bpffs();
    const object = loadObject(OBJECT, folder);
    this.#objects.push(object);
    const { maps, programs } = object;
    this.#maps = maps;
    const ifindex = this.#ifindex;
    maps.interfaces.set(
      ifindex,
      interfaceEntry.of({
        ifindex,
        name: "eth0",
        mac_text: formatMac(NODE_MAC),
        mac: NODE_MAC,
        address: ip(NODE),
        tick_ns: bootTime(),
        state: nodeState.LIVE,
        node_name: "n1",
        node: OUR.node,
        incarnation: OUR.incarnation,
        hello_nonce: OUR.hello,
        live_ns: HOUR,
        hold_ns: HOUR,
        fence_ns: HOUR,
        gone_ns: HOUR,
      }),
    );
    maps.keys.set(0, KEY);
    for (const vip of [OWNED, NOT_OWNED, OWNED_ON_LO, MARKER, CLAIMED]) {
      this.claim(vip, vip === NOT_OWNED ? vipState.NOT_OWNED : vipState.OWNED);
    }
    inNamespace(this.#namespaces.full("node"), () => {
      const hooks = new Hooks(`${folder}/links`);
      for (const point of pointsOf(this.#hook)) {
        const ingress = point.kind === "xdp" ? programs.isat_xdp : programs.isat_ingress;
        hooks.ensure(ifindex, point, point.direction === "egress" ? programs.isat_egress : ingress);
      }
    });
    if (this.#hook === "xdp") this.#passAllAtPeer();
  }

  /** XDP_TX leaves a veth only if its peer runs XDP too: the program with empty maps lets everything pass. */
  #passAllAtPeer(): void {
    const folder = this.#namespaces.bpffs();
    const object = loadObject(OBJECT, folder);
    this.#objects.push(object);
    const ifindex = this.#ifindexOf("peer");
    inNamespace(this.#namespaces.full("peer"), () =>
      new Hooks(`${folder}/links`).ensure(ifindex, { kind: "xdp", direction: "ingress" }, object.programs.isat_xdp),
    );
  }

  /** Frames as they reach the peer, until `isLast` has come and nothing came behind it, in words. */
  #receive(isLast: (frame: string) => boolean): string[] {
    const seen: string[] = [];
    let end = performance.now() + PATIENCE;
    for (let isThere = false; performance.now() < end; ) {
      const frame = this.#peer.receive();
      if (!frame) {
        sleep(1);
        continue;
      }
      seen.push(inWords(frame));
      if (isThere || !isLast(seen.at(-1)!)) continue;
      isThere = true;
      end = performance.now() + AFTERWARDS;
    }
    return seen;
  }

  /** All that the node answers to the frames of the peer, while isat is attached: a marker's answer ends the wait. */
  ask(...frames: Uint8Array[]): string[] {
    for (const frame of frames) this.#peer.send(frame);
    this.#peer.send(arp({ tpa: ip(MARKER) }));
    const last = inWords(answer(MARKER));
    const seen = this.#receive((frame) => frame === last);
    assert.ok(seen.includes(last), `the marker was not answered; seen: ${seen.join("; ")}`);
    return seen.filter((frame) => frame !== last);
  }

  /** All that the node answers to one frame, while isat is not attached: the first answer ends the wait. */
  askKernel(frame: Uint8Array): string[] {
    this.#peer.send(frame);
    return this.#receive(() => true);
  }

  /** The node's request when a program there sends from an address of its own to one that it does not know yet. */
  connectFrom(address: string): string[] {
    const target = ip(`10.9.254.${++this.#target}`);
    inNamespace(this.#namespaces.full("node"), () => sendDatagram(ip(address), target));
    return this.#receive(() => true).map((frame) => frame.replace(target.join("."), "CLIENT"));
  }

  /** The node's announcements that reach the peer. */
  announce(mac: Uint8Array, ...vips: string[]): string[] {
    inNamespace(this.#namespaces.full("node"), () => {
      using socket = new PacketSocket();
      for (const vip of [...vips, MARKER]) {
        const source = vip === MARKER ? NODE_MAC : mac;
        socket.send(this.#ifindex, announcement(source, ip(vip))); // the egress filter drops it: ENOBUFS
      }
    });
    const last = inWords(announcement(NODE_MAC, ip(MARKER)));
    return this.#receive((frame) => frame === last).filter((frame) => frame !== last);
  }

  /** The control plane's word on a VIP, from now on. */
  claim(vip: string, state: VipState): void {
    const key = { ip: ip(vip), ifindex: this.#ifindex };
    this.#maps!.vips.set(key, vipEntry.of({ check: checkOf(key), state, claim_ns: bootTime(), hash: 5n }));
  }

  /** Says hello anew: an echo to a hello that is 5 s old is stale, and a busy machine takes longer to come this far. */
  greet(): void {
    OUR.hello = bootTime();
    const entry = this.#maps!.interfaces.get(this.#ifindex)!;
    this.#maps!.interfaces.set(this.#ifindex, { ...entry, hello_nonce: OUR.hello });
  }

  /** The part of the maps that must not change, whatever is played to the node again. */
  state(): unknown {
    const { peers, vips } = this.#maps!;
    return {
      peers: [...peers.entries()].map(([key, { heard_ns, ...peer }]) => [key, peer]),
      vips: [...vips.entries()].map(([key, { answered, last_answer_ns, ...vip }]) => [key, vip]),
    };
  }

  /** Sends frames, and expects nothing. */
  flood(frames: Iterable<Uint8Array>): void {
    for (const frame of frames) this.#peer.send(frame);
  }

  /** The frames of the peer protocol that a packet socket on the node is given in `body`, in words. */
  passedUp(body: () => void): string[] {
    const socket = inNamespace(this.#namespaces.full("node"), listen);
    try {
      body();
      const buffer = new Uint8Array(2048);
      const seen: string[] = [];
      for (;;) {
        const length = Number(libc.recv(socket, buffer, buffer.length, MSG_DONTWAIT));
        if (length < 0) return seen;
        seen.push(inWords(buffer.slice(0, length)));
      }
    } finally {
      libc.close(socket);
    }
  }

  /** By how much the verdicts rose in `body`. */
  counting<T>(body: () => T): [T, Counts] {
    const before = this.#maps!.verdicts.get(this.#ifindex)!;
    const result = body();
    const after = this.#maps!.verdicts.get(this.#ifindex)!;
    const rises = COUNTERS.map((name) => [name, Number(after[name] - before[name])] as const);
    return [result, Object.fromEntries(rises.filter(([, rise]) => rise !== 0))];
  }

  [Symbol.dispose](): void {
    this.#peer[Symbol.dispose]();
    for (const object of this.#objects) object[Symbol.dispose]();
    this.#namespaces[Symbol.dispose]();
  }
}

const MSG_DONTWAIT = 0x40;

/** A packet socket that is given frames of the peer protocol, after the programs at the hooks. */
function listen(): number {
  const AF_PACKET = 17;
  const SOCK_RAW = 3;
  const fd = libc.socket(AF_PACKET, SOCK_RAW, 0xb588); // the EtherType in network order
  if (fd < 0) throw new Error(`Cannot open a packet socket: ${errnoName(ffi.errno())}`);
  return fd;
}

/** One UDP datagram, from and to a port that plays no part. */
function sendDatagram(from: Uint8Array, to: Uint8Array): void {
  const AF_INET = 2;
  const SOCK_DGRAM = 2;
  const sockaddr = (address: Uint8Array, port: number) => {
    const bytes = new Uint8Array(16);
    bytes.set([AF_INET, 0, port >> 8, port & 255, ...address]);
    return bytes;
  };
  const fd = libc.socket(AF_INET, SOCK_DGRAM, 0);
  try {
    if (libc.bind(fd, sockaddr(from, 0), 16) < 0) throw new Error(`Cannot bind: ${errnoName(ffi.errno())}`);
    const sent = Number(libc.sendto(fd, new Uint8Array(1), 1, 0, sockaddr(to, 9), 16));
    if (sent < 0) throw new Error(`Cannot send: ${errnoName(ffi.errno())}`);
  } finally {
    libc.close(fd);
  }
}

const request = (vip: string, fields: Partial<Arp> = {}) => arp({ tpa: ip(vip), ...fields });
const question = (spa: string) =>
  `${formatMac(NODE_MAC)} > ff:ff:ff:ff:ff:ff: who-has CLIENT tell ${spa}, SHA ${formatMac(NODE_MAC)}`;

interface Row {
  what: string;
  frame: Uint8Array;
  /** VIPs that are answered, by whomever of the node. */
  answered?: string[];
  /** The counters that rise, without the marker's own share. */
  verdicts: Counts;
}

/**
 * The counters that rise, with the marker's answer. The answer that TC redirects passes the egress filter on its way out,
 * which knows it by its mark and does not count it a second time.
 */
const withMarker = (verdicts: Counts): Counts => ({ ...verdicts, answered: (verdicts.answered ?? 0) + 1 });

const rows: Row[] = [
  {
    what: "a request for a VIP owned here is answered once",
    frame: request(OWNED),
    answered: [OWNED],
    verdicts: { answered: 1 },
  },
  {
    what: "a request for a VIP owned here and on lo is answered once, by the program",
    frame: request(OWNED_ON_LO),
    answered: [OWNED_ON_LO],
    verdicts: { answered: 1 },
  },
  {
    what: "a unicast request to the node's MAC is answered",
    frame: request(OWNED, { destination: NODE_MAC }),
    answered: [OWNED],
    verdicts: { answered: 1 },
  },
  {
    what: "a unicast request to another MAC is not answered",
    frame: request(OWNED, { destination: OTHER_MAC }),
    verdicts: { not_for_us: 1 },
  },
  {
    what: "a unicast request to another MAC is not answered, though the VIP is on lo",
    frame: request(OWNED_ON_LO, { destination: OTHER_MAC }),
    verdicts: { not_for_us: 1 },
  },
  {
    what: "a request longer than Ethernet's least is answered",
    frame: Uint8Array.of(...request(OWNED), ...new Uint8Array(1000).fill(0xa5)),
    answered: [OWNED],
    verdicts: { answered: 1 },
  },
  {
    what: "a request of 42 bytes, as veths carry it, is answered",
    frame: request(OWNED).subarray(0, 42),
    answered: [OWNED],
    verdicts: { answered: 1 },
  },
  {
    what: "a request for a VIP not owned here is not answered, though the VIP is on lo",
    frame: request(NOT_OWNED),
    verdicts: { not_owned: 1 },
  },
  {
    what: "a request for the node's own address is the kernel's to answer",
    frame: request(NODE),
    answered: [NODE],
    verdicts: { not_managed: 1 },
  },
  ...[OWNED, NOT_OWNED, OWNED_ON_LO].flatMap((vip): Row[] => [
    {
      what: `a request for ${vip} behind an 802.1Q tag is passed, counted and not answered`,
      frame: tagged(request(vip), [0x8100, 5]),
      verdicts: { tagged: 1 },
    },
    {
      what: `a request for ${vip} behind an 802.1ad tag is passed, counted and not answered`,
      frame: tagged(request(vip), [0x88a8, 5]),
      verdicts: { tagged: 1 },
    },
  ]),
  {
    // The kernel takes a frame of VLAN 0 for an untagged one, and has the VIP on lo.
    what: "a request behind a priority tag (VLAN 0) for a VIP not owned here is not answered by the kernel either",
    frame: tagged(request(NOT_OWNED), [0x8100, 0xe000]),
    verdicts: { not_owned: 1 },
  },
  {
    what: "a request behind a priority tag (VLAN 0) for a VIP owned here is answered without a tag",
    frame: tagged(request(OWNED_ON_LO), [0x8100, 0xe000]),
    answered: [OWNED_ON_LO],
    verdicts: { answered: 1 },
  },
];

const wires: Wire[] = [];
for (const hook of ["tcx", "tc", "xdp"] as const) {
  if (hook === "tcx" && !hasTcx()) {
    skip(test, "tcx: every row", "this kernel has no tcx (Linux >= 6.6 has it)");
    continue;
  }
  const wire = new Wire(hook);
  wires.push(wire);

  test(`${hook}: before isat is attached, the node's kernel answers for a VIP on lo`, () => {
    assert.equal(wire.askKernel(request(NOT_OWNED)), [inWords(answer(NOT_OWNED))]);
  });

  test(`${hook}: before isat is attached, the node's kernel asks in the name of a VIP on lo`, () => {
    assert.equal(wire.connectFrom(NOT_OWNED), [question(NOT_OWNED)]);
  });

  test(`${hook}: isat is attached`, () => wire.attach());

  for (const { what, frame, answered = [], verdicts } of rows) {
    test(`${hook}: ${what}`, () => {
      const [seen, counted] = wire.counting(() => wire.ask(frame));
      assert.equal(
        seen,
        answered.map((vip) => inWords(answer(vip))),
      );
      assert.equal(counted, withMarker(verdicts));
    });
  }

  test(`${hook}: 1,000 requests are answered by 1,000 answers`, () => {
    const frames = Array.from({ length: 1000 }, () => request(OWNED));
    assert.equal(
      wire.ask(...frames),
      frames.map(() => inWords(answer(OWNED))),
    );
  });

  test(`${hook}: a broadcast probe is echoed by the kernel`, () => {
    const nonce = THEIR.nonce + 1n;
    const hello = say(wireType.WIRE_PROBE, { destination: BROADCAST, to: 0n, stamp: 0n, nonce });
    const [seen, counted] = wire.counting(() => wire.ask(hello));
    assert.equal(seen, [said("WIRE_ECHO", nonce)]);
    assert.equal(counted, withMarker({ wire_echoed: 1 }));
  });

  test(`${hook}: 1,000 probes are echoed, and none is passed up`, () => {
    const up = wire.passedUp(() => {
      const nonces = Array.from({ length: 1000 }, (_, i) => THEIR.nonce + BigInt(i) + 2n);
      assert.equal(
        wire.ask(...nonces.map((nonce) => say(wireType.WIRE_PROBE, { nonce }))),
        nonces.map((nonce) => said("WIRE_ECHO", nonce)),
      );
    });
    assert.equal(up, []);
  });

  test(`${hook}: an echo and a notice are passed up to a packet socket`, () => {
    wire.greet();
    const echo = say(wireType.WIRE_ECHO, { nonce: OUR.hello });
    const notice = say(wireType.WIRE_NOTICE, { nonce: 1n }, [{ ip: ip(OWNED) }]);
    assert.equal(
      wire.passedUp(() => wire.ask(echo, echo, notice)),
      [inWords(echo), inWords(notice)],
    );
  });

  test(`${hook}: a claim frees a VIP, and from then on the kernel answers for it no more`, () => {
    assert.equal(wire.ask(request(CLAIMED)), [inWords(answer(CLAIMED))]);
    const claims = [CLAIMED, "10.9.7.7", MARKER].map((vip) => ({ ip: ip(vip), hash: vip === MARKER ? 9n : 1n }));
    const [seen, counted] = wire.counting(() => wire.ask(say(wireType.WIRE_CLAIM, { nonce: 2n }, claims)));
    assert.equal(seen, [said("WIRE_REPLY", 2n, `${CLAIMED} RELEASED`, "10.9.7.7 FREE", `${MARKER} MINE`)]);
    assert.equal(counted, withMarker({ wire_taken: 1, released: 1 }));
    assert.equal(
      wire.counting(() => wire.ask(request(CLAIMED))),
      [[], withMarker({ not_owned: 1 })],
    );
  });

  test(`${hook}: 32 VIPs are claimed in one frame`, () => {
    const vips = Array.from({ length: 32 }, (_, i) => `10.9.7.${i}`);
    const claims = vips.map((vip) => ({ ip: ip(vip) }));
    assert.equal(wire.ask(say(wireType.WIRE_CLAIM, { nonce: 3n }, claims)), [
      said("WIRE_REPLY", 3n, ...vips.map((vip) => `${vip} FREE`)),
    ]);
  });

  test(`${hook}: 20,000 frames that are forged, or played again, change nothing`, () => {
    const claim = say(wireType.WIRE_CLAIM, { nonce: 4n }, [{ ip: ip(CLAIMED) }]);
    const echo = say(wireType.WIRE_ECHO, { nonce: OUR.hello, stamp: 1n, state: nodeState.DRAINED });
    assert.is(wire.ask(claim).length, 1);
    wire.claim(CLAIMED, vipState.OWNED); // it has come back since
    const forged = sign(claim, { ...KEY, k0: 7n });
    const before = wire.state();
    const [, counted] = wire.counting(() =>
      wire.flood(Array.from({ length: 20_000 }, (_, i) => [claim, forged, echo, forged][i % 4]!)),
    );
    assert.equal(counted, { wire_stale: 10_000, wire_refused: 10_000 });
    assert.equal(wire.state(), before);
    assert.equal(wire.ask(request(CLAIMED)), [inWords(answer(CLAIMED))]);
  });

  test(`${hook}: the kernel's own question in the name of a VIP not owned here leaves under the node's address`, () => {
    const [seen, counted] = wire.counting(() => wire.connectFrom(NOT_OWNED));
    assert.equal(seen, [question(NODE)]);
    assert.equal(counted, { egress_rewritten: 1 });
  });

  test(`${hook}: while nobody knows who owns a VIP, another speaker's words leave, and not the kernel's`, () => {
    wire.claim(NOT_OWNED, vipState.UNDECIDED);
    const [seen, counted] = wire.counting(() => [
      ...wire.connectFrom(NOT_OWNED),
      ...wire.announce(NODE_MAC, NOT_OWNED, OWNED),
      ...wire.announce(OTHER_MAC, NOT_OWNED, OWNED),
    ]);
    wire.claim(NOT_OWNED, vipState.NOT_OWNED);
    assert.equal(
      seen,
      [question(NODE), ...[NOT_OWNED, OWNED].map((vip) => inWords(announcement(NODE_MAC, ip(vip))))].flat(),
    );
    assert.equal(counted, { egress_rewritten: 1, egress_claimed: 4, egress_dropped: 2 });
  });

  test(`${hook}: the kernel's own question in the name of a VIP owned here leaves as it is`, () => {
    const [seen, counted] = wire.counting(() => wire.connectFrom(OWNED_ON_LO));
    assert.equal(seen, [question(OWNED_ON_LO)]);
    assert.equal(counted, { egress_claimed: 1 });
  });

  test(`${hook}: of the node's announcements, those of VIPs owned here leave`, () => {
    const [seen, counted] = wire.counting(() => wire.announce(NODE_MAC, NOT_OWNED, OWNED));
    assert.equal(seen, [inWords(announcement(NODE_MAC, ip(OWNED)))]);
    assert.equal(counted, { egress_claimed: 2, egress_dropped: 1 });
  });

  test(`${hook}: no announcement leaves with a MAC that is not the node's`, () => {
    const [seen, counted] = wire.counting(() => wire.announce(OTHER_MAC, NOT_OWNED, OWNED));
    assert.equal(seen, []);
    assert.equal(counted, { egress_claimed: 1, egress_dropped: 2 });
  });
}

test.after(() => {
  for (const wire of wires) wire[Symbol.dispose]();
});
test.run();
