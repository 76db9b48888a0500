// limit: 120 s
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { Lab } from "../../lab/outage/lab.ts";
import { replay } from "../../lab/outage/replay.ts";
import type { Row } from "../../lab/outage/verdict.ts";
import { BEHAVIOURS, OUTAGE } from "../../lab/switch/settings.ts";
import { NODES, VIPS } from "../../lab/topology.ts";

const { signal } = new AbortController();
const troubles: string[] = [];
const stack = new DisposableStack();
const namespaces = stack.use(new Namespaces("isat-t-lab-"));
const openelb = stack.use(new Lab(namespaces, "b", "openelb", (line) => troubles.push(line)));
const isat = stack.use(new Lab(namespaces, "a", "isat", (line) => troubles.push(line)));

/** The result of OpenELB's way for each row; undefined if it holds. */
const OPENELB: Record<string, string | undefined> = {
  "plain: forwards by the FDB": undefined,
  "the outage: port from replies, forwards by entry": "wrong port p1 (8 VIPs)",
  "port from gratuitous ARP, forwards by entry": "wrong port p1 (8 VIPs)",
  "source-MAC check": "entry never learnt (8 VIPs)",
  "reply destination-MAC check": undefined,
  "ARP rate limit 15/s disables the port": "port p1 disabled (12 VIPs)",
  "active-ack asks the old MAC first; a VIP moves": "entry is still n2's (1 VIP)",
  "FDB ages before ARP: black hole after a quiet spell": "MAC forgotten: black hole (12 VIPs)",
  "gratuitous learning off": undefined,
};

const test = suite("lab");

test.before(async () => {
  await Promise.all([isat.ready(signal), openelb.ready(signal)]);
});

test.after(() => stack.dispose());

for (const behaviour of BEHAVIOURS) {
  test(behaviour.name, async () => {
    const row: Row = await replay({ isat, openelb }, behaviour, { signal });
    assert.is(row.isat.failure, undefined, "isat holds");
    assert.ok(row.isat.sent > 0 && row.isat.answered === row.isat.sent, "isat: each ping is answered");
    assert.is(row.openelb.failure, OPENELB[behaviour.name]);
    if (behaviour === OUTAGE) assertOutage();
  });
}

/** Asserts the state of the incident: right MACs, but the leader's port for all VIPs, so only the leader's own work. */
function assertOutage(): void {
  const [n1] = NODES;
  for (const { vip, owner, learnt, isMacRight, isReachable } of openelb.view().vips) {
    const isLeaders = owner === n1;
    assert.equal([learnt?.port, isMacRight, isReachable], [n1!.port, true, isLeaders], `OpenELB: ${vip}`);
  }
  for (const { vip, isMacRight, isPortRight, isReachable } of isat.view().vips) {
    assert.equal([isMacRight, isPortRight, isReachable], [true, true, true], `isat: ${vip}`);
  }
}

test("an ordinary host on isat's switch reaches every VIP", async () => {
  assert.equal(await isat.pingFromClient(), []);
});

test("on isat's switch only the owner claimed a VIP, out of its port, with its MAC, and once for each request", () => {
  assert.equal([...isat.witness.broken], []);
  assert.ok(isat.witness.answers >= VIPS.length, `${isat.witness.answers} answers were seen`);
});

test("no speaker logged a warning or ended", () => assert.equal(troubles, []));

test.run();
