// One conversation as the client knows it: its log, cursors, name and who is typing. No network and no DOM. Made and changed
// by session.js; apps read it.

/** @typedef {import("./types.js").Message} Message */

import { marked, messageOf } from "./marks.js";
import { OthersCursors } from "./receipts.js";
import { isUserMessage, Timeline } from "./timeline.js";

const WINDOW_FIRST = 200;
const WINDOW = 50;
const TYPING_SHOWN_MS = 5_000;
const STORED_MAX = 200; // entries that a store keeps
const UNREAD_MAX = 999;

/** What the server said of the log up to `headSeq`: by it a list shows what is not held here.
 * @typedef {{epoch: string, headSeq: number, readSeq: number, unread: number, unreadMentions: number,
 *   lastMessage: Message | null}} Preview */

/** What an app reads of it changes while the client runs; the client's event `change` says when to look again. */
export class Conversation {
  /** @type {string | null} SINGLE or GROUP; null until the server has said */
  type = null;
  title = "";
  /** What a group is for; "" if nobody said. */
  description = "";
  /** @type {string[] | null} the first 200 by id; null until known, and for a moment after it changed */
  memberIds = null;
  /** @type {number | null} */
  memberCount = null;
  /** @type {import("./api.js").Member["role"] | null} the user's own role in a group; null until known, and where there are no roles,
   * between two */
  role = null;
  lastActivityTs = 0;
  /** @type {number} no notifications before this time, in Unix milliseconds; 0: not muted */
  mutedUntil = 0;
  /** @type {"ALL" | "MENTIONS" | "NONE"} what of it notifies the user until then */
  notify = "ALL";
  /** @type {Preview | null} null where that is not known, or is no longer so */
  preview = null;
  /** Whether the user is a member no longer. */
  left = false;
  /** Whether the newest messages are here. */
  loaded = false;
  /** How far the server knows that this device has it. */
  deliveredSeq = 0;
  /** How far the local store has it. */
  storedUpTo = 0;
  readSeq = 0;
  /** How far the user wants it to be read, where the server does not know yet. */
  wantedReadSeq = 0;
  formerReadSeq = 0; // how far the user had read in the log before this one
  heldAtConnect = 0; // a log that is still whole does not end below it
  isReplaced = false; // the log is another one, and the app does not know yet
  toldSeq = 0; // the app knows of what is up to here
  timeline = new Timeline("", 0);
  others = new OthersCursors();
  /** @type {Map<string, number>} until when, by user */
  typing = new Map();
  /** @type {Set<number>} entries that the app knows as sent by itself */
  sentSeqs = new Set();
  /** @type {Set<number>} entries that came as they were written, and have no place yet */
  pushedSeqs = new Set();

  /** @param {string} id @param {{me: string, shown: (messages: Message[]) => Message[]}} owner whose user it is shown to, and what is
   *   known of streams that are open */
  constructor(id, owner) {
    this.id = id;
    this.owner = owner;
  }

  // --- for apps ---

  /** Messages as they read now, and member changes, that are here, ascending; one's own above a hole among them. @returns {Message[]} */
  get messages() {
    return this.owner.shown(this.timeline.readable(this.owner.me));
  }

  /** The newest message as it reads now; undefined where none is known. @returns {Message | undefined} */
  get lastMessage() {
    const held = this.timeline.readable().findLast(isUserMessage);
    const said = this.#valid?.lastMessage;
    const newest = !said || (held && held.seq >= said.seq) ? held : marked([said], this.timeline.shown())[0];
    return newest && this.owner.shown([newest])[0];
  }

  /** When something last happened, in Unix milliseconds; 0 if nothing is known. */
  get activityTs() {
    const newest = this.timeline.readable().at(-1); // a change of members, or of the title, is activity too
    return Math.max(newest?.serverTs ?? 0, this.lastMessage?.serverTs ?? 0, this.lastActivityTs);
  }

  /** How many messages of others are unread, at most 999, as far as is known here; `more` says that there may be others. */
  get unread() {
    return this.#unread("unread", (afterSeq) => this.timeline.unread(afterSeq, this.owner.me));
  }

  /** How many of these, and of later edits, mention the user or everybody; likewise. */
  get unreadMentions() {
    return this.#unread("unreadMentions", (afterSeq) => this.timeline.mentions(afterSeq, this.owner.me)).count;
  }

