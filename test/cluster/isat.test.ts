// limit: 300 s
/**
 * Three speakers that read a real API. The place of a VIP is checked by the client's curl through real kube-proxies, by
 * the kernels' maps, and by a gateway switch that behaves like the one of the outage.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../lab/cluster/api.ts";
import { noCluster } from "../../lab/cluster/binaries.ts";
import { advertisement, DEFINITIONS, METALLB, pool } from "../../lab/cluster/metallb.ts";
import { service } from "../../lab/cluster/objects.ts";
import { best, NODES, PATIENCE, Scene, vipsOf } from "../../lab/cluster/scene.ts";
import { RULES } from "../../lab/cluster/speakers.ts";
import { until } from "../../lab/kernel/process.ts";
import { Witness } from "../../lab/outage/witness.ts";
import { checker } from "../../lab/skip.ts";
import { H3C } from "../../lab/switch/settings.ts";
import { GATEWAY } from "../../lab/topology.ts";

const test = suite("isat on a cluster");
const check = checker(test, noCluster);
const witness = new Witness(GATEWAY.mac);
const stack = new AsyncDisposableStack();
let scene: Scene;

test.before(async () => {
  if (noCluster) return;
  const observe = witness.see.bind(witness);
  scene = stack.use(await Scene.start("isat-t-isat-", { settings: { ...H3C, timeScale: 1 }, observe }));
  await scene.speakers.startAll();
});

test.after(() => stack.disposeAsync());

const EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers";
const without = (...names: string[]) => NODES.filter((name) => !names.includes(name));

let services = 0;

/** A VIP that no test has used yet, for which the node has the lowest hash. */
const freshVip = (node: string) => vipsOf(node, 1, 80)[services++]!;

type Options = Parameters<Scene["cluster"]["serve"]>[2];

/** Runs `body` with a Service that is served at a fresh VIP. */
async function withService(
  options: Options & { bestAt?: string },
  body: (name: string, vip: string) => Promise<void>,
): Promise<void> {
  const { bestAt = "n1", ...rest } = options;
  const vip = freshVip(bestAt);
  const name = `s${services}`;
  for (const each of [vip]) witness.expect(each, scene.cluster.nodes);
  await scene.cluster.serve(name, vip, rest);
  try {
    await body(name, vip);
  } finally {
    await scene.cluster.deleteService(name).catch(() => {}); // the test itself may have deleted it
  }
}

const logOf = (node: string) => scene.speakers.of(node).log;
const said = (node: string, pattern: RegExp, from = 0) =>
  logOf(node)
    .slice(from)
    .filter(({ msg }) => pattern.test(msg));

/** Waits until a speaker logs it. @param from the index of the first line that counts */
async function says(node: string, pattern: RegExp, from = 0): Promise<void> {
  await until(`${node} says ${pattern}`, () => said(node, pattern, from).length > 0, PATIENCE).catch((error) => {
    const last = logOf(node).slice(-5);
    throw new Error(`${error.message}. It said: ${last.map(({ msg }) => msg).join("; ")}`);
  });
}

// A Service's life ---------------------------------------------------------------------------------------------------

check("a new Service is served at its VIP, by the node that MetalLB's rule gives", async () => {
  for (const node of NODES) await withService({ bestAt: node }, (_, vip) => scene.at(vip, node));
});

check("a Service without an address, or of another type, has no VIP", async () => {
  await withService({}, async (name, vip) => {
    await scene.at(vip, "n1");
    await scene.cluster.setIngress(name, []);
    await scene.silent(vip);
    await scene.cluster.setIngress(name, [vip]);
    await scene.at(vip, "n1");
    await scene.cluster.api.patch(service(name), { spec: { type: "ClusterIP" } });
    await scene.silent(vip);
  });
});

