// The running chat: connection, conversations, outbox and HTTP put together. It answers the server's events, confirms what
// is stored, pulls what is missing and sends what waits. No DOM. Made by client.js, which is its face for apps.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */

import { Conversation } from "./conversation.js";
import { Cursors } from "./cursors.js";
import { describe, Directory } from "./directory.js";
import { ChatError, errorOf } from "./errors.js";
import { Keeper } from "./keeper.js";
import { Outbox } from "./outbox.js";
import { Puller } from "./puller.js";
import { keyOf } from "./resend.js";
import { entryOf, sentOf, toldOf } from "./told.js";
import { checkedPayload, PAYLOAD_BYTES_MAX } from "./validate.js";

const OLDER_COUNT = 200;
const KEPT_MAX = 2_000;
const KEPT_MAX_READING = 10_000;
const TYPING_EVERY_MS = 3_000;
const CONVERSATIONS_MAX = 20_000;
const PRESENCE_REF = "presence"; // refused where presence is off, which is no news to the app
const REVIEWED = "REVIEWED"; // the reason of an ERROR that tells of a held message, and answers no SEND_MSG

export class Session {
  me = "";
  limits = { payloadBytes: PAYLOAD_BYTES_MAX };
  serverAheadMs = 0;
  /** @type {import("./types.js").Status} */
  status = { state: "stopped" };
  /** Whether the server has told of all conversations. */
  ready = false;
  /** Whether the server could not be reached since the start. */
  unreached = false;
  catchingUp = true;
  /** @type {Map<string, Conversation>} */
  conversations = new Map();
  /** @type {string | null} the one that goes before all others */
  focusId = null;
  /** @type {Set<string>} */
  headsSeen = new Set();
  /** @type {Map<string, {resolve: (sent: Sent) => void, reject: (error: ChatError) => void, messageId: string}>} */
  recalls = new Map();
  /** @type {"ONLINE" | "AWAY"} what the app says of the user; each connection begins as ONLINE */
  presence = "ONLINE";
  readsPast = false;
  isCaughtUp = false;
  hasStoreFailed = false;
  refs = 0;
  /** @type {Map<string, number>} by conversation */
  typedAtMs = new Map();

  /**
   * @param {import("./types.js").Ports & {connection: import("./types.js").Line & {renew: (token: string) => void},
   *   api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts" | "createConversation">,
   *   store: Pick<import("./types.js").LocalStore, "save" | "addPending" | "removePending">,
   *   emit: (type: string, detail: any) => void, changed: () => void,
   *   tokenExpiring: (expiresTs: number) => void}} parts `emit` tells the app; `changed()` after any change of state
   */
  constructor(parts) {
    this.parts = parts;
    /** @param {unknown} error */
    const storeFailed = (error) => this.#storeFailed(error);
    const shared = { ...parts, line: this.#line(), storeFailed };
    this.directory = new Directory(shared, {
      conversations: this.conversations,
      me: () => this.me,
      changed: (conversation) => this.#described(conversation),
    });
    this.outbox = new Outbox(shared);
    this.cursors = new Cursors(shared);
    this.keeper = new Keeper({ ...shared, stored: (conversation) => this.cursors.ackSoon(conversation) });
    this.puller = new Puller(shared, {
      find: (id) => this.known(id),
      first: () => this.focusId,
      arrived: (conversation, messages, isWhole) => this.#arrived(conversation, messages, isWhole),
      refused: (conversation, error) => this.#syncRefused(conversation, error),
    });
  }

  /** The connection, where what is to be confirmed goes along with whatever else is said. @returns {import("./types.js").Line} */
  #line() {
    const { connection } = this.parts;
    return {
      get online() {
        return connection.online;
      },
      send: (event) => {
        if (event.event !== "DELIVERED_ACK") this.cursors.flush();
        return connection.send(event);
      },
      restart: () => connection.restart(),
    };
  }

