// One conversation as the page knows it: its log, cursors, name and who is typing. No network and no DOM.
// Made and changed by session.js, read by the ui modules.

import { isUserMessage, OthersCursors, Timeline } from "./timeline.js";

const WINDOW_OPEN = 200;
const WINDOW_CLOSED = 50;
const TYPING_SHOWN_MS = 5_000;

export class Conversation {
  constructor(id) {
    this.id = id;
    this.type = null;
    this.title = "";
    this.memberIds = null;
    this.memberCount = null;
    this.lastActivityTs = 0;
    this.mutedUntil = 0;
    this.deliveredSeq = 0;
    this.readSeq = 0;
    this.formerReadSeq = 0; // how far the user had read in the log before this one
    this.heldAtConnect = 0; // a log that is still whole does not end below it
    this.left = false;
    this.loaded = false;
    this.timeline = new Timeline("", 0);
    this.others = new OthersCursors();
    this.typing = new Map();
  }

  /** Take a row of HEADS; the first row starts the log near its end. */
  head(row, isOpen) {
    this.type = row.type;
    this.left = false;
    this.ofLog(row.epoch, row.headSeq, this.heldAtConnect);
    if (!this.loaded) this.timeline.rebase(windowFloor(row, isOpen), row.firstSeq);
    this.timeline.reach(row.headSeq);
    this.others.setLeast(row.othersDeliveredSeq, row.othersReadSeq);
    this.deliveredSeq = row.deliveredSeq;
    this.readSeq = Math.max(this.readSeq, row.readSeq);
  }

  /**
   * Make sure that what follows belongs to the log held, which has at least the entries up to `leastSeq`. If it is another
   * one, or was put back from a backup, the cursors go and what is shown is compared with it.
   */
  ofLog(epoch, headSeq, leastSeq = 0) {
    const { timeline } = this;
    if (timeline.epoch === epoch && headSeq >= leastSeq) return;
    this.formerReadSeq = this.readSeq;
    this.loaded = this.loaded && timeline.renew(epoch, headSeq);
    if (!this.loaded) timeline.reset(epoch, timeline.epoch === "" ? 0 : Math.max(0, headSeq - WINDOW_CLOSED));
    this.others = new OthersCursors();
    this.deliveredSeq = this.readSeq = this.heldAtConnect = 0;
  }

  /** How far the user has read in this log, as far as it was read in the one before; the server may not know it. */
  get readBefore() {
    return Math.min(this.formerReadSeq, this.timeline.commonSeq);
  }

  /** The last entry a person would recognise as the conversation's newest, or undefined. */
  get last() {
    return this.timeline.shown().findLast((entry) => entry.payload.type !== "RECALL");
  }

  get activityTs() {
    return Math.max(this.last?.serverTs ?? 0, this.lastActivityTs);
  }

  /** How many unread messages are loaded, and whether there may be more below what is loaded. */
  unread(me) {
    return { count: this.timeline.unread(this.readSeq, me), more: this.timeline.floor > this.readSeq };
  }

  /** How many entries of the past to load so that an opened conversation fills its pane; 0 if enough are there. */
  get tooShort() {
    const held = this.timeline.upTo - this.timeline.floor;
    return this.loaded && held < WINDOW_CLOSED * 2 ? WINDOW_OPEN - held : 0;
  }

  /** The name to show: the title, else who else is in it; a placeholder until that is known, the id until anything is. */
  name(me) {
    if (this.title) return this.title;
    const memberIds = this.memberIds ?? this.#initialMembers();
    if (memberIds === null) return this.type === null ? this.id : "…";
    const others = memberIds.filter((userId) => userId !== me);
    return others.length > 0 ? others.slice(0, 4).join(", ") : this.id;
  }

  typed(userId, nowMs) {
    this.typing.set(userId, nowMs + TYPING_SHOWN_MS);
  }

  typingUsers(nowMs) {
    return [...this.typing].filter(([, untilMs]) => untilMs > nowMs).map(([userId]) => userId);
  }

  /** What a newly pushed entry means beyond its place in the log. */
  noticed(entry) {
    this.typing.delete(entry.senderId);
    if (isUserMessage(entry)) return;
    if (entry.payload.op === "ADDED") {
      for (const userId of entry.payload.userIds) this.others.joined(userId, entry.seq);
    }
  }

  /** Who was there at the beginning, if that is loaded: between two people it never changes. */
  #initialMembers() {
    const first = this.type === "SINGLE" ? this.timeline.entries.get(1) : undefined;
    return first?.payload.op === "CREATED" ? [first.senderId, ...first.payload.userIds] : null;
  }
}

function windowFloor(row, isOpen) {
  const nearEnd = row.headSeq - (isOpen ? WINDOW_OPEN : WINDOW_CLOSED);
  return Math.max(0, Math.min(nearEnd, Math.max(row.deliveredSeq, row.headSeq - WINDOW_OPEN)));
}
