// One conversation's log as this page holds it: dedup, order, gaps, pages, recalls, epoch, and how far others got.
// Pure: no clock, no randomness, no DOM, no network. Called by session.js; tested in tests/browser/units.

const USER_TYPES = new Set(["TEXT", "IMAGE", "VOICE", "FILE", "CUSTOM"]);
const RECALLED = Object.freeze({ type: "RECALLED" });

/** Most entries held above a hole, and most recalls remembered for entries not held; what is beyond comes again by SYNC. */
export const HELD_MAX = 1_000;

/** Entries that are compared with those of a log which came in place of this one. */
const COMPARED = 50;

/** Whether an entry is a person's message (or the place where one was), not something the server noted. */
export function isUserMessage(entry) {
  return entry.payload.type !== "MEMBER" && entry.payload.type !== "RECALL";
}

/**
 * The entries of one log between `floor` (exclusive) and `upTo` (inclusive), complete and in order.
 *
 * Entries above a hole are `held`, and not shown until the hole is closed by a push or a page; entries below the
 * floor come in through `older` pages and are shown once they reach it.
 */
export class Timeline {
  /**
   * @param {string} epoch identity of the log; "" while unknown
   * @param {number} floor everything up to here is not loaded
   * @param {number} firstSeq the first entry this user may see; nothing is loaded below it
   */
  constructor(epoch, floor, firstSeq = 1) {
    this.epoch = epoch;
    this.firstSeq = Math.max(1, firstSeq);
    this.floor = Math.max(this.firstSeq - 1, floor);
    this.upTo = this.floor;
    this.headSeq = this.floor;
    this.olderUpTo = this.olderFrom = null;
    this.entries = new Map();
    this.held = new Map();
    this.recalls = new Set();
    this.former = null; // newest entries of the log before, while it is not known whether this one has them too
    this.commonSeq = 0; // of the last entry that both are known to have
    this.sorted = new Map();
  }

  /** Forget everything: another epoch means another log. */
  reset(epoch, floor = 0, firstSeq = 1) {
    Object.assign(this, new Timeline(epoch, floor, firstSeq));
  }

  /**
   * It is another log now, or an older state of the same. Entries keep their ids, and no id is given twice, so the next
   * page says what both have: what is held stays shown until then, and nothing of it is shown again. Returns false, and
   * changes nothing, if there is nothing to compare.
   */
  renew(epoch, headSeq) {
    const upTo = Math.max(this.floor, Math.min(this.upTo, headSeq) - COMPARED);
    const newest = [...this.entries].filter(([seq]) => seq > upTo);
    if (this.former !== null || newest.length === 0 || headSeq <= upTo) return false;
    for (const [seq] of newest) this.entries.delete(seq);
    Object.assign(this, { epoch, upTo, headSeq, former: new Map(newest), commonSeq: 0, olderUpTo: null, olderFrom: null });
    this.held.clear();
    this.recalls.clear();
    this.sorted.clear();
    return true;
  }

  /** Begin nearer to the end, unless what is held reaches further already. */
  rebase(floor, firstSeq) {
    this.firstSeq = Math.max(1, firstSeq);
    if (Math.max(this.firstSeq - 1, floor) <= this.upTo) return;
    this.floor = this.upTo = Math.max(this.firstSeq - 1, floor);
    this.#placeUpTo(this.upTo);
    this.#advance();
  }

  /** Note that the log reaches at least `seq`. Heads only rise. */
  reach(seq) {
    this.headSeq = Math.max(this.headSeq, seq);
  }

