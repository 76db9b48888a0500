/**
 * Sends ARP requests, or Neighbour Solicitations, for addresses that no host has, at a steady rate, until it is killed. Runs in the client's namespace.
 * Usage: others.ts NAMESPACE RATE IPv4|IPv6
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { CLIENT_INTERFACE, type Family, otherAt, question } from "./addresses.ts";
import { Sender } from "./sender.ts";
import { OTHER_CPU, pin } from "./system.ts";

const [namespace, rate, family] = process.argv.slice(2);
const frames = Array.from({ length: 1024 }, (_, i) => question(otherAt(i, family as Family)));
const sender = new Sender(namespace!, CLIENT_INTERFACE, frames);
pin(OTHER_CPU);
console.log("sending");
for (let [began, sent] = [performance.now(), 0]; ; await sleep(1)) {
  const due = Math.floor(((performance.now() - began) / 1000) * Number(rate)) - sent;
  if (due > Number(rate) / 5)
    [began, sent] = [performance.now(), 0]; // it was stopped meanwhile, and does not catch up
  else
    for (let left = due; left > 0; ) {
      const done = sender.send(left);
      sent += done;
      left -= done || left;
    }
}
