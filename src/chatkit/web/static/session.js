// The running chat: connection, conversations, outbox and HTTP put together. It answers the server's events, confirms what
// is held, pulls what is missing and sends what waits. No DOM. Made by main.js, read and told what to do by the ui modules.

import { Conversation } from "./conversation.js";
import { Cursors } from "./cursors.js";
import { describe, Directory } from "./directory.js";
import { randomId } from "./identity.js";
import { textProblem } from "./outbox.js";
import { Puller } from "./puller.js";
import { Resend } from "./resend.js";
import { isUserMessage } from "./timeline.js";

const OLDER_COUNT = 200;
const KEPT_MAX = 2_000;
const KEPT_MAX_READING = 10_000;
const TYPING_EVERY_MS = 3_000;

export class Session {
  /**
   * @param {{connection, api, outbox, now: Function, random: Function, setTimeout: Function, clearTimeout: Function,
   *   changed: Function, notice: Function, heard: Function}} parts `changed()` after any change of state; `notice(text)`
   *   for people; `heard(conversation, entry)` when somebody else's message comes in
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.me = "";
    this.limits = { payloadBytes: 65536 };
    this.serverAheadMs = 0;
    this.status = { state: "connecting" };
    this.ready = false;
    this.unreached = false;
    this.catchingUp = true;
    this.conversations = new Map();
    this.openId = null;
    this.headsSeen = new Set();
    this.recalls = new Map();
    this.readsPast = false;
    this.refs = 0;
    this.typedAtMs = 0;
    this.directory = new Directory(parts, { conversations: this.conversations, me: () => this.me });
    this.resend = new Resend(parts);
    this.cursors = new Cursors(parts);
    this.puller = new Puller(parts, {
      find: (id) => this.#known(id),
      first: () => this.openId,
      arrived: (conversation, messages, isWhole) => this.#arrived(conversation, messages, isWhole),
      refused: (conversation, error) => this.#syncRefused(conversation, error),
    });
  }

  get open() {
    return this.conversations.get(this.openId) ?? null;
  }

  get serverNow() {
    return this.now() + this.serverAheadMs;
  }

  // --- from the connection ---

  onState(status) {
    this.status = status;
    if (status.welcome) this.#welcomed(status.welcome);
    else if (!this.connection.online) this.#offline();
    if (status.state === "waiting" && !this.ready) this.#notReached();
    this.changed();
  }

  onEvent(event) {
    const handler = HANDLERS[event.event];
    if (!handler) return; // an event of a newer server
    handler(this, event);
    this.changed();
  }

  #welcomed(welcome) {
    this.me = welcome.userId;
    this.limits = welcome.limits;
    this.serverAheadMs = welcome.serverTs - this.now();
    this.headsSeen.clear();
    this.catchingUp = true;
    for (const conversation of this.conversations.values()) conversation.heldAtConnect = conversation.timeline.upTo;
    this.resend.pump();
    this.directory.refresh();
  }

  #offline() {
    this.puller.reset();
    this.resend.disconnected();
    this.cursors.disconnected();
    if (this.recalls.size > 0) this.notice("The connection broke during a recall. Please try it again.");
    this.recalls.clear();
  }

  /** The server never answered in this tab: what waits is shown, and can be added to, all the same. */
  #notReached() {
    this.unreached = true;
    if (this.openId !== null) this.#known(this.openId);
    for (const { conversationId } of this.outbox.of()) this.#known(conversationId);
  }

  // --- told by the user ---

  /** Keep a text durably, then send it. Returns why it was not taken, or null. */
  send(conversationId, text) {
    const problem = textProblem(text, this.limits.payloadBytes);
    if (problem) return problem;
    try {
      this.outbox.add(conversationId, { type: "TEXT", text }, randomId("w-"), this.serverNow);
    } catch (error) {
      return error.message;
    }
    this.resend.pump();
    this.changed();
    return null;
  }

  /** The user gives up a message that was refused for good. */
  dropFailed(clientMsgId) {
    this.outbox.resolve(clientMsgId);
    this.changed();
  }

  recall(entry) {
    const ref = this.#ref("recall");
    if (!this.connection.send({ event: "RECALL", messageId: entry.messageId, ref })) {
      this.notice("Recalling needs a connection.");
      return;
    }
    this.recalls.set(ref, entry);
  }

  typing() {
    if (this.openId === null || this.now() - this.typedAtMs < TYPING_EVERY_MS) return;
    this.typedAtMs = this.now();
    this.connection.send({ event: "TYPING", conversationId: this.openId });
  }

  /** Show one conversation (or none), fetching the past that fills its pane. */
  select(conversationId) {
    if (conversationId !== this.openId) this.viewing(true);
    this.openId = conversationId;
    const conversation = this.open;
    if (conversation) {
      this.#fill(conversation);
      this.directory.details(conversation);
    }
    this.changed();
  }

  loadOlder() {
    const conversation = this.open;
    if (!conversation) return;
    if (conversation.timeline.shown().length < KEPT_MAX_READING) this.puller.wantOlder(conversation.id, OLDER_COUNT);
    else this.notice("No more messages fit into this tab.");
  }

  /** Whether the newest message is in view. While the user reads the past of the open conversation, more of it is kept. */
  viewing(atEnd) {
    this.readsPast = !atEnd;
    if (this.open) this.#trim(this.open);
  }

  /** The open conversation is visible at its end: everything in it is read. */
  markRead() {
    const conversation = this.open;
    if (!conversation?.loaded || conversation.left) return;
    const upToSeq = conversation.timeline.upTo;
    if (upToSeq <= conversation.readSeq) return;
    if (!this.cursors.read(conversation, upToSeq)) return;
    conversation.readSeq = upToSeq;
    this.changed();
  }

  /** Ask the server for a conversation and show it. Raises api.js's Refusal. */
  async create(fields) {
    const answer = await this.api.createConversation(fields);
    const conversation = this.#known(answer.conversationId);
    conversation.type = answer.type;
    conversation.ofLog(answer.epoch, answer.headSeq);
    conversation.timeline.reach(answer.headSeq);
    describe(conversation, answer);
    this.puller.wantTail(conversation.id);
    this.select(conversation.id);
  }

  // --- events ---

  heads(event) {
    for (const row of event.conversations) {
      this.headsSeen.add(row.conversationId);
      const conversation = this.#known(row.conversationId);
      const { readSeq } = conversation;
      conversation.head(row, row.conversationId === this.openId);
      if (row.headSeq === 0) conversation.loaded = true;
      const lost = conversation.readSeq === readSeq && readSeq > row.readSeq;
      if (lost) this.cursors.read(conversation, readSeq);
      this.cursors.ackSoon(conversation);
      if (conversation.timeline.missingAfter() !== null) this.puller.wantTail(conversation.id);
    }
    if (!event.more) this.#headsComplete();
  }

  #headsComplete() {
    for (const conversation of this.conversations.values()) {
      if (!this.headsSeen.has(conversation.id)) conversation.left = true;
    }
    this.headsSeen.clear();
    this.ready = true;
    this.unreached = false;
    this.catchingUp = false;
    for (const conversation of this.conversations.values()) this.#afterMove(conversation);
    this.directory.refresh();
    if (this.open) this.select(this.openId);
    this.puller.pump();
  }

  acknowledged(ack) {
    const recalled = this.recalls.get(ack.ref);
    if (recalled) {
      this.recalls.delete(ack.ref);
      const payload = { type: "RECALL", messageId: recalled.messageId, seq: recalled.seq, by: this.me };
      this.#accept({ ...entryOf(ack), senderId: this.me, payload });
      return;
    }
    const item = this.outbox.resolve(ack.clientMsgId);
    this.resend.answered(ack);
    const payload = ack.payload ?? item?.payload; // what a moderator had stored instead
    if (item) this.#accept({ ...entryOf(ack), senderId: this.me, payload, clientMsgId: ack.clientMsgId });
    else this.#reach(ack);
  }

  pushed(event) {
    this.#joinedAgain(event.conversationId);
    const entry = { ...entryOf(event), senderId: event.senderId, payload: event.payload, clientMsgId: event.clientMsgId };
    this.#accept(entry);
    const conversation = this.#known(event.conversationId);
    const isNews = isUserMessage(entry) && event.senderId !== this.me && conversation.mutedUntil <= this.serverNow;
    if (isNews) this.heard(conversation, entry);
  }

  #accept(entry) {
    const conversation = this.#known(entry.conversationId);
    this.headsSeen.add(entry.conversationId);
    this.#resolveOwn(entry);
    if (!this.#isOfLog(conversation, entry.epoch)) return;
    if (conversation.timeline.accept(entry)) {
      conversation.noticed(entry);
      if (entry.payload.type === "MEMBER") this.#membersChanged(conversation);
    }
    this.#afterMove(conversation);
  }

  /** A live event of a conversation that was left means joined again: members and entries in between are missing. */
  #joinedAgain(conversationId) {
    const conversation = this.conversations.get(conversationId);
    if (!conversation?.left) return;
    conversation.left = false;
    this.headsSeen.add(conversationId);
    this.#membersChanged(conversation);
    if (!this.catchingUp) this.puller.wantTail(conversationId);
  }

  /** Whether an event is about the log held here; if not, a page says which of the two is the old one. */
  #isOfLog(conversation, epoch) {
    if (conversation.timeline.epoch === "") conversation.ofLog(epoch, 0);
    if (conversation.timeline.epoch === epoch) return true;
    this.puller.wantEpoch(conversation.id);
    return false;
  }

  #membersChanged(conversation) {
    conversation.memberIds = null;
    this.directory.refresh();
    if (conversation.id === this.openId) this.directory.details(conversation);
  }

  #resolveOwn(entry) {
    if (entry.senderId !== this.me || entry.clientMsgId === undefined) return;
    const item = this.outbox.resolve(entry.clientMsgId);
    if (item) this.resend.shown(item);
  }

  /** BEHIND, or an acknowledgement of something not held: the log is longer than what is here. */
  behind(event) {
    this.#joinedAgain(event.conversationId);
    this.headsSeen.add(event.conversationId);
    this.#reach({ ...event, seq: event.headSeq });
    this.puller.wantTail(event.conversationId);
  }

  #reach(event) {
    const conversation = this.#known(event.conversationId);
    if (!this.#isOfLog(conversation, event.epoch)) return;
    conversation.timeline.reach(event.seq);
    this.#afterMove(conversation);
  }

  receipt(event) {
    const conversation = this.conversations.get(event.conversationId);
    if (!conversation) return;
    if (event.userId === undefined) {
      conversation.others.counts(event.seq, event.deliveredCount, event.readCount, event.memberCount);
    } else if (event.userId === this.me) {
      conversation.readSeq = Math.max(conversation.readSeq, event.readSeq);
    } else {
      const single = conversation.type === "SINGLE";
      conversation.others.advance(event.userId, event.deliveredSeq, event.readSeq, single);
    }
  }

  conversationChanged(event) {
    const conversation = this.#known(event.conversationId);
    conversation.type = event.type;
    conversation.left = event.change === "LEFT";
    conversation.memberIds = null;
    if (conversation.left) this.headsSeen.delete(conversation.id);
    else this.headsSeen.add(conversation.id);
    if (!conversation.left) this.puller.wantTail(conversation.id);
    this.directory.refresh();
  }

  typedBy(event) {
    if (event.userId === this.me) return;
    this.conversations.get(event.conversationId)?.typed(event.userId, this.now());
  }

  refused(error) {
    if (this.puller.error(error)) return;
    if (this.cursors.refused(error, this.conversations.get(error.conversationId))) return;
    if (this.recalls.delete(error.ref)) return this.notice(recallProblem(error));
    const item = this.resend.find(error.conversationId, error.clientMsgId);
    if (item) return this.#sendRefused(item, error);
    if (error.code !== "RATE_LIMITED") this.notice(error.message); // typing too often is no news
  }

  #sendRefused(item, error) {
    if (error.retryable) return this.resend.refused(item, error);
    const isShown = this.outbox.fail(item.clientMsgId, error.message) === undefined;
    this.resend.answered(item);
    if (!isShown) this.notice(`Not sent: ${error.message}`);
  }

  // --- pulling what is missing ---

  /** After anything that may have moved a log: confirm what is held, and look for what is not. */
  #afterMove(conversation) {
    this.cursors.ackSoon(conversation);
    this.#trim(conversation);
    if (conversation.left) return;
    if (conversation.loaded) this.puller.watchGap(conversation);
    else if (!this.catchingUp) this.puller.wantTail(conversation.id);
  }

  #fill(conversation) {
    const count = conversation.tooShort;
    if (count > 0 && conversation.timeline.hasOlder) this.puller.wantOlder(conversation.id, count);
  }

  /** Keep the newest entries; older ones are there to be loaded again. */
  #trim(conversation) {
    const isRead = this.readsPast && conversation.id === this.openId;
    conversation.timeline.trim(isRead ? KEPT_MAX_READING : KEPT_MAX);
  }

  #arrived(conversation, messages, isWhole) {
    for (const entry of messages) this.#resolveOwn(entry);
    this.#readAgain(conversation);
    this.#trim(conversation);
    if (!isWhole) return;
    conversation.loaded = true;
    if (conversation.id === this.openId) this.#fill(conversation);
    this.cursors.ackSoon(conversation);
  }

  /** After another log came: what was read in the one before, and is in this one too, is read. */
  #readAgain(conversation) {
    const { readBefore } = conversation;
    if (readBefore > conversation.readSeq && this.cursors.read(conversation, readBefore)) conversation.readSeq = readBefore;
  }

  #syncRefused(conversation, error) {
    if (error.code === "NOT_FOUND") conversation.left = true;
    else this.notice(error.message);
  }

  #known(conversationId) {
    const known = this.conversations.get(conversationId) ?? new Conversation(conversationId);
    this.conversations.set(conversationId, known);
    return known;
  }

  #ref(kind) {
    this.refs += 1;
    return `${kind}:${this.refs}`;
  }
}

const HANDLERS = {
  HEADS: (session, event) => session.heads(event),
  MSG_ACK: (session, event) => session.acknowledged(event),
  NEW_MSG: (session, event) => session.pushed(event),
  RECEIPT: (session, event) => session.receipt(event),
  SYNC_PAGE: (session, event) => session.puller.page(event),
  BEHIND: (session, event) => session.behind(event),
  CONVERSATION: (session, event) => session.conversationChanged(event),
  TYPING: (session, event) => session.typedBy(event),
  TOKEN_EXPIRING: (session, event) => session.notice(expiryNotice(event.expiresTs)),
  AUTH_OK: (session) => session.notice("The sign-in was renewed."),
  ERROR: (session, event) => session.refused(event),
};

function entryOf(event) {
  const { conversationId, epoch, messageId, seq, serverTs } = event;
  return { conversationId, epoch, messageId, seq, serverTs };
}

function recallProblem(error) {
  if (error.code === "RECALL_WINDOW_PASSED") return "It is too late to recall this message.";
  return `Not recalled: ${error.message}`;
}

function expiryNotice(expiresTs) {
  const time = new Date(expiresTs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `This sign-in ends at ${time}. Open a new link in this tab to stay.`;
}
