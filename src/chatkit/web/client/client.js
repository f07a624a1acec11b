// The client as an app sees it: makes the parts, joins them, watches the browser for sleep and lost networks, and tells of what
// happens. What the parts do is session.js's business.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */
/** @typedef {import("./types.js").Pending} Pending */
/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {import("./events.js").ChatEvent} ChatEvent */
/** @typedef {{messageId: string, seq: number}} Named */

import { socketUrl, watchBrowser } from "./browser.js";
import { Connection } from "./connection.js";
import { randomId } from "./device.js";
import { ChatError } from "./errors.js";
import { EventFeed } from "./event_feed.js";
import { messagesBefore } from "./history.js";
import { HttpClient } from "./http_client.js";
import { momentMs } from "./search.js";
import { beginStream } from "./message_stream.js";
import { firstToken, openedStore, whoIs } from "./opening.js";
import { Session } from "./session.js";
import { MemoryStore } from "./store_memory.js";
import { checkedClientMsgId, checkedId, checkedMentions, checkedSeq, payloadOf } from "./validate.js";

const HISTORY_MAX = 1_000;

/**
 * @typedef {object} Options
 * @property {string | URL} [url] where the server is: below it lies `/v1`. Left out: where this module came from
 * @property {import("./tokens.js").Token} [token] a token, or a function that makes a fresh one, asked when one is needed; left
 *   out or null: the browser's cookies are the login
 * @property {string} [userId] who the token is for; needed to keep anything where it is no JWT with a `sub`
 * @property {string} [deviceId] left out: the token's, else one for this tab that outlives it
 * @property {import("./types.js").LocalStore} [store] left out: IndexedDB where the browser lets, else memory; not used where nobody
 *   says who the user is
 * @property {typeof WebSocket} [WebSocket] for tests and other hosts
 * @property {typeof fetch} [fetch] likewise; uploads go by it too then, and tell of no progress on the way
 * @property {import("./types.js").Ports} [ports] clock, chance and timers, likewise
 */

/**
 * A user's conversations on this device, kept up to date over one connection that comes back by itself.
 *
 * Nothing that was sent is lost: a message is in the local store before it leaves, and goes out again under the same key until
 * the server has it. Everything that is shown here is shown offline too.
 */
export class ChatClient extends HttpClient {
  /** @type {Options} */
  #options;
  /** @type {import("./types.js").LocalStore} */
  #store = new MemoryStore();
  #session;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Promise<void> | null} */
  #starting = null;
  /** @type {(() => void)[]} */
  #undo = [];
  #feed = new EventFeed(this);
  #isClosed = false;
  #isForgetting = false;
  #deviceId = "";

