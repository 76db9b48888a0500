import { setTimeout as sleep } from "node:timers/promises";
import { vipRange } from "./addresses.ts";
import type { Figure } from "./figure.ts";
import type { Section } from "./section.ts";
import { Speaker } from "./speaker.ts";
import { layWire } from "./stand.ts";

/** Targets by number of VIPs, MB. */
const LIMITS = { 10: 65, 10000: 80 } as const;

export const memory: Section = {
  name: "memory",
  about: "resident memory of a speaker that shares its VIPs with two others",
  async run({ ground, isQuick, progress }) {
    const [rounds, rest] = isQuick ? [2, 4_000] : [5, 30_000];
    const found: { vips: keyof typeof LIMITS; resident: number; proportional: number }[] = [];
    progress(`memory: ${rounds} speakers each with 10 and with 10,000 VIPs`);
    const speakers: [keyof typeof LIMITS, Speaker][] = [];
    for (let round = 0; round < rounds; round++) {
      for (const vips of [10, 10_000] as const) {
        const { first, last } = vipRange(vips);
        const speaker = new Speaker(ground.namespaces, layWire(ground.namespaces).node, ground);
        speaker.configure({ hook: "auto", vips: [`${first}-${last}`], isShared: true, isLoud: true });
        speaker.start();
        await speaker.ready();
        speakers.push([vips, speaker]);
      }
    }
    progress(`memory: ${rest / 1000} s later`);
    await sleep(rest);
    for (const [vips, speaker] of speakers) found.push({ vips, ...speaker.memory() });
    for (const [, speaker] of speakers) await speaker.kill();

    return ([10, 10_000] as const).flatMap((vips): Figure[] => {
      const of = found.filter((each) => each.vips === vips);
      const about = {
        section: "memory",
        subject: `${vips.toLocaleString("en")} VIPs`,
        unit: "MB",
        ratios: [],
      } as const;
      return [
        {
          ...about,
          what: "resident (VmRSS)",
          values: of.map(({ resident }) => resident),
          target: { is: "at most", limit: LIMITS[vips] },
          note: `${rest / 1000} s after it was ready`,
        },
        {
          ...about,
          what: "proportional (PSS)",
          values: of.map(({ proportional }) => proportional),
          note: `${2 * rounds + 1} processes shared Node's own pages, of which each counts for its part only`,
        },
      ];
    });
  },
};