  /** The conversation that goes before all others, or null. */
  get focus() {
    return this.focusId === null ? null : (this.conversations.get(this.focusId) ?? null);
  }

  get serverNow() {
    return this.parts.now() + this.serverAheadMs;
  }

  /** Go on with what the store kept. @param {string} userId @param {import("./types.js").Loaded} loaded */
  restore(userId, { pending, conversations }) {
    this.me = userId;
    this.outbox.restore(pending);
    for (const { record, messages } of conversations) this.known(record.id).restore(record, messages);
    this.parts.changed();
  }

  // --- from the connection ---

  /** @param {import("./types.js").Status} status */
  onState(status) {
    const wasOnline = this.status.welcome !== undefined || this.status.state === "checking" || this.status.state === "online";
    this.status = status;
    if (status.welcome) this.#welcomed(status.welcome);
    else if (!this.parts.connection.online && wasOnline) this.#offline(status.code);
    if (status.state === "waiting" && !this.ready) this.#notReached();
    this.parts.emit("status", { status });
    if (status.error) this.parts.emit("error", { error: status.error });
    this.parts.changed();
  }

  /** @param {WireEvent} event */
  onEvent(event) {
    const handler = HANDLERS[event.event];
    if (!handler) return; // an event of a newer server
    handler(this, event);
    this.keeper.flush();
    this.parts.changed();
  }

