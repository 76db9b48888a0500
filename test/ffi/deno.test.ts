import type { ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ISAT } from "../../lab/bundle.ts";
import { until } from "../../lab/kernel/process.ts";
import { parseMac } from "../../lab/mac.ts";
import { Namespaces } from "../../lab/namespaces.ts";
import { PacketPort } from "../../lab/packet-port.ts";
import { type Command, noDeno, onDeno } from "../../lab/runtimes.ts";
import { skip } from "../../lab/skip.ts";
import { CLIENT, type LabNode, NODES, ownerOf, PREFIX_LENGTH, VIP_RANGES, VIPS } from "../../lab/topology.ts";
import { addressBytes, addressOfBytes, formatAddress, parseAddress } from "../../src/core/address.ts";
import { ARP_REPLY, ARP_REQUEST, BROADCAST, decodeArp, encodeArp, formatMac, NO_MAC } from "../../src/core/arp.ts";

const test = suite("deno");
const PATIENCE = 20_000;

/** A bridge with a client and three nodes, the second of which runs on Deno. */
class Stage implements Disposable {
  readonly namespaces = new Namespaces("isat-t-deno-");
  readonly #pins = this.namespaces.bpffs();
  readonly #folder = this.namespaces.folder();
  readonly #cache = this.namespaces.folder();
  readonly #client: PacketPort;
  static readonly onDeno: LabNode = NODES[1]!;

  constructor() {
    this.namespaces.add("bridge");
    this.namespaces.ip("bridge", ["link add br0 type bridge", "link set br0 up"]);
    for (const { name, port, mac, ip } of [...NODES, CLIENT]) {
      this.namespaces.add(name);
      this.namespaces.link({ namespace: "bridge", name: `port${port}` }, { namespace: name, name: "eth0", mac });
      this.namespaces.ip("bridge", [`link set port${port} master br0`]);
      this.namespaces.ip(name, [`addr add ${ip}/${PREFIX_LENGTH} dev eth0`]);
    }
    for (const node of NODES) writeFileSync(this.#config(node), this.#configuration(node));
    this.#client = new PacketPort(this.namespaces.full(CLIENT.name), "eth0");
  }

  #config({ name }: LabNode): string {
    return join(this.#folder, `${name}.yaml`);
  }

  #configuration({ name }: LabNode): string {
    return `node: ${name}
interfaces: [eth0]
pinDir: ${this.#pins}/${name}
runDir: ${this.#folder}/${name}
membership: { keys: none }
source:
  kind: file
  nodes: [${NODES.map((node) => node.name).join(", ")}]
  vips:
${VIP_RANGES.map((range) => `    - address: ${range}`).join("\n")}
`;
  }

  /** Starts `isat` with the node's configuration, in its namespace. */
  start(node: LabNode, ...words: string[]): Running {
    const { command, args, env }: Command =
      node === Stage.onDeno
        ? onDeno("src/main.ts", this.#cache)
        : { command: ISAT[0], args: ISAT.slice(1), env: process.env };
    const all = [...args, ...words, "--config", this.#config(node)];
    return new Running(this.namespaces.spawn(node.name, command, all, { env }));
  }

  /** Sends one request for the VIP. @returns the MACs in all replies */
  async answers(vip: string): Promise<string[]> {
    while (this.#client.receive());
    this.#client.send(
      encodeArp({
        destination: BROADCAST,
        source: parseMac(CLIENT.mac),
        op: ARP_REQUEST,
        sha: parseMac(CLIENT.mac),
        spa: addressBytes(parseAddress(CLIENT.ip)),
        tha: NO_MAC,
        tpa: addressBytes(parseAddress(vip)),
      }),
    );
    await sleep(20); // so that a second reply would arrive too
    const macs: string[] = [];
    for (let frame = this.#client.receive(); frame; frame = this.#client.receive()) {
      const arp = decodeArp(frame);
      if (arp?.op !== ARP_REPLY) continue;
      if (formatAddress(addressOfBytes(arp.spa)) !== vip) continue;
      assert.is(formatMac(arp.source), formatMac(arp.sha));
      macs.push(formatMac(arp.sha));
    }
    return macs;
  }

  /** Asserts that each VIP is answered once, with its owner's MAC. */
  async eachOwnerAnswers(): Promise<void> {
    const found: Record<string, string[]> = {};
    for (const vip of VIPS) found[vip] = await this.answers(vip);
    assert.equal(found, Object.fromEntries(VIPS.map((vip) => [vip, [ownerOf(vip).mac]])));
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
    this.namespaces[Symbol.dispose]();
  }
}

/** A running `isat`, and its output. */
class Running {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  #status: number | null | undefined;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout!.on("data", (chunk) => (this.stdout += chunk));
    child.stderr!.on("data", (chunk) => (this.stderr += chunk));
    child.once("close", (code) => (this.#status = code));
  }

  async says(text: string): Promise<void> {
    const end = () => this.#status !== undefined;
    await until(`isat says ${text}`, () => this.stderr.includes(text) || end(), PATIENCE);
    assert.ok(this.stderr.includes(text), `it said: ${this.stderr}`);
  }

  ready(): Promise<void> {
    return this.says('"msg":"ready"');
  }

  /** Waits for its end. @returns the exit status; null if a signal ended it */
  async ended(): Promise<number | null> {
    const status = await until("isat ends", () => (this.#status === undefined ? undefined : { is: this.#status }));
    return status.is;
  }
}

if (noDeno) skip(test, "a speaker on Deno beside two on Node", noDeno);
else {
  let stage: Stage;
  let speaker: Running;
  const node = Stage.onDeno;
  const owned = VIPS.filter((vip) => ownerOf(vip) === node);

  test.before(() => {
    stage = new Stage();
  });
  test.after(() => stage[Symbol.dispose]());

  test("a speaker on Deno beside two on Node: each VIP is answered by its owner, and by nobody else", async () => {
    assert.ok(owned.length > 0 && owned.length < VIPS.length);
    const speakers = NODES.map((each) => stage.start(each, "run"));
    await Promise.all(speakers.map((each) => each.ready()));
    speaker = speakers[NODES.indexOf(node)]!;
    await stage.eachOwnerAnswers();
  });

  test("status on Deno asks the running speaker", async () => {
    const status = stage.start(node, "status", "--json");
    assert.is(await status.ended(), 0, status.stderr);
    const { vips } = JSON.parse(status.stdout);
    const counted = vips.filter((vip: { state: string; answers: number }) => vip.state === "owned" && vip.answers > 0);
    assert.is(counted.length, owned.length);
  });

  test("SIGTERM ends it with status 0, the kernel goes on answering, and the next one adopts", async () => {
    speaker.child.kill("SIGTERM");
    assert.is(await speaker.ended(), 0, speaker.stderr);
    assert.match(speaker.stderr, /stopped by SIGTERM: the kernel goes on answering/);
    await stage.eachOwnerAnswers();
    speaker = stage.start(node, "run");
    await speaker.ready();
    assert.match(speaker.stderr, /tcx adopted/);
    await stage.eachOwnerAnswers();
  });

  test("clean on Deno removes everything: its VIPs are the others', who are told", async () => {
    speaker.child.kill("SIGTERM");
    await speaker.ended();
    const clean = stage.start(node, "clean");
    assert.is(await clean.ended(), 0, clean.stderr);
    const others = NODES.filter((each) => each !== node);
    const [vip] = owned;
    // The kernel detaches an unpinned link some time after the pin is gone.
    await until("another answers alone", async () => String(await stage.answers(vip!)) === ownerOf(vip!, others).mac);
  });
}

test.run();
