// The running chat: connection, conversations, outbox and HTTP put together. It answers the server's events, confirms what
// is held, pulls what is missing and sends what waits. No DOM. Made by main.js, read and told what to do by the ui modules.

import { Conversation } from "./conversation.js";
import { describe, Directory } from "./directory.js";
import { randomId } from "./identity.js";
import { textProblem } from "./outbox.js";
import { Puller } from "./puller.js";
import { nextDelay } from "./wire.js";

const OLDER_COUNT = 200;
const TYPING_EVERY_MS = 3_000;

export class Session {
  /**
   * @param {{connection, api, outbox, now: Function, random: Function, setTimeout: Function, clearTimeout: Function,
   *   changed: Function, notice: Function}} parts `changed()` after any change of state; `notice(text)` for people
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.me = "";
    this.limits = { payloadBytes: 65536 };
    this.serverAheadMs = 0;
    this.status = { state: "connecting" };
    this.ready = false;
    this.catchingUp = true;
    this.conversations = new Map();
    this.openId = null;
    this.headsSeen = new Set();
    this.recalls = new Map();
    this.paused = new Map();
    this.ackDue = new Set();
    this.refs = 0;
    this.typedAtMs = 0;
    this.directory = new Directory(parts.api, {
      conversations: this.conversations,
      me: () => this.me,
      changed: parts.changed,
    });
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

  // --- told by the connection ---

  onState(status) {
    this.status = status;
    if (status.state === "online") this.#welcomed(status.welcome);
    else this.#offline();
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
    this.#resend(this.outbox.pending());
    this.directory.refresh();
  }

  #offline() {
    this.puller.reset();
    for (const timer of this.paused.values()) this.clearTimeout(timer.id);
    this.paused.clear();
    if (this.recalls.size > 0) this.notice("The connection broke during a recall. Please try it again.");
    this.recalls.clear();
  }

  // --- told by the user ---

  /** Keep a text durably, then send it. Returns why it was not taken, or null. */
  send(conversationId, text) {
    const problem = textProblem(text, this.limits.payloadBytes);
    if (problem) return problem;
    try {
      const item = this.outbox.add(conversationId, { type: "TEXT", text }, randomId("w-"), this.serverNow);
      if (!this.paused.has(conversationId)) this.#resend([item]);
    } catch (error) {
      return error.message;
    }
    this.changed();
    return null;
  }

  /** A refused message is dropped, or given a new key and sent again. */
  dropFailed(clientMsgId) {
    this.outbox.settle(clientMsgId);
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
    this.openId = conversationId;
    const conversation = this.open;
    if (conversation) {
      this.#fill(conversation);
      this.directory.details(conversation);
    }
    this.changed();
  }

  loadOlder() {
    if (this.openId !== null) this.puller.wantOlder(this.openId, OLDER_COUNT);
  }

  /** The open conversation is visible at its end: everything in it is read. */
  markRead() {
    const conversation = this.open;
    if (!conversation?.loaded || conversation.left) return;
    const upToSeq = conversation.timeline.upTo;
    if (upToSeq <= conversation.readSeq) return;
    if (!this.connection.send({ event: "READ", conversationId: conversation.id, upToSeq })) return;
    conversation.readSeq = upToSeq;
    this.changed();
  }

  /** Ask the server for a conversation and show it. Raises api.js's Refusal. */
  async create(fields) {
    const answer = await this.api.createConversation(fields);
    const conversation = this.#known(answer.conversationId);
    conversation.type = answer.type;
    conversation.ofEpoch(answer.epoch);
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
      if (lost) this.connection.send({ event: "READ", conversationId: conversation.id, upToSeq: readSeq });
      this.#ackSoon(conversation);
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
    this.catchingUp = false;
    for (const conversation of this.conversations.values()) this.#settleTail(conversation);
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
    const item = this.outbox.settle(ack.clientMsgId);
    this.#resume(ack.conversationId);
    if (item) this.#accept({ ...entryOf(ack), senderId: this.me, payload: item.payload, clientMsgId: ack.clientMsgId });
    else this.#reach(ack);
  }

  pushed(event) {
    this.#accept({ ...entryOf(event), senderId: event.senderId, payload: event.payload, clientMsgId: event.clientMsgId });
  }

