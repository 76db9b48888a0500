import type { Behaviour } from "../switch/settings.ts";
import type { LabView, VipView } from "./view.ts";

/** One cell of the table: the result of one way of answering with one behaviour of the switch. */
export interface Cell {
  sent: number;
  answered: number;
  /** The reason why it fails; undefined where it holds. */
  failure: string | undefined;
}

/** Both cells of a row. */
export interface Row {
  behaviour: Behaviour;
  isat: Cell;
  openelb: Cell;
}

/** Judges a lab by its last view. It holds if every ping was answered and every entry names the owner. */
export function judge(view: LabView): Cell {
  const total = (key: "sent" | "answered") => view.vips.reduce((sum, vip) => sum + vip[key], 0);
  const counts = { sent: total("sent"), answered: total("answered") };
  const failing = view.vips.filter((vip) => vip.answered < vip.sent || (vip.learnt && !vip.isMacRight));
  if (failing.length === 0) return { ...counts, failure: counts.sent > 0 ? undefined : "nothing was pinged" };

  const reasons = new Map<string, number>();
  for (const vip of failing) {
    const reason = why(view, vip);
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  const words = [...reasons].map(([reason, vips]) => `${reason} (${vips} VIP${vips === 1 ? "" : "s"})`);
  return { ...counts, failure: words.join(", ") };
}

function why(view: LabView, vip: VipView): string {
  if (view.disabledPorts.length > 0) return `port ${view.disabledPorts.map((port) => `p${port}`).join(", ")} disabled`;
  if (!vip.learnt) return "entry never learnt";
  if (!vip.isMacRight) return `entry is still ${vip.learnt.node?.name ?? vip.learnt.mac}'s`;
  if (view.forwardsByEntry && !vip.isPortRight) return `wrong port p${vip.learnt.port}`;
  if (view.lostToFdb > 0) return "MAC forgotten: black hole";
  return "answers lost";
}

/** Broken promises, a line each: isat must hold in every row, and OpenELB must fail where it failed in the incident. */
export function brokenPromises(rows: readonly Row[]): string[] {
  return rows.flatMap(({ behaviour, isat, openelb }) => {
    const broken: string[] = [];
    if (isat.failure !== undefined) broken.push(`${behaviour.name}: isat should hold, but fails: ${isat.failure}`);
    if (behaviour.openelbMustFail && openelb.failure === undefined) {
      broken.push(`${behaviour.name}: OpenELB's rule should fail, but holds`);
    }
    return broken;
  });
}