check("a Service whose address changes is served at the new one only", async () => {
  await withService({ bestAt: "n1" }, async (name, vip) => {
    await scene.at(vip, "n1");
    const other = freshVip("n3");
    await scene.cluster.setIngress(name, [other]);
    await scene.at(other, "n3");
    await scene.silent(vip);
  });
});

check("a deleted Service is no longer answered for", async () => {
  await withService({}, async (name, vip) => {
    await scene.at(vip, "n1");
    await scene.cluster.deleteService(name);
    await scene.silent(vip);
  });
});

check("a Service without a serving endpoint is not answered for, and is again once it has one", async () => {
  await withService({}, async (name, vip) => {
    await scene.at(vip, "n1");
    const gone = { ready: false, serving: false };
    for (const conditions of [[], [{ node: "n1", conditions: gone }]]) {
      await scene.cluster.setEndpoints(name, conditions);
      await scene.silent(vip);
      await scene.cluster.setEndpoints(name, ["n2"]);
      await scene.at(vip, "n1");
    }
  });
});

check("an endpoint that terminates but still serves counts", async () => {
  const conditions = { ready: false, serving: true, terminating: true };
  await withService({ endpoints: [{ node: "n3", conditions }] }, (_, vip) => scene.at(vip, "n1"));
});

// The rules ----------------------------------------------------------------------------------------------------------

check("externalTrafficPolicy Local: a node with a serving endpoint owns, and moves with it", async () => {
  await withService({ policy: "Local", endpoints: ["n3"] }, async (name, vip) => {
    await scene.at(vip, "n3");
    const { node, seenFrom } = await scene.cluster.curl(vip);
    assert.equal([node, seenFrom], ["n3", scene.cluster.client.ip]);
    await scene.cluster.setEndpoints(name, ["n2"]);
    await scene.at(vip, "n2");
    await scene.cluster.applyService(name, { policy: "Cluster" });
    await scene.at(vip, "n1");
    await scene.cluster.applyService(name, { policy: "Local" });
    await scene.at(vip, "n2");
  });
});

check(
  "the label that excludes a Node from load balancers moves its VIPs away while it is set, whatever its value",
  async () => {
    await withService({ bestAt: "n2" }, async (_, vip) => {
      await scene.at(vip, "n2");
      await scene.cluster.labelNode("n2", { [EXCLUDE]: "" });
      await scene.at(vip, best(vip, without("n2")));
      await scene.cluster.labelNode("n2", { [EXCLUDE]: null });
      await scene.at(vip, "n2");
    });
  },
);

check("ignoreExcludeLabel and nodeSelector decide which Nodes count, and a change applies at once", async () => {
  await withService({ bestAt: "n2" }, async (_, vip) => {
    await scene.cluster.labelNode("n2", { [EXCLUDE]: "true" });
    await scene.at(vip, best(vip, without("n2")));
    try {
      scene.speakers.configureAll("addresses: [10.9.0.0/18], ignoreExcludeLabel: true");
      await scene.at(vip, "n2");
      const others = "matchExpressions: [{ key: kubernetes.io/hostname, operator: NotIn, values: [n2] }]";
      scene.speakers.configureAll(`addresses: [10.9.0.0/18], ignoreExcludeLabel: true, nodeSelector: { ${others} }`);
      await scene.at(vip, best(vip, without("n2")));
      await says("n2", /owns nothing as source.nodeSelector does not select its Node "n2"/);
    } finally {
      scene.speakers.configureAll();
      await scene.cluster.labelNode("n2", { [EXCLUDE]: null });
    }
    await scene.at(vip, "n2");
  });
});

