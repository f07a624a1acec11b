// One conversation's log as this client holds it: dedup, order, gaps, pages, recalls, epoch. Pure: no clock, no randomness, no
// DOM, no network. The rules are those of core/timeline.py, for a window of the log: spec/timeline.json holds both to them.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Page} Page */

import { marked, messageOf, namedSeq } from "./marks.js";
import { Renewal } from "./renewal.js";

const NO_MESSAGES = new Set(["MEMBER", "RECALL", "EDIT", "REACTION", "PINNED", "TITLE"]);
const SAYS_OF_OTHERS = new Set(["RECALL", "EDIT", "REACTION", "PINNED"]);
const EVERYBODY = "*";

/** Most entries held above a hole, and most recalls remembered for entries not held; what is beyond comes again by SYNC. */
export const HELD_MAX = 1_000;

/** Entries of a log that has nothing in common with the one before, to begin with. */
const WINDOW = 50;

/** Whether an entry, or what is pending, is a person's message (or the place where one was), not something that is noted beside them.
 * @param {{payload: import("./types.js").Payload}} entry */
export function isUserMessage(entry) {
  return !NO_MESSAGES.has(entry.payload.type);
}

/**
 * The entries of one log between `floor` (exclusive) and `upTo` (inclusive), complete and in order.
 *
 * Entries above a hole are `held`, and not shown until the hole is closed by a push or a page; entries below the
 * floor come in through `older` pages and are shown once they reach it.
 */
