// limit: 300 s
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseAllDocuments } from "yaml";
import { FILES, keys } from "../../deploy/manifests.ts";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { binary, noKubelets } from "../../lab/cluster/binaries.ts";
import { Cluster } from "../../lab/cluster/cluster.ts";
import { Namespaces } from "../../lab/namespaces.ts";
import { skip } from "../../lab/skip.ts";
import { parseConfig } from "../../src/config/config.ts";

const test = suite("chart");

const CHART = "deploy/chart";
const folder = mkdtempSync(join(tmpdir(), "isat-chart-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a test, or skips it where there is no Helm. */
const check = (name: string, body: () => void | Promise<void>) =>
  noKubelets ? skip(test, name, noKubelets) : test(name, body);

function helm(values: object, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const file = join(folder, "values.yaml");
  writeFileSync(file, JSON.stringify(values));
  return spawnSync(binary("helm"), ["template", "isat", CHART, "--values", file, ...args], { encoding: "utf8" });
}

function render(values: object, ...args: string[]): KubeObject[] {
  const { status, stdout, stderr } = helm(values, ...args);
  assert.is(status, 0, stderr);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS())
    .filter(Boolean);
}

/** Values, as somebody may set them, by what they are for. */
const MATRIX: Record<string, object> = {
  "the default values": {},
  "every key of the configuration": {
    config: {
      interfaces: ["eth0", "ens*"],
      excludeInterfaces: ["cni*"],
      hook: "tc",
      hold: "20s",
      fence: "10m",
      garp: { profile: "guarded", refresh: "60s", rate: 4, form: "both" },
      membership: { kind: "wire", keys: ["/etc/isat/next.key", "/etc/isat/wire.key"], interval: "50ms", dead: 4 },
      metrics: { listen: "0.0.0.0:9121" },
      pools: ["10.9.0.0/20", { name: "web", addresses: ["10.9.32.1-10.9.32.9"], namespaces: ["web"] }],
      allocation: { choice: "lowest", rest: "1m" },
      source: {
        loadBalancerClass: ["none", "isat.example/l2"],
        poolNamespace: "lan",
        addresses: ["10.9.0.0/20", "10.9.32.1-10.9.32.9"],
        interfaces: ["eth0"],
        nodeSelector: { matchLabels: { isat: "enabled" } },
        serviceSelector: { matchExpressions: [{ key: "isat", operator: "In", values: ["enabled"] }] },
        ignoreExcludeLabel: true,
      },
    },
  },
  "an image by digest from a registry with a password": {
    image: { repository: "registry.example/isat", digest: `sha256:${"0a".repeat(32)}`, pullPolicy: "Always" },
    imagePullSecrets: [{ name: "registry" }],
  },
  "MetalLB's resources": { metallb: true },
  "controllers for MetalLB's pools": { metallb: true, controller: { enabled: true, metrics: "[::]:9122" } },
  "an existing Secret": { wireKey: { existingSecret: "mine" } },
  "no PERFMON, AppArmor nor SELinux": {
    capabilities: ["BPF", "NET_ADMIN", "NET_RAW"],
    appArmorProfile: null,
    seLinuxOptions: null,
  },
  "some nodes": {
    nodeSelector: { "node-role.kubernetes.io/edge": "" },
    tolerations: [{ key: "edge", operator: "Equal", value: "yes", effect: "NoSchedule" }],
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/arch", operator: "In", values: ["amd64"] }] }],
        },
      },
    },
  },
  "resources, priority, labels, and one after the other": {
    resources: { requests: { cpu: "100m", memory: "200Mi" }, limits: { memory: "400Mi" } },
    priorityClassName: "",
    podLabels: { team: "network" },
    podAnnotations: { note: "1" },
    updateStrategy: { type: "OnDelete", rollingUpdate: null },
  },
  "metrics for the Prometheus operator, and a policy": {
    config: { metrics: { listen: "0.0.0.0:9121" } },
    podMonitor: { enabled: true, interval: "15s", labels: { release: "prometheus" } },
    networkPolicy: { enabled: true, ingress: [{ ports: [{ port: 9121 }] }] },
  },
  OpenShift: { openshift: { securityContextConstraints: true } },
  "more objects": {
    extraObjects: [
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "{{ .Release.Name }}-more", namespace: "isat-system" } },
    ],
  },
  "clean: before it is uninstalled": { clean: true },
};

check("what is written by scripts/chart is as it would write it", () => {
  for (const [path, make] of FILES)
    assert.is(readFileSync(join("deploy", path), "utf8"), make(), `deploy/${path} is out of date. Run: scripts/chart`);
});