  /** @param {WireEvent} welcome */
  #welcomed(welcome) {
    this.me = welcome.userId;
    this.limits = { ...this.limits, ...welcome.limits };
    this.serverAheadMs = welcome.serverTs - this.parts.now();
    this.headsSeen.clear();
    this.catchingUp = true;
    this.isCaughtUp = false;
    for (const conversation of this.conversations.values()) conversation.heldAtConnect = conversation.timeline.upTo;
    this.outbox.connected();
    if (this.presence === "AWAY") this.#line().send({ event: "PRESENCE", state: "AWAY", ref: PRESENCE_REF });
    this.directory.refresh();
  }

  /** @param {number} [code] */
  #offline(code) {
    this.puller.reset();
    const tooLarge = code === 1009 ? this.outbox.tooLarge() : null;
    if (tooLarge !== null) this.#failed(keyOf(tooLarge), new ChatError("TOO_LARGE", "The message is too large for the way to the server."));
    this.outbox.disconnected();
    this.cursors.disconnected();
    const lost = new ChatError("NO_ANSWER", "The connection broke before the answer. Please try it again.", { retryable: true });
    for (const { reject } of this.recalls.values()) reject(lost);
    this.recalls.clear();
  }

  /** The server never answered since the start: what waits is shown, and can be added to, all the same. */
  #notReached() {
    this.unreached = true;
    if (this.focusId !== null) this.known(this.focusId);
    for (const { conversationId } of this.outbox.list()) this.known(conversationId);
  }

  // --- told by the app ---

  /**
   * Keep a message durably, then send it. Throws if it is none that the server takes, or if too many wait.
   *
   * @param {string} conversationId
   * @param {string | Payload} message
   * @param {string} clientMsgId
   * @returns {Promise<Sent>}
   */
  send(conversationId, message, clientMsgId) {
    const fields = checkedPayload(message, this.limits.payloadBytes);
    const outcome = this.outbox.submit({ conversationId, clientMsgId, ...fields, atMs: this.serverNow });
    this.parts.changed();
    return outcome;
  }

  /** @param {string} conversationId @param {string} clientMsgId */
  cancel(conversationId, clientMsgId) {
    const outcome = this.outbox.cancel(keyOf({ conversationId, clientMsgId }));
    this.parts.changed();
    return outcome;
  }

  /** @param {string} messageId @returns {Promise<Sent>} */
  recall(messageId) {
    return new Promise((resolve, reject) => {
      const ref = this.#ref("recall");
      if (this.#line().send({ event: "RECALL", messageId, ref })) this.recalls.set(ref, { resolve, reject, messageId });
      else reject(new ChatError("OFFLINE", "Recalling needs a connection.", { retryable: true }));
    });
  }

  /** @param {string} conversationId */
  typing(conversationId) {
    const nowMs = this.parts.now();
    if (nowMs - (this.typedAtMs.get(conversationId) ?? -Infinity) < TYPING_EVERY_MS) return;
    this.typedAtMs.set(conversationId, nowMs);
    this.#line().send({ event: "TYPING", conversationId });
  }

  /** One conversation (or none) goes before all others, and the past that fills a pane is fetched. @param {string | null} conversationId */
  select(conversationId) {
    if (conversationId !== this.focusId) this.viewing(true);
    this.focusId = conversationId;
    const conversation = this.focus;
    if (conversation) {
      this.#fill(conversation);
      this.directory.details(conversation);
    }
    this.parts.changed();
  }

  /** Fetch more of the past. Returns false if no more fits into memory. @param {Conversation} conversation */
  loadOlder(conversation, count = OLDER_COUNT) {
    if (conversation.timeline.shown().length >= KEPT_MAX_READING) return false;
    this.puller.wantOlder(conversation.id, count);
    return true;
  }

  /** Whether the newest message is in view. While the user reads the past of the first conversation, more of it is kept. @param {boolean} atEnd */
  viewing(atEnd) {
    this.readsPast = !atEnd;
    if (this.focus) this.#trim(this.focus);
  }

  /** The user has read up to here, or all that is loaded. Said now or once there is a connection. @param {string} conversationId @param {number} [upToSeq] */
  markRead(conversationId, upToSeq) {
    const conversation = this.conversations.get(conversationId);
    if (!conversation?.loaded || conversation.left) return;
    const { upTo } = conversation.timeline;
    const seq = Math.min(upToSeq ?? upTo, upTo);
    if (seq <= Math.max(conversation.readSeq, conversation.wantedReadSeq)) return;
    conversation.wantedReadSeq = seq;
    if (this.cursors.read(conversation, seq)) conversation.readSeq = seq;
    this.keeper.changed(conversation);
    this.keeper.flush();
    this.parts.changed();
  }

  /** Ask the server for a conversation. @param {object} fields @returns {Promise<Conversation>} */
  async create(fields) {
    const answer = await this.parts.api.createConversation(fields);
    const conversation = this.known(answer.conversationId);
    conversation.type = answer.type;
    conversation.ofLog(answer.epoch, answer.headSeq);
    conversation.timeline.reach(answer.headSeq);
    describe(conversation, answer);
    this.puller.wantTail(conversation.id);
    this.parts.changed();
    return conversation;
  }

  /** The user's devices are not woken for a conversation until then. @param {string} conversationId @param {number} untilMs 0: they are */
  muted(conversationId, untilMs) {
    const conversation = this.conversations.get(conversationId);
    if (!conversation) return;
    conversation.mutedUntil = untilMs;
    this.keeper.changed(conversation);
    this.keeper.flush();
    this.parts.changed();
  }

  /** Whether the user is at this device; it holds for later connections too. @param {"ONLINE" | "AWAY"} state */
  setPresence(state) {
    if (state !== this.presence) this.#line().send({ event: "PRESENCE", state, ref: PRESENCE_REF });
    this.presence = state;
  }

  // --- events ---

  /** @param {WireEvent} event */
  heads(event) {
    for (const row of event.conversations) {
      this.headsSeen.add(row.conversationId);
      const conversation = this.known(row.conversationId);
      conversation.head(row, row.conversationId === this.focusId);
      if (row.headSeq === 0) conversation.loaded = true;
      const wantedSeq = Math.max(conversation.readSeq, conversation.wantedReadSeq);
      if (wantedSeq > row.readSeq && this.cursors.read(conversation, wantedSeq)) conversation.readSeq = wantedSeq;
      this.#mayAck(conversation);
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
    if (this.focus) this.select(this.focusId);
    this.puller.pump();
    this.#lookCaughtUp();
  }

  /** @param {WireEvent} ack */
  acknowledged(ack) {
    const recall = this.recalls.get(ack.ref);
    if (recall) return this.#recalled(ack, recall);
    const key = keyOf(/** @type {any} */ (ack));
    const known = this.outbox.find(key);
    const fields = sentOf(ack);
    const send = this.outbox.resolve(key, fields);
    const payload = ack.payload ?? known?.payload; // what a moderator had stored instead
    if (!payload) return this.#reach(ack.conversationId, ack.epoch, ack.seq);
    if (send) this.#sent(this.known(ack.conversationId), send, fields);
    this.#accept({ ...entryOf(ack), senderId: this.me, payload, clientMsgId: ack.clientMsgId });
  }

  /** @param {WireEvent} ack @param {{resolve: (sent: Sent) => void, messageId: string}} recall */
  #recalled(ack, { resolve, messageId }) {
    this.recalls.delete(ack.ref);
    resolve(/** @type {Sent} */ ({ conversationId: ack.conversationId, clientMsgId: "", ...sentOf(ack) }));
    const { timeline } = this.known(ack.conversationId);
    const target = timeline.shown(this.me).find((entry) => entry.messageId === messageId);
    const seq = target?.seq;
    if (seq === undefined) return this.#reach(ack.conversationId, ack.epoch, ack.seq); // its page brings the entry
    this.#accept({ ...entryOf(ack), senderId: this.me, payload: { type: "RECALL", messageId, seq, by: this.me } });
  }

  /** @param {WireEvent} event */
  pushed(event) {
    this.#joinedAgain(event.conversationId);
    const { senderId, payload, clientMsgId } = event;
    this.#accept({ ...entryOf(event), senderId, payload, ...(clientMsgId !== undefined && { clientMsgId }) });
  }

  /** @param {Message} entry */
  #accept(entry) {
    const conversation = this.known(entry.conversationId);
    this.headsSeen.add(entry.conversationId);
    this.#resolveOwn(conversation, entry);
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
    const conversation = this.conversations.get(conversationId);
    if (!conversation?.left) return;
    conversation.left = false;
    this.headsSeen.add(conversationId);
    this.#membersChanged(conversation);
    if (!this.catchingUp) this.puller.wantTail(conversationId);
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
    this.directory.refresh();
    if (conversation.id === this.focusId) this.directory.details(conversation);
  }

  /** @param {Conversation} conversation @param {Message} entry */
  #resolveOwn(conversation, entry) {
    if (entry.senderId !== this.me || entry.clientMsgId === undefined) return;
    const send = this.outbox.resolve(keyOf(/** @type {any} */ (entry)), sentOf(entry), false);
    if (send) this.#sent(conversation, send, sentOf(entry));
  }

  /** @param {Conversation} conversation @param {import("./types.js").PendingSend} send @param {ReturnType<typeof sentOf>} fields */
  #sent(conversation, { conversationId, clientMsgId, payload }, fields) {
    conversation.sentSeqs.add(fields.seq);
    this.parts.emit("sent", { conversationId, payload, ...fields, clientMsgId });
  }

  /** BEHIND: the log is longer than what is here. @param {WireEvent} event */
  behind({ conversationId, epoch, headSeq }) {
    this.#joinedAgain(conversationId);
    this.headsSeen.add(conversationId);
    this.#reach(conversationId, epoch, headSeq);
    this.puller.wantTail(conversationId);
  }

  /** @param {string} conversationId @param {string} epoch @param {number} seq */
  #reach(conversationId, epoch, seq) {
    const conversation = this.known(conversationId);
    if (!this.#isOfLog(conversation, epoch)) return;
    conversation.timeline.reach(seq);
    this.#afterMove(conversation);
  }

  /** @param {WireEvent} event */
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
    this.keeper.changed(conversation);
    const { event: _, ...receipt } = event;
    this.parts.emit("receipt", receipt);
  }

  /** @param {WireEvent} event */
  conversationChanged({ conversationId, type, change }) {
    const conversation = this.known(conversationId);
    conversation.type = type;
    conversation.left = change === "LEFT";
    conversation.memberIds = null;
    if (conversation.left) this.headsSeen.delete(conversation.id);
    else this.headsSeen.add(conversation.id);
    if (!conversation.left) this.puller.wantTail(conversation.id);
    this.directory.refresh();
    this.keeper.changed(conversation);
    this.parts.emit("conversation", { conversationId, change });
  }

  /** @param {WireEvent} event */
  typedBy({ conversationId, userId }) {
    if (userId === this.me) return;
    this.conversations.get(conversationId)?.typed(userId, this.parts.now());
    this.parts.emit("typing", { conversationId, userId });
  }

  /** @param {WireEvent} event */
  refused(event) {
    if (event.ref === PRESENCE_REF || this.puller.error(event)) return;
    if (this.cursors.refused(event, this.conversations.get(event.conversationId))) return;
    const error = errorOf(event);
    const recall = this.recalls.get(event.ref);
    this.recalls.delete(event.ref);
    if (recall) return recall.reject(error);
    const send = this.outbox.find(keyOf(/** @type {any} */ (event)));
    if (send) this.#sendRefused(send, error, event.reason !== REVIEWED);
    else if (error.code !== "RATE_LIMITED") this.parts.emit("error", { error }); // typing too often is no news
  }

  /** @param {import("./types.js").PendingSend} send @param {ChatError} error @param {boolean} answered */
  #sendRefused(send, error, answered) {
    const key = keyOf(send);
    if (error.code === "HELD") this.#held(send, error);
    else if (error.retryable) this.outbox.putBack(key, error);
    else this.#failed(key, error, answered);
  }

  /** @param {import("./types.js").PendingSend} send @param {ChatError} error */
  #held(send, error) {
    const { conversationId, clientMsgId } = send;
    if (this.outbox.hold(keyOf(send), error.retryAfterMs)) this.parts.emit("held", { conversationId, clientMsgId });
  }

  /** @param {string} key @param {ChatError} error */
  #failed(key, error, answered = true) {
    const send = this.outbox.fail(key, error, answered);
    if (!send) return; // the log has shown it all the same
    const { conversationId, clientMsgId, payload } = send;
    this.parts.emit("failed", { conversationId, clientMsgId, payload, error });
  }

  // --- pulling what is missing ---

  /** After anything that may have moved a log: tell the app, keep and confirm what is new, and look for what is missing.
   * @param {Conversation} conversation */
  #afterMove(conversation) {
    this.#tell(conversation);
    this.#mayAck(conversation);
    this.#trim(conversation);
    if (conversation.left) return;
    if (conversation.loaded) this.puller.watchGap(conversation);
    else if (!this.catchingUp) this.puller.wantTail(conversation.id);
  }

  /** @param {Conversation} conversation */
  #mayAck(conversation) {
    this.keeper.changed(conversation);
    this.cursors.ackSoon(conversation);
  }

  /** What got its place and is not known to the app, in order. @param {Conversation} conversation */
  #tell(conversation) {
    for (const message of conversation.timeline.takePlaced()) {
      const live = conversation.pushedSeqs.delete(message.seq);
      const isKnown = conversation.sentSeqs.delete(message.seq) || message.seq <= conversation.toldSeq;
      conversation.toldSeq = Math.max(conversation.toldSeq, message.seq);
      if (message.payload.type === "RECALL" && conversation.recalled(message.payload.seq)) this.directory.refresh();
      if (!isKnown) this.parts.emit(...toldOf(message, live));
    }
  }

  /** @param {Conversation} conversation */
  #fill(conversation) {
    const count = conversation.tooShort;
    if (count > 0 && conversation.timeline.hasOlder) this.puller.wantOlder(conversation.id, count);
  }

  /** Keep the newest entries; older ones are there to be loaded again. @param {Conversation} conversation */
  #trim(conversation) {
    const isRead = this.readsPast && conversation.id === this.focusId;
    conversation.timeline.trim(isRead ? KEPT_MAX_READING : KEPT_MAX);
  }

  /** @param {Conversation} conversation @param {Message[]} messages @param {boolean} isWhole */
  #arrived(conversation, messages, isWhole) {
    for (const entry of messages) this.#resolveOwn(conversation, entry);
    this.#renewed(conversation);
    this.#tell(conversation);
    this.#trim(conversation);
    this.keeper.changed(conversation);
    if (!isWhole) return;
    conversation.loaded = true;
    if (conversation.id === this.focusId) this.#fill(conversation);
    this.#mayAck(conversation);
    this.#lookCaughtUp();
  }

  /** After another log came: what this one has too is known and, as far as it was read, read. @param {Conversation} conversation */
  #renewed(conversation) {
    const { id: conversationId, readBefore, timeline } = conversation;
    if (conversation.isReplaced && !conversation.isBeingCompared) {
      conversation.isReplaced = false;
      conversation.toldSeq = timeline.commonSeq || Math.min(conversation.toldSeq, timeline.floor);
      this.parts.emit("epoch", { conversationId, epoch: timeline.epoch, keptSeq: timeline.commonSeq });
    }
    if (readBefore > conversation.readSeq && this.cursors.read(conversation, readBefore)) conversation.readSeq = readBefore;
  }

  #lookCaughtUp() {
    if (this.catchingUp || this.isCaughtUp) return;
    for (const { left, loaded, timeline } of this.conversations.values()) {
      if (!left && (!loaded || timeline.missingAfter() !== null)) return;
    }
    this.isCaughtUp = true;
    this.parts.emit("caughtup", {});
  }

  /** @param {Conversation} conversation @param {WireEvent} error */
  #syncRefused(conversation, error) {
    if (error.code === "NOT_FOUND") conversation.left = true;
    else this.parts.emit("error", { conversationId: conversation.id, error: errorOf(error) });
  }

  /** @param {Conversation} [conversation] */
  #described(conversation) {
    if (conversation) this.keeper.changed(conversation);
    else this.keeper.flush();
    this.parts.changed();
  }

  /** @param {unknown} cause */
  #storeFailed(cause) {
    if (this.hasStoreFailed) return; // said once; each save tries it anew
    this.hasStoreFailed = true;
    this.parts.emit("error", { error: new ChatError("STORAGE", "The browser cannot keep messages; they are read anew from the server.", { cause }) });
  }

  /** The conversation with this id, made where it is new. @param {string} conversationId */
  known(conversationId) {
    const known = this.conversations.get(conversationId);
    if (known) return known;
    if (this.conversations.size >= CONVERSATIONS_MAX) throw new ChatError("QUEUE_FULL", `${CONVERSATIONS_MAX} conversations are here already.`);
    const made = new Conversation(conversationId, this);
    this.conversations.set(conversationId, made);
    return made;
  }

  /** @param {string} kind */
  #ref(kind) {
    this.refs += 1;
    return `${kind}:${this.refs}`;
  }
}

/** @type {Record<string, (session: Session, event: WireEvent) => void>} */
const HANDLERS = {
  HEADS: (session, event) => session.heads(event),
  MSG_ACK: (session, event) => session.acknowledged(event),
  NEW_MSG: (session, event) => session.pushed(event),
  RECEIPT: (session, event) => session.receipt(event),
  SYNC_PAGE: (session, event) => session.puller.page(event),
  BEHIND: (session, event) => session.behind(event),
  CONVERSATION: (session, event) => session.conversationChanged(event),
  TYPING: (session, event) => session.typedBy(event),
  PRESENCE: (session, { event, ...presence }) => session.parts.emit("presence", presence),
  TOKEN_EXPIRING: (session, event) => session.parts.tokenExpiring(event.expiresTs),
  AUTH_OK: (session, event) => session.parts.emit("renewed", { expiresTs: event.expiresTs }),
  ERROR: (session, event) => session.refused(event),
};
