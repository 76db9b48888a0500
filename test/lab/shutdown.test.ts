/**
 * A machine that systemd shuts down, while a client asks for every VIP all the time. A systemd that runs cannot be had in a
 * test, so a script answers for systemctl; everything else is real.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ISAT } from "../../lab/bundle.ts";
import { NODES, VIPS } from "../../lab/topology.ts";
import { assertMoves, assertQuiet, measured, n1, silenceOf, speakerOf, Trios, without } from "../../lab/trio/trios.ts";
import { sumOf } from "../../lab/watch/watch.ts";

const test = suite("shutdown");
const trios = new Trios("isat-t-down-");
test.after(() => trios[Symbol.dispose]());

/** A death takes at least this long to be noticed, ms. */
const DEATH = 250;

for (const [state, what] of [
  ["stopping", "a speaker that is stopped as systemd stops the machine gives its VIPs away before the network goes"],
  ["running", "a speaker that alone is stopped keeps its VIPs"],
] as const) {
  test(what, async () => {
    await using trio = await trios.start();
    const speaker = speakerOf(trio, n1);
    await speaker.signal("SIGKILL");
    const folder = join(trios.namespaces.folder(), state);
    mkdirSync(folder);
    writeFileSync(join(folder, "systemctl"), `#!/bin/sh\n[ "$1" = is-system-running ] && echo ${state}\n`, {
      mode: 0o755,
    });
    const place = `mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && PATH=${folder}:$PATH exec "$@"`;
    speaker.start(["unshare", "--mount", "sh", "-c", place, "sh", ...ISAT]);
    await speaker.ready();
    const report = await trio.watched(VIPS, async () => {
      await sleep(300);
      await speaker.signal("SIGTERM");
      if (state === "stopping") trio.link(n1, "down");
      await sleep(1_500);
    });
    if (state === "running") return assertQuiet(report);
    assertMoves(report, NODES, without(n1));
    measured(`systemd stops the machine: ${silenceOf(report)}`);
    assert.ok(sumOf(report).silence < DEATH, `a VIP was silent for ${sumOf(report).silence} ms`);
  });
}

test.run();
