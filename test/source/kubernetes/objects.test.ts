import { test } from "uvu";
import * as assert from "uvu/assert";
import { canonicalIP } from "../../../src/source/kubernetes/objects.ts";

// Each text, and the result of Go's net.ParseIP(text).String().
const ips: [text: string, canonical: string | undefined][] = [
  ["10.9.0.1", "10.9.0.1"],
  ["010.9.0.1", undefined],
  ["FD00:0:0:0::1", "fd00::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["::ffff:10.9.0.1", "10.9.0.1"],
  ["::10.9.0.1", "::a09:1"],
  ["fe80::1%eth0", undefined],
  ["web", undefined],
];
for (const [text, canonical] of ips) {
  test(`${text} is hashed as ${canonical}`, () => assert.is(canonicalIP(text)?.text, canonical));
}

test.run();
