/** What an operator reads where the kernel refuses: the cause, the interface and what to do, in one line. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { errno } from "../../src/ffi/libc.ts";
import { explainAttach, explainRefusal } from "../../src/kernel/explain.ts";
import { explainLoadError } from "../../src/kernel/object.ts";

const DO = /\b(Set|set|Run|Detach|Give it|Raise|Make room|Mount|needs CAP_)\b/;

const rows: [kind: "tcx" | "tc" | "xdp", name: keyof typeof errno, says: RegExp][] = [
  ["tcx", "EINVAL", /no tcx.*Set hook: tc \(EINVAL\)/],
  ["tcx", "E2BIG", /64 programs/],
  ["tcx", "ERANGE", /64 programs/],
  ["tc", "EINVAL", /another kind of filter.*priority 1.*tc filter show dev eth9 ingress/],
  ["tc", "ENOENT", /modprobe -a sch_ingress cls_bpf/],
  ["tc", "EOPNOTSUPP", /modprobe sch_ingress/],
  ["xdp", "ERANGE", /MTU.*ip link set eth9 mtu 1500.*hook: tcx/],
  ["xdp", "EINVAL", /MTU.*ethtool -K eth9 lro off.*hook: tcx/],
  ["xdp", "EOPNOTSUPP", /driver has no XDP.*hook: tcx/],
  ["xdp", "ENOSPC", /queues.*ethtool -L eth9/],
];
for (const [kind, name, says] of rows) {
  test(`${kind}, ${name}: the cause and what to do`, () => {
    const said = explainAttach(kind, "ingress", "eth9", errno[name], []);
    assert.match(said, says);
    assert.match(said, DO);
  });
}

for (const kind of ["tcx", "tc", "xdp"] as const) {
  for (const name of ["EPERM", "ENODEV", "ENOMEM", "ENOSYS", "EMFILE", "ENFILE"] as const) {
    test(`${kind}, ${name}: one line that is more than the errno`, () => {
      const said = explainAttach(kind, "egress", "eth9", errno[name], []);
      assert.not.match(said, /\n|DEVICE|DIRECTION/);
      assert.ok(said.includes(name) && said.length > name.length + 20, said);
    });
  }
}

test("EPERM names the capability that is missing, and a seccomp profile where none is", () => {
  assert.match(explainRefusal(["CAP_BPF"]), /needs CAP_BPF/);
  assert.match(explainRefusal([]), /seccomp.*RuntimeDefault/);
  assert.match(explainLoadError(errno.EPERM, ""), /seccomp/); // the tests run as root
});

test("an errno that nobody expects is named", () => {
  assert.is(explainAttach("tcx", "ingress", "eth9", 4242, []), "errno 4242");
});

test.run();
