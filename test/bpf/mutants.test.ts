// limit: 900 s
/** Each of these programs is wrong on purpose. The comparison with the model, on random frames, must find it. */
import process from "node:process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Namespaces } from "../../lab/namespaces.ts";
import { blur, build, copySources, strayOf } from "./build.ts";
import { Bench, IFINDEX } from "./run.ts";
import { search } from "./search.ts";

/** Most are found in the first hundred. */
const FRAMES = 240_000; // a mutant was once not found in 60,000; most are found in a few hundred

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
console.log(`MEASURED SEED=${seed}, up to ${FRAMES} frames`);

const mutants: [what: string, file: string, from: string, to: string][] = [
  [
    "announcements are answered",
    "arp.h",
    "if (same_ip(arp->spa, arp->tpa))\n\t\treturn pass(VERDICT_ANNOUNCEMENT);",
    "",
  ],
  [
    "the last two bytes of a unicast destination do not matter",
    "packet.h",
    "x[1] == y[1] && x[2] == y[2]",
    "x[1] == y[1]",
  ],
  ["a node that is fenced answers", "decide.h", "if (is_fenced(interface, age))", "if (false)"],
  ["a node is fenced at its limit", "state.h", "age > interface->fence_ns", "age >= interface->fence_ns"],
  ["a node is gone at its limit", "state.h", "age <= interface->gone_ns", "age < interface->gone_ns"],
  ["a sender of zeroes is answered", "decide.h", "mac == 0 || ", ""],
  ["a VIP of another node is passed on", "decide.h", ": drop(VERDICT_NOT_OWNED", ": pass(VERDICT_NOT_OWNED"],
  [
    "another speaker does not hear what is asked while isat starts",
    "decide.h",
    "? pass(VERDICT_NOT_OWNED",
    "? drop(VERDICT_NOT_OWNED",
  ],
  [
    "a VIP that was released while it was claimed is passed on",
    "state.h",
    "VIP_CLAIMING && is_current(vip, vip->state_ns)",
    "VIP_CLAIMING",
  ],
  [
    "the answer goes to the Ethernet source",
    "arp.h",
    "out->eth.h_dest, request->arp.sha",
    "out->eth.h_dest, request->eth.h_source",
  ],
  [
    "rows 7 and 8 change places",
    "decide.h",
    "if (is_gone(interface, age, now))",
    "if (is_gone(interface, age, now) && !is_bad)",
  ],
  ["the protocol's length does not matter", "packet.h", " && arp->protocol_length == 4", ""],
  [
    "the egress filter does not look at the Ethernet source",
    "egress.bpf.c",
    " && same_mac(source, interface->mac)",
    "",
  ],
  ["the egress filter lets announcements be rewritten", "egress.bpf.c", " && !same_ip(arp.spa, arp.tpa)", ""],
  ["a released VIP is still answered", "state.h", "is_current(vip, vip->claim_ns) &&\n\t       (vip", "(vip"],
  ["a VIP is answered after it was to be left", "state.h", " && now < vip->state_ns", ""],
  [
    "a node that has never ticked is not gone while a peer is heard",
    "state.h",
    "if (interface->tick_ns == 0)\n\t\treturn true;",
    "",
  ],
  ["a frame counts twice", "result.h", "*counter += 1;", "*counter += 2;"],
  ["a guarded interface speaks", "ingress.h", " || interface->is_guard", ""],
  ["an ARP frame is decided by a clock of any age", "state.h", "own->clock_jiffy != jiffy", "own->clock_jiffy == 0"],
  ["a wrong tag does not matter", "ingress.h", "key->k1) == tag", "key->k1) != tag + 1"],
  ["a wrong tag of claims does not matter", "ingress.h", "frame->count)) == tag ?", "frame->count)) != tag + 1 ?"],
  ["a frame may be longer than it says", "auth.h", "return at + WIRE_TAG + 1 > end;", "return true;"],
  ["a probe may carry claims", "auth.h", "frame->type < WIRE_CLAIM ? 0 : most", "most"],
  ["a stamp does not have to be fresh", "auth.h", " && now - reading < FRESH", ""],
  [
    "any nonce is one of ours",
    "peers.h",
    "return probe && (nonce == probe->nonce || nonce",
    "return probe && (true || nonce",
  ],
  ["an echo to no nonce is taken", "peers.h", "if (nonce == 0)\n\t\treturn false;", ""],
  ["every echo is news", "peers.h", "is_news = silent > ECHO_PAUSE ||", "is_news = true || silent > ECHO_PAUSE ||"],
  ["the key that a peer signs with is not told", "peers.h", "\tpeer->key_id = frame->key_id;\n", ""],
  ["a later version of the peer is no news", "peers.h", "peer->max_version != frame->max_version || ", ""],
  ["a probe changes the state that an echo told", "peers.h", "if (peer && peer->echoed_ns == 0)", "if (peer)"],
  [
    "a node that was never heard by an echo is told of",
    "peers.h",
    "if (!peer || peer->echoed_ns == 0)\n\t\treturn NEVER",
    "if (!peer)\n\t\treturn NEVER",
  ],
  [
    "of a node, the time of its last echo is told",
    "peers.h",
    "since(peer->heard_ns, now)",
    "since(peer->echoed_ns, now)",
  ],
  [
    "an echo does not say that its node cannot speak IPv6",
    "peers.h",
    " | (interface->only_ipv4 ? WIRE_ONLY_IPV4 : 0)",
    "",
  ],
  ["of a peer that cannot speak IPv6, it is not kept", "peers.h", "!!(frame->flags & WIRE_ONLY_IPV4)", "0"],
  ["of a node, it is not told that its source is stale", "peers.h", "peer->source_stale ? WIRE_NODE_STALE : 0", "0"],
  ["a question for a node is answered as one for a VIP", "ingress.h", "family == 0)", "family == 5)"],
  ["a claim may come twice", "peers.h", "&& nonce > peer->taken_nonce", "&& nonce >= peer->taken_nonce"],
  ["a claim's stamp is not remembered", "peers.h", "peer->taken_stamp_ns = stamp;", ""],
  ["a headless node releases to a stand-in", "claims.h", "? KEEPS_OWNED : KEEPS_NONE;", "? KEEPS_NONE : KEEPS_NONE;"],
  ["a headless node releases nothing", "claims.h", "asked != CLAIM_FREE || is_fenced", "is_fenced"],
  ["a stand-in's claim is decided like any other", "ingress.h", "claim.verdict == CLAIM_FREE ? soft : usual", "usual"],
  [
    "a claim may be meant for an earlier incarnation",
    "peers.h",
    "if (frame->to != interface->incarnation)\n",
    "if (frame->to != interface->incarnation && type != WIRE_CLAIM)\n",
  ],
  ["a reply is taken whenever it comes", "peers.h", "!is_fresh(frame->nonce, now)", "false"],
  ["a recorded frame is looked at", "auth.h", ">= FRESH;", ">= 1000 * FRESH;"],
  ["a frame that comes again is looked at again", "auth.h", "last->tag == tag && last->ifindex == ifindex", "false"],
  ["a frame of another interface came here", "auth.h", "last->tag == tag && last", "last->tag == tag || last"],
  ["a frame that was taken is not remembered", "auth.h", "\tlast->tag = tag;", ""],
  ["a recorded probe is not echoed", "auth.h", "frame->type != WIRE_PROBE && reading != 0", "reading != 0"],
  ["a frame that gives back no reading counts as recorded", "auth.h", " && reading != 0 && since", " && since"],
  ["a claim is judged by its nonce", "auth.h", "if (is_answer)", "if (is_answer || true)"],
  [
    "a counter counts for another verdict",
    "result.h",
    "add_one(&counters->counter);",
    "add_one(&counters->counter + (VERDICT_##name == VERDICT_GONE));",
  ],
  ["a claim is refused by the same hash only if it is better", "claims.h", "hash >= vip->hash", "hash > vip->hash"],
  [
    "a headless node defends",
    "claims.h",
    "if (state == NODE_LIVE)",
    "if (state == NODE_LIVE || state == NODE_HEADLESS)",
  ],
  ["a VIP that is leaving is defended", "claims.h", "holds && state != VIP_LEAVING &&", "holds &&"],
  ["a release is not recorded", "claims.h", "release(vip, now > claimed ? now : claimed);", "(void)claimed;"],
  [
    "a release is not recorded where nothing is held",
    "claims.h",
    "release(vip, now",
    "if (holds)\n\t\trelease(vip, now",
  ],
  [
    "a release is recorded earlier than the claim that it ends",
    "claims.h",
    "release(vip, now > claimed ? now : claimed);",
    "(void)claimed;\n\trelease(vip, now);",
  ],
  [
    "a VIP that is only being claimed is said to be released",
    "claims.h",
    "state == VIP_CLAIMING ? CLAIM_FREE : CLAIM_RELEASED",
    "CLAIM_RELEASED",
  ],
  ["a claim that is made is as old as the one before", "claims.h", "\t\tclaimed = claiming;", "\t\t;"],
  [
    "every asker is known",
    "peers.h",
    "probe && probe->incarnation == asked->incarnation",
    "!probe || probe->incarnation",
  ],
  [
    "a live node is headless past hold too",
    "state.h",
    "if (age >= interface->hold_ns)\n\t\treturn NODE_PAST_HOLD;",
    "",
  ],
  [
    "an answer is signed by the key of the question",
    "ingress.h",
    "key = key_of_version(frame->version);",
    "key = signing_key();\n\tif (key)\n\t\tkey = key_of(frame->version, frame->key_id, key);",
  ],
  [
    "frames of our own name are passed on without a limit",
    "peers.h",
    "if (since(interface->own_ns, now) < OWN_PAUSE)",
    "if (false)",
  ],
  ["an echo of an earlier nonce is taken", "peers.h", "is_late = frame->nonce < peer->echo_nonce;", "is_late = 0;"],
  ["an echo is taken twice", "peers.h", "frame->stamp <= peer->stamp_ns", "frame->stamp < peer->stamp_ns"],
  ["a peer that is entered anew takes earlier claims", "peers.h", "{ .taken_stamp_ns = now }", "{}"],
  [
    "a lagging node does not age",
    "state.h",
    "(interface->state == NODE_LIVE || interface->state == NODE_LAGGING)",
    "interface->state == NODE_LIVE",
  ],
  [
    "a fresh node does not keep its VIPs from a lagging one",
    "claims.h",
    "claim->state == NODE_LAGGING && !interface->source_stale ? KEEPS_HELD : KEEPS_BETTER",
    "KEEPS_BETTER",
  ],
  ["a node with a stale source keeps all from a lagging one", "claims.h", " && !interface->source_stale", ""],
  [
    "a lagging node keeps its VIPs from a fresh one",
    "claims.h",
    "claim->state == NODE_LAGGING || claim->flags & WIRE_SOURCE_STALE ? KEEPS_BETTER : KEEPS_NONE",
    "KEEPS_BETTER",
  ],
  [
    "lagging nodes keep nothing from each other",
    "claims.h",
    "claim->state == NODE_LAGGING || claim->flags",
    "claim->flags",
  ],
  [
    "a lagging node keeps nothing from one whose source is stale",
    "claims.h",
    "claim->state == NODE_LAGGING || claim->flags & WIRE_SOURCE_STALE ?",
    "claim->state == NODE_LAGGING ?",
  ],
  ["a frame of another cluster is believed", "auth.h", " || frame->cluster != first->cluster", ""],
  ["version 1 is spoken for ever", "auth.h", "return !key_of_version(WIRE_OLD_VERSION);", "return false;"],
  [
    "each frame of another cluster is passed on",
    "peers.h",
    "since(interface->foreign_ns, now) < FOREIGN_PAUSE",
    "false",
  ],
  ["a hello is echoed in both versions", "auth.h", "frame->max_version > WIRE_OLD_VERSION &&", "false &&"],
  ["a frame of a newer node in version 1 is dropped", "auth.h", " &&\n\t       is_broadcast(frame->destination)", ""],
  [
    "a key of version 1 verifies version 2",
    "auth.h",
    "if (version == WIRE_OLD_VERSION)\n\t\tbegin",
    "if (true)\n\t\tbegin",
  ],
  ["an IPv6 address is taken for an IPv4 one", "ingress.h", "if (family == 4)", "if (true)"],
  ["of a claimed IPv6 address, the second half does not matter", "claims.h", "key.ip + 8, &last", "key.ip + 8, &first"],
  ["no IPv6 VIP is held here", "ingress.h", "else if (family == 6)", "else if (family == 7)"],
  ["a peer's interface is not noted", "peers.h", "if (frame->version != WIRE_OLD_VERSION && ", "if (false && "],
  ["a frame behind two priority tags is passed", "packet.h", "return is_vlan(type) &&", "return false &&"],
  [
    "a frame behind two tags, of which the first is a VLAN's, is dropped",
    "ingress.h",
    "is_priority(tag[0]) && is_second",
    "is_second",
  ],
  ["a release takes back a later one", "claims.h", "\tif (at > vip->released_ns)\n", "\tif (true)\n"],
  ["a recorded probe is echoed again", "peers.h", "if (frame->nonce <= peer->probe_nonce)", "if (false)"],
  [
    "a probe is echoed twice",
    "peers.h",
    "if (frame->nonce <= peer->probe_nonce)",
    "if (frame->nonce < peer->probe_nonce)",
  ],
  ["the last probe is not remembered", "peers.h", "\t\tpeer->probe_nonce = frame->nonce;\n", ""],
  ["strangers are echoed without a limit", "peers.h", "if (full - now > SECOND - STRANGER)\n\t\treturn false;", ""],
  ["strangers cost nothing", "peers.h", "\tinterface->strangers_ns = full + STRANGER;\n", ""],
  [
    "every incarnation of a peer is known",
    "peers.h",
    "(!peer || peer->incarnation != frame->incarnation) && !may_echo",
    "!peer && !may_echo",
  ],
  ["another VIP's entry is answered from", "decide.h", "!is_of(vip, check) || ", ""],
  ["another interface's MAC is answered", "decide.h", " || !is_on(interface, ifindex)", ""],
  [
    "an entry of the same address on another interface is the VIP's",
    "state.h",
    "return *(const volatile __u64 *)&vip->check == check;",
    "return *(const volatile __u32 *)&vip->check == (__u32)check;",
  ],
  ["a claim is decided by another VIP's entry", "claims.h", "keeps_it || !is_of(vip, check)", "keeps_it"],
  ["a claim by another VIP's entry leaves", "egress.bpf.c", " && is_of(vip, check)", ""],
  ["another interface's address is put into a request", "egress.bpf.c", " && is_on(interface, skb->ifindex)", ""],
  ["a question leaves under the first address whatever its target", "egress.bpf.c", "masks[i] && ", "0 && "],
  ["a subnet of mask 0 is one", "egress.bpf.c", "masks[i] && ", ""],
  ["hardware type 6 is not guarded", "packet.h", " || arp->hardware_type == bpf_htons(ARPHRD_IEEE802)", ""],
  ["the egress filter does not look behind priority tags", "egress.bpf.c", "i < TAGS && is_vlan(type)", "false"],
  ["the egress filter looks into VLANs", "egress.bpf.c", " || !is_priority(tag[0])", ""],
  ["two priority tags leave", "egress.bpf.c", "\tif (tags > 1)\n\t\treturn SPEECH_HIDDEN;\n", ""],
  ["what is behind a priority tag is not looked at", "ingress.h", "\t\ttype = behind;", "\t\t;"],
  ["recorded frames of our own name are passed on", "peers.h", "if (!is_fresh(reading, now))", "if (!reading)"],
  [
    "frames of our own name to an earlier incarnation are passed on",
    "peers.h",
    "type != WIRE_PROBE && frame->to != interface->incarnation",
    "false",
  ],
  [
    "our own probes that come back are echoed",
    "peers.h",
    "type == WIRE_PROBE && frame->incarnation != interface->incarnation)",
    "type == WIRE_PROBE)",
  ],
  ["a frame to another node is read", "peers.h", "is_broadcast(frame->destination) || same_mac", "true || same_mac"],
  [
    "a peer is known on every interface by what it said on one",
    "peers.h",
    "struct peer_key key = { .node = frame->node, .ifindex = ifindex };\n\tword",
    "struct peer_key key = { .node = frame->node, .ifindex = 2 };\n\tword",
  ],
  ["a tag's hash ends without the length", "siphash.h", "(__u64)(length & 255) << 56", "0"],
  ["a probe's padding comes back at XDP", "ctx_xdp.h", "*(__u8 *)(data + i) = 0;", ""],
  [
    "an answer at XDP goes on up",
    "ctx_xdp.h",
    "#define ctx_reply(ctx, ifindex) XDP_TX",
    "#define ctx_reply(ctx, ifindex) XDP_PASS",
  ],
  ["a Solicitation of any hop limit is answered", "nd.h", "nd->hop_limit != ND_HOP_LIMIT || ", ""],
  ["a Solicitation of any code is answered", "nd.h", "nd->code != 0 || ", ""],
  ["a multicast source is answered", "nd.h", " || is_multicast(nd->source)", ""],
  ["a wrong checksum does not matter", "nd.h", "!= 0xffff", "== 0xfffe"],
  ["options do not count for the checksum", "nd.h", " + sum_of(options + 4)", ""],
  ["an option may go on behind the end", "nd.h", "return ND_BARE_LENGTH + 8 * next == length;", "return true;"],
  ["a MAC of any length is one", "nd.h", "if (option_length(option) != 1)\n\t\t\t\treturn false;", ""],
  ["the last MAC counts", "nd.h", "if (*mac == NO_MAC)\n", "if (true)\n"],
  ["what stands within an option is one", "nd.h", "if (i != next)\n\t\t\tcontinue;", ""],
  ["who detects a duplicate may say a MAC", "nd.h", "(*mac == NO_MAC && is_solicited_node", "(is_solicited_node"],
  ["who detects a duplicate may ask anybody", "nd.h", " && is_solicited_node(nd->destination)", ""],
  ["a group is told by its last two bytes", "nd.h", "mac[3] == last[1] && ", ""],
  ["a Solicitation to any MAC is answered", "nd.h", " && !same_mac(nd->to, interface->mac)", " && false"],
  ["the Ethernet source is answered", "nd.h", "if (mac == NO_MAC)\n", "if (true)\n"],
  ["a duplicate is told to the asker", "nd.h", "if (is_for_all)\n\t\tmac = ALL", "if (false)\n\t\tmac = ALL"],
  ["the answer to all says that it was solicited", "nd.h", "is_for_all ? ND_OVERRIDE : ", ""],
  ["an Advertisement is longer than it says", "ctx_skb.h", "ctx->len == size ? 0 :", "ctx->len >= size ? 0 :"],
  ["an Advertisement at XDP is longer than it says", "ctx_xdp.h", "return trim(ctx, size);", "return 0;"],
  ["an Advertisement at XDP finds no room", "ctx_xdp.h", "for (step = 8; step > 0", "for (step = 4; step > 0"],
  [
    "Solicitations behind priority tags pass",
    "ingress.h",
    "is_solicitation(ctx, ETH_HLEN + VLAN_HLEN) ? type : 0",
    "0",
  ],
  ["all ICMPv6 is Solicitations", "nd.h", "(icmpv6_type(ctx, at) == ND_SOLICITATION)", "(icmpv6_type(ctx, at) != 0)"],
  ["an IPv6 VIP is known by half of its address", "state.h", "return first * 0x9e3779b97f4a7c15 + last", "return last"],
  [
    "an Advertisement of another node's VIP leaves",
    "egress.bpf.c",
    "if (is_question && !is_unspecified",
    "if (!is_unspecified",
  ],
  ["a Solicitation leaves under no address", "egress.bpf.c", " && !is_unspecified(own)", ""],
  [
    "a Solicitation leaves under another interface's address",
    "egress.bpf.c",
    "!is_unspecified(own) && is_on(interface, skb->ifindex)",
    "!is_unspecified(own)",
  ],
  ["the MAC that an Advertisement tells does not matter", "egress.bpf.c", "mac == mac_word(interface->mac)", "true"],
  [
    "the MAC that an Advertisement comes from does not matter",
    "egress.bpf.c",
    " && same_mac(nd->from, interface->mac)",
    "",
  ],
  ["options that end nowhere leave", "egress.bpf.c", "if (is_read && ", "if ((is_read || mac) && "],
  ["the checksum stays as it was", "egress.bpf.c", "fold(sum + sum_of(own))", "fold(sum)"],
];
/** The files of which the peer protocol's frames find the mutants sooner. */
const PEER_FILES = ["auth.h", "peers.h", "claims.h", "state.h"];
for (const [what, file, from, to] of mutants) {
  test(`found: ${what}`, () => {
    using scratch = new Namespaces("isat-t-bpf-mutant-");
    let isEdited = false;
    const folder = copySources(scratch.folder(), (text, name) => {
      if (name === file) isEdited = text.includes(from);
      return blur(name === file ? text.replace(from, to) : text, name);
    });
    assert.ok(isEdited, `bpf/${file} does not say: ${from}`);
    using bench = new Bench("isat-t-bpf-model-", build(folder));
    const difference = search(bench, seed, FRAMES, PEER_FILES.includes(file) ? 0.8 : 0.4, strayOf(IFINDEX));
    assert.ok(difference, "nothing differs");
  });
}

test.run();