check(
  "a Node whose network is unavailable owns nothing; one that is not ready, cordoned or tainted owns as before",
  async () => {
    await withService({ bestAt: "n3" }, async (_, vip) => {
      await scene.at(vip, "n3");
      await scene.cluster.setNodeCondition("n3", "NetworkUnavailable", "True");
      await scene.at(vip, best(vip, without("n3")));
      await scene.cluster.setNodeCondition("n3", "NetworkUnavailable", "False");
      await scene.at(vip, "n3");
      await scene.cluster.setNodeCondition("n3", "Ready", "False");
      const taints = [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" }];
      const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n3" } };
      await scene.cluster.api.patch(node, { spec: { unschedulable: true, taints } });
      await scene.stays(vip, "n3");
      await scene.cluster.api.patch(node, { spec: { unschedulable: null, taints: null } });
      await scene.cluster.setNodeCondition("n3", "Ready", "True");
    });
  },
);

check("a deleted Node owns nothing, and its VIPs return once it is back", async () => {
  await withService({ bestAt: "n1" }, async (_, vip) => {
    await scene.at(vip, "n1");
    await scene.cluster.removeNode("n1");
    await scene.at(vip, best(vip, without("n1")));
    await says("n1", /owns nothing as the cluster has no Node "n1". It has: n2, n3/);
    await scene.cluster.addNode("n1");
    await scene.at(vip, "n1");
  });
});

check(
  "loadBalancerClass: only Services of the configured class are isat's, and by default those without one",
  async () => {
    await withService({ class: "isat.example/l2" }, async (_, classed) => {
      await withService({}, async (_, plain) => {
        await scene.at(plain, "n1");
        await scene.silent(classed);
        try {
          scene.speakers.configureAll("addresses: [10.9.0.0/18], loadBalancerClass: isat.example/l2");
          await scene.at(classed, "n1");
          await scene.silent(plain);
        } finally {
          scene.speakers.configureAll();
        }
        await scene.at(plain, "n1");
      });
    });
  },
);

check("serviceSelector and addresses limit what is announced", async () => {
  await withService({ labels: { tier: "front" } }, async (_, front) => {
    await withService({}, async (_, plain) => {
      await scene.at(plain, "n1");
      try {
        scene.speakers.configureAll("addresses: [10.9.0.0/18], serviceSelector: { matchLabels: { tier: front } }");
        await scene.silent(plain);
        await scene.at(front, "n1");
        scene.speakers.configureAll("addresses: [10.9.200.0/24]");
        await scene.silent(front);
      } finally {
        scene.speakers.configureAll();
      }
    });
  });
});

check(
  "several Services on one IP have one owner; the oldest decides, and an Event reports one that is not served there",
  async () => {
    await withService({ policy: "Local", endpoints: ["n2"] }, async (_, vip) => {
      await scene.at(vip, "n2");
      await scene.cluster.serve("second", vip, { port: 81, policy: "Local", endpoints: ["n3"] });
      try {
        const events = await until(
          "an Event on the younger Service",
          async () => {
            const { items } = await scene.cluster.api.list("/api/v1/namespaces/default/events");
            const found = items.filter(({ involvedObject }) => involvedObject.name === "second");
            return found.length > 0 && found;
          },
          PATIENCE,
        );
        assert.is(events.length, 1, "one of the three speakers wrote it");
        assert.is(events[0]!.reason, "SharedAddress");
        assert.match(events[0]!.message, /is shared with default\/s\d+, which decides: node n2 owns it/);
        await scene.stays(vip, "n2");
        await scene.cluster.setEndpoints("second", ["n2"]);
        await until("both are served", async () => (await scene.cluster.curl(vip, 81)).node === "n2", PATIENCE);
        await scene.at(vip, "n2");
      } finally {
        await scene.cluster.deleteService("second");
      }
      await scene.at(vip, "n2");
    });
  },
);

check("an address with ipMode Proxy is not announced; with VIP it is", async () => {
  await withService({}, async (name, vip) => {
    await scene.at(vip, "n1");
    await scene.cluster.setIngress(name, [{ ip: vip, ipMode: "Proxy" }]);
    await scene.silent(vip);
    await scene.cluster.setIngress(name, [{ ip: vip, ipMode: "VIP" }]);
    await scene.at(vip, "n1");
  });
});

check("a Node's own address, the gateway's, or a hostname is left alone, and the node answers as before", async () => {
  await withService({}, async (name, vip) => {
    const node = scene.cluster.node("n2");
    await scene.cluster.setIngress(name, [node.ip, GATEWAY.ip, { hostname: "web.example" }, vip]);
    await scene.at(vip, best(node.ip)); // the first ingress is what is hashed
    await says("n1", /is announced by nobody: it is Node n2's own address/);
    for (const ip of [node.ip, GATEWAY.ip]) assert.equal(scene.speakers.owners(ip), []);
    scene.cluster.ping([node.ip]);
    await until("the node answers the switch", () => scene.cluster.gateway.tally(node.ip).answered > 0, PATIENCE);
  });
});

check(
  "a dual-stack Service's IPv4 is where its first address is hashed to, also on nodes without IPv6, which say so",
  async () => {
    await withService({}, async (name, vip) => {
      const first = ["fd00::9", "fd00::a", "fd00::b", "fd00::c"].find((ip) => best(ip) !== "n1")!;
      await scene.cluster.setIngress(name, [first, vip]);
      await scene.at(vip, best(first));
      scene.speakers.configureAll(`addresses: [10.9.0.0/18, "fd00::/112"], interfaces: [eth0]`);
      await says("n3", /does not stand for VIPs of IPv6/);
      scene.speakers.configureAll();
      await scene.cluster.setIngress(name, ["fd00::1:1", vip]);
      await scene.at(vip, best("fd00::1:1"));
    });
  },
);

check("isat status VIP shows for each node why it owns the VIP or not", async () => {
  await withService({ policy: "Local", endpoints: ["n2", "n3"] }, async (_, vip) => {
    await scene.cluster.labelNode("n2", { [EXCLUDE]: "" });
    try {
      await scene.at(vip, "n3");
      const { rankings } = await scene.speakers.ask("n1", vip);
      const rows = rankings!.map(({ node, isAlive, isOwner, excluded }) => ({ node, isAlive, isOwner, excluded }));
      const why = (node: string) => rows.find((row) => row.node === node);
      assert.equal(why("n3"), { node: "n3", isAlive: true, isOwner: true, excluded: undefined });
      assert.match(why("n1")!.excluded!, /no endpoint of default\/s\d+ on it can serve/);
      assert.match(why("n2")!.excluded!, /it has the label .*exclude-from-external-load-balancers/);
      const columns = rankings![0]!.checks.map(({ what }) => what);
      assert.equal(columns, ["selected", "endpoint", "label", "network", "booted"]);
    } finally {
      await scene.cluster.labelNode("n2", { [EXCLUDE]: null });
    }
  });
});

// MetalLB's custom resources -----------------------------------------------------------------------------------------

check("L2Advertisements decide as soon as they are served, and addresses again once they are gone", async () => {
  const { cluster } = scene;
  await withService({ bestAt: "n1", labels: { tier: "front" } }, async (_, vip) => {
    await scene.at(vip, "n1");
    await cluster.installMetallb();
    try {
      await scene.silent(vip); // no pool holds it
      await cluster.api.apply(pool("first", ["10.9.1.0-10.9.1.255"], { zone: "west" }));
      await cluster.api.apply(pool("second", ["10.9.2.0/24"]));
      await scene.silent(vip); // nothing covers the pool

      const advertise = (spec: object) => cluster.api.apply(advertisement("one", spec));
      await advertise({});
      await scene.at(vip, "n1");
      const only = (...values: string[]) => ({
        nodeSelectors: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values }] }],
      });
      await advertise({ ipAddressPools: ["first"], ...only("n2", "n3") });
      await scene.at(vip, best(vip, ["n2", "n3"]));
      await cluster.api.apply(
        advertisement("another", { ...only("n1"), serviceSelectors: [{ matchLabels: { tier: "front" } }] }),
      );
      await scene.at(vip, "n1"); // several are a union
      await cluster.api.delete(advertisement("another"));
      await scene.at(vip, best(vip, ["n2", "n3"]));
      for (const spec of [
        { ipAddressPools: ["second"] },
        { ipAddressPoolSelectors: [{ matchLabels: { zone: "east" } }] },
        { serviceSelectors: [{ matchLabels: { tier: "back" } }] },
        { interfaces: ["eth7"] },
      ]) {
        await advertise(spec);
        await scene.silent(vip);
        await advertise({ ipAddressPoolSelectors: [{ matchLabels: { zone: "west" } }], interfaces: ["eth0"] });
        await scene.at(vip, "n1");
      }
      await cluster.api.delete(advertisement("one"));
      await scene.silent(vip);
      await advertise({});
      await scene.at(vip, "n1");
      await cluster.api.delete(pool("first", []));
      await scene.silent(vip);
    } finally {
      await cluster.removeMetallb();
    }
    await scene.at(vip, "n1");
  });
});

