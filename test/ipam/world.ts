/** An API server without I/O, two controllers that may lead, and everything that may go wrong between them. */
import { isDeepStrictEqual } from "node:util";
import { Desk, type Outcome, type Write } from "../../src/controller/desk.ts";
import type { PoolSpec } from "../../src/controller/pools.ts";
import { CONDITION, viewOf } from "../../src/controller/services.ts";
import { type Question, Wire } from "../../src/controller/wire.ts";

export interface Stored {
  key: string;
  uid: string;
  version: number;
  created: number;
  type: "LoadBalancer" | "ClusterIP";
  loadBalancerClass?: string;
  annotations: Record<string, string>;
  labels: Record<string, string>;
  ports: number[];
  ips: string[];
  condition: { status: string; reason: string; message: string; since: string } | undefined;
}

/** The object as the API sends it. */
export function objectOf(its: Stored): object {
  const [namespace, name] = its.key.split("/");
  const created = new Date(its.created).toISOString();
  const { uid, labels, annotations, version } = its;
  return {
    metadata: { name, namespace, uid, labels, annotations, creationTimestamp: created, resourceVersion: `${version}` },
    spec: {
      type: its.type,
      loadBalancerClass: its.loadBalancerClass,
      ipFamilies: ["IPv4"],
      ports: its.ports.map((port) => ({ port, protocol: "TCP" })),
    },
    status: {
      loadBalancer: { ingress: its.ips.map((ip) => ({ ip })) },
      conditions: its.condition && [{ type: CONDITION, ...its.condition, lastTransitionTime: its.condition.since }],
    },
  };
}

type Change = { put: Stored } | { gone: string };

/** One process that may lead. */
export class Office {
  desk: Desk | undefined;
  /** The question that speakers have not answered. */
  question: (Question & { at: number }) | undefined;
  /** What the API has sent and it has not read. */
  readonly events: Change[] = [];
  readonly sent: Write[] = [];
}

export const REST = 50;
const ALL = { loadBalancerClass: undefined, serviceSelector: undefined };

export class World {
  readonly store = new Map<string, Stored>();
  readonly offices = [new Office(), new Office()] as const;
  leader: Office = this.offices[0];
  pools: readonly PoolSpec[] = [];
  readonly namespaces = new Map<string, Record<string, string>>();
  now = 1_000;
  /** The addresses that machines on the wire have. */
  machines: readonly string[] = [];
  /** How many addresses were given without being asked for. */
  unasked = 0;
  writes = 0;
  #version = 1;
  #terms = 0;

  /** Is called when a write has changed a Service's addresses. */
  onWrite: (before: readonly string[], after: Stored) => void = () => {};

  constructor() {
    this.elect(0);
  }

  put(its: Omit<Stored, "version">): void {
    const stored = { ...its, version: ++this.#version };
    this.store.set(its.key, stored);
    this.#tell({ put: stored });
  }

  delete(key: string): void {
    this.#version += 1;
    this.store.delete(key);
    this.#tell({ gone: key });
  }

  #tell(change: Change): void {
    for (const office of this.offices) if (office.desk) office.events.push(change);
  }

  /** Another one, or the same anew, has the Lease. Whatever the one before has sent may still arrive. */
  elect(index: 0 | 1): void {
    const office = this.offices[index];
    const isFirst = this.#terms === 0;
    if (office !== this.leader || isFirst) this.#terms += 1; // a changed configuration begins anew under one name
    for (const other of this.offices) other.desk = undefined;
    this.leader = office;
    office.events.length = 0;
    const wire = new Wire(`term ${this.#terms}`);
    wire.nodes = ["node"];
    const desk = new Desk({ choice: "stable", rest: REST }, wire);
    office.desk = desk;
    office.question = undefined;
    desk.setPools(this.pools, this.now);
    for (const [name, labels] of this.namespaces) desk.setNamespace(name, labels, this.now);
    for (const stored of this.store.values()) desk.put(viewOf(objectOf(stored), ALL), this.now);
    desk.open(`term ${this.#terms}`, isFirst, this.now);
  }

  setPools(pools: readonly PoolSpec[]): void {
    this.pools = pools;
    this.leader.desk!.setPools(pools, this.now);
  }

  setNamespace(name: string, labels: Record<string, string>): void {
    this.namespaces.set(name, labels);
    this.leader.desk!.setNamespace(name, labels, this.now);
  }

  /** The leader reads one event. @returns false if there is none */
  read(): boolean {
    const change = this.leader.events.shift();
    if (!change) return false;
    if ("put" in change) this.leader.desk!.put(viewOf(objectOf(change.put), ALL), this.now);
    else this.leader.desk!.remove(change.gone, this.now);
    return true;
  }

  /** The leader sends one write, or a question. @returns false if it has none */
  send(): boolean {
    const write = this.leader.desk!.next(this.now, `t${this.now}`);
    if (write) this.leader.sent.push(write);
    const { question, unasked } = this.leader.desk!.question(this.now);
    if (question) this.leader.question = { ...question, at: this.now };
    this.unasked += unasked;
    return write !== undefined || question !== undefined || unasked > 0;
  }

  /** The speaker answers the leader's question. @returns false if there is none */
  answer(): boolean {
    const { question, desk } = this.leader;
    this.leader.question = undefined;
    if (!question) return false;
    const taken = Object.fromEntries(this.machines.map((ip) => [ip, "02:00:00:00:00:99"]));
    desk!.answered("node", { id: question.id, taken, unable: [] }, this.now);
    return true;
  }

  /** A write arrives, of whoever has sent it. */
  arrive(office: Office, index: number, isLost: "before" | "after" | undefined): void {
    const [write] = office.sent.splice(index, 1);
    if (!write) return;
    const outcome: Outcome = isLost === "before" ? "lost" : this.#write(write);
    office.desk?.done(write, isLost ? "lost" : outcome);
  }

  #write({ key, version, ingress, condition }: Write): Outcome {
    const before = this.store.get(key);
    if (`${before?.version}` !== version) return "changed";
    this.writes += 1;
    const after = { ...before!, ips: ingress ? [...ingress] : before!.ips, condition };
    if (isDeepStrictEqual(objectOf(after), objectOf(before!))) return "written"; // the API server makes no new version
    this.put(after);
    this.onWrite(before!.ips, this.store.get(key)!);
    return "written";
  }

  /** Everything arrives, and all times pass, until nothing more happens. */
  settle(): void {
    for (let quiet = 0; quiet < 3; quiet++) {
      while (this.read() || this.send() || this.answer() || this.#arriveAll()) quiet = 0;
      this.now += 130_000; // more than a rest and a pause
    }
  }

  #arriveAll(): boolean {
    const office = this.offices.find(({ sent }) => sent.length > 0);
    if (office) this.arrive(office, 0, undefined);
    return office !== undefined;
  }
}