check("the matrix sets every key of the configuration", () => {
  const config: Record<string, unknown> = Object.assign({}, MATRIX["every key of the configuration"]!, {}) as never;
  const has = (path: string) =>
    path.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], config.config);
  const optional = /^source\.(kind|\w+Selector\.)/;
  const missing = [...keys.keys()].filter(
    (path) => !path.includes("[]") && !optional.test(path) && has(path) === undefined,
  );
  assert.equal(missing, []);
});

check("the chart has no fault that helm lint finds", () => {
  const { status, stdout } = spawnSync(binary("helm"), ["lint", "--strict", CHART], { encoding: "utf8" });
  assert.is(status, 0, stdout);
});

check("values that are none, or make no sense together, are refused in one line", () => {
  const refused = (values: object, pattern: RegExp) => {
    const { status, stderr } = helm(values);
    assert.is(status, 1);
    assert.match(stderr, pattern);
  };
  refused({ config: { hok: "tc" } }, /at '\/config': additional properties 'hok' not allowed/);
  refused({ config: { hook: "tcc" } }, /at '\/config\/hook': value must be one of 'auto', 'tcx', 'tc', 'xdp'/);
  refused({ config: { runDir: "/x" } }, /additional properties 'runDir' not allowed/);
  refused({ config: { source: { kind: "file" } } }, /at '\/config\/source\/kind': value must be 'kubernetes'/);
  refused({ imag: {} }, /additional properties 'imag' not allowed/);
  refused({ podMonitor: { enabled: true } }, /podMonitor.enabled needs config.metrics.listen/);
});

check("isat takes the configuration of every rendering", () => {
  for (const [name, values] of Object.entries(MATRIX)) {
    const text = render(values).find(({ kind }) => kind === "ConfigMap")!.data["isat.yaml"];
    assert.is(parseConfig(text, "isat.yaml", { NODE_NAME: "n1" }).source.kind, "kubernetes", name);
  }
});

check("the pod has four capabilities and no more rights, and takes no new ones", () => {
  const daemonSet = render({}).find(({ kind }) => kind === "DaemonSet")!;
  const { containers, hostPID, hostIPC } = daemonSet.spec.template.spec;
  const { securityContext, resources, livenessProbe } = containers[0];
  assert.equal(securityContext.capabilities, { drop: ["ALL"], add: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"] });
  assert.is(securityContext.privileged ?? false, false);
  assert.is(securityContext.allowPrivilegeEscalation, false);
  assert.is(securityContext.readOnlyRootFilesystem, true);
  assert.equal(securityContext.seccompProfile, { type: "RuntimeDefault" });
  assert.equal([hostPID, hostIPC, livenessProbe, resources.limits.cpu], [undefined, undefined, undefined, undefined]);
});

check("rendered without a cluster there is no Secret, which would differ each time", () => {
  assert.is(
    render({}).some(({ kind }) => kind === "Secret"),
    false,
  );
});

check("in a release's own namespace nothing makes that one", () => {
  const objects = render({ namespace: { name: "" } }, "--namespace", "edge");
  assert.is(
    objects.some(({ kind }) => kind === "Namespace"),
    false,
  );
  assert.equal([...new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []))], ["edge"]);
});

/** Kinds of others, as much of them as the server has to know. */
function definition(group: string, version: string, kind: string, scope: "Namespaced" | "Cluster"): KubeObject {
  const plural = kind.toLowerCase().replace(/s?$/, "s");
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope,
      names: { kind, plural },
      versions: [{ name: version, served: true, storage: true, schema }],
    },
  };
}

check("a real API server takes every rendering, strictly", async () => {
  using namespaces = new Namespaces("isat-t-chart-");
  await using cluster = await Cluster.start(namespaces, { nodes: 0, proxy: false, wire: "bridge" });
  await cluster.api.apply(definition("monitoring.coreos.com", "v1", "PodMonitor", "Namespaced"));
  await cluster.api.apply(definition("security.openshift.io", "v1", "SecurityContextConstraints", "Cluster"));
  const env = { ...process.env, KUBECONFIG: cluster.kubeconfig("admin", "here") };
  const apply = (input: string) => {
    const args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    // Asynchronously: the relay to the API server is in this process.
    return new Promise<{ status: number | null; said: string }>((resolve) => {
      const child = spawn(binary("kubectl"), args, { env });
      let said = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
      child.on("close", (status) => resolve({ status, said }));
      child.stdin.end(input);
    });
  };
  for (const [name, values] of Object.entries(MATRIX)) {
    const { stdout } = helm(values);
    const { status, said } = await apply(stdout);
    assert.is(status, 0, `${name}: ${said}`);
    assert.not.match(said, /unknown field|deprecated/i, name);
  }
  const { status, said } = await apply(
    readFileSync("deploy/isat.yaml", "utf8").replace("minReadySeconds", "minReadySecond"),
  );
  assert.is(status, 1, "what is misspelt is noticed");
  assert.match(said, /unknown field "spec.minReadySecond"/);
});

test.run();
