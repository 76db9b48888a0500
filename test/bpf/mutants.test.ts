// limit: 900 s
/** Programs that are wrong on purpose: the comparison with the model, on random frames, must find each. */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { build, copySources } from "./build.ts";
import { Bench } from "./run.ts";
import { search } from "./search.ts";

/** Most are found in the first hundred. */
const FRAMES = 60_000;

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`MEASURED SEED=${seed}, up to ${FRAMES} frames`);

const mutants: [what: string, file: string, from: string, to: string][] = [
  ["announcements are answered", "decide.h", "if (same_ip(arp->spa, arp->tpa))\n\t\treturn ANNOUNCEMENT;", ""],
  [
    "the last two bytes of a unicast destination do not matter",
    "parse.h",
    "x[1] == y[1] && x[2] == y[2]",
    "x[1] == y[1]",
  ],
  ["a node that is fenced answers", "decide.h", "if (age > interface->fence_ns)\n\t\treturn FENCED;", ""],
  ["a sender of zeroes is answered", "decide.h", "is_zero(arp->sha) || ", ""],
  ["a VIP of another node is passed on", "decide.h", "verdict == NOT_OWNED_HERE || ", ""],
  [
    "the answer goes to the Ethernet source",
    "decide.h",
    "out->eth.h_dest, request->arp.sha",
    "out->eth.h_dest, request->eth.h_source",
  ],
  [
    "rows 7 and 8 change places",
    "decide.h",
    "if (is_gone(interface, ifindex, age, now))\n\t\treturn GONE;",
    "if (is_gone(interface, ifindex, age, now) && !is_zero(arp->sha))\n\t\treturn GONE;",
  ],
  ["the protocol's length does not matter", "parse.h", " && arp->protocol_length == 4", ""],
  [
    "the guard does not look at the Ethernet source",
    "egress.bpf.c",
    " && same_mac(frame->eth.h_source, interface->mac)",
    "",
  ],
  ["the guard lets announcements be rewritten", "egress.bpf.c", " && !same_ip(frame->arp.spa, frame->arp.tpa)", ""],
  ["what was released is still answered", "decide.h", "is_current(vip, answers) &&\n\t       (vip", "(vip"],
  ["a VIP is answered after it was to be left", "decide.h", " && now < vip->until_ns", ""],
  [
    "a node that has never ticked is not gone while a peer is heard",
    "decide.h",
    "if (interface->tick_ns == 0)\n\t\treturn true;",
    "",
  ],
  ["a wrong tag does not matter at TC", "tc.bpf.c", "key->k1, 0) == tag", "key->k1, 0) != tag + 1"],
  ["a frame may be longer than it says", "speak.h", "return at + WIRE_TAG + 1 > end;", "return true;"],
  ["a probe may carry claims", "speak.h", "frame->type < WIRE_CLAIM ? 0 : WIRE_MAX_CLAIMS", "WIRE_MAX_CLAIMS"],
  ["a stamp does not have to be fresh", "speak.h", " && now - reading < FRESH", ""],
  [
    "any nonce is one of ours",
    "speak.h",
    "return probe && (nonce == probe->nonce || nonce",
    "return probe && (true || nonce",
  ],
  ["an echo to no nonce is taken", "speak.h", "if (nonce == 0)\n\t\treturn false;", ""],
  ["every echo is news", "speak.h", "if (silent > ECHO_PAUSE ||", "if (true || silent > ECHO_PAUSE ||"],
  ["a later version of the peer is no news", "speak.h", "peer->max_version != frame->max_version || ", ""],
  ["a probe says what an echo has said otherwise", "speak.h", "if (peer->echoed_ns == 0)\n\t\tdescribe", "describe"],
  ["a claim may come twice", "speak.h", "&& nonce > peer->taken_nonce", "&& nonce >= peer->taken_nonce"],
  ["a claim's stamp is not remembered", "speak.h", "peer->taken_stamp_ns = stamp;", ""],
  ["a held node gives away what is claimed in its stead", "speak.h", "asked == FREE ? KEEPS_ALL", "false ? KEEPS_ALL"],
  ["a held node gives nothing away", "speak.h", "stance == HOLDS && asked == FREE ?", "stance == HOLDS ?"],
  [
    "a claim may be meant for an earlier speaker",
    "speak.h",
    "frame->to != interface->incarnation) {",
    "frame->to != interface->incarnation && type != WIRE_CLAIM) {",
  ],
  ["a reply is taken whenever it comes", "speak.h", "!is_fresh(frame->nonce, now)", "false"],
  ["what was recorded is looked at", "speak.h", ">= FRESH;", ">= 1000 * FRESH;"],
  ["what comes again is looked at again", "speak.h", "last->tag == tag && last->ifindex == ifindex", "false"],
  ["what came on another interface came here", "speak.h", "last->tag == tag && last", "last->tag == tag || last"],
  ["what was taken is not remembered", "speak.h", "\tlast->tag = tag;", ""],
  ["a recorded probe is not echoed", "speak.h", "frame->type != WIRE_PROBE && reading != 0", "reading != 0"],
  ["what gives back no reading counts as recorded", "speak.h", " && reading != 0 && since", " && since"],
  ["a claim is judged by its nonce", "speak.h", "if (is_answer)", "if (is_answer || true)"],
  ["a counter counts for another verdict", "decide.h", "COUNTED_AS(GONE, gone)", "COUNTED_AS(GONE, not_for_us)"],
  ["a claim is refused by the same hash only if it is better", "speak.h", "hash >= vip->hash", "hash > vip->hash"],
  ["a node that is held defends", "speak.h", "if (state == LIVE)\n\t\treturn DEFENDS;", "return DEFENDS;"],
  ["a VIP that is leaving is defended", "speak.h", "holds && vip->state != LEAVING && (", "holds && ("],
  ["a yield is not recorded", "speak.h", "answered->released_ns = now > vip->claim_ns ? now : vip->claim_ns;", ""],
  [
    "a yield is not recorded where nothing is held",
    "speak.h",
    "answered->released_ns = now",
    "if (holds)\n\t\tanswered->released_ns = now",
  ],
  [
    "a yield is recorded earlier than the claim that it ends",
    "speak.h",
    "now > vip->claim_ns ? now : vip->claim_ns",
    "now",
  ],
  ["what is only being claimed is said to be freed", "speak.h", "vip->state == CLAIMING ? FREE : RELEASED", "RELEASED"],
  ["what cannot be recorded is given away", "speak.h", "return holds ? MINE : FREE;", "return FREE;"],
  [
    "every asker is known",
    "speak.h",
    "probe && probe->incarnation == asked->incarnation",
    "!probe || probe->incarnation",
  ],
  ["a live node is held past hold too", "speak.h", "if (age >= interface->hold_ns)\n\t\treturn PAST_HOLD;", ""],
  [
    "an answer is signed by the key of the question",
    "tc.bpf.c",
    "*key = signing_key()",
    "*first = signing_key(), *key = first ? key_of(2, first) : first",
  ],
  [
    "frames of our own name are passed on without a limit",
    "speak.h",
    "since(counters->own_ns, now) >= OWN_PAUSE",
    "true",
  ],
  ["an echo of an earlier nonce is taken", "speak.h", "is_late = frame->nonce < peer->echo_nonce;", "is_late = 0;"],
  ["an echo is taken twice", "speak.h", "frame->stamp <= peer->stamp_ns", "frame->stamp < peer->stamp_ns"],
  ["a peer that is entered anew has said nothing", "speak.h", "{ .taken_stamp_ns = now }", "{}"],
  [
    "a node behind ages like a live one",
    "speak.h",
    "interface->state == DRAINED || interface->state == LAGGING",
    "interface->state == DRAINED",
  ],
  ["speech behind a tag of no VLAN is passed", "speak.h", "if (type == bpf_htons(ETH_P_ISAT))", "if (false)"],
  ["speech behind two tags of no VLAN is passed", "speak.h", "return is_vlan(type) &&", "return false &&"],
  ["speech behind a tag of a VLAN is dropped", "speak.h", "!(tag[0] & bpf_htons(VID)) &&", ""],
  ["recorded frames of our own name are passed on", "speak.h", "if (!is_fresh(reading, now))", "if (!reading)"],
  [
    "frames of our own name to an earlier speaker are passed on",
    "speak.h",
    "type != WIRE_PROBE && frame->to != interface->incarnation",
    "false",
  ],
  ["our own probes that come back are echoed", "speak.h", " && frame->incarnation != interface->incarnation) {", ") {"],
  ["a frame to another node is read", "speak.h", "is_broadcast(frame->destination) || same_mac", "true || same_mac"],
  [
    "a peer is known on every interface by what it said on one",
    "speak.h",
    "struct peer_key key = { .node = frame->node, .ifindex = ifindex };\n\tword",
    "struct peer_key key = { .node = frame->node, .ifindex = 2 };\n\tword",
  ],
  ["a tag's hash ends without the length", "siphash.h", "(__u64)((sizeof(*frame) + PAIR * count) & 255) << 56", "0"],
  ["a probe's padding comes back at XDP", "xdp.bpf.c", "*(__u8 *)(data + i) = 0;", ""],
];
for (const [what, file, from, to] of mutants) {
  test(`found: ${what}`, () => {
    using scratch = new Namespaces("isat-t-bpf-mutant-");
    let isEdited = false;
    const folder = copySources(scratch.folder(), (text, name) => {
      if (name !== file) return text;
      isEdited = text.includes(from);
      return text.replace(from, to);
    });
    assert.ok(isEdited, `bpf/${file} does not say: ${from}`);
    using bench = new Bench("isat-t-bpf-model-", build(folder));
    const difference = search(bench, seed, FRAMES, file === "speak.h" ? 0.8 : 0.4);
    assert.ok(difference, "nothing differs");
  });
}

test.run();
