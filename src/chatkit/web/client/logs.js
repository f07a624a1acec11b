// The logs of the conversations as the server tells of them: heads, pushed entries and pages. What is new is told to the app, kept and
// confirmed, and what is missing is pulled. Owned by session.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./conversation.js").Conversation} Conversation */

import { errorOf } from "./errors.js";
import { messageOf } from "./marks.js";
import { OpenStreams } from "./open_streams.js";
import { Puller } from "./puller.js";
import { entryOf, toldOf } from "./told.js";

const KEPT_MAX = 2_000;
const KEPT_MAX_READING = 10_000;

export class Logs {
  #catchingUp = true;
  #isCaughtUp = false;
  /** @type {Set<string>} of which this connection has shown that the user is a member; until all heads are here */
  #members = new Set();

  /**
   * @param {import("./types.js").Ports & {line: import("./types.js").Line, emit: (type: string, detail: any) => void,
   *   keeper: import("./keeper.js").Keeper, cursors: import("./cursors.js").Cursors,
   *   directory: import("./directory.js").Directory, answers: import("./answers.js").Answers}} parts
   * @param {{conversations: Map<string, Conversation>, known: (id: string) => Conversation, focusId: () => string | null,
   *   readsPast: () => boolean, complete: () => void}} owner `complete()`: all heads of this connection are here
   */
  constructor(parts, owner) {
    this.parts = parts;
    this.owner = owner;
    this.streams = new OpenStreams((conversationId, seq) => this.puller.wantOne(conversationId, seq));
    this.puller = new Puller(parts, {
      find: (id) => owner.known(id),
      first: () => owner.focusId(),
      arrived: (conversation, page, isWhole) => this.#arrived(conversation, page, isWhole),
      looked: (page) => this.#looked(page),
      gone: (conversationId, seq) => this.streams.gone(conversationId, seq),
      refused: (conversation, error) => this.#syncRefused(conversation, error),
    });
  }

  /** A new connection: its heads begin from nothing. */
  connected() {
    this.#members.clear();
    this.#catchingUp = true;
    this.#isCaughtUp = false;
    for (const conversation of this.owner.conversations.values()) conversation.heldAtConnect = conversation.timeline.upTo;
    this.streams.connected();
  }

  /** @param {WireEvent} event */
  heads(event) {
    for (const row of event.conversations) {
      this.#members.add(row.conversationId);
      const conversation = this.owner.known(row.conversationId);
      conversation.head(row, row.conversationId === this.owner.focusId());
      if (row.headSeq === 0) conversation.loaded = true;
      const wantedSeq = Math.max(conversation.readSeq, conversation.wantedReadSeq);
      if (wantedSeq > row.readSeq && this.parts.cursors.read(conversation, wantedSeq)) conversation.readSeq = wantedSeq;
      this.#mayAck(conversation);
      if (conversation.timeline.missingAfter() !== null) this.puller.wantTail(conversation.id);
      if (!this.#catchingUp) this.streams.dropped(conversation.id); // it is instead of many BEHIND
    }
    if (!event.more) this.#headsComplete();
  }

  #headsComplete() {
    for (const conversation of this.owner.conversations.values()) {
      if (!this.#members.has(conversation.id)) conversation.left = true;
    }
    this.#members.clear();
    this.#catchingUp = false;
    for (const conversation of this.owner.conversations.values()) this.#afterMove(conversation);
    this.owner.complete();
    this.puller.pump();
    this.#lookCaughtUp();
  }

  /** @param {WireEvent} event */
  pushed(event) {
    this.#joinedAgain(event.conversationId);
    const { senderId, payload, clientMsgId } = event;
    this.accept({ ...entryOf(event), senderId, payload, ...(clientMsgId !== undefined && { clientMsgId }) });
  }

  /** @param {Message} entry */
  accept(entry) {
    const conversation = this.owner.known(entry.conversationId);
    this.#members.add(entry.conversationId);
    this.parts.answers.shown(conversation, entry);
    if (!this.#isOfLog(conversation, entry.epoch)) return;
    if (conversation.timeline.accept(entry)) {
      conversation.pushedSeqs.add(entry.seq);
      conversation.noticed(entry);
      if (entry.payload.type === "MEMBER") this.#membersChanged(conversation);
    }
    this.#afterMove(conversation);
  }

  /** A live event of a conversation that was left means joined again: members and entries in between are missing. @param {string} conversationId */
  #joinedAgain(conversationId) {
    const conversation = this.owner.conversations.get(conversationId);
    if (!conversation?.left) return;
    conversation.left = false;
    this.#members.add(conversationId);
    this.#membersChanged(conversation);
    if (!this.#catchingUp) this.puller.wantTail(conversationId);
  }

  /** Whether an event is about the log held here; if not, a page says which of the two is the old one.
   * @param {Conversation} conversation @param {string} epoch */
  #isOfLog(conversation, epoch) {
    if (conversation.timeline.epoch === "") conversation.ofLog(epoch, 0);
    if (conversation.timeline.epoch === epoch) return true;
    this.puller.wantEpoch(conversation.id);
    return false;
  }

  /** @param {Conversation} conversation */
  #membersChanged(conversation) {
    conversation.memberIds = null;
    this.parts.directory.refresh(conversation.id);
    if (conversation.id === this.owner.focusId()) this.parts.directory.details(conversation);
  }

  /** BEHIND: the log is longer than what is here. @param {WireEvent} event */
  behind({ conversationId, epoch, headSeq }) {
    this.#joinedAgain(conversationId);
    this.#members.add(conversationId);
    this.reach(conversationId, epoch, headSeq);
    this.puller.wantTail(conversationId);
    this.streams.dropped(conversationId);
  }

