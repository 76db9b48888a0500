import { test } from "uvu";
import * as assert from "uvu/assert";
import { render, renderRow, type Scene } from "../../lab/outage/screen.ts";
import type { LabView, VipView } from "../../lab/outage/view.ts";
import { NODES } from "../../lab/topology.ts";

const [N1, N2] = [NODES[0]!, NODES[1]!];

function vip(change: Partial<VipView> = {}): VipView {
  return {
    vip: "10.9.0.1",
    owner: N2,
    learnt: { mac: N2.mac, node: N2, port: 2 },
    isMacRight: true,
    isPortRight: true,
    isReachable: true,
    sent: 10,
    answered: 10,
    ...change,
  };
}

function view(...vips: VipView[]): LabView {
  return { vips, disabledPorts: [], lostToFdb: 0, forwardsByEntry: true };
}

const wrongPort = vip({
  learnt: { mac: N2.mac, node: N2, port: 1 },
  isPortRight: false,
  isReachable: false,
  answered: 4,
});
const scene = (openelb: VipView, clock: number): Scene => ({
  clock,
  arpAgeing: 1200,
  leader: N1.name,
  isat: view(vip()),
  openelb: view(openelb),
});
const plain = (columns: number) => ({ columns, colour: false });

test("before ageing, both ways are shown as right, and the caption says what comes next", () => {
  const lines = render(scene(vip(), 300), plain(120));
  assert.is(lines[4], " 10.9.0.1   n2     02:00:00:00:00:02 n2 p2 right answers 02:00:00:00:00:02 n2 p2 right answers");
  assert.is(lines[5], " answered          10 of 10 pings                        10 of 10 pings");
  assert.match(lines.join(" "), /Both ways\s+work\. Entries that nothing refreshes age in 900 s\./);
});

test("after ageing, the wrong port is shown, and the caption says why", () => {
  const lines = render(scene(wrongPort, 1800), plain(120));
  assert.match(lines[4]!, /n2 p2 right answers 02:00:00:00:00:02 n2 p1 WRONG silent$/);
  assert.match(lines.join(" "), /sends\s+pings\s+for\s+1\s+VIP\s+out\s+of\s+p1,\s+and\s+n1\s+drops\s+them/);
  assert.match(lines.join(" "), /every VIP\s+is\s+still\s+reached/);
});

test("the caption does not praise isat where isat fails", () => {
  const failing = { ...scene(wrongPort, 1800), isat: view(vip({ isReachable: false })) };
  const text = render(failing, plain(120)).join(" ");
  assert.match(text, /should be reached,\s+but\s+some\s+are\s+not/);
  assert.not.match(text, /still\s+reached/);
});

test("a VIP without an entry is shown as such", () => {
  const none = vip({ learnt: undefined, isMacRight: false, isPortRight: false, isReachable: false });
  assert.match(render(scene(none, 10), plain(120))[4]!, /no entry\s+silent$/);
});

for (const columns of [80, 96, 200]) {
  test(`no line is wider than ${columns} columns`, () => {
    for (const one of [vip(), wrongPort]) {
      const widest = Math.max(...render(scene(one, 1800), plain(columns)).map((line) => line.length));
      assert.ok(widest <= columns, `${widest} columns`);
    }
  });
}

test("colour marks wrong entries, and moves no column", () => {
  const coloured = render(scene(wrongPort, 1800), { columns: 120, colour: true });
  assert.ok(coloured[4]!.includes("\x1b[31mp1 WRONG"));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  const bare = coloured.map((line) => line.replace(/\x1b\[\d+m/g, "").trimEnd());
  assert.equal(bare, render(scene(wrongPort, 1800), plain(120)));
});

test("a row of the table says who holds, and why the other fails", () => {
  const row = renderRow(
    "source-MAC check",
    { sent: 10, answered: 10, failure: undefined },
    { sent: 10, answered: 3, failure: "entry never learnt (8 VIPs)" },
    plain(120),
  );
  assert.match(row, /^ source-MAC check {2,}10\/10 holds {2,}3\/10 fails: entry never learnt \(8 VIPs\)$/);
});

test.run();
