import { type ChildProcess, spawnSync } from "node:child_process";
import { cpSync, existsSync, globSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { binary, RUNTIME } from "../cluster/binaries.ts";
import { execute, type Outcome, until } from "../kernel/process.ts";
import type { Namespaces } from "../namespaces.ts";
import type { LabNode } from "../topology.ts";
import { PAUSE, REGISTRY } from "./images.ts";
import type { Plane } from "./plane.ts";

const CGROUPS = "/sys/fs/cgroup";
const CONTROLLERS = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"] as const;
const INIT = fileURLToPath(new URL("init", import.meta.url));
/** How long a boot may take, ms. */
const BOOT = 60_000;

/** Why nodes of this kind cannot be made here; undefined where they can. */
export const noCgroups = CONTROLLERS.every((name) => existsSync(join(CGROUPS, name, "cgroup.procs")))
  ? undefined
  : "the nodes are made for cgroup v1, which is not mounted here";

/** The addresses of a node's pods. */
export const podsOf = (port: number) => `10.244.${port}.0/24`;

/** A node with a kubelet, a containerd and a kube-proxy, in namespaces of its own. */
export class Machine implements AsyncDisposable {
  readonly node: LabNode;
  readonly #namespaces: Namespaces;
  readonly #folder: string;
  readonly #onExit = () => this.#removeCgroups();
  #child: ChildProcess | undefined;

  /** @param folder of the node alone, which holds its disk @param template a containerd root with the images */
  constructor(namespaces: Namespaces, node: LabNode, folder: string, template: string, plane: Plane) {
    this.node = node;
    this.#namespaces = namespaces;
    this.#folder = folder;
    this.#write(plane);
    this.#removeCgroups(); // of a run that was killed
    process.on("exit", this.#onExit);
    mkdirSync(join(folder, "disk"), { recursive: true });
    this.#copy(template);
  }

  /** Files are shared with the template, of which none is ever written to but the databases. */
  #copy(template: string): void {
    const target = join(this.#folder, "disk/containerd");
    const { status, stderr } = spawnSync("cp", ["-al", template, target], { encoding: "utf8" });
    if (status !== 0) throw new Error(`Cannot copy ${template}: ${stderr}`);
    for (const path of globSync("**/*.db", { cwd: template })) {
      const own = join(target, path);
      spawnSync("rm", [own]);
      cpSync(join(template, path), own);
    }
  }

  #write(plane: Plane): void {
    const { name, ip } = this.node;
    const put = (file: string, text: string) => writeFileSync(join(this.#folder, file), text);
    mkdirSync(join(this.#folder, "cni"), { recursive: true });
    const disabled = ["snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper"];
    put(
      "containerd.toml",
      `version = 2
disabled_plugins = [${[...disabled, "internal.v1.tracing", "tracing.processor.v1.otlp"].map((each) => `"io.containerd.${each}"`)}]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE}"
  # Without CAP_SYS_RESOURCE, as in many a container, runc could not lower oom_score_adj.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${RUNTIME}/usr/lib/cni"
    conf_dir = "${this.#folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."${REGISTRY}"]
    endpoint = ["http://${REGISTRY}"]
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`,
    );
    const ranges = [[{ subnet: podsOf(this.node.port) }]];
    const ipam = { type: "host-local", ranges, routes: [{ dst: "0.0.0.0/0" }] };
    const plugins = [{ type: "ptp", ipMasq: false, ipam }];
    put("cni/10-lab.conflist", JSON.stringify({ cniVersion: "0.4.0", name: "lab", plugins }));
    const kubelet = {
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: plane.ca } },
      authorization: { mode: "Webhook" },
      cgroupDriver: "cgroupfs",
      failCgroupV1: false,
      failSwapOn: false,
      containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
      clusterDomain: "cluster.local",
      clusterDNS: ["10.96.0.10"],
      resolvConf: "/etc/resolv.conf",
      evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
      imageGCHighThresholdPercent: 100,
      volumePluginDir: "/var/lib/kubelet/volume-plugins",
      maxPods: 30,
      // So soon after a ConfigMap's change a pod has it; else a minute.
      syncFrequency: "5s",
    };
    put("kubelet.yaml", JSON.stringify(kubelet));
    const proxy = {
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      kind: "KubeProxyConfiguration",
      mode: "nftables",
      clusterCIDR: "10.244.0.0/16",
      clientConnection: { kubeconfig: plane.kubeconfig("proxy") },
      conntrack: { maxPerCore: 0 },
    };
    put("proxy.yaml", JSON.stringify(proxy));
    put("keep-containerd", `exec containerd -c ${this.#folder}/containerd.toml\n`);
    const folders = "--root-dir /var/lib/kubelet --cert-dir /var/lib/kubelet/pki";
    const who = `--kubeconfig ${plane.kubeconfig(name)} --hostname-override ${name} --node-ip ${ip}`;
    put("keep-kubelet", `exec ${binary("kubelet")} --config ${this.#folder}/kubelet.yaml ${who} ${folders}\n`);
    put("keep-proxy", `exec ${binary("kube-proxy")} --config ${this.#folder}/proxy.yaml --hostname-override ${name}\n`);
  }

  /** Boots it, and returns when its init runs. @param bpffs "none" for a host that mounts none */
  async boot(bpffs: "bpffs" | "none" = "bpffs"): Promise<void> {
    for (const path of this.#cgroups()) mkdirSync(path, { recursive: true });
    // No process may enter a cpuset without cores and memory.
    for (const file of ["cpuset.cpus", "cpuset.mems"])
      writeFileSync(join(CGROUPS, "cpuset", this.#cgroup, file), readFileSync(join(CGROUPS, "cpuset", file)));
    const enter = this.#cgroups().map((path) => `echo $$ >${path}/cgroup.procs`);
    const unshare = "exec unshare --mount --pid --fork --uts --ipc --cgroup --kill-child";
    const script = [...enter, `${unshare} sh ${INIT} ${this.node.name} ${this.#folder} ${RUNTIME} ${bpffs}`].join("\n");
    const log = join(this.#folder, "init.log");
    const args = ["-c", `exec >>${log} 2>&1 </dev/null\n${script}`];
    this.#child = this.#namespaces.spawn(this.node.name, "sh", args, { stdio: "ignore" });
    await until(`${this.node.name} boots (${log})`, () => this.#initPid(), BOOT);
  }

  /** Power off: of all that ran, and of what kernel programs were attached, nothing is left but the disk. */
  async cutPower(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await until(`${this.node.name} is off`, () => this.#pids().length === 0, BOOT);
    this.#removeCgroups();
  }

  /** Kills a program of the node: "kubelet", "containerd" or "proxy". It is started again, as by systemd. */
  async kill(program: string): Promise<void> {
    await this.must("sh", "-c", `kill -9 $(cat /run/lab/${program}.pid)`);
  }

  /** Runs a command in the node, for at most 20 s. */
  async run(...command: [string, ...string[]]): Promise<Outcome> {
    const path = `PATH=${RUNTIME}/usr/bin:${RUNTIME}/usr/sbin:${process.env.PATH}`;
    return await execute("nsenter", ["--target", String(this.#initPid()), "--all", "env", path, ...command]);
  }

  /** The same for one that must succeed. @returns what it printed */
  async must(...command: [string, ...string[]]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...command);
    if (status === 0) return stdout;
    throw new Error(`${command.join(" ")} on ${this.node.name} ended with status ${status}: ${stderr}`);
  }

  get #cgroup(): string {
    return this.#namespaces.full(this.node.name);
  }

  #cgroups(): string[] {
    return CONTROLLERS.map((name) => join(CGROUPS, name, this.#cgroup));
  }

  #initPid(): number | undefined {
    const pid = this.#child?.pid;
    if (pid === undefined || !existsSync(`/proc/${pid}`)) return undefined;
    const [init] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
    return init === undefined ? undefined : Number(init);
  }

  #pids(): string[] {
    const files = globSync(`${CGROUPS}/pids/${this.#cgroup}/**/cgroup.procs`);
    return files.flatMap((file) => {
      try {
        return readFileSync(file, "utf8").split("\n").filter(Boolean);
      } catch {
        return []; // it has just gone
      }
    });
  }

  #removeCgroups(): void {
    for (const path of this.#cgroups()) removeTree(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cutPower().catch(() => {});
    await sleep(0);
    process.off("exit", this.#onExit);
    this.#removeCgroups();
  }
}

/** cgroups are removed one by one, from the leaves: what is in their folders is no file that could be unlinked. */
function removeTree(path: string): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(join(path, entry.name));
  try {
    rmdirSync(path);
  } catch {
    // a process is in it still: the next run with this name tries again
  }
}
