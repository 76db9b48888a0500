// limit: 300 s
/** Random histories of the whole controller but its connection, against rules that are written here once more. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { randomOf } from "../../lab/random.ts";
import type { PoolSpec } from "../../src/controller/pools.ts";
import { formatAddress } from "../../src/core/address.ts";
import { pool as plainPool } from "./desk.ts";
import { type Stored, World } from "./world.ts";

const test = suite("histories of addresses");
const STEPS = Number(process.env.STEPS ?? 100_000);

const pool = (name: string, ranges: readonly string[], more: Partial<PoolSpec> = {}): PoolSpec => ({
  ...plainPool(name, ranges),
  ...{ namespaces: [], namespaceSelectors: [], serviceSelectors: [] },
  ...more,
});

const matching = (labels: Record<string, string>) => [{ matchLabels: labels, matchExpressions: [] }];
const FORMS: readonly (readonly PoolSpec[])[] = [
  [pool("a", ["10.9.0.0-10.9.0.39"]), pool("b", ["10.9.1.0/28"], { priority: 2 })],
  [pool("a", ["10.9.0.8-10.9.0.39"]), pool("b", ["10.9.1.0/28"], { namespaces: ["n1"], isSelective: true })],
  [pool("a", ["10.9.0.0-10.9.0.29"], { avoidBuggy: true }), pool("c", ["10.9.2.0/30"], { autoAssign: false })],
  [pool("b", ["10.9.0.20-10.9.0.44"], { namespaceSelectors: matching({ team: "x" }), isSelective: true })],
  [pool("a", ["10.9.0.0-10.9.0.44"]), pool("c", ["10.9.2.0/30"], { serviceSelectors: matching({ app: "c" }) })],
];
const IPS = ["10.9.0.1", "10.9.0.3", "10.9.0.9", "10.9.0.25", "10.9.1.2", "10.9.2.1", "10.9.9.9"];

/** The addresses that other machines have. One is asked for. */
const MACHINES = ["10.9.0.5", "10.9.0.9", "10.9.0.22", "10.9.1.4"];

/** The rule of sharing, from the documentation. */
function mayShare(a: Stored, b: Stored): boolean {
  const [one, other] = [a, b].map(({ annotations }) => annotations["isat.io/share"]);
  return one !== undefined && one === other && !a.ports.some((port) => b.ports.includes(port));
}

class History {
  readonly world = new World();
  readonly random: () => number;
  count = 0;
  /** Services that have asked for another address, or made theirs impossible, since all was quiet. */
  readonly asked = new Set<string>();
  /** Pairs that an edit has made impossible. */
  readonly excused = new Set<string>();
  /** The forms that a Service had since all was quiet. */
  readonly forms = new Map<string, Stored[]>();
  moves = 0;

  constructor(seed: number) {
    this.random = randomOf(seed);
    for (const name of ["n1", "n2"]) this.world.setNamespace(name, { team: name === "n1" ? "x" : "y" });
    this.world.setPools(FORMS[0]!);
    this.world.machines = MACHINES;
    this.world.onWrite = (before, after) => this.#check(before, after);
  }

