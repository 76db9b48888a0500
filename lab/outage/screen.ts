import { styleText } from "node:util";
import type { Cell } from "./verdict.ts";
import type { LabView, VipView } from "./view.ts";

/** Both labs at one moment, for the screen. */
export interface Scene {
  /** Seconds of the switch's time since the first ping. */
  clock: number;
  /** Seconds after which an ARP entry ages. */
  arpAgeing: number;
  leader: string;
  isat: LabView;
  openelb: LabView;
}

export interface Look {
  columns: number;
  colour: boolean;
}

/** MACs are shown in full on a screen at least this wide, else only their last byte. */
const WIDE = 96;
const CAPTION_MAX = 104;

/** The whole screen, line by line. */
export function render(scene: Scene, look: Look): string[] {
  const { isat, openelb, leader } = scene;
  const macWidth = look.columns >= WIDE ? 17 : 5;
  const width = macWidth + 21;
  const left = (first: string, second: string) => ` ${first.padEnd(10)} ${second.padEnd(5)}  `;
  const heading = (text: string) => paint(look, "bold", text.padEnd(width));
  const under = `${"learnt".padEnd(macWidth)} of port     ping`.padEnd(width);
  return [
    paint(
      look,
      "bold",
      ` The outage, replayed. The switch's clock, 600 times as fast as ours: ${Math.round(scene.clock)} s`,
    ),
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

/** The heading of the rows that {@link renderRow} makes. */
export function tableHeading(look: Look): string {
  return paint(
    look,
    "bold",
    ` ${"switch behaviour".padEnd(NAME_WIDTH)} ${"isat".padStart(7)} ${"".padEnd(7)} OpenELB 0.4.4`,
  );
}

/** Explains what the screen shows. */
function caption({ isat, openelb, clock, arpAgeing, leader }: Scene): string {
  const silent = openelb.vips.filter((vip) => !vip.isReachable && vip.sent > 0);
  const wrong = silent.filter((vip) => vip.learnt && !vip.isPortRight);
  if (wrong.length === 0) {
    if (silent.length > 0) return `OpenELB: no ping is answered for ${vips(silent.length)}.`;
    const left = Math.max(0, Math.round(arpAgeing - clock));
    return (
      "Each VIP was announced, so the switch has learnt its MAC and port, and sends pings out of that port. Both ways" +
      ` work. Entries that nothing refreshes age in ${left} s.`
    );
  }
  const port = `p${wrong[0]!.learnt!.port}`;
  const holds = isat.vips.every((vip) => vip.isReachable);
  return (
    "OpenELB announced each VIP only once. Its entries have aged since, and the switch has asked who has the VIPs." +
    ` The leader, ${leader}, answered for all of them with the owners' MACs, but out of its own port. So the switch now` +
    ` sends pings for ${vips(wrong.length)} out of ${port}, and ${leader} drops them, as they are not for its MAC. ` +
    (holds
      ? "With isat each owner's kernel answers out of its own port, and every VIP is still reached."
      : "With isat every VIP should be reached, but some are not: see above.")
  );
}

const vips = (count: number) => `${count} VIP${count === 1 ? "" : "s"}`;

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