export class Timeline {
  /** @type {Set<number>} placed or emptied since `takeChanges` */
  #changed = new Set();
  /** @type {number | null} what was above it went, since `takeChanges` */
  #forgetAbove = null;
  /** The store has what is shown above it, or is told by `#changed`; of what is below it may have nothing. */
  #keptFloor = Infinity;
  /** @type {WeakMap<Message[], Message[]>} what is to read of what is shown */
  #reads = new WeakMap();
  /** @type {Message[]} got their place at the end since `takePlaced` */
  #placed = [];

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
    /** @type {number | null} */
    this.olderUpTo = null;
    /** @type {number | null} */
    this.olderFrom = null;
    /** @type {Map<number, Message>} */
    this.entries = new Map();
    /** @type {Map<number, Message>} */
    this.held = new Map();
    /** @type {Set<number>} */
    this.recalls = new Set();
    /** @type {Renewal | null} what is held is of the log before, while it is not known how much of it this one has */
    this.renewal = null;
    this.commonSeq = 0; // up to here this log and the one before are the same
    /** @type {Map<string | null, Message[]>} */
    this.sorted = new Map();
  }

  /** Forget everything: another epoch means another log. @param {string} epoch */
  reset(epoch, floor = 0, firstSeq = 1) {
    Object.assign(this, new Timeline(epoch, floor, firstSeq));
    this.changeAll();
    this.#placed = [];
  }

  /**
   * Go on with what a store kept.
   *
   * @param {{epoch: string, floor: number, upTo: number, headSeq: number, firstSeq: number}} record
   * @param {Message[]} messages
   */
  restore({ epoch, floor, upTo, headSeq, firstSeq }, messages) {
    Object.assign(this, new Timeline(epoch, floor, firstSeq));
    for (const entry of messages) if (entry.seq > this.floor && entry.seq <= upTo) this.entries.set(entry.seq, entry);
    this.upTo = Math.max(this.floor, upTo);
    this.headSeq = Math.max(this.upTo, headSeq);
    this.#keptFloor = this.floor;
  }

  /** What a store of the newest `most` entries is to be told, once: above which seq all that it had goes, what comes, and the floor above
   * which it has all of them then. @param {number} most */
  takeChanges(most) {
    const shown = this.shown();
    const floor = shown.at(-most - 1)?.seq ?? this.floor;
    const put = shown.slice(-most).filter(({ seq }) => seq <= this.#keptFloor || this.#changed.has(seq));
    const taken = { floor, put, forgetAbove: this.#forgetAbove };
    this.#changed.clear();
    this.#keptFloor = floor;
    this.#forgetAbove = null;
    return taken;
  }

  /** The store has nothing, or not what was taken for it: all is to be told again. */
  changeAll() {
    this.#changed.clear();
    this.#keptFloor = Infinity;
    this.#forgetAbove = 0;
  }

  /** The entries that got their place at the end since the last call, ascending; as they read now. */
  takePlaced() {
    const placed = this.#placed;
    this.#placed = [];
    return placed.sort((a, b) => a.seq - b.seq).map((entry) => this.entries.get(entry.seq) ?? entry);
  }

  /**
   * It is another log now, or an older state of the same. Entries keep their ids, and no id is given twice, so the next pages
   * say what both have: what is held stays shown until then, and nothing of it is shown again. Returns false, and changes
   * nothing, if there is nothing to compare.
   *
   * @param {string} epoch
   * @param {number} headSeq
   * @param {number} [deliveredSeq] what this device has confirmed of it
   */
  renew(epoch, headSeq, deliveredSeq = 0) {
    const upTo = Math.min(this.upTo, headSeq);
    if (upTo <= this.floor || this.entries.size === 0) return false;
    this.renewal = new Renewal(upTo, this.floor, deliveredSeq);
    Object.assign(this, { epoch, headSeq, commonSeq: 0, olderUpTo: null, olderFrom: null });
    this.held.clear();
    this.recalls.clear();
    this.#placed = [];
    return true;
  }

  /** Begin nearer to the end, unless what is held reaches further already. @param {number} floor @param {number} firstSeq */
  rebase(floor, firstSeq) {
    this.firstSeq = Math.max(1, firstSeq);
    if (Math.max(this.firstSeq - 1, floor) <= this.upTo) return;
    this.floor = this.upTo = Math.max(this.firstSeq - 1, floor);
    this.#placeUpTo(this.upTo);
    this.#advance();
  }

  /** Entries up to here are there for nobody any more. @param {number} seq */
  expire(seq) {
    if (seq < this.firstSeq) return;
    this.firstSeq = seq + 1;
    this.floor = Math.max(this.floor, seq);
    this.upTo = Math.max(this.upTo, seq);
    for (const kept of [this.entries, this.held]) for (const old of kept.keys()) if (old <= seq) kept.delete(old);
    this.#advance();
  }

  /** Note that the log reaches at least `seq`. Heads only rise. @param {number} seq */
  reach(seq) {
    this.headSeq = Math.max(this.headSeq, seq);
  }

  /**
   * Take one pushed entry. Returns whether it was new and kept; a repeated or already covered one changes nothing.
   *
   * With HELD_MAX entries above the hole it is dropped, and its seq only remembered as head, so that a SYNC brings it; a
   * recall that it carries counts all the same.
   *
   * @param {Message} entry
   */
  accept(entry) {
    this.reach(entry.seq);
    if (this.renewal !== null) return false; // its page brings it, once it is known what this log has
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
   *
   * @param {number} lastSeq
   * @param {Page} page
   */
  page(lastSeq, page) {
    this.reach(page.headSeq);
    if (this.renewal !== null && !this.#compare(this.renewal, lastSeq, page)) return;
    if (lastSeq < this.floor) return this.#older(lastSeq, page);
    if (lastSeq > this.upTo) return;
    for (const entry of page.messages) {
      if (entry.seq <= this.upTo || entry.seq > page.upToSeq) continue;
      this.#noteRecall(entry);
      this.held.set(entry.seq, this.#withoutRecalled(messageOf(entry, page.headSeq)));
    }
    this.#placeUpTo(page.upToSeq);
    this.upTo = Math.max(this.upTo, page.upToSeq);
    this.#advance();
  }

  /** Forget all but the newest `most` entries shown; the others are a past to be loaded again. @param {number} most */
  trim(most) {
    const last = this.shown().at(-most - 1);
    if (last === undefined) return;
    this.floor = last.seq;
    this.olderUpTo = this.olderFrom = null;
    for (const seq of [...this.entries.keys()]) {
      if (seq <= this.floor) this.entries.delete(seq);
    }
    this.sorted.clear();
  }

  /** The lastSeq to SYNC from, or null when nothing is missing. */
  missingAfter() {
    return this.renewal !== null || this.upTo < this.headSeq ? this.syncAfter : null;
  }

  /** Where the next page begins, not included: of what is missing, or of a new log to compare with. */
  get syncAfter() {
    return this.renewal === null ? this.upTo : this.renewal.lastSeq;
  }

  /** Whether there is a past that is not loaded. */
  get hasOlder() {
    return this.floor > this.firstSeq - 1;
  }

  /** Where to SYNC from for `count` more entries of the past, going on where a short page ended; null if none. @param {number} count */
  olderAfter(count) {
    if (!this.hasOlder) return null;
    if (this.olderUpTo === null) this.olderUpTo = Math.max(this.firstSeq - 1, this.floor - count);
    this.olderFrom ??= this.olderUpTo;
    return this.olderUpTo;
  }

  /** All entries that may be shown, ascending; recalls are applied. `own` adds that user's entries above a hole.
   * @param {string | null} [own] */
  shown(own = null) {
    const known = this.sorted.get(own) ?? this.#sort(own);
    this.sorted.set(own, known);
    return known;
  }

  /** What there is to read, ascending: messages as they read now, and members that come and go. @param {string | null} [own] */
  readable(own = null) {
    const shown = this.shown(own);
    const known = this.#reads.get(shown) ?? readableOf(shown);
    this.#reads.set(shown, known);
    return known;
  }

  /** What there is to read of entries of this log, held or not, likewise. @param {Message[]} entries */
  readableAmong(entries) {
    return readableOf(entries.map((entry) => this.#withoutRecalled(entry)), this.shown());
  }

  /** How many people's messages of others lie after `readSeq`, as far as loaded. @param {number} readSeq @param {string} userId */
  unread(readSeq, userId) {
    let count = 0;
    for (const [seq, entry] of this.entries) {
      const counts = seq > readSeq && seq > this.floor && entry.senderId !== userId;
      if (counts && isUserMessage(entry) && entry.payload.type !== "RECALLED") count += 1;
    }
    return count;
  }

  /** How many entries of others after `readSeq` mention this user, as far as loaded: messages, and edits that add them.
   * @param {number} readSeq @param {string} userId */
  mentions(readSeq, userId) {
    let count = 0;
    const known = new Set(); // messages that mention the user up to here
    for (const entry of this.shown()) {
      const { seq, senderId, payload } = entry;
      const isEdit = payload.type === "EDIT";
      const message = isEdit ? namedSeq(entry) : seq;
      const mayMention = isEdit || isUserMessage(entry);
      if (!mayMention || message === null || known.has(message) || !isMentioned(isEdit ? payload.payload : payload, userId)) continue;
      known.add(message);
      if (seq > readSeq && senderId !== userId) count += 1;
    }
    return count;
  }

  /** @param {string | null} own */
  #sort(own) {
    const placed = [...this.entries.values()].filter((entry) => entry.seq > this.floor);
    const ownAbove = [...this.held.values()].filter((entry) => entry.senderId === own);
    return [...placed, ...ownAbove].sort((a, b) => a.seq - b.seq);
  }

  /** Compare a page of the new log. Returns whether it is known now how far both are the same; then this log is gone on with.
   * @param {Renewal} renewal @param {number} lastSeq @param {Page} page */
  #compare(renewal, lastSeq, page) {
    const isOver = renewal.compare(lastSeq, page.upToSeq, idsOf([...this.entries.values()]), idsOf(page.messages));
    if (isOver) this.#renewed(renewal.keptSeq);
    return isOver;
  }

  /** Nothing of the log before counts above `keptSeq`. @param {number} keptSeq */
  #renewed(keptSeq) {
    this.renewal = null;
    this.sorted.clear();
    const hasCommon = keptSeq > this.floor;
    this.commonSeq = hasCommon ? keptSeq : 0;
    this.#forgetAbove = Math.min(this.commonSeq, this.#forgetAbove ?? keptSeq);
    this.upTo = hasCommon ? keptSeq : Math.max(this.firstSeq - 1, this.headSeq - WINDOW);
    if (!hasCommon) this.floor = this.upTo;
    for (const seq of [...this.entries.keys()]) if (seq > this.commonSeq) this.entries.delete(seq);
  }

  /** @param {number} lastSeq @param {Page} page */
  #older(lastSeq, page) {
    if (lastSeq !== this.olderUpTo) return;
    for (const entry of page.messages) {
      if (entry.seq <= this.floor) this.#place(this.#withoutRecalled(messageOf(entry, page.headSeq)));
    }
    this.olderUpTo = Math.max(this.olderUpTo, page.upToSeq);
    if (this.olderUpTo < this.floor && page.upToSeq > lastSeq) return;
    this.floor = this.olderFrom ?? this.floor;
    this.olderUpTo = this.olderFrom = null;
    this.sorted.clear();
  }

  /** @param {Message} entry @returns {Message} */
  #withoutRecalled(entry) {
    return this.recalls.has(entry.seq) ? tombstone(entry) : entry;
  }

  /** Empty the entries that a RECALL names, and remember them for what comes later; the oldest memory makes room.
   * @param {Message} entry */
  #noteRecall(entry) {
    for (const seq of recalledSeqs(entry)) {
      this.#empty(seq);
      this.recalls.add(seq);
      const [oldest] = this.recalls;
      if (this.recalls.size > HELD_MAX && oldest !== undefined) this.recalls.delete(oldest);
    }
  }

  /** @param {number} seq */
  #empty(seq) {
    for (const kept of [this.entries, this.held]) {
      const entry = kept.get(seq);
      if (entry) kept.set(seq, tombstone(entry));
      if (entry && kept === this.entries) this.#changed.add(seq);
    }
  }

  /** Give an entry its place. A RECALL whose target was forgotten for want of room finds it held by now.
   * @param {Message} entry */
  #place(entry) {
    this.entries.set(entry.seq, entry);
    this.#changed.add(entry.seq);
    for (const seq of recalledSeqs(entry)) this.#empty(seq);
  }

  /** Place what is held up to `seq`, which has no hole any more. @param {number} upTo */
  #placeUpTo(upTo) {
    for (const [seq, entry] of this.held) {
      if (seq > upTo) continue;
      this.held.delete(seq);
      if (seq <= this.floor) continue;
      this.#place(entry);
      this.#placed.push(entry);
    }
  }

  #advance() {
    this.sorted.clear();
    if (this.renewal !== null) return; // nothing is placed before the logs were compared
    for (let next = this.held.get(this.upTo + 1); next; next = this.held.get(this.upTo + 1)) {
      this.upTo = next.seq;
      this.held.delete(next.seq);
      this.#place(next);
      this.#placed.push(next);
    }
  }
}

