import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseAllDocuments } from "yaml";
import type { Api, KubeObject } from "../../lab/cluster/api.ts";
import { METALLB_FILES, noCluster, noMetallb } from "../../lab/cluster/binaries.ts";
import { ADDRESS, ControlPlane, NAMESPACE } from "../../lab/cluster/control-plane.ts";
import { advertisement, METALLB, pool } from "../../lab/cluster/metallb.ts";
import { clusterNode } from "../../lab/cluster/node.ts";
import { endpointSlice, node, nodeStatus, service, status } from "../../lab/cluster/objects.ts";
import { type LabNode, NODES } from "../../lab/topology.ts";
import type { Trio } from "../../lab/trio/trio.ts";

const LABELS = { app: "metallb", component: "speaker" };
/** Objects that are made at the same time. */
const AT_ONCE = 20;
/** The time in which the API server has the definitions that it was given, ms. */
const DEFINED = 2_000;

/**
 * A real API server for MetalLB's speakers, on a network of its own beside the trio's, with the objects that a cluster with
 * MetalLB has: the speakers' pods, the nodes, a pool, and a Service with its endpoints for each VIP.
 */
export class PeerCluster implements AsyncDisposable {
  readonly #trio: Trio;
  readonly #plane: ControlPlane;
  /** The folder of the secret that the speakers sign their gossip with. */
  readonly #secret: string;

  private constructor(trio: Trio, plane: ControlPlane) {
    this.#trio = trio;
    this.#plane = plane;
    this.#secret = join(trio.folder, "memberlist");
    mkdirSync(this.#secret);
    writeFileSync(join(this.#secret, "secretkey"), randomBytes(32).toString("base64"), { mode: 0o600 });
  }

  static async start(trio: Trio, vips: readonly string[]): Promise<PeerCluster> {
    const reason = noCluster ?? noMetallb;
    if (reason) throw new Error(reason);
    const { namespaces } = trio;
    const wire = trio.place("switch");
    namespaces.add(NAMESPACE);
    namespaces.ip(wire, ["link add mgmt type bridge", "link set mgmt up"]);
    const places = NODES.map(({ name, port }) => [trio.place(name), clusterNode(port).management, `m${port}`] as const);
    for (const [namespace, address, port] of [...places, [NAMESPACE, ADDRESS, "m0"] as const]) {
      namespaces.link({ namespace, name: "mgmt0" }, { namespace: wire, name: port });
      namespaces.ip(wire, [`link set ${port} master mgmt`]);
      namespaces.ip(namespace, [`addr add ${address}/24 dev mgmt0`]);
    }
    const cluster = new PeerCluster(trio, await ControlPlane.start(namespaces));
    try {
      await cluster.#fill(vips);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #fill(vips: readonly string[]): Promise<void> {
    const api = this.#plane.api("admin");
    const documents = parseAllDocuments(readFileSync(join(METALLB_FILES, "metallb-native.yaml"), "utf8"));
    const manifest = documents.map((document) => document.toJS() as KubeObject | null);
    const wanted = ["Namespace", "CustomResourceDefinition"];
    for (const object of manifest) if (object && wanted.includes(object.kind)) await api.create(object);
    await api.create({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: METALLB } });
    await sleep(DEFINED);
    await api.create(pool("lab", [`${vips[0]}-${vips.at(-1)}`]));
    await api.create(advertisement("lab", { interfaces: ["eth0"] }));
    const nodes = NODES.map(({ port }) => clusterNode(port));
    for (const each of nodes) {
      await api.create(node(each));
      await api.patch(node(each), nodeStatus(each), "status");
      const pod = podOf(each);
      await api.create(pod);
      await api.patch(pod, { status: { podIP: each.ip, podIPs: [{ ip: each.ip }], phase: "Running" } }, "status");
    }
    const serve = async (vip: string) => {
      const name = `web-${vip.replaceAll(".", "-")}`;
      await api.create(service(name));
      await api.create(
        endpointSlice(
          name,
          nodes.map((each) => ({ node: each })),
        ),
      );
      await api.patch(service(name), status([vip]), "status");
    };
    for (let at = 0; at < vips.length; at += AT_ONCE) await Promise.all(vips.slice(at, at + AT_ONCE).map(serve));
  }

  /** The environment that MetalLB's manifest gives to the speaker of a node. */
  environment({ name, ip }: LabNode): Record<string, string> {
    return {
      KUBECONFIG: this.#plane.kubeconfig("admin", "node"),
      METALLB_NAMESPACE: METALLB,
      METALLB_NODE_NAME: name,
      METALLB_POD_NAME: `speaker-${name}`,
      METALLB_HOST: ip,
      METALLB_ML_BIND_ADDR: ip,
      METALLB_ML_LABELS: Object.entries(LABELS)
        .map((pair) => pair.join("="))
        .join(),
      METALLB_ML_SECRET_KEY_PATH: this.#secret,
      NO_PROXY: "*",
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#plane[Symbol.asyncDispose]();
    this.#trio.namespaces.remove(NAMESPACE);
  }
}

/** The pod by which a speaker is found, as a kubelet would run it. */
function podOf({ name }: LabNode): Parameters<Api["create"]>[0] {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `speaker-${name}`, namespace: METALLB, labels: LABELS },
    spec: { nodeName: name, hostNetwork: true, containers: [{ name: "speaker", image: "speaker" }] },
  };
}