  #accept(entry) {
    const conversation = this.#known(entry.conversationId);
    conversation.ofEpoch(entry.epoch);
    this.headsSeen.add(entry.conversationId);
    if (conversation.timeline.accept(entry)) {
      this.#settleOwn(entry);
      conversation.noticed(entry);
      if (entry.payload.type === "MEMBER") this.#membersChanged(conversation);
    }
    this.#settleTail(conversation);
  }

  #membersChanged(conversation) {
    conversation.memberIds = null;
    this.directory.refresh();
    if (conversation.id === this.openId) this.directory.details(conversation);
  }

  #settleOwn(entry) {
    if (entry.senderId === this.me && entry.clientMsgId !== undefined) this.outbox.settle(entry.clientMsgId);
  }

  /** BEHIND, or an acknowledgement of something not held: the log is longer than what is here. */
  behind(event) {
    this.#reach({ ...event, seq: event.headSeq });
    this.puller.wantTail(event.conversationId);
  }

  #reach(event) {
    const conversation = this.#known(event.conversationId);
    conversation.ofEpoch(event.epoch);
    conversation.timeline.reach(event.seq);
    this.#settleTail(conversation);
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
    this.headsSeen.add(event.conversationId);
    if (!conversation.left) this.puller.wantTail(conversation.id);
    this.directory.refresh();
  }

  typedBy(event) {
    if (event.userId === this.me) return;
    this.conversations.get(event.conversationId)?.typed(event.userId, this.now());
  }

  refused(error) {
    if (this.puller.error(error)) return;
    if (this.recalls.delete(error.ref)) return this.notice(recallProblem(error));
    const item = error.clientMsgId === undefined ? undefined : this.outbox.find(error.clientMsgId);
    if (item) return this.#sendRefused(item, error);
    if (error.code !== "RATE_LIMITED") this.notice(error.message); // typing too often is no news
  }

  // --- sending again ---

  #resend(items) {
    for (const { conversationId, clientMsgId, payload } of items) {
      this.connection.send({ event: "SEND_MSG", conversationId, clientMsgId, payload });
    }
  }

  #sendRefused(item, error) {
    if (!error.retryable) {
      this.outbox.fail(item.clientMsgId, error.message);
      this.notice(`Not sent: ${error.message}`);
      return;
    }
    const pause = this.paused.get(item.conversationId);
    if (pause?.waiting) return;
    const attempt = (pause?.attempt ?? 0) + 1;
    const delay = nextDelay(attempt, this.random(), error.retryAfterMs ?? null);
    const id = this.setTimeout(() => this.#retry(item.conversationId), delay);
    this.paused.set(item.conversationId, { id, attempt, waiting: true });
  }

  /** The refused one first, then all that came after it: a sender's order survives. */
  #retry(conversationId) {
    this.paused.get(conversationId).waiting = false;
    this.#resend(this.outbox.pending(conversationId));
  }

  #resume(conversationId) {
    if (this.paused.get(conversationId)?.waiting === false) this.paused.delete(conversationId);
  }

  // --- pulling what is missing ---

  /** After anything that may have moved a log: confirm what is held, and look for what is not. */
  #settleTail(conversation) {
    this.#ackSoon(conversation);
    if (conversation.left) return;
    if (conversation.loaded) this.puller.watchGap(conversation);
    else if (!this.catchingUp) this.puller.wantTail(conversation.id);
  }

  #fill(conversation) {
    const count = conversation.tooShort;
    if (count > 0 && conversation.timeline.hasOlder) this.puller.wantOlder(conversation.id, count);
  }

  #arrived(conversation, messages, isWhole) {
    for (const entry of messages) this.#settleOwn(entry);
    if (!isWhole) return;
    conversation.loaded = true;
    if (conversation.id === this.openId) this.#fill(conversation);
    this.#ackSoon(conversation);
  }

  #syncRefused(conversation, error) {
    if (error.code === "NOT_FOUND") conversation.left = true;
    else this.notice(error.message);
  }

  // --- confirming what is held ---

  #ackSoon(conversation) {
    if (this.ackDue.size === 0) this.setTimeout(() => this.#acknowledge(), 0);
    this.ackDue.add(conversation);
  }

  #acknowledge() {
    for (const conversation of this.ackDue) {
      const upToSeq = conversation.timeline.upTo;
      if (!conversation.loaded || conversation.left || upToSeq <= conversation.deliveredSeq) continue;
      const event = { event: "DELIVERED_ACK", conversationId: conversation.id, upToSeq };
      if (this.connection.send(event)) conversation.deliveredSeq = upToSeq;
    }
    this.ackDue.clear();
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