  /**
   * Take one pushed entry. Returns whether it was new and kept; a repeated or already covered one changes nothing.
   *
   * With HELD_MAX entries above the hole it is dropped, and its seq only remembered as head, so that a SYNC brings it; a
   * recall that it carries counts all the same.
   */
  accept(entry) {
    this.reach(entry.seq);
    if (entry.seq <= this.upTo || this.held.has(entry.seq)) return false;
    this.#noteRecall(entry);
    if (entry.seq !== this.upTo + 1 && this.held.size >= HELD_MAX) return false;
    this.held.set(entry.seq, this.#withoutRecalled(entry));
    this.#advance();
    return true;
  }

  /**
   * Take a page that covers (lastSeq, page.upToSeq]. What it does not list is not visible to this user.
   *
   * A page of the past (below the floor) is kept aside until it reaches the floor.
   */
  page(lastSeq, page) {
    this.reach(page.headSeq);
    if (lastSeq < this.floor) return this.#older(lastSeq, page);
    if (lastSeq > this.upTo) return;
    if (this.former !== null && lastSeq !== this.upTo) return;
    if (this.former !== null) this.#compare(page.messages);
    for (const entry of page.messages) {
      if (entry.seq <= this.upTo || entry.seq > page.upToSeq) continue;
      this.#noteRecall(entry);
      this.held.set(entry.seq, this.#withoutRecalled(entry));
    }
    this.#placeUpTo(page.upToSeq);
    this.upTo = Math.max(this.upTo, page.upToSeq);
    this.#advance();
  }

  /** Forget all but the newest `most` entries shown; the others are a past to be loaded again. */
  trim(most) {
    const shown = this.shown();
    if (shown.length <= most) return;
    this.floor = shown[shown.length - most - 1].seq;
    this.olderUpTo = this.olderFrom = null;
    for (const seq of [...this.entries.keys()]) {
      if (seq <= this.floor) this.entries.delete(seq);
    }
    this.sorted.clear();
  }

  /** The lastSeq to SYNC from, or null when nothing is missing. */
  missingAfter() {
    return this.upTo < this.headSeq ? this.upTo : null;
  }

  /** Whether there is a past that is not loaded. */
  get hasOlder() {
    return this.floor > this.firstSeq - 1;
  }

  /** Where to SYNC from for `count` more entries of the past, going on where a short page ended; null if none. */
  olderAfter(count) {
    if (!this.hasOlder) return null;
    if (this.olderUpTo === null) this.olderUpTo = Math.max(this.firstSeq - 1, this.floor - count);
    this.olderFrom ??= this.olderUpTo;
    return this.olderUpTo;
  }

  /** All entries that may be shown, ascending; recalls are applied. `own` adds that user's entries above a hole. */
  shown(own = null) {
    if (!this.sorted.has(own)) this.sorted.set(own, this.#sort(own));
    return this.sorted.get(own);
  }

  /** How many people's messages of others lie after `readSeq`, as far as loaded. */
  unread(readSeq, userId) {
    let count = 0;
    for (const [seq, entry] of this.entries) {
      const counts = seq > readSeq && seq > this.floor && entry.senderId !== userId;
      if (counts && USER_TYPES.has(entry.payload.type)) count += 1;
    }
    return count;
  }

  #sort(own) {
    const placed = [...this.entries.values()].filter((entry) => entry.seq > this.floor);
    const ownAbove = [...this.held.values()].filter((entry) => entry.senderId === own);
    const above = this.former === null ? ownAbove : [...this.former.values()];
    return [...placed, ...above].sort((a, b) => a.seq - b.seq);
  }

  /** The logs are the same up to the last id that both have; where the first entry differs, nothing below is known. */
  #compare(messages) {
    const both = messages.filter(({ seq }) => this.former.has(seq));
    const differing = both.findIndex(({ seq, messageId }) => this.former.get(seq).messageId !== messageId);
    const common = differing < 0 ? both : both.slice(0, differing);
    this.commonSeq = common.at(-1)?.seq ?? 0;
    this.former = null;
    if (common.length > 0) return;
    this.entries.clear();
    this.floor = this.upTo;
    this.olderUpTo = this.olderFrom = null;
  }

  #older(lastSeq, page) {
    if (lastSeq !== this.olderUpTo) return;
    for (const entry of page.messages) {
      if (entry.seq <= this.floor) this.#place(this.#withoutRecalled(entry));
    }
    this.olderUpTo = Math.max(this.olderUpTo, page.upToSeq);
    if (this.olderUpTo < this.floor && page.upToSeq > lastSeq) return;
    this.floor = this.olderFrom;
    this.olderUpTo = this.olderFrom = null;
    this.sorted.clear();
  }

