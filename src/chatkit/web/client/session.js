// The running chat: joins what a client is made of, and hands each event of the server to whom it concerns. What the logs mean is
// logs.js's business, what is answered to own messages that of answers.js. No DOM. Made by client.js, which is its face for apps.

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */

import { Answers } from "./answers.js";
import { Conversation } from "./conversation.js";
import { Cursors } from "./cursors.js";
import { describe, Directory } from "./directory.js";
import { ChatError, errorOf } from "./errors.js";
import { Keeper } from "./keeper.js";
import { Logs } from "./logs.js";
import { Outbox } from "./outbox.js";
import { Requests } from "./requests.js";
import { keyOf } from "./resend.js";
import { checkedPayload, PAYLOAD_BYTES_MAX } from "./validate.js";

const TYPING_EVERY_MS = 3_000;
const CONVERSATIONS_MAX = 20_000;
const PRESENCE_REF = "presence"; // refused where presence is off, which is no news to the app

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
  /** @type {Map<string, Conversation>} */
  conversations = new Map();
  /** @type {string | null} the one that goes before all others */
  focusId = null;
  /** @type {"ONLINE" | "AWAY"} what the app says of the user; each connection begins as ONLINE */
  presence = "ONLINE";
  readsPast = false;
  hasStoreFailed = false;
  /** @type {Map<string, number>} by conversation */
  typedAtMs = new Map();

  /**
   * @param {import("./types.js").Ports & {connection: import("./types.js").Line,
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
    /** @param {string} id */
    const known = (id) => this.known(id);
    this.requests = new Requests(shared);
    this.answers = new Answers({ ...shared, outbox: this.outbox, requests: this.requests }, { me: () => this.me, known });
    const { keeper, cursors, directory, answers } = this;
    this.logs = new Logs({ ...shared, keeper, cursors, directory, answers }, {
      conversations: this.conversations,
      known,
      focusId: () => this.focusId,
      readsPast: () => this.readsPast,
      complete: () => this.#complete(),
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

  /** Messages with what is known of the streams among them. @param {import("./types.js").Message[]} messages
   * @returns {import("./types.js").Message[]} */
  shown(messages) {
    return this.logs.streams.shown(messages);
  }

  /** Go on with what the store kept. @param {string} userId @param {import("./types.js").Loaded} loaded */
  restore(userId, { pending, conversations }) {
    this.me = userId;
    this.outbox.restore(pending);
    for (const { record, messages } of conversations) {
      this.known(record.id).restore(record, messages);
      for (const message of this.known(record.id).messages) this.logs.streams.see(message);
    }
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
    this.logs.connected();
    this.outbox.connected();
    if (this.presence === "AWAY") this.#line().send({ event: "PRESENCE", state: "AWAY", ref: PRESENCE_REF });
  }

  /** @param {number} [code] */
  #offline(code) {
    this.logs.puller.reset();
    this.answers.disconnected(code);
    this.cursors.disconnected();
  }

  /** All heads of this connection are here. */
  #complete() {
    this.ready = true;
    this.unreached = false;
    this.directory.refresh();
    if (this.focus) this.select(this.focusId);
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

  /** @param {string} messageId @returns {Promise<Sent>} */
  recall(messageId) {
    return this.requests.ask({ event: "RECALL", messageId });
  }

  /** @param {string} conversationId @param {string} clientMsgId */
  cancel(conversationId, clientMsgId) {
    const outcome = this.outbox.cancel(keyOf({ conversationId, clientMsgId }));
    this.parts.changed();
    return outcome;
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
      this.logs.fill(conversation);
      this.directory.details(conversation);
    }
    this.parts.changed();
  }

  /** Whether the newest message is in view. While the user reads the past of the first conversation, more of it is kept. @param {boolean} atEnd */
  viewing(atEnd) {
    this.readsPast = !atEnd;
    if (this.focus) this.logs.trim(this.focus);
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
    this.logs.puller.wantTail(conversation.id);
    this.parts.changed();
    return conversation;
  }

  /** The user's devices are not woken for a conversation until then. @param {string} conversationId @param {number} untilMs 0: they are
   * @param {"ALL" | "MENTIONS" | "NONE"} notify what wakes them all the same */
  muted(conversationId, untilMs, notify) {
    const conversation = this.conversations.get(conversationId);
    if (!conversation) return;
    conversation.mutedUntil = untilMs;
    conversation.notify = notify;
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

  /** @param {WireEvent} ack */
  acknowledged(ack) {
    const entry = this.answers.acknowledged(ack);
    if (entry) this.logs.accept(entry);
    else this.logs.reach(ack.conversationId, ack.epoch, ack.seq);
  }

  /** @param {WireEvent} event */
  refused(event) {
    if (event.ref === PRESENCE_REF || this.logs.puller.error(event)) return;
    if (this.cursors.refused(event, this.conversations.get(event.conversationId)) || this.answers.refused(event)) return;
    if (event.code !== "RATE_LIMITED") this.parts.emit("error", { error: errorOf(event) }); // typing too often is no news
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
  typedBy({ conversationId, userId }) {
    if (userId === this.me) return;
    this.conversations.get(conversationId)?.typed(userId, this.parts.now());
    this.parts.emit("typing", { conversationId, userId });
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

  /** The conversation with this id, made where it is new. @param {string} conversationId @returns {Conversation} */
  known(conversationId) {
    const known = this.conversations.get(conversationId);
    if (known) return known;
    if (this.conversations.size >= CONVERSATIONS_MAX) throw new ChatError("QUEUE_FULL", `${CONVERSATIONS_MAX} conversations are here already.`);
    const made = new Conversation(conversationId, this);
    this.conversations.set(conversationId, made);
    return made;
  }
}

/** @type {Record<string, (session: Session, event: WireEvent) => void>} */
const HANDLERS = {
  HEADS: (session, event) => session.logs.heads(event),
  MSG_ACK: (session, event) => session.acknowledged(event),
  NEW_MSG: (session, event) => session.logs.pushed(event),
  RECEIPT: (session, event) => session.receipt(event),
  STREAM_ACK: (session, event) => session.requests.take(event)?.resolve(event),
  STREAM_PART: (session, event) => session.logs.grew(event),
  SYNC_PAGE: (session, event) => session.logs.puller.page(event),
  BEHIND: (session, event) => session.logs.behind(event),
  CONVERSATION: (session, event) => session.logs.changed(event),
  TYPING: (session, event) => session.typedBy(event),
  PRESENCE: (session, { event, ...presence }) => session.parts.emit("presence", presence),
  TOKEN_EXPIRING: (session, event) => session.parts.tokenExpiring(event.expiresTs),
  AUTH_OK: (session, event) => session.parts.emit("renewed", { expiresTs: event.expiresTs }),
  ERROR: (session, event) => session.refused(event),
};