/** @param {any} payload @param {string} userId */
function isMentioned(payload, userId) {
  const named = payload?.mentions;
  return Array.isArray(named) && (named.includes(userId) || named.includes(EVERYBODY));
}

/** The seq that a RECALL entry withdraws; null for any other entry, and for one that names no earlier seq.
 * @param {Message} entry @returns {number | null} */
export function recallTarget(entry) {
  const { type, seq } = entry.payload;
  return type === "RECALL" && Number.isSafeInteger(seq) && seq > 0 && seq < entry.seq ? seq : null;
}

/** What a RECALL entry withdraws: its target, and the edits of that; nothing for any other entry. @param {Message} entry */
function recalledSeqs(entry) {
  const target = recallTarget(entry);
  if (target === null) return [];
  const { edits } = entry.payload;
  const named = Array.isArray(edits) ? edits : [];
  return [target, ...named.filter((seq) => Number.isSafeInteger(seq) && target < seq && seq < entry.seq)];
}

/** The entry as it reads once it is recalled; nothing of its body is left, in whatever form it was carried.
 * @param {Message} entry @returns {Message} */
function tombstone({ conversationId, epoch, messageId, seq, senderId, serverTs, clientMsgId }) {
  const payload = { type: "RECALLED" };
  return { conversationId, epoch, messageId, seq, senderId, serverTs, payload, ...(clientMsgId !== undefined && { clientMsgId }) };
}

/** Without the entries that only say something of others, and without what is left of recalled edits.
 * @param {Message[]} entries @param {Message[]} [others] say something of them too */
function readableOf(entries, others = []) {
  const saying = [...entries, ...others];
  const emptied = new Set(saying.flatMap((entry) => recalledSeqs(entry).slice(1)));
  const messages = entries.filter(({ seq, payload }) => !SAYS_OF_OTHERS.has(payload.type) && !emptied.has(seq));
  return marked(messages, saying);
}

/** @param {Message[]} entries @returns {Map<number, string>} */
function idsOf(entries) {
  return new Map(entries.map(({ seq, messageId }) => [seq, messageId]));
}
