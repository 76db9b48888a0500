/** The time in which a controller leads, beside an API server that has what is read. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { until } from "../../lab/kernel/process.ts";
import { parseConfig } from "../../src/config/config.ts";
import { ofCluster } from "../../src/controller/controller.ts";
import { survey } from "../../src/controller/survey.ts";
import { Term } from "../../src/controller/term.ts";
import { parseAddress } from "../../src/core/address.ts";
import { Connection } from "../../src/source/kubernetes/connection.ts";
import { Api } from "../source/kubernetes/api.ts";

const test = suite("a leadership");
const PATIENCE = 20_000;
const CONFIG = "pools: [10.9.0.0/24]\nsource: { kind: kubernetes, addresses: [10.9.0.0/24] }\n";

const ITS = ofCluster(parseConfig(CONFIG, "isat.yaml", { NODE_NAME: "n1" }));
const POOLS = {
  metadata: { name: "ipaddresspools.metallb.io" },
  spec: { versions: [{ name: "v1beta1", served: true }] },
  status: { conditions: [{ type: "Established", status: "True" }] },
};

class Rig implements AsyncDisposable {
  readonly api = new Api();
  readonly said: string[] = [];
  readonly #end = new AbortController();
  readonly #folder = mkdtempSync(join(tmpdir(), "isat-term-"));
  #connection: Connection | undefined;

  async connect(): Promise<Connection> {
    await this.api.start();
    const path = join(this.#folder, "kubeconfig");
    const context = { name: "x", context: { cluster: "c", user: "u" } };
    const clusters = [{ name: "c", cluster: { server: this.api.url, "insecure-skip-tls-verify": true } }];
    writeFileSync(
      path,
      JSON.stringify({ clusters, users: [{ name: "u", user: {} }], contexts: [context], "current-context": "x" }),
    );
    this.#connection = new Connection(path);
    return this.#connection;
  }

  async lead(): Promise<Term> {
    return new Term({
      config: ITS,
      connection: await this.connect(),
      signal: this.#end.signal,
      ...{ term: "t", isFirst: true, mayWrite: () => true, namespace: "isat-system", holder: "h" },
      surroundings: () => ({ gateways: [], subnets: [] }),
      log: (_, message) => this.said.push(message),
    });
  }

  says(text: string): Promise<unknown> {
    return until(text, () => this.said.some((line) => line.includes(text)), PATIENCE);
  }

  node(name: string, address: string): void {
    const status = { addresses: [{ type: "InternalIP", address }], conditions: [{ type: "Ready", status: "True" }] };
    this.api.put("nodes", { metadata: { name, uid: name }, status });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    this.#connection?.close();
    await this.api.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

test("nothing is known before everything is read, so that no gauge says that all addresses are free", async () => {
  await using rig = new Rig();
  rig.api.isFrozen = true;
  const term = await rig.lead();
  await until("the lists are asked for", () => rig.api.requests.length > 3, PATIENCE);
  assert.is(term.facts, undefined);
});

test("the addresses of a Node that comes later are its own, also while MetalLB's pools cannot be read", async () => {
  await using rig = new Rig();
  rig.node("n1", "10.9.0.1");
  rig.api.denied.add("ipaddresspools");
  const term = await rig.lead();
  await rig.says("everything is read");
  assert.equal([...term.facts!.never.keys()], [parseAddress("10.9.0.1")]);
  rig.api.put("customresourcedefinitions", POOLS);
  await rig.says("Cannot list and watch ipaddresspools");
  rig.node("n2", "10.9.0.2");
  await until("n2 is known", () => term.facts!.never.has(parseAddress("10.9.0.2")), PATIENCE);
});

test("isat ipam tells that it may not read MetalLB's pools where there may be some, and not elsewhere", async () => {
  await using rig = new Rig();
  rig.api.denied.add("ipaddresspools");
  const connection = await rig.connect();
  const notes = async () => (await survey(connection, ITS, "isat-system")).notes;
  assert.equal(await notes(), []); // the API server refuses what it does not have, too
  rig.api.put("customresourcedefinitions", POOLS);
  assert.match((await notes()).join(), "Cannot read ipaddresspools, so MetalLB's pools are left out");
  rig.api.denied.add("customresourcedefinitions");
  assert.match((await notes()).join(), "Cannot read ipaddresspools, so MetalLB's pools are left out");
});

test.run();