  /** @param {string} conversationId @param {string} epoch @param {number} seq */
  reach(conversationId, epoch, seq) {
    const conversation = this.owner.known(conversationId);
    if (!this.#isOfLog(conversation, epoch)) return;
    conversation.timeline.reach(seq);
    this.#afterMove(conversation);
  }

  /** @param {WireEvent} event */
  changed({ conversationId, type, change }) {
    const conversation = this.owner.known(conversationId);
    conversation.type = type;
    conversation.left = change === "LEFT";
    if (conversation.left) this.streams.forget(conversationId);
    conversation.memberIds = null;
    if (conversation.left) this.#members.delete(conversation.id);
    else this.#members.add(conversation.id);
    if (!conversation.left) this.puller.wantTail(conversation.id);
    if (!conversation.left) this.parts.directory.refresh(conversationId);
    this.parts.keeper.changed(conversation);
    this.parts.emit("conversation", { conversationId, change });
  }

  /** After anything that may have moved a log: tell the app, keep and confirm what is new, and look for what is missing.
   * @param {Conversation} conversation */
  #afterMove(conversation) {
    this.#tell(conversation);
    this.#mayAck(conversation);
    this.trim(conversation);
    if (conversation.left) return;
    if (conversation.loaded) this.puller.watchGap(conversation);
    else if (!this.#catchingUp) this.puller.wantTail(conversation.id);
  }

  /** @param {Conversation} conversation */
  #mayAck(conversation) {
    this.parts.keeper.changed(conversation);
    this.parts.cursors.ackSoon(conversation);
  }

  /** What got its place and is not known to the app, in order. @param {Conversation} conversation */
  #tell(conversation) {
    for (const message of conversation.timeline.takePlaced()) {
      const live = conversation.pushedSeqs.delete(message.seq);
      const isKnown = conversation.sentSeqs.delete(message.seq) || message.seq <= conversation.toldSeq;
      conversation.toldSeq = Math.max(conversation.toldSeq, message.seq);
      this.streams.note(message);
      if (message.payload.type === "RECALL" && conversation.recalled(message.payload.seq)) this.parts.directory.refresh(conversation.id);
      if (!isKnown) this.parts.emit(...toldOf(message, live));
    }
  }

  /** @param {Conversation} conversation */
  fill(conversation) {
    const count = conversation.tooShort;
    if (count > 0 && conversation.timeline.hasOlder) this.puller.wantOlder(conversation.id, count);
  }

  /** Keep the newest entries; older ones are there to be loaded again. @param {Conversation} conversation */
  trim(conversation) {
    conversation.timeline.trim(this.#keptMax(conversation));
  }

  /** Whether more of the past would be kept. @param {Conversation} conversation */
  hasRoom(conversation) {
    return conversation.timeline.shown().length < this.#keptMax(conversation);
  }

  /** @param {Conversation} conversation */
  #keptMax({ id }) {
    return this.owner.readsPast() && id === this.owner.focusId() ? KEPT_MAX_READING : KEPT_MAX;
  }

  /** @param {Conversation} conversation @param {WireEvent} page @param {boolean} isWhole */
  #arrived(conversation, page, isWhole) {
    for (const entry of page.messages) this.parts.answers.shown(conversation, entry);
    this.#renewed(conversation);
    this.#tell(conversation);
    this.#looked(page);
    this.trim(conversation);
    this.parts.keeper.changed(conversation);
    if (!isWhole) return;
    conversation.loaded = true;
    if (conversation.id === this.owner.focusId()) this.fill(conversation);
    this.#mayAck(conversation);
    this.#lookCaughtUp();
  }

  /** After another log came: what this one has too is known and, as far as it was read, read. @param {Conversation} conversation */
  #renewed(conversation) {
    const { id: conversationId, readBefore, timeline } = conversation;
    if (conversation.isReplaced && !conversation.isBeingCompared) {
      conversation.isReplaced = false;
      conversation.toldSeq = timeline.commonSeq || Math.min(conversation.toldSeq, timeline.floor);
      this.streams.forget(conversationId);
      this.parts.emit("epoch", { conversationId, epoch: timeline.epoch, keptSeq: timeline.commonSeq });
    }
    if (readBefore > conversation.readSeq && this.parts.cursors.read(conversation, readBefore)) conversation.readSeq = readBefore;
  }

  #lookCaughtUp() {
    if (this.#catchingUp || this.#isCaughtUp) return;
    for (const { left, loaded, timeline } of this.owner.conversations.values()) {
      if (!left && (!loaded || timeline.missingAfter() !== null)) return;
    }
    this.#isCaughtUp = true;
    this.parts.emit("caughtup", {});
  }

  /** An open stream grew. @param {WireEvent} event */
  grew(event) {
    if (typeof event.text !== "string" || !Number.isSafeInteger(event.part)) throw new TypeError("a STREAM_PART has a part and a text");
    const growth = this.streams.part(/** @type {any} */ (event));
    if (growth) this.parts.emit("streamgrew", growth);
  }

  /** What a page says of streams that are open. @param {WireEvent} page */
  #looked(page) {
    if (this.owner.conversations.get(page.conversationId)?.timeline.epoch !== page.epoch) return;
    for (const entry of page.messages) {
      const isFollowed = entry.payload.type === "STREAM" && (entry.stream !== undefined || this.streams.has(entry.conversationId, entry.seq));
      const growth = isFollowed ? this.streams.see(messageOf(entry, page.headSeq)) : null;
      if (growth) this.parts.emit("streamgrew", growth);
    }
  }

  /** @param {Conversation} conversation @param {WireEvent} error */
  #syncRefused(conversation, error) {
    if (error.code === "NOT_FOUND") conversation.left = true;
    else this.parts.emit("error", { conversationId: conversation.id, error: errorOf(error) });
  }
}
