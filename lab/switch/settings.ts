/** The behaviours of the gateway switch, one setting each. */
export interface Settings {
  /** The port that goes into an ARP entry learnt from an answer, or from a request addressed to the switch. */
  portFromReply: PortSource;
  /** The port that goes into an entry learnt from gratuitous ARP. The incident never showed why that port was right. */
  portFromGratuitous: PortSource;
  /** The port by which the switch's own packets leave: that of the ARP entry, or that of the MAC in the FDB. */
  forwardBy: "entry" | "fdb";
  /** The fate of the switch's own packets to a MAC that the FDB has forgotten. Only with `forwardBy: "fdb"`. */
  unknownUnicast: "flood" | "drop";
  /** DAI `arp valid-check` src-mac: ARP whose Ethernet source is not its SHA is dropped. */
  sourceMacCheck: boolean;
  /** DAI dst-mac: an ARP reply whose THA is zero, all ones or not its Ethernet destination is dropped. */
  replyDestinationMacCheck: boolean;
  /** ARP packets that one port may receive in a second of real time; one more disables the port. */
  arpRateLimit: number;
  /** H3C `arp active-ack`: a new MAC must be confirmed, first by the silence of the old one. */
  activeAck: boolean;
  /** True if gratuitous ARP makes entries; it updates existing ones in any case. */
  gratuitousLearning: boolean;
  /** Seconds of the switch's own time. */
  fdbAgeing: number;
  /** Seconds of the switch's own time. */
  arpAgeing: number;
  /** Seconds of the switch that pass in one second of ours. */
  timeScale: number;
}

/** "ingress": the port on which the ARP packet came in. "fdb": the port that the FDB has for its SHA. */
export type PortSource = "ingress" | "fdb";

/** A switch on which nothing goes wrong. Like a host it keeps IP and MAC, and lets the FDB find the port. */
export const PLAIN: Settings = {
  portFromReply: "fdb",
  portFromGratuitous: "fdb",
  forwardBy: "fdb",
  unknownUnicast: "flood",
  sourceMacCheck: false,
  replyDestinationMacCheck: false,
  arpRateLimit: Number.POSITIVE_INFINITY,
  activeAck: false,
  gratuitousLearning: true,
  fdbAgeing: 300,
  arpAgeing: 1200,
  timeScale: 600,
};

/** The H3C switch of the incident. */
export const H3C: Settings = { ...PLAIN, portFromReply: "ingress", portFromGratuitous: "fdb", forwardBy: "entry" };

/** One row of the lab's table. */
export interface Behaviour {
  name: string;
  settings: Settings;
  /** An event that belongs to the row. */
  play?: "move a VIP" | "a quiet spell";
  /** isat's `garp` for the row, where the default does not fit. */
  garp?: string;
  /** True if OpenELB must fail here, by the incident or by the switch's own rule. */
  openelbMustFail: boolean;
}

/** The incident. */
export const OUTAGE: Behaviour = {
  name: "the outage: port from replies, forwards by entry",
  settings: H3C,
  openelbMustFail: true,
};

/** Every behaviour that is a row of the lab's table. */
export const BEHAVIOURS: readonly Behaviour[] = [
  { name: "plain: forwards by the FDB", settings: PLAIN, openelbMustFail: false },
  OUTAGE,
  {
    name: "port from gratuitous ARP, forwards by entry",
    settings: { ...PLAIN, portFromGratuitous: "ingress", forwardBy: "entry" },
    openelbMustFail: true,
  },
  { name: "source-MAC check", settings: { ...PLAIN, sourceMacCheck: true }, openelbMustFail: true },
  {
    name: "reply destination-MAC check",
    settings: { ...PLAIN, replyDestinationMacCheck: true },
    openelbMustFail: false,
  },
  {
    name: "ARP rate limit 15/s disables the port",
    settings: { ...PLAIN, arpRateLimit: 15 },
    garp: "{ profile: guarded }",
    openelbMustFail: false,
  },
  {
    name: "active-ack asks the old MAC first; a VIP moves",
    settings: { ...PLAIN, activeAck: true },
    play: "move a VIP",
    openelbMustFail: false,
  },
  {
    name: "FDB ages before ARP: black hole after a quiet spell",
    settings: { ...PLAIN, unknownUnicast: "drop" },
    play: "a quiet spell",
    openelbMustFail: false,
  },
  {
    name: "gratuitous learning off",
    settings: { ...PLAIN, gratuitousLearning: false },
    openelbMustFail: false,
  },
];