  int = (most: number) => Math.floor(this.random() * most);
  pick = <T>(from: readonly T[]): T => from[this.int(from.length)]!;
  get #some(): Stored | undefined {
    return this.pick([...this.world.store.values()]);
  }

  #pair = (a: Stored, b: Stored, ip: string) => [...[a.key, b.key].sort(), ip].join(" ");

  /** An edit may come while the leader still goes by the form before. */
  #mightShare(a: Stored, b: Stored): boolean {
    const forms = (its: Stored) => [its, ...(this.forms.get(its.uid) ?? [])];
    return forms(a).some((one) => forms(b).some((other) => mayShare(one, other)));
  }

  #clashes(its: Stored, share: (a: Stored, b: Stored) => boolean = mayShare): string[] {
    if (its.type !== "LoadBalancer") return [];
    return [...this.world.store.values()].flatMap((other) => {
      if (other.key === its.key || other.type !== "LoadBalancer" || share(its, other)) return [];
      return other.ips.filter((ip) => its.ips.includes(ip)).map((ip) => this.#pair(its, other, ip));
    });
  }

  /** After each write: no address twice, none taken away, none moved. */
  #check(before: readonly string[], after: Stored): void {
    assert.is(
      after.ips.find((ip) => MACHINES.includes(ip)),
      undefined,
      `${after.key} is given what another machine has`,
    );
    const clash = this.#clashes(after, (a, b) => this.#mightShare(a, b)).find((pair) => !this.excused.has(pair));
    assert.is(clash, undefined, `an address is given twice: ${clash}`);
    // One of the two was edited while this was under way.
    for (const pair of this.#clashes(after)) this.excused.add(pair);
    if (this.#clashes(after).length > 0) this.#excuseAll();
    const isLost = after.type === "LoadBalancer" && before.some((ip) => !after.ips.includes(ip));
    if (!isLost) return;
    this.moves += 1;
    const isSaid = `${after.key} had ${before} and has ${after.ips}: ${after.condition?.message}`;
    assert.ok(this.asked.has(after.key), `moved unasked: ${isSaid}`);
  }

  edit(its: Stored, change: Partial<Stored>): void {
    const asksFor = ({ annotations, ports, type }: Stored) => JSON.stringify([annotations, ports, type]);
    const next = { ...its, ...change };
    this.forms.set(its.uid, [...(this.forms.get(its.uid) ?? []), its]);
    if (asksFor(next) !== asksFor(its)) this.asked.add(its.key);
    this.world.put(next);
    for (const pair of this.#clashes(this.world.store.get(its.key)!)) this.excused.add(pair);
    if (!this.world.leader.desk!.isOpen) this.#excuseAll();
  }

  #annotations(): Record<string, string> {
    const kind = this.int(12);
    if (kind < 2) return { "isat.io/addresses": this.pick(IPS) };
    if (kind < 3) return { "metallb.io/loadBalancerIPs": this.pick(IPS) };
    if (kind < 5) return { "metallb.universe.tf/address-pool": this.pick(["a", "b", "c"]) };
    if (kind < 8) return { "isat.io/share": this.pick(["k", "l"]) };
    return {};
  }

  create(more: Partial<Stored> = {}): void {
    const key = `${this.pick(["n1", "n2"])}/s${this.int(90)}`;
    if (this.world.store.has(key)) return;
    this.count += 1;
    this.asked.delete(key);
    this.world.put({
      key,
      uid: `u${this.count}`,
      created: 1_000_000 + this.count * 1_000,
      type: "LoadBalancer",
      annotations: this.#annotations(),
      labels: this.int(3) === 0 ? { app: "c" } : {},
      ports: [80 + this.int(3)],
      ips: [],
      condition: undefined,
      ...more,
    });
  }

  step(): void {
    const { world } = this;
    const kind = this.int(100);
    world.now += this.int(20);
    if (world.leader.question && world.now - world.leader.question.at > 4_000) world.answer();
    const its = this.#some;
    if (kind < 9) this.create();
    else if (kind < 15) its && world.delete(its.key);
    else if (kind < 18) its && this.edit(its, { annotations: this.#annotations() });
    else if (kind < 20) its && this.edit(its, { ports: [80 + this.int(3)] });
    else if (kind < 21) its && this.edit(its, { labels: this.int(2) ? { app: "c" } : {} });
    else if (kind < 23) its && this.edit(its, { type: its.type === "ClusterIP" ? "LoadBalancer" : "ClusterIP" });
    else if (kind < 24) world.setPools(this.pick(FORMS));
    else if (kind < 25) world.setNamespace(this.pick(["n1", "n2"]), { team: this.pick(["x", "y"]) });
    else if (kind < 26) this.int(4) === 0 && this.#elect();
    else if (kind < 55) world.read();
    else if (kind < 76) world.send();
    else if (kind < 78) world.answer();
    else this.#arrive();
  }

  /** A leader that has not seen which Service's edit made two clash moves the younger one. */
  #excuseAll(): void {
    for (const pair of this.excused) for (const key of pair.split(" ").slice(0, 2)) this.asked.add(key);
  }

  #elect(): void {
    this.#excuseAll();
    this.world.elect(this.pick([0, 1]));
  }

  #arrive(): void {
    const office = this.pick(this.world.offices);
    const fate = this.int(10);
    this.world.arrive(office, this.int(office.sent.length), fate === 0 ? "before" : fate === 1 ? "after" : undefined);
  }

  /** Whoever lacks an address can have none. */
  checkQuiet(): void {
    const { world } = this;
    world.settle();
    this.forms.clear();
    const all = [...world.store.values()];
    const used = new Set(all.flatMap(({ ips, type }) => (type === "LoadBalancer" ? ips : [])));
    for (const its of all) {
      if (its.type !== "LoadBalancer") {
        assert.equal([its.ips, its.condition], [[], undefined], its.key);
        continue;
      }
      assert.ok(its.condition, `${its.key} was told nothing`);
      assert.equal(this.#clashes(its), [], its.key);
      if (its.ips.length === 0) this.#checkWaiting(its, used);
    }
    for (const { key, condition } of all) if (condition?.reason === "Assigned") this.asked.delete(key);
    this.excused.clear();
  }

  #checkWaiting(its: Stored, used: ReadonlySet<string>): void {
    const { annotations, key, labels } = its;
    const namespace = key.slice(0, 2);
    const team = this.world.namespaces.get(namespace)!.team;
    const selecting = this.world.pools.filter(({ namespaces, namespaceSelectors, serviceSelectors }) => {
      if (namespaces.length > 0 && !namespaces.includes(namespace)) return false;
      if (namespaceSelectors.length > 0 && namespaceSelectors[0]!.matchLabels.team !== team) return false;
      return serviceSelectors.length === 0 || labels.app === "c";
    });
    const pinned = annotations["metallb.universe.tf/address-pool"];
    const wanted = annotations["isat.io/addresses"] ?? annotations["metallb.io/loadBalancerIPs"];
    const open = selecting.filter(({ name, autoAssign }) => (pinned ? name === pinned : autoAssign || wanted));
    const addresses = open.flatMap(({ ranges, avoidBuggy }) =>
      ranges
        .flatMap(({ first, last }) =>
          Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i),
        )
        .map(formatAddress)
        .filter((ip) => !avoidBuggy || !/\.(0|255)$/.test(ip)),
    );
    const free = addresses.filter((ip) => !used.has(ip) && !MACHINES.includes(ip) && (!wanted || ip === wanted));
    assert.equal(free, [], `${key} waits: ${its.condition!.message}`);
    assert.is(its.condition!.status, "False");
  }

  /** Of Services that wait alike, the oldest get what is freed. */
  checkOrder(): void {
    const { world } = this;
    world.setPools(FORMS[0]!);
    const isPlain = ({ annotations, type }: Stored) => type === "LoadBalancer" && Object.keys(annotations).length === 0;
    for (let i = 0; i < 300; i++) this.create({ annotations: {} });
    world.settle();
    const waiting = [...world.store.values()].filter((its) => isPlain(its) && its.ips.length === 0);
    const served = [...world.store.values()].filter((its) => isPlain(its) && its.ips.length > 0);
    for (let i = 0; i < 5; i++) {
      const { key } = this.pick(served);
      if (world.store.has(key)) world.delete(key);
    }
    world.settle();
    const has = waiting.sort((a, b) => a.created - b.created).map(({ key }) => world.store.get(key)!.ips.length > 0);
    assert.equal(has, [...has].sort().reverse(), "a younger Service came first");
    for (const { key } of [...world.store.values()].slice(0, 60)) world.delete(key);
  }
}

for (const seed of [1, 2]) {
  test(`${STEPS / 2} steps: no address twice, none lost, none moved unasked, order kept (seed ${seed})`, () => {
    const history = new History(seed + Number(process.env.SEED ?? 0));
    for (let step = 1; step <= STEPS / 2; step++) {
      history.step();
      if (step % 500 === 0) history.checkQuiet();
      if (step % 5_000 === 0) history.checkOrder();
    }
    assert.is(history.world.unasked, 0);
    console.log(`MEASURED ${history.count} Services, ${history.world.writes} writes, ${history.moves} moves`);
  });
}

test.run();
