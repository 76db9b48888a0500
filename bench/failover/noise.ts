/**
 * Reads frames from its standard input, lines `INTERFACE HEX` and an empty line. Sends them again and again at a steady
 * rate until the input ends, then prints the rate. Runs in the switch's namespace.
 * Usage: noise.ts NAMESPACE RATE
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Sender } from "../sender.ts";

const [namespace, rate] = process.argv.slice(2);
const frames = new Map<string, Uint8Array[]>();
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
for (let line = await input.next(); !line.done && line.value !== ""; line = await input.next()) {
  const [name, hex] = line.value.split(" ") as [string, string];
  frames.set(name, [...(frames.get(name) ?? []), Uint8Array.from(Buffer.from(hex, "hex"))]);
}
const senders = [...frames].map(([name, its]) => new Sender(namespace!, name, its));
let isOver = false;
void input.next().then(() => (isOver = true));
console.log("sending");
const began = performance.now();
let sent = 0;
while (!isOver) {
  const due = ((performance.now() - began) / 1000) * Number(rate);
  for (let turn = 0; sent < due; turn++) sent += senders[turn % senders.length]!.send(64);
  await sleep(1);
}
console.log(`${(sent / (performance.now() - began)) * 1000}`);
process.exit(0);