// Bad input ----------------------------------------------------------------------------------------------------------

check("an unreadable object stops no speaker; one Event and a metric report it", async () => {
  const { cluster } = scene;
  await cluster.installMetallb();
  try {
    await cluster.api.apply(pool("first", ["10.9.0.0/18"]));
    await cluster.api.apply(advertisement("good"));
    await withService({ bestAt: "n2" }, async (_, vip) => {
      await scene.at(vip, "n2");
      const from = NODES.map((node) => logOf(node).length);
      const nodeSelectors = [{ matchExpressions: [{ key: "a", operator: "Resembles", values: ["b"] }] }];
      await cluster.api.apply(advertisement("poison", { nodeSelectors }));
      await cluster.api.apply(pool("junk", ["10.9.0.0/99"]));
      for (const [index, node] of NODES.entries()) {
        await says(
          node,
          /L2Advertisement metallb-system\/poison cannot be used: .*operator is "Resembles"/,
          from[index],
        );
        await says(node, /IPAddressPool metallb-system\/junk cannot be used: .*10\.9\.0\.0\/99/, from[index]);
      }
      await withService({ bestAt: "n3" }, (_, fresh) => scene.at(fresh, "n3"));
      await scene.stays(vip, "n2");
      for (const [index, node] of NODES.entries())
        assert.is(said(node, /poison cannot be used/, from[index]).length, 1, "one line");
      const events = await until(
        "Events on both",
        async () => {
          const { items } = await cluster.api.list(`/api/v1/namespaces/${METALLB}/events`);
          return items.length === 2 && items;
        },
        PATIENCE,
      );
      assert.equal(events.map(({ involvedObject, reason }) => `${involvedObject.name} ${reason}`).sort(), [
        "junk Unreadable",
        "poison Unreadable",
      ]);
      assert.is((await scene.speakers.ask("n1")).source?.unreadable, 2);
    });
  } finally {
    await cluster.removeMetallb();
  }
});