  /** @param {"unread" | "unreadMentions"} field of the preview @param {(afterSeq: number) => number} held counts what is held */
  #unread(field, held) {
    const { timeline } = this;
    const readSeq = Math.max(this.readSeq, this.wantedReadSeq);
    const preview = this.#valid;
    const isHeld = timeline.floor <= readSeq && (!preview || timeline.upTo >= preview.headSeq);
    if (isHeld || !preview || preview.headSeq <= readSeq) return counted(held(readSeq), timeline.floor > readSeq);
    const before = Math.min(preview[field], preview.headSeq - readSeq); // some of it may have been read since
    const isExact = preview.readSeq >= readSeq && preview[field] < UNREAD_MAX && timeline.floor <= preview.headSeq;
    return counted(before + held(preview.headSeq), !isExact);
  }

  /** The preview, as far as it is of the log held here. */
  get #valid() {
    return this.preview?.epoch === this.timeline.epoch ? this.preview : null;
  }

  /** Whether there is a past that is not here yet; `client.history` brings it. */
  get hasOlder() {
    return this.timeline.hasOlder;
  }

  /** The name to show: a group's title, else who else is in it; a placeholder until that is known, the id until anything is. */
  get name() {
    if (this.title && this.type !== "SINGLE") return this.title;
    const memberIds = this.memberIds ?? this.#initialMembers();
    if (memberIds === null) return this.type === null ? this.id : "…";
    const others = memberIds.filter((userId) => userId !== this.owner.me);
    return others.length > 0 ? others.slice(0, 4).join(", ") : this.id;
  }

  /** How far one's own message got: SENT, DELIVERED to all others, or READ by all. @param {number} seq */
  stateOf(seq) {
    return this.others.state(seq);
  }

  /** Who is writing now. @param {number} nowMs */
  typingUsers(nowMs) {
    return [...this.typing].filter(([, untilMs]) => untilMs > nowMs).map(([userId]) => userId);
  }

  // --- for the client ---

  /** Take what the server says for a list, in a row of HEADS or of the list. @param {any} row */
  listed(row) {
    this.title = row.title ?? "";
    this.lastActivityTs = Math.max(this.lastActivityTs, row.lastActivityTs ?? 0);
    this.mutedUntil = row.mutedUntil ?? 0;
    this.notify = row.notify ?? (this.mutedUntil > 0 ? "NONE" : "ALL");
  }

  /** Take what a row of the list says of the log up to its head. @param {any} row */
  previewed({ epoch, headSeq, readSeq, unread, unreadMentions = 0, lastMessage, description = "" }) {
    this.description = description;
    const isKept = lastMessage !== undefined && !this.timeline.recalls.has(lastMessage.seq); // it may be from before that
    this.preview = { epoch, headSeq, readSeq, unread, unreadMentions, lastMessage: isKept ? messageOf(lastMessage, headSeq) : null };
  }

  /** A message was recalled: what the list said of it is forgotten. Returns whether that has to be asked for anew. @param {number} seq */
  recalled(seq) {
    if (this.preview === null || seq > this.preview.headSeq) return false;
    this.preview = null;
    return !this.timeline.entries.has(seq) || this.timeline.floor > this.readSeq;
  }

  /** Take a row of HEADS; the first row starts the log near its end. @param {import("./types.js").Head} row @param {boolean} isFirst */
  head(row, isFirst) {
    this.type = row.type;
    this.left = false;
    if (row.lastActivityTs !== undefined) this.listed(row);
    this.ofLog(row.epoch, row.headSeq, this.heldAtConnect, row.deliveredSeq);
    if (!this.loaded) {
      this.timeline.rebase(windowFloor(row, isFirst), row.firstSeq);
      this.toldSeq = Math.max(this.toldSeq, row.deliveredSeq);
    }
    this.timeline.expire(row.firstSeq - 1);
    this.timeline.reach(row.headSeq);
    this.others.setLeast(row.othersDeliveredSeq, row.othersReadSeq);
    this.deliveredSeq = row.deliveredSeq;
    this.readSeq = Math.max(this.readSeq, row.readSeq);
    if (this.wantedReadSeq <= row.readSeq) this.wantedReadSeq = 0;
  }

  /**
   * Make sure that what follows belongs to the log held, which has at least the entries up to `leastSeq`. If it is another
   * one, or was put back from a backup, the cursors go and what is shown is compared with it.
   *
   * @param {string} epoch
   * @param {number} headSeq
   * @param {number} [leastSeq]
   * @param {number} [deliveredSeq] what this device has confirmed of it
   */
  ofLog(epoch, headSeq, leastSeq = 0, deliveredSeq = 0) {
    const { timeline } = this;
    if (timeline.epoch === epoch && headSeq >= leastSeq) return;
    this.formerReadSeq = Math.max(this.readSeq, this.wantedReadSeq, this.isBeingCompared ? this.formerReadSeq : 0);
    const isFirst = timeline.epoch === "";
    this.loaded = this.loaded && timeline.renew(epoch, headSeq, deliveredSeq);
    if (!this.loaded) timeline.reset(epoch, isFirst ? 0 : Math.max(0, headSeq - WINDOW));
    this.others = new OthersCursors();
    this.deliveredSeq = this.storedUpTo = this.readSeq = this.wantedReadSeq = this.heldAtConnect = 0;
    this.sentSeqs.clear();
    this.pushedSeqs.clear();
    if (isFirst) return;
    this.isReplaced = true;
    if (!this.loaded) this.toldSeq = Math.min(this.toldSeq, timeline.upTo);
  }

  /** Whether it is not known yet how much of the log is the one held before. */
  get isBeingCompared() {
    return this.timeline.renewal !== null;
  }

  /** How far the user has read in this log, as far as it was read in the one before; the server may not know it. */
  get readBefore() {
    return Math.min(this.formerReadSeq, this.timeline.commonSeq);
  }

  /** How many entries of the past to load so that an opened conversation fills its pane; 0 if enough are there. */
  get tooShort() {
    const held = this.timeline.upTo - this.timeline.floor;
    return this.loaded && held < WINDOW * 2 ? WINDOW_FIRST - held : 0;
  }

  /** @param {string} userId @param {number} nowMs */
  typed(userId, nowMs) {
    this.typing.set(userId, nowMs + TYPING_SHOWN_MS);
  }

  /** What a newly pushed entry means beyond its place in the log. @param {Message} entry */
  noticed(entry) {
    this.typing.delete(entry.senderId);
    if (isUserMessage(entry)) return;
    if (entry.payload.type === "TITLE") {
      this.title = entry.payload.title ?? this.title;
      this.description = entry.payload.description ?? this.description;
    }
    if (entry.payload.op === "ADDED") {
      for (const userId of entry.payload.userIds) this.others.joined(userId, entry.seq);
    }
  }

  /** What a store is to be told: the newest entries are kept. @returns {import("./types.js").ConversationChange} */
  takeChange() {
    const { timeline } = this;
    const { floor, put, forgetAbove } = timeline.takeChanges(STORED_MAX);
    const record = {
      id: this.id,
      type: this.type,
      title: this.title,
      description: this.description,
      memberIds: this.memberIds,
      memberCount: this.memberCount,
      lastActivityTs: this.lastActivityTs,
      mutedUntil: this.mutedUntil,
      notify: this.notify,
      epoch: timeline.epoch,
      floor,
      upTo: this.loaded ? timeline.upTo : 0,
      headSeq: timeline.headSeq,
      firstSeq: timeline.firstSeq,
      readSeq: this.readSeq,
      wantedReadSeq: this.wantedReadSeq,
      toldSeq: this.toldSeq,
      othersDelivered: this.others.delivered,
      othersRead: this.others.read,
      left: this.left,
    };
    return { record, put, forgetAbove };
  }

  /** Go on with what a store kept. @param {import("./types.js").ConversationRecord} record @param {Message[]} messages */
  restore(record, messages) {
    const { type, title, memberIds, memberCount, lastActivityTs, mutedUntil, readSeq, wantedReadSeq, toldSeq, left } = record;
    const { description = "", notify = "ALL" } = record; // what a former version of this client kept has neither
    Object.assign(this, { type, title, description, memberIds, memberCount, lastActivityTs, mutedUntil, notify, readSeq, wantedReadSeq, toldSeq, left });
    this.others.setLeast(record.othersDelivered, record.othersRead);
    if (record.upTo === 0) return;
    this.timeline.restore(record, messages);
    this.loaded = true;
    this.storedUpTo = this.timeline.upTo;
  }

  /** Who was there at the beginning, if that is loaded: between two people it never changes. @returns {string[] | null} */
  #initialMembers() {
    const first = this.type === "SINGLE" ? this.timeline.entries.get(1) : undefined;
    return first?.payload.op === "CREATED" ? [first.senderId, ...first.payload.userIds] : null;
  }
}

/** @param {number} count @param {boolean} more */
function counted(count, more) {
  return { count: Math.min(count, UNREAD_MAX), more: more || count > UNREAD_MAX };
}

/** @param {import("./types.js").Head} row @param {boolean} isFirst */
function windowFloor(row, isFirst) {
  const nearEnd = row.headSeq - (isFirst ? WINDOW_FIRST : WINDOW);
  return Math.max(0, Math.min(nearEnd, Math.max(row.deliveredSeq, row.headSeq - WINDOW_FIRST)));
}