  #withoutRecalled(entry) {
    return this.recalls.has(entry.seq) ? { ...entry, payload: RECALLED } : entry;
  }

  /** Empty the entry that a RECALL names, and remember it for one that comes later; the oldest memory makes room. */
  #noteRecall(entry) {
    const target = recallTarget(entry);
    if (target === null) return;
    this.#empty(target);
    this.recalls.add(target);
    if (this.recalls.size > HELD_MAX) this.recalls.delete(this.recalls.values().next().value);
  }

  #empty(seq) {
    for (const kept of [this.entries, this.held]) {
      const entry = kept.get(seq);
      if (entry) kept.set(seq, { ...entry, payload: RECALLED });
    }
  }

  /** Give an entry its place. A RECALL whose target was forgotten for want of room finds it held by now. */
  #place(entry) {
    this.entries.set(entry.seq, entry);
    const target = recallTarget(entry);
    if (target !== null) this.#empty(target);
  }

  /** Place what is held up to `seq`, which has no hole any more. */
  #placeUpTo(upTo) {
    for (const [seq, entry] of this.held) {
      if (seq > upTo) continue;
      this.held.delete(seq);
      if (seq > this.floor) this.#place(entry);
    }
  }

  #advance() {
    this.sorted.clear();
    if (this.former !== null) return; // nothing is placed before the logs were compared
    for (let next = this.held.get(this.upTo + 1); next; next = this.held.get(this.upTo + 1)) {
      this.upTo = next.seq;
      this.held.delete(next.seq);
      this.#place(next);
    }
  }
}

/** The seq that a RECALL entry withdraws; null for any other entry, and for one that names no earlier seq. */
function recallTarget(entry) {
  const { type, seq } = entry.payload;
  return type === "RECALL" && Number.isSafeInteger(seq) && seq > 0 && seq < entry.seq ? seq : null;
}

/**
 * How far the other members got, so that one's own messages can show ticks. Every value only rises.
 *
 * `least` comes from HEADS; single members' cursors from RECEIPT and GET receipts once `setMembers` was called.
 */
export class OthersCursors {
  constructor() {
    this.delivered = 0;
    this.read = 0;
    this.members = null;
  }

  /** The server's own sum over the others. */
  setLeast(deliveredSeq, readSeq) {
    this.delivered = Math.max(this.delivered, deliveredSeq, readSeq);
    this.read = Math.max(this.read, readSeq);
  }

  /** Every other member's cursors: `[{userId, deliveredSeq, readSeq}]`; who is not listed has left. */
  setMembers(rows) {
    const known = this.members ?? new Map();
    this.members = new Map(rows.map((row) => [row.userId, merged(known.get(row.userId), row.deliveredSeq, row.readSeq)]));
    this.#sum();
  }

  /** A member was added by the entry at `seq`: what lies before was never for him. */
  joined(userId, seq) {
    this.members?.set(userId, merged(this.members.get(userId), seq - 1, seq - 1));
  }

  /** One member got further. Without the list of members it counts only when `single` says he is the only one. */
  advance(userId, deliveredSeq, readSeq, single) {
    if (this.members === null) {
      if (single) this.setLeast(deliveredSeq, readSeq);
      return;
    }
    this.members.set(userId, merged(this.members.get(userId), deliveredSeq, readSeq));
    this.#sum();
  }

  /** A large group's counts for one seq. */
  counts(seq, deliveredCount, readCount, memberCount) {
    this.setLeast(deliveredCount >= memberCount ? seq : 0, readCount >= memberCount ? seq : 0);
  }

  /** SENT, DELIVERED or READ for one's own entry at `seq`. */
  state(seq) {
    if (this.read >= seq) return "READ";
    return this.delivered >= seq ? "DELIVERED" : "SENT";
  }

  #sum() {
    const rows = [...this.members.values()];
    if (rows.length === 0) return;
    const least = (pick) => rows.reduce((lowest, row) => Math.min(lowest, pick(row)), Infinity);
    this.setLeast(least((row) => row.delivered), least((row) => row.read));
  }
}

function merged(row, deliveredSeq, readSeq) {
  const read = Math.max(row?.read ?? 0, readSeq);
  return { delivered: Math.max(row?.delivered ?? 0, deliveredSeq, read), read };
}
