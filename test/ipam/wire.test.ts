/** The wire is asked before an address is given: the questions, and what follows from the answers. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Desk, type Write } from "../../src/controller/desk.ts";
import { viewOf } from "../../src/controller/services.ts";
import { type Question, Wire } from "../../src/controller/wire.ts";
import { parseAddress } from "../../src/core/address.ts";
import { pool } from "./desk.ts";
import { objectOf, type Stored } from "./world.ts";

const test = suite("the wire is asked");
const MAC = "02:00:00:00:00:99";
const ALL = { loadBalancerClass: undefined, serviceSelector: undefined };
const EVERY = { namespaces: [], namespaceSelectors: [], serviceSelectors: [] };

/** A leader with Services, whose writes take effect at once. */
class Scene {
  readonly wire = new Wire("t");
  readonly desk = new Desk({ choice: "lowest", rest: 0 }, this.wire);
  readonly writes: Write[] = [];
  readonly #services = new Map<string, Stored>();
  now = 1_000;
  #version = 0;

  constructor(ranges: string[], nodes: string[] = ["n1", "n2"]) {
    this.wire.nodes = nodes;
    this.desk.setPools([{ ...pool("p", ranges), ...EVERY }], this.now);
    this.desk.open("t", true, this.now);
  }

  put(key: string, its: Partial<Stored> = {}): void {
    const version = ++this.#version;
    const annotations = {};
    const more = {
      labels: {},
      ports: [80],
      ips: [],
      condition: undefined,
      created: version,
      type: "LoadBalancer" as const,
    };
    const stored = { key, uid: key, annotations, ...more, ...this.#services.get(key), ...its, version };
    this.#services.set(key, stored);
    this.desk.put(viewOf(objectOf(stored), ALL), this.now);
  }

  delete(key: string): void {
    this.#services.delete(key);
    this.desk.remove(key, this.now);
  }

  /** Makes all writes that are due. @returns the question that is due then */
  run(): Question | undefined {
    for (;;) {
      for (let write = this.desk.next(this.now, `t${this.now}`); write; write = this.desk.next(this.now, "t")) {
        this.writes.push(write);
        const { key, ingress, condition } = write;
        this.put(key, { ...(ingress && { ips: [...ingress] }), condition });
      }
      const { question, unasked } = this.desk.question(this.now);
      if (question || unasked === 0) return question;
    }
  }

  /** The nodes answer. */
  answer({ id, ask }: Question, taken: Record<string, string> = {}, unable: string[] = []): void {
    for (const node of Object.keys(ask)) this.desk.answered(node, { id, taken, unable }, this.now);
  }

  of(key: string): string {
    const { ips, condition } = this.#services.get(key)!;
    return ips.join() || (condition?.reason ?? "nothing");
  }
}

const addressesOf = (question: Question | undefined) => Object.values(question!.ask).flat().sort();

test("an address is given after a speaker has found it free, by one write", () => {
  const its = new Scene(["10.9.0.1-10.9.0.9"]);
  its.put("n/a");
  const question = its.run()!;
  assert.equal(addressesOf(question), ["10.9.0.1"]);
  assert.is(its.writes.length, 0);
  assert.is(its.run(), undefined); // it is asked once
  its.answer(question);
  assert.is(its.run(), undefined);
  assert.equal([its.of("n/a"), its.writes.length], ["10.9.0.1", 1]);
});

test("an address that somebody answers for is never given: the Service gets another one, and is told the MAC", () => {
  const its = new Scene(["10.9.0.1-10.9.0.9"]);
  its.put("n/a");
  its.answer(its.run()!, { "10.9.0.1": MAC });
  const second = its.run()!;
  assert.equal(addressesOf(second), ["10.9.0.2"]);
  its.answer(second);
  its.run();
  assert.is(its.of("n/a"), "10.9.0.2");
  const [met] = its.desk.met;
  assert.match(met!.refusal.message, `10.9.0.1 is taken: ${MAC} answers for it on the wire, as n`);
  assert.equal(met!.keys, ["n/a"]);
  its.put("n/b");
  assert.equal(addressesOf(its.run()), ["10.9.0.3"]);
});

test("who asks for an address that somebody answers for waits, and gets it when it is free", () => {
  const its = new Scene(["10.9.0.1-10.9.0.9"]);
  its.put("n/a", { annotations: { "isat.io/addresses": "10.9.0.1" } });
  its.answer(its.run()!, { "10.9.0.1": MAC });
  assert.is(its.run(), undefined);
  assert.is(its.of("n/a"), "AnswersOnTheWire");
  const { length } = its.writes;
  its.now += 299_000;
  assert.is(its.run(), undefined);
  its.now += 2_000;
  const again = its.run()!;
  its.answer(again, { "10.9.0.1": MAC });
  its.run();
  assert.equal([its.of("n/a"), its.writes.length], ["AnswersOnTheWire", length]); // nothing new is said
  its.now += 301_000;
  its.answer(its.run()!);
  its.run();
  assert.is(its.of("n/a"), "10.9.0.1");
});

test("where a speaker does not answer, or cannot ask, another one is asked; where none can, the address is given", () => {
  const its = new Scene(["10.9.0.1"], ["n1", "n2", "n3"]);
  its.put("n/a");
  const first = its.run()!;
  const [mute] = Object.keys(first.ask);
  its.now += 5_000;
  const second = its.run()!;
  const [other] = Object.keys(second.ask);
  assert.is.not(other, mute);
  its.answer(second, {}, ["10.9.0.1"]);
  const third = its.run()!;
  assert.equal([mute, other, Object.keys(third.ask)[0]].sort(), ["n1", "n2", "n3"]);
  its.answer(first, { "10.9.0.1": MAC }); // too late: it counts for nothing
  its.answer(third, {}, ["10.9.0.1"]);
  assert.is(its.run(), undefined);
  assert.is(its.of("n/a"), "10.9.0.1");
});

test("where none of many nodes answers, the address is given after four of them were asked", () => {
  const nodes = Array.from({ length: 100 }, (_, index) => `n${index}`);
  const its = new Scene(["10.9.0.1"], nodes);
  its.put("n/a");
  const began = its.now;
  const asked = new Set<string>();
  for (; its.of("n/a") !== "10.9.0.1" && its.now < began + 600_000; its.now += 1_000)
    for (const node of Object.keys(its.run()?.ask ?? {})) asked.add(node);
  assert.equal([asked.size, its.of("n/a")], [4, "10.9.0.1"]);
  assert.ok(its.now - began <= 21_000, `after ${its.now - began} ms`);
});

test("where the API refuses questions, addresses are given at once", () => {
  const its = new Scene(["10.9.0.1-10.9.0.9"]);
  its.put("n/a");
  its.run();
  its.desk.giveUpAsking(its.now);
  its.run();
  its.put("n/b");
  its.run();
  assert.equal([its.of("n/a"), its.of("n/b")], ["10.9.0.1", "10.9.0.2"]);
});

test("nobody is asked for what this cluster has, or had a moment ago", () => {
  const its = new Scene(["10.9.0.1-10.9.0.9"]);
  its.put("n/a", { ips: ["10.9.0.1"], annotations: { "isat.io/share": "k" }, ports: [80] });
  its.put("n/b", { annotations: { "isat.io/share": "k" }, ports: [81] });
  assert.is(its.run(), undefined);
  assert.is(its.of("n/b"), "10.9.0.1");
  its.delete("n/a");
  its.delete("n/b");
  its.put("n/c");
  assert.is(its.run(), undefined);
  assert.is(its.of("n/c"), "10.9.0.1");
});

test("10,000 Services are asked for in three questions, of eight nodes at most", () => {
  const nodes = Array.from({ length: 100 }, (_, index) => `n${index}`);
  const its = new Scene(["10.9.0.0/16"], nodes);
  for (let index = 0; index < 10_000; index++) its.put(`n/s${index}`);
  let count = 0;
  for (let question = its.run(); question; question = its.run()) {
    count += 1;
    assert.ok(Object.keys(question.ask).length <= 8);
    assert.ok(JSON.stringify(question).length < 200_000);
    its.answer(question);
  }
  assert.is(count, 3);
  assert.is(its.writes.length, 10_000);
});

test("a leadership that is begun anew under one name asks questions of its own: speakers answer each once, and late", () => {
  const questions = [new Wire("t"), new Wire("t")].map((wire) => {
    wire.nodes = ["n1"];
    wire.want(parseAddress("10.9.0.1"));
    return wire.next(0).question!;
  });
  assert.is(new Set(questions.map(({ id }) => id)).size, 2);
});

test("a leadership that is begun anew under one name writes to who waits what it is not told: else its version stays", () => {
  let message = "";
  for (let count = 0; count < 3; count++) {
    const condition = { status: "False", reason: "Pending", message, since: "t" };
    const desk = new Desk({ choice: "lowest", rest: 0 });
    const its = { annotations: {}, labels: {}, ports: [80], ips: [], condition };
    const stored = { key: "n/a", uid: "u", version: 1, created: 1, type: "LoadBalancer" as const, ...its };
    desk.put(viewOf(objectOf(stored), ALL), 0);
    desk.open("t", false, 0);
    const write = desk.next(0, "t")!;
    assert.is.not(write.condition!.message, message);
    ({ message } = write.condition!);
  }
});

test("where a proxy answers for all of a big pool, Services come to wait soon: each answer is worked in at once", () => {
  const its = new Scene(["10.9.0.0/17"]);
  for (let index = 0; index < 4_000; index++) its.put(`n/s${index}`);
  for (let question = its.run(); question; question = its.run()) {
    const taken = Object.fromEntries(addressesOf(question).map((ip) => [ip, MAC]));
    its.answer(question, taken);
  }
  assert.is(its.writes.length, 4_000);
  assert.is(its.of("n/s0"), "PoolExhausted");
});

test("the nodes that would own an address ask for it", () => {
  const wire = new Wire("t");
  wire.nodes = ["n1", "n2", "n3"];
  wire.want(parseAddress("10.9.0.1"));
  const { question } = wire.next(0);
  assert.equal(Object.keys(question!.ask).length, 1);
});

test.run();