check("a CRD of a version that isat does not know is named and ignored", async () => {
  const { cluster } = scene;
  const definition = structuredClone(
    DEFINITIONS.find(({ spec }) => spec.names.kind === "L2Advertisement")!,
  ) as KubeObject;
  definition.spec.versions[0].name = "v1beta9";
  await withService({}, async (_, vip) => {
    await scene.at(vip, "n1");
    await cluster.api.apply(definition);
    try {
      await says(
        "n1",
        /L2Advertisements of metallb.io are ignored: the API serves v1beta9 of them, and isat knows v1beta1/,
      );
      await scene.stays(vip, "n1");
    } finally {
      await cluster.api.delete(definition);
    }
  });
});

/** Runs `body` while n3's speaker has another environment, and restores it afterwards. */
async function withEnv(env: NodeJS.ProcessEnv, body: (from: number) => Promise<void>): Promise<void> {
  const speaker = scene.speakers.of("n3");
  const before = speaker.env;
  await speaker.signal("SIGKILL");
  speaker.env = { ...before, ...env };
  const from = speaker.log.length;
  speaker.start();
  try {
    await body(from);
  } finally {
    await speaker.signal("SIGKILL").catch(() => {}); // it may have ended by itself
    speaker.env = before;
    speaker.start();
    await speaker.ready(PATIENCE);
  }
}

