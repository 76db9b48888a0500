import { test } from "uvu";
import * as assert from "uvu/assert";
import { brokenPromises, type Cell, judge } from "../../lab/outage/verdict.ts";
import type { LabView, VipView } from "../../lab/outage/view.ts";
import { OUTAGE } from "../../lab/switch/settings.ts";
import { NODES } from "../../lab/topology.ts";

const [N1, N2] = [NODES[0]!, NODES[1]!];
const right: VipView = {
  vip: "10.9.0.1",
  owner: N2,
  learnt: { mac: N2.mac, node: N2, port: 2 },
  isMacRight: true,
  isPortRight: true,
  isReachable: true,
  sent: 10,
  answered: 10,
};
const lost = { ...right, answered: 9 };
const wrongPort = { learnt: { mac: N2.mac, node: N2, port: 1 }, isPortRight: false };
const wrongMac = { learnt: { mac: N1.mac, node: N1, port: 1 }, isMacRight: false, isPortRight: false };
const noEntry = { learnt: undefined, isMacRight: false, isPortRight: false };

const rows: [name: string, vips: VipView[], lab: Partial<LabView>, failure: string | undefined][] = [
  ["every ping answered and every entry right: holds", [right], {}, undefined],
  ["an entry that has just aged, with every ping answered: holds", [{ ...right, ...noEntry }], {}, undefined],
  [
    "a wrong port that the switch does not use: holds",
    [{ ...right, ...wrongPort }],
    { forwardsByEntry: false },
    undefined,
  ],
  ["one ping lost out of the wrong port", [{ ...lost, ...wrongPort }], {}, "wrong port p1 (1 VIP)"],
  ["one ping lost without an entry", [{ ...lost, ...noEntry }], {}, "entry never learnt (1 VIP)"],
  ["another's MAC, even if every ping was answered", [{ ...right, ...wrongMac }], {}, "entry is still n1's (1 VIP)"],
  ["one ping lost on a disabled port", [{ ...lost, ...noEntry }], { disabledPorts: [1] }, "port p1 disabled (1 VIP)"],
  ["one ping lost as the FDB had forgotten the MAC", [lost], { lostToFdb: 1 }, "MAC forgotten: black hole (1 VIP)"],
  ["one ping lost, and nothing is wrong with the tables", [lost], {}, "answers lost (1 VIP)"],
  [
    "reasons are counted apart",
    [right, { ...lost, ...wrongPort }, { ...lost, ...wrongPort }, { ...lost, ...noEntry }],
    {},
    "wrong port p1 (2 VIPs), entry never learnt (1 VIP)",
  ],
  ["a lab that pinged nothing does not hold", [{ ...right, sent: 0, answered: 0 }], {}, "nothing was pinged"],
];
for (const [name, vips, lab, failure] of rows) {
  test(name, () => {
    const view = { vips, disabledPorts: [], lostToFdb: 0, forwardsByEntry: true, ...lab };
    assert.is(judge(view).failure, failure);
  });
}

const holds: Cell = { sent: 10, answered: 10, failure: undefined };
const fails: Cell = { sent: 10, answered: 4, failure: "wrong port p1 (8 VIPs)" };
const promises: [name: string, isat: Cell, openelb: Cell, mustFail: boolean, broken: RegExp][] = [
  ["isat holds and OpenELB fails", holds, fails, true, /^$/],
  ["isat fails", fails, fails, true, /isat should hold, but fails: wrong port p1/],
  ["OpenELB holds where the incident says it fails", holds, holds, true, /OpenELB's rule should fail, but holds/],
  ["OpenELB fails where nothing was said", holds, fails, false, /^$/],
];
for (const [name, isat, openelb, openelbMustFail, broken] of promises) {
  test(`promises: ${name}`, () => {
    const behaviour = { ...OUTAGE, openelbMustFail };
    assert.match(brokenPromises([{ behaviour, isat, openelb }]).join("\n"), broken);
  });
}

test.run();
