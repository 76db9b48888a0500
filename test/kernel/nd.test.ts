// limit: 180 s
/** Neighbour Discovery between isat's programs and a Linux client, at each hook. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { becomes, until } from "../../lab/kernel/process.ts";
import { NODE_MAC, Rig } from "../../lab/kernel/rig.ts";

const test = suite("Neighbour Discovery with a Linux client");
const rig = new Rig("isat-t-kern-nd-");
const VIP = "2001:db8::1:1";
/** A VIP of another node; its MAC, as the client has it. */
const THEIRS = "2001:db8::1:2";
const THEIR_MAC = "02:15:a7:00:00:02";

test.before(async () => {
  await rig.letClientRunXdp(await rig.othersPrograms());
  for (const [name, device, address] of [
    ["node", "eth0", "2001:db8::1"],
    ["client", "c0", "2001:db8::64"],
  ] as const) {
    for (const each of ["lo", device]) rig.namespaces.sysctl(name, `net/ipv6/conf/${each}/disable_ipv6`, 0);
    rig.namespaces.ip(name, [`addr add ${address}/64 dev ${device} nodad`]);
  }
  rig.namespaces.sysctl("client", "net/ipv6/conf/c0/accept_dad", 1);
});
test.after(() => rig[Symbol.dispose]());
test.after.each(() => rig.reset());

const ip = (name: string, ...args: string[]) => rig.must(name, "ip", ...args);
const pings = async (name: string, ...args: string[]) =>
  (await rig.execute(name, "ping", ["-c1", "-W1", ...args])).status === 0;

interface Neighbour {
  dst: string;
  lladdr?: string;
}
const macOf = async (vip: string): Promise<string | undefined> => {
  const entries = JSON.parse(await ip("client", "-j", "neigh", "show", "dev", "c0")) as Neighbour[];
  return entries.find(({ dst }) => dst === vip)?.lladdr;
};

for (const hook of ["tcx", "tc", "xdp"] as const) {
  test(`${hook}: the client's kernel finds a VIP, and gives up an address that is one`, async () => {
    const speaker = await rig.serve({ hook, vips: [`{ address: "${VIP}", nodes: [n1] }`] });
    await ip("client", "neigh", "flush", "dev", "c0");
    await until("a ping of the VIP", () => pings("client", VIP), 10_000);
    assert.is(await macOf(VIP), NODE_MAC);
    // Once more, by a question to the node alone: the kernel verifies what it knows.
    const before = rig.maps(({ verdicts }) => verdicts.get(rig.ifindex("eth0"))!.nd_answered);
    await ip("client", "neigh", "change", VIP, "lladdr", NODE_MAC, "nud", "probe", "dev", "c0");
    await becomes(() => rig.maps(({ verdicts }) => verdicts.get(rig.ifindex("eth0"))!.nd_answered > before), true);

    await ip("client", "addr", "add", `${VIP}/128`, "dev", "c0");
    await until("the address is a duplicate", async () =>
      /dadfailed/.test(await ip("client", "-6", "addr", "show", "dev", "c0", "to", `${VIP}/128`)),
    );
    await ip("client", "addr", "del", `${VIP}/128`, "dev", "c0");
    await speaker.end();
  });

  test(`${hook}: a kernel that has another node's VIP takes no neighbour of it away, and learns its own`, async () => {
    const speaker = await rig.serve({ hook, vips: [`{ address: "${THEIRS}", nodes: [n2] }`] });
    await speaker.end("SIGKILL"); // a speaker that runs would leave out a VIP that is the node's own address
    await ip("client", "neigh", "replace", THEIRS, "lladdr", THEIR_MAC, "nud", "stale", "dev", "c0");
    await ip("node", "addr", "add", `${THEIRS}/128`, "dev", "eth0", "nodad");
    const counted = () => rig.maps(({ verdicts }) => verdicts.get(rig.ifindex("eth0"))!);
    const { egress_rewritten } = counted();
    await ip("node", "neigh", "flush", "dev", "eth0");
    await pings("node", "-I", THEIRS, "2001:db8::64");
    assert.ok(counted().egress_rewritten > egress_rewritten, "the kernel asked under the VIP");
    assert.match(await ip("node", "neigh", "show", "2001:db8::64", "dev", "eth0"), /lladdr/);
    assert.is(await macOf(THEIRS), THEIR_MAC);
    // The client asks for it: the question does not reach that kernel.
    await ip("client", "neigh", "del", THEIRS, "dev", "c0");
    assert.not(await pings("client", THEIRS));
    assert.is(await macOf(THEIRS), undefined);
    await ip("node", "addr", "del", `${THEIRS}/128`, "dev", "eth0");
  });
}

test.run();
