import process from "node:process";
import { Command, InvalidArgumentError, Option } from "commander";
import { DEFAULTS, explore, type Kind, kinds, type Options, starts } from "./exploration.ts";

function number(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It is not a whole number.");
  return Number(text);
}

function menu(text: string): Kind[] {
  const chosen = text.split(",");
  for (const kind of chosen) {
    if (!kinds.some((known) => known === kind)) throw new InvalidArgumentError(`There is no ${kind}.`);
  }
  return chosen as Kind[];
}

const command = new Command("npm run explore --")
  .description(
    "Searches what can go wrong among isat's nodes, one VIP, for orders of events that break a rule of the protocol.\n" +
      "Prints how many states it saw, and the story of the first rule that was broken.",
  )
  .option("--nodes <number>", "how many nodes there are", number, DEFAULTS.nodes)
  .option("--faults <number>", "how many faults one path has at most", number, 2)
  .addOption(new Option("--start <state>", "where each path begins").choices(starts).default(DEFAULTS.start))
  .option("--window <ms>", "for so long from the start, faults begin", number, DEFAULTS.window)
  .option("--after <ms>", "for so long after a fault has ended, the next one may begin", number, DEFAULTS.after)
  .option("--fine", "try faults of frames and processes at each event, and not only while VIPs are claimed", false)
  .option("--menu <kinds>", `which faults there are, of ${kinds.join(",")}`, menu, [...kinds])
  .option("--most <states>", "states after which the search gives up", number)
  .parse();

const { fine, most = Number.POSITIVE_INFINITY, ...rest } = command.opts<Options & { fine: boolean }>();
const began = performance.now();
const seconds = () => `${((performance.now() - began) / 1000).toFixed(0)} s`;
const { states, paths, isComplete, story } = explore({ ...rest, isFine: fine, most }, (states, paths) => {
  if (process.stderr.isTTY || states % 50_000 === 0) {
    process.stderr.write(`${states} states, ${paths} paths, ${seconds()}${process.stderr.isTTY ? "\r" : "\n"}`);
  }
});
if (story !== undefined) console.log(`A rule is broken:\n${story}\n`);
const extent = isComplete ? "all that these options allow" : "the search ended early";
console.log(`${states} states on ${paths} paths in ${seconds()}: ${extent}`);
process.exitCode = story === undefined ? 0 : 1;
