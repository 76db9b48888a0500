/** VIPs of IPv6 on `lo`. (Those of IPv4 are tested with a running speaker: test/speaker/accept.test.ts.) */
import { execFileSync } from "node:child_process";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { inNamespace, Namespaces } from "../../lab/namespaces.ts";
import { parseAddress } from "../../src/core/address.ts";
import { Loopback } from "../../src/link/loopback.ts";

const test = suite("VIPs of IPv6 on lo");
const namespaces = new Namespaces("isat-t-lo-");
namespaces.add("node");
for (const which of ["all", "default"]) namespaces.sysctl("node", `net/ipv6/conf/${which}/disable_ipv6`, 0);
namespaces.ip("node", [
  "link add eth0 type veth peer name p0",
  "link set p0 up",
  "link set eth0 up",
  "addr add 2001:db8::1/64 dev eth0 nodad",
  "addr add 2001:db8::12/128 dev lo",
]);
test.after(() => namespaces[Symbol.dispose]());

const at = <T>(body: () => T) => inNamespace(namespaces.full("node"), body);
const open = () => at(() => new Loopback());
const ip = (...args: string[]) => execFileSync("ip", ["-n", namespaces.full("node"), ...args], { encoding: "utf8" });
const onLo = () => {
  const [{ addr_info: all }] = JSON.parse(ip("-j", "-6", "addr", "show", "dev", "lo"));
  return (all as { local: string; prefixlen: number }[])
    .filter(({ local }) => local !== "::1")
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
    .sort();
};
const vips = (...texts: string[]) => new Set(texts.map(parseAddress));

test("they are there as /128, outlive the process, and are known again by their metric", () => {
  const first = open();
  assert.ok(first.add(vips("2001:db8::10", "2001:db8::11", "2001:db8::12", "10.9.0.1")));
  first[Symbol.dispose]();
  assert.equal(onLo(), ["2001:db8::10/128", "2001:db8::11/128", "2001:db8::12/128"]);
  const second = open();
  assert.ok(second.keep(vips("2001:db8::11")));
  assert.equal(onLo(), ["2001:db8::11/128", "2001:db8::12/128"], "an administrator's stays");
  second.keep(new Set());
  assert.not(second.keep(new Set()));
  assert.equal(onLo(), ["2001:db8::12/128"]);
  second[Symbol.dispose]();
});

test("the node sends nothing of its own from them", () => {
  using loopback = open();
  const sender = () => /src (\S+)/.exec(ip("-6", "route", "get", "2001:db8::13"))?.[1];
  assert.is(sender(), "2001:db8::1");
  loopback.add(vips("2001:db8::10")); // it shares more bits with the destination (RFC 6724 5, rule 8)
  assert.is(sender(), "2001:db8::1");
  loopback.keep(new Set());
});

test.run();
