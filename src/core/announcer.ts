import { type Address, addressBytes, isIPv4 } from "./address.ts";
import { announcement, FORMS, type Form } from "./arp.ts";
import { unsolicited } from "./ndp.ts";
import { type Entry, isOwned, type Step } from "./step.ts";
import { later, MS, type Ns, toMs, toNs } from "./time.ts";
import { type Pace, Timetable } from "./timetable.ts";
import { Usurpers } from "./usurpers.ts";

/** The least time between two announcements' wakes; where only refreshes wait, each wake costs more than the frames. */
const REST: Ns = 10n * MS;
const GATHER: Ns = 500n * MS;
/** Announcements that have been refused for so long are worth a line in the log, ms. */
const REFUSED = 3_000;

/** The frames that announce a VIP. Neighbour Discovery has one form only. */
export const framesOf = (mac: Uint8Array, address: Address, form: Form): Uint8Array[] =>
  isIPv4(address)
    ? FORMS[form].map((op) => announcement(mac, addressBytes(address), op))
    : [unsolicited(mac, addressBytes(address))];

/** The announcements of one segment: its timetable, which is told of what becomes of each VIP. */
export class Announcer {
  private readonly timetable: Timetable;
  private pace: Pace;
  readonly usurpers = new Usurpers();

  constructor(pace: Pace, now: Ns, random: () => number) {
    this.pace = pace;
    this.timetable = new Timetable(pace, toMs(now), random);
  }

  configure(pace: Pace, now: Ns): void {
    const before = this.pace;
    this.pace = pace;
    if (before.rate !== pace.rate || before.refresh !== pace.refresh) this.timetable.setPace(pace, toMs(now));
  }

  /** Announces all that is owned. @param isKnown others know it already: only refreshes are needed */
  begin(entries: ReadonlyMap<Address, Entry>, isKnown: boolean, now: Ns): void {
    for (const [address, entry] of entries) {
      if (isOwned(entry)) this.timetable[isKnown ? "keep" : "gain"](address, toMs(now));
    }
  }

  /**
   * Takes in which VIPs the step gained and lost, and which disputes it ended: others may have been told meanwhile that a
   * VIP that is owned here is elsewhere.
   */
  follow({ gained, lost, disputed, isPeerBack, entries, now }: Step): void {
    for (const address of lost) this.timetable.lose(address);
    if (isPeerBack) this.timetable.refreshAll(toMs(now));
    for (const address of gained) this.timetable.gain(address, toMs(now));
    for (const address of disputed) if (isOwned(entries.get(address))) this.timetable.gain(address, toMs(now));
  }

  /** Makes up for announcements that something refused, until one leaves. @param name the interface's */
  refused(addresses: readonly Address[], name: string, step: Step): void {
    const longest = Math.max(...addresses.map((address) => this.timetable.refuse(address, toMs(step.now))));
    if (longest < REFUSED) return;
    step.notice(
      "error",
      `announcements are refused on ${name}, so that hosts and switches may go on sending elsewhere: an egress filter drops them, a queue is full, or no port of a bond is up. They are repeated until they leave`,
    );
  }

  /**
   * A machine that is no peer announces a VIP that is owned here, or says that it has it: whoever believed it is told
   * again. The timetable bounds how often, as RFC 5227, section 2.4, has it.
   */
  defend({ address, mac }: { address: Address; mac: Uint8Array }, { entries, now }: Step): void {
    if (!isOwned(entries.get(address))) return;
    this.usurpers.hear(address, mac, now);
    this.timetable.gain(address, toMs(now));
  }

  /** Announces what is due. */
  run(step: Step): void {
    const now = toMs(step.now);
    const { timetable } = this;
    for (let address = timetable.next(now); address !== undefined; address = timetable.next(now)) {
      step.announce.push(address);
    }
    const due = timetable.wake(now);
    if (due === undefined) return;
    step.wake(later(toNs(due), step.now + (timetable.canWait(now) ? GATHER : REST)));
  }
}