check("without NODE_NAME a speaker ends at once, with one line that says what to set", async () => {
  await withEnv({ NODE_NAME: "" }, async (from) => {
    assert.is(await scene.speakers.of("n3").closed, 1);
    const lines = logOf("n3").slice(from);
    assert.is(lines.length, 1);
    assert.match(lines[0]!.msg, /needs the name of this Node, and NODE_NAME is not set. Set it from spec.nodeName/);
  });
});

check("a speaker whose NODE_NAME is not a Node owns nothing and lists the Nodes; the others own its VIPs", async () => {
  await withService({ bestAt: "n3" }, async (_, vip) => {
    await scene.at(vip, "n3");
    await withEnv({ NODE_NAME: "n9" }, async (from) => {
      await says("n3", /owns nothing as the cluster has no Node "n9". It has: n1, n2, n3. Set NODE_NAME/, from);
      await scene.at(vip, best(vip, ["n1", "n2"]));
    });
    await scene.at(vip, "n3");
  });
});

check(
  "a speaker without permission names verb, resource and rule, and serves its snapshot until it is permitted",
  async () => {
    await withService({ bestAt: "n3" }, async (_, vip) => {
      await scene.at(vip, "n3");
      await scene.speakers.saved("n3", vip);
      await scene.cluster.grant(RULES.filter(({ apiGroups }) => apiGroups[0] !== ""));
      try {
        await withEnv({}, async (from) => {
          await says(
            "n3",
            /Cannot list and watch services: .*cannot (list|watch) resource "services".* Grant it in isat's ClusterRole: \{ apiGroups: \[""\], resources: \["services"\], verbs: \["list", "watch"\] \}/,
            from,
          );
          await says("n3", /what was saved of the cluster is served/, from);
          await scene.stays(vip, "n3");
          await scene.cluster.grant(RULES);
          await says("n3", /The API is read again/, from);
          await scene.stays(vip, "n3");
          assert.is(said("n3", /Cannot list and watch services/, from).length, 1, "one line");
        });
      } finally {
        await scene.cluster.grant(RULES);
      }
    });
  },
);

check(
  "a kubeconfig that points nowhere is reported in one line; the snapshot is served until the node is left out",
  async () => {
    await withService({ bestAt: "n3" }, async (_, vip) => {
      await scene.at(vip, "n3");
      await scene.speakers.saved("n3", vip);
      await withEnv({ KUBECONFIG: scene.speakers.nowhere() }, async (from) => {
        const reason = /Cannot reach the API at https:\/\/10\.90\.0\.1:1: .*ECONNREFUSED/;
        await says("n3", reason, from);
        await scene.speakers.of("n3").ready(PATIENCE);
        await scene.stays(vip, "n3");
        await scene.at(vip, best(vip, ["n1", "n2"]));
        assert.is(said("n3", reason, from).length, 1, "though it is tried again and again");
      });
      await scene.at(vip, "n3");
    });
  },
);

check("a missing kubeconfig is reported by its name", async () => {
  await withEnv({ KUBECONFIG: "/nowhere/kubeconfig" }, (from) =>
    says("n3", /Cannot use the kubeconfig \/nowhere\/kubeconfig: .*no such file/, from),
  );
});

check(
  "every claim of a VIP came from its owner's port, with its MAC as source and SHA, and each request had one answer",
  async () => {
    assert.ok(witness.answers > 0);
    assert.equal([...witness.broken], []);
  },
);

test.run();
