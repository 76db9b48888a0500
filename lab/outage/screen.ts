import { styleText } from "node:util";
import type { Cell } from "./verdict.ts";
import type { LabView, VipView } from "./view.ts";

/** What the screen shows of both labs at one moment. */
export interface Scene {
  /** Seconds of the switch's time since the first ping. */
  clock: number;
  /** After how many of them an ARP entry ages. */
  arpAgeing: number;
  leader: string;
  isat: LabView;
  openelb: LabView;
}

export interface Look {
  columns: number;
  colour: boolean;
}

/** From so many columns on MACs are shown in full, below only their last byte. */
const WIDE = 96;
const CAPTION_MAX = 104;

/** The whole screen, a string a line. */
export function render(scene: Scene, look: Look): string[] {
  const { isat, openelb, leader } = scene;
  const macWidth = look.columns >= WIDE ? 17 : 5;
  const width = macWidth + 21;
  const left = (first: string, second: string) => ` ${first.padEnd(10)} ${second.padEnd(5)}  `;
  const heading = (text: string) => paint(look, "bold", text.padEnd(width));
  const under = `${"learnt".padEnd(macWidth)} of port     ping`.padEnd(width);
  return [
    paint(look, "bold", ` The outage, replayed. The switch's clock, 600 times ours: ${Math.round(scene.clock)} s`),
    "",
    left("", "") + heading("isat") + heading(`OpenELB 0.4.4, leader ${leader}`),
    left("VIP", "owner") + paint(look, "dim", under + under),
    ...isat.vips.map((vip, index) => {
      const cells = [vip, openelb.vips[index]!].map((one) => vipCell(one, macWidth, look));
      return left(vip.vip, vip.owner.name) + cells.join(" ");
    }),
    left("answered", "") + [isat, openelb].map((view) => total(view).padEnd(width)).join(""),
    "",
    ...wrap(caption(scene), Math.min(look.columns - 1, CAPTION_MAX)).map((line) => ` ${line}`),
  ].map((line) => line.trimEnd());
}

/** One finished row of the table. */
export function renderRow(name: string, isat: Cell, openelb: Cell, look: Look): string {
  const words = (cell: Cell, width: number) => {
    const counts = `${cell.answered}/${cell.sent}`.padStart(7);
    const text = cell.failure === undefined ? "holds" : `fails: ${cell.failure}`;
    return `${counts} ${paint(look, cell.failure === undefined ? "green" : "red", text.padEnd(width))}`;
  };
  return ` ${name.padEnd(NAME_WIDTH)} ${words(isat, 7)} ${words(openelb, 0)}`;
}

const NAME_WIDTH = 52;

/** What stands above the rows. */
export function tableHeading(look: Look): string {
  return paint(
    look,
    "bold",
    ` ${"switch behaviour".padEnd(NAME_WIDTH)} ${"isat".padStart(7)} ${"".padEnd(7)} OpenELB 0.4.4`,
  );
}

/** What is happening and why, from what is seen. */
function caption({ isat, openelb, clock, arpAgeing, leader }: Scene): string {
  const silent = openelb.vips.filter((vip) => !vip.isReachable && vip.sent > 0);
  const wrong = silent.filter((vip) => vip.learnt && !vip.isPortRight);
  if (wrong.length === 0) {
    if (silent.length > 0) return `OpenELB: ${silent.length} VIPs are silent.`;
    const left = Math.max(0, Math.round(arpAgeing - clock));
    return (
      "Each VIP was announced: the switch has its IP, MAC and port, and pings go out of that port. Both ways work." +
      ` Entries that nothing refreshes age in ${left} s.`
    );
  }
  const port = `p${wrong[0]!.learnt!.port}`;
  const holds = isat.vips.every((vip) => vip.isReachable);
  return (
    "OpenELB announced once, so its entries have aged, and the switch has asked who-has. The leader answered for every" +
    ` VIP out of ${port}, with the owners' MACs. By its entries the switch now sends ${wrong.length} VIPs out of ${port},` +
    ` where ${leader} drops what is not for its MAC. ` +
    (holds
      ? "With isat each owner's own kernel answers, out of its own port: all hold."
      : "isat should hold, and does not: see above.")
  );
}

function vipCell(vip: VipView, macWidth: number, look: Look): string {
  const ping = vip.sent === 0 ? " ".repeat(7) : vip.isReachable ? "answers" : paint(look, "red", "silent ");
  if (!vip.learnt) return `${"no entry".padEnd(macWidth + 12)} ${ping}`;
  const mac = macWidth < 17 ? `..${vip.learnt.mac.slice(-3)}` : vip.learnt.mac;
  const node = `${mac} ${vip.learnt.node?.name ?? "??"}`;
  const port = `p${vip.learnt.port} ${vip.isPortRight ? "right" : "WRONG"}`;
  return `${tint(look, vip.isMacRight, node)} ${tint(look, vip.isPortRight, port)} ${ping}`;
}

function total({ vips }: LabView): string {
  const sum = (key: "sent" | "answered") => vips.reduce((all, vip) => all + vip[key], 0);
  return `${sum("answered")} of ${sum("sent")} pings`;
}

function tint(look: Look, isRight: boolean, text: string): string {
  return paint(look, isRight ? "green" : "red", text);
}

function paint(look: Look, style: "bold" | "dim" | "green" | "red", text: string): string {
  return look.colour ? styleText(style, text, { validateStream: false }) : text;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}