  /** @param {Options} [options] */
  constructor(options = {}) {
    super(options);
    this.#options = options;
    const client = this;
    /** @type {import("./types.js").Line} */
    const line = {
      get online() {
        return client.#connection?.online ?? false;
      },
      send: (event) => this.#connection?.send(event) ?? false,
      restart: () => this.#connection?.restart(),
    };
    this.#session = new Session({
      ...this.http.ports,
      connection: line,
      api: this.http.api,
      store: {
        save: (changes) => this.#store.save(changes),
        addPending: (send) => this.#store.addPending(send),
        removePending: (sends) => this.#store.removePending(sends),
      },
      emit: (type, detail) => this.#feed.emit(/** @type {ChatEvent} */ ({ type, ...detail })),
      changed: () => this.#feed.changed(),
      tokenExpiring: (expiresTs) => this.#tokenExpiring(expiresTs),
    });
  }

  // --- beginning and end ---

  /**
   * Read what is kept and connect. Once it resolves, `conversations()` shows what was there and `send` queues; the connection
   * may come later, and comes back by itself until `close`. Calling it again is nothing.
   *
   * A token function that fails, or gives nothing, is asked again after growing waits, and each time there is an `error` NO_TOKEN.
   * Without `userId` that is waited for: only the first token says whose messages to show.
   */
  start() {
    if (this.#isClosed) throw closedError();
    this.#starting ??= this.#start();
    return this.#starting;
  }

  /** Give up the connection. What is pending stays in the store, for the next client of this user on this device. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#feed.close();
    this.http.ended.abort(closedError());
    this.#connection?.stop();
    this.#connection = null; // whatever comes late, such as a token, finds none to open
    this.#session.keeper.flush();
    this.#session.outbox.release(closedError());
    for (const undo of this.#undo.splice(0)) undo();
    this.http.timers?.close();
    if (!this.#isForgetting) this.#store.close(); // else `forget` does, once it has deleted
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Close, and delete the messages that this browser keeps, as for signing out; what is pending stays until it is sent. */
  async forget() {
    this.#isForgetting = true;
    this.#connection?.stop();
    try {
      await this.#session.keeper.stop(); // else it would keep messages again
      await this.#store.forget();
    } finally {
      this.close();
      this.#store.close();
    }
  }

  /** A new token in place of the former one, for the connection that is open or the next one; after `loggedOut` it connects.
   * @param {string} token */
  renew(token) {
    this.http.tokens.replace(token);
    this.#connection?.renew(token);
  }

  /** Connect now instead of later; also after `replaced`, `loggedOut` and `refused`. After `close` it is nothing. */
  reconnect() {
    if (this.status.state === "waiting") this.#connection?.hurry();
    else this.#connection?.open();
  }

  // --- what there is ---

  /** The user's id; "" before it is known. */
  get me() {
    return this.#session.me;
  }

  /** The id of this device; "" before `start` has resolved. */
  get deviceId() {
    return this.#deviceId;
  }

  /** How the connection is. */
  get status() {
    return this.#session.status;
  }

  /** Whether it is logged in. */
  get online() {
    return this.#connection?.online ?? false;
  }

  /** Whether the server has told of all conversations since the start; before that only what was kept is there. */
  get ready() {
    return this.#session.ready;
  }

  /** Whether the server could not be reached since the start. */
  get unreached() {
    return this.#session.unreached;
  }

  /** The server's time now, as far as known, in Unix milliseconds. */
  get serverNow() {
    return this.#session.serverNow;
  }

  /** Whether messages outlive this page. */
  get keeps() {
    return !(this.#store instanceof MemoryStore);
  }

  /** The user's conversations, newest activity first, live: `change` says when they are other ones. Those that were left are not
   * among them. @returns {Conversation[]} */
  conversations() {
    const all = [...this.#session.conversations.values()].filter((one) => !one.left);
    return all.sort((a, b) => b.activityTs - a.activityTs || (a.id < b.id ? -1 : 1));
  }

  /** One conversation, live, be it left; undefined if it is not known here. @param {string} conversationId */
  conversation(conversationId) {
    return this.#session.conversations.get(conversationId);
  }

  /** Own messages without an answer, and those refused for good, oldest first. @param {string} [conversationId] @returns {Pending[]} */
  pending(conversationId) {
    return this.#session.outbox.list(conversationId ?? null);
  }

  /**
   * All events from now on, for `for await`; several readers may read. See events.js for what there is.
   *
   * @returns {AsyncIterable<ChatEvent> & AsyncIterator<ChatEvent, undefined>}
   */
  events() {
    return this.#feed.stream();
  }

  // --- what to do ---

  /**
   * Send a message. It is kept and queued when this returns, or once `start` is over, in the order of the calls; the promise is for its
   * answer.
   *
   * @param {string} conversationId
   * @param {string | Payload} message a text, or a payload such as `{ type: "CUSTOM", schema, data, fallbackText }`
   * @param {{replyTo?: Named, mentions?: string[], clientMsgId?: string, signal?: AbortSignal}} [options] `replyTo`: an earlier message
   *   that it answers. `mentions`: up to 50 users whom it mentions, by id, `*` for everybody. `clientMsgId`: the message's key for ever; sending it again gives the same answer. `signal` ends the waiting, not
   *   the sending
   * @returns {Promise<Sent>} stored on the server
   * @throws {ChatError} refused for good; HELD: a moderator looks at it first; STORAGE, QUEUE_FULL, BAD_REQUEST, TOO_LARGE: not
   *   queued; CLOSED: the client was closed, and it stays queued, unless that was before `start` was over
   */
  async send(conversationId, message, { replyTo, mentions, clientMsgId = randomId("w-"), signal } = {}) {
    if (replyTo) message = { ...payloadOf(message), replyTo: refOf(replyTo) };
    if (mentions && mentions.length > 0) message = { ...payloadOf(message), mentions: checkedMentions(mentions) };
    checkedId(conversationId, "conversationId");
    checkedClientMsgId(clientMsgId);
    signal?.throwIfAborted();
    const ended = this.http.ended.signal;
    const queue = () => {
      ended.throwIfAborted();
      return this.#session.send(conversationId, message, clientMsgId);
    };
    const outcome = this.#session.me === "" ? unlessAborted(this.start().then(queue), ended) : queue();
    return signal === undefined ? outcome : unlessAborted(outcome, signal);
  }

  /**
   * Say one's own message in other words. It is sent as a message is, with the same promises and errors.
   *
   * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
   * @param {string | Payload} content what it says now
   * @param {{clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
   */
  edit(message, content, options) {
    return this.send(message.conversationId, { type: "EDIT", ...refOf(message), payload: payloadOf(content) }, options);
  }

  /**
   * Begin a message that grows while it is written, such as the answer of a language model: `await stream.write(...)`, and in the end
   * `await stream.end()`, or `cutOff()` where it will not be finished.
   *
   * Members see it grow (the event `streamgrew`), and who comes later gets the whole. It begins and ends by what `send` does. What is
   * written in between goes out as soon as it can, and is joined where the line is slow. After a cut it goes on where it was. Where
   * nothing is heard of this page for a minute, the server ends it as cut off; `end` still brings all of it, within the time for edits.
   *
   * @param {string} conversationId
   * @param {string} [text] what it begins with
   * @param {{replyTo?: Named, fallbackText?: string, clientMsgId?: string, signal?: AbortSignal}} [options] `fallbackText`: shown by
   *   clients that do not know of streams, until its end; `clientMsgId`: its key for ever, at most 124 characters; its end has the
   *   key with `-end` after it, or `-cut`. A stream that an earlier try began under it goes on without parts: its end is what counts. `signal`
   *   ends the waiting, and takes back a beginning that never left; one that may have left comes as an empty message, which is cut off
   * @returns {Promise<import("./message_stream.js").MessageStream>} once its beginning is durable
   * @throws {ChatError} as `send`
   */
  stream(conversationId, text = "", options = {}) {
    return beginStream(conversationId, text, options, {
      ...this.http.ports,
      ended: this.http.ended.signal,
      online: () => this.#untilOnline(),
      ask: (event) => this.#session.requests.ask(event),
      send: (payload, sending) => this.send(conversationId, payload, sending),
      cancel: (key) => this.cancel(conversationId, key),
      streams: this.#session.logs.streams,
      changed: () => this.#feed.changed(),
    });
  }

  /**
   * React to a message, or (`removed`) do so no more. It is sent as a message is, with the same promises and errors.
   *
   * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
   * @param {string} reaction an emoji, or any other text of 1 to 64 characters
   * @param {{removed?: boolean, clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
   */
  react(message, reaction, { removed = false, ...options } = {}) {
    return this.send(message.conversationId, { type: "REACTION", ...refOf(message), reaction, ...(removed && { removed }) }, options);
  }

  /**
   * Pin a message, or (`pinned: false`) unpin it. It is sent as a message is, with the same promises and errors; `pins` says what is
   * pinned, 50 at most.
   *
   * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
   * @param {{pinned?: boolean, clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
   */
  pin(message, { pinned = true, ...options } = {}) {
    return this.send(message.conversationId, { type: "PINNED", ...refOf(message), pinned }, options);
  }

  /**
   * Take a message back that surely never left, or that was refused for good.
   *
   * @param {string} conversationId
   * @param {string} clientMsgId
   * @returns {"CANCELLED" | "MAY_BE_SENT" | "UNKNOWN"} MAY_BE_SENT: it may be stored on the server; UNKNOWN: nothing has this key
   */
  cancel(conversationId, clientMsgId) {
    return this.#session.cancel(conversationId, clientMsgId);
  }

  /**
   * Messages of the past, ascending: the newest `limit` below `beforeSeq`, or of all. Fetches what is not here, and keeps of it what
   * fits beside the conversation's `messages`; offline it gives what is here, which may be fewer.
   *
   * @param {string} conversationId
   * @param {{beforeSeq?: number, limit?: number}} [options] `limit`: 1 to 1,000, 50 by default
   * @returns {Promise<Message[]>}
   * @throws {ChatError} NOT_FOUND, or what the server refused it with
   */
  async history(conversationId, { beforeSeq = Infinity, limit = 50 } = {}) {
    checkedId(conversationId, "conversationId");
    while (this.online && !this.ready) await this.#feed.nextChange();
    const conversation = this.conversation(conversationId);
    if (!conversation) throw new ChatError("NOT_FOUND", "There is no such conversation here.");
    const wanted = Math.min(Math.max(1, Math.trunc(limit) || 1), HISTORY_MAX);
    return messagesBefore(conversation, beforeSeq, wanted, { session: this.#session, nextChange: () => this.#feed.nextChange(conversationId) });
  }

  /** The user has read up to here, or everything that is loaded. Kept until the server knows. @param {string} conversationId @param {number} [upToSeq] */
  markRead(conversationId, upToSeq) {
    this.#session.markRead(conversationId, upToSeq === undefined ? undefined : checkedSeq(upToSeq));
  }

  /** The user is writing; call it as often as keys are pressed. @param {string} conversationId */
  typing(conversationId) {
    this.#session.typing(conversationId);
  }

  /** Withdraw a message for everybody. @param {string} messageId @returns {Promise<Sent>} of the entry that says so
   * @throws {ChatError} RECALL_WINDOW_PASSED, FORBIDDEN, OFFLINE, NO_ANSWER */
  recall(messageId) {
    return this.#session.recall(messageId);
  }

  /** Begin a conversation; one of the same two people that exists is given instead.
   * @param {{type: "SINGLE" | "GROUP", memberIds: string[], conversationId?: string, title?: string}} fields
   * @returns {Promise<Conversation>} */
  create(fields) {
    return this.#session.create(fields);
  }

  /** Say that somebody looks at this conversation, or with null at none: it is fetched before all others. @param {string | null} conversationId */
  focus(conversationId) {
    this.#session.select(conversationId);
  }

  /** Say whether the newest message of the conversation in focus is in view; while it is not, more of the past is kept. @param {boolean} atEnd */
  viewing(atEnd) {
    this.#session.viewing(atEnd);
  }

  /**
   * Upload a file and send a message that shows it: IMAGE, VOICE, or FILE for all else. Called again with the same `clientMsgId`
   * after it failed, it goes on with the upload where that was cut off, and sends the message once.
   *
   * @param {string} conversationId
   * @param {import("./media.js").Source} source as of `upload`, like `mime`, `name`, `onProgress`
   * @param {{mime?: string, name?: string, onProgress?: import("./media.js").OnProgress, replyTo?: Named, clientMsgId?: string,
   *   signal?: AbortSignal}} [options] the others as of `send`
   * @returns {Promise<Sent>}
   * @throws {ChatError} as `upload` and `send`
   */
  async sendFile(conversationId, source, { replyTo, clientMsgId, ...options } = {}) {
    checkedId(conversationId, "conversationId");
    const uploaded = await this.upload(source, options);
    return this.send(conversationId, uploaded.payload(), { replyTo, clientMsgId, signal: options.signal });
  }

  /** The user's devices are not woken for a conversation. What is unread counts all the same.
   * @param {string} conversationId @param {Date | number | null} [until] when that ends, a Date or Unix milliseconds; left out: never
   * @param {{level?: "MENTIONS" | "NONE"}} [options] `level`: what wakes them all the same, what mentions the user or nothing
   * @returns {Promise<void>} @throws {ChatError} NOT_FOUND, OFFLINE */
  async mute(conversationId, until = null, { level = "NONE" } = {}) {
    const untilMs = until === null ? null : momentMs(until, "until");
    if (level !== "MENTIONS" && level !== "NONE") throw new ChatError("BAD_REQUEST", "level is MENTIONS or NONE");
    await this.http.api.mute(conversationId, untilMs, level);
    this.#session.muted(conversationId, untilMs ?? Number.MAX_SAFE_INTEGER, level);
  }

  /** The user's devices are woken for a conversation again. @param {string} conversationId
   * @returns {Promise<void>} @throws {ChatError} NOT_FOUND, OFFLINE */
  async unmute(conversationId) {
    await this.http.api.unmute(conversationId);
    this.#session.muted(conversationId, 0, "ALL");
  }

  /** Say whether the user is at this device or away from it; it holds for later connections too. A device that says nothing is
   * ONLINE while it is connected. @param {"ONLINE" | "AWAY"} state */
  setPresence(state) {
    if (state !== "ONLINE" && state !== "AWAY") throw new ChatError("BAD_REQUEST", "state is ONLINE or AWAY");
    this.#session.setPresence(state);
  }

  // --- inside ---

  async #start() {
    const { tokens, ports, base, ended } = this.http;
    /** @param {import("./types.js").Status} status */
    const waits = (status) => this.#session.onState(status);
    const token = await firstToken(tokens, ports, { userId: this.#options.userId, waits, ended: ended.signal });
    if (this.#isClosed) return;
    const { userId, deviceId, release } = await whoIs(token, base, this.#options);
    this.#deviceId = deviceId;
    const { store, loaded, error } = await openedStore(this.#options.store, base, userId, deviceId);
    if (this.#isClosed) {
      release();
      return store.close();
    }
    this.#undo.push(release);
    this.#store = store;
    this.#session.restore(userId, loaded);
    this.#connection = new Connection({
      ...ports,
      url: socketUrl(base),
      deviceId,
      tokens,
      WebSocket: this.#options.WebSocket ?? WebSocket,
      onState: (status) => this.#onState(status),
      onEvent: (event) => this.#session.onEvent(event),
    });
    this.#undo.push(watchBrowser(this.#connection));
    this.#connection.open();
    if (error) this.#feed.emit({ type: "error", error });
  }

  /** What is here belongs to whom the app or the token named, else to the first who was welcomed. @param {import("./types.js").Status} status */
  #onState(status) {
    const isOther = status.welcome !== undefined && this.me !== "" && status.welcome.userId !== this.me;
    if (!isOther) return this.#session.onState(status);
    this.#connection?.stop();
    this.#session.onState({ state: "refused", code: 1008, reason: `the server calls this user ${status.welcome?.userId}` });
  }

  /** @param {number} expiresTs */
  #tokenExpiring(expiresTs) {
    if (!this.http.tokens.renewable) return this.#feed.emit({ type: "tokenexpiring", expiresTs });
    Promise.resolve(this.http.tokens.fresh()).then(
      (token) => token !== null && this.#connection?.present(token),
      (error) => this.#feed.emit({ type: "error", error }), // another one is asked for once this one has ended
    );
  }

  /** Resolves once it is logged in. */
  async #untilOnline() {
    while (!this.online) {
      this.http.ended.signal.throwIfAborted();
      await this.#feed.nextChange();
    }
  }
}

/** @param {Named} message @returns {Named} */
function refOf({ messageId, seq }) {
  return { messageId, seq };
}

/** @template T @param {Promise<T>} promise @param {AbortSignal} signal @returns {Promise<T>} */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function closedError() {
  return new ChatError("CLOSED", "The client is closed; what is pending stays queued.");
}
