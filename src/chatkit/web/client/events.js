// What an app sees happen, as events to listen to and as a stream to iterate over.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./errors.js").ChatError} ChatError */

/**
 * Every event of a client, by its `type`. Events of messages come once each, in the order of their conversation.
 *
 * - `message`: an entry of a log: somebody's message, one's own from another device, or a MEMBER, TITLE or PINNED entry, which
 *   `isUserMessage` tells apart. `live`: it came as it was written, not by catching up.
 * - `sent`: a message of this client is stored on the server; with a `payload` that may be another one than was sent.
 * - `held`: a moderator looks at a message of this client first; `sent` or `failed` follows.
 * - `failed`: refused for good; it stays in `pending()` until `cancel` takes it away.
 * - `recalled`: the message at `seq` was withdrawn.
 * - `edited`, `reaction`: what was said of the message at `seq`, which may be one that the user does not see. `edit.ends`: a streamed
 *   message ended with it, which is no correction.
 * - `streamgrew`: a streamed message grew; `text` is all of it so far. May be lost; a later one says more, and takes the
 *   place of one that waits.
 * - `receipt`, `typing`, `presence`: somebody got further, is writing, came or went. May be lost.
 * - `conversation`: the user's set of conversations changed; with the `change` UPDATED it is one of them that did, such
 *   as its title, a role, or the user's mute.
 * - `epoch`: a log was put back from a backup or replaced: forget what was shown of it above `keptSeq`.
 * - `caughtup`: everything that was missed is here; once per connection.
 * - `status`: the connection is another way now.
 * - `renewed`, `tokenexpiring`: the login was renewed; a fixed token ends at `expiresTs`, see `renew`.
 * - `error`: something went wrong that no call answers for.
 * - `overflow`: this stream was not read for so long that its events were dropped; read `conversations()` anew. Streams only.
 *
 * @typedef {{type: "message", conversationId: string, message: Message, live: boolean}
 *   | {type: "sent", conversationId: string, clientMsgId: string, messageId: string, seq: number, serverTs: number, payload: Payload}
 *   | {type: "held", conversationId: string, clientMsgId: string}
 *   | {type: "failed", conversationId: string, clientMsgId: string, payload: Payload, error: ChatError}
 *   | {type: "recalled", conversationId: string, messageId: string, seq: number, by: string}
 *   | {type: "edited", conversationId: string, messageId: string, seq: number, by: string,
 *       edit: import("./types.js").Edit}
 *   | {type: "streamgrew", conversationId: string, messageId: string, seq: number, parts: number, text: string}
 *   | {type: "reaction", conversationId: string, messageId: string, seq: number, userId: string, reaction: string,
 *       removed: boolean, reactionSeq: number}
 *   | {type: "receipt", conversationId: string, userId?: string, deliveredSeq?: number, readSeq?: number, seq?: number,
 *       deliveredCount?: number, readCount?: number, memberCount?: number}
 *   | {type: "typing", conversationId: string, userId: string}
 *   | {type: "presence", userId: string, state: string, lastSeenTs?: number}
 *   | {type: "conversation", conversationId: string, change: string}
 *   | {type: "epoch", conversationId: string, epoch: string, keptSeq: number}
 *   | {type: "caughtup"}
 *   | {type: "status", status: import("./types.js").Status}
 *   | {type: "renewed", expiresTs: number | null}
 *   | {type: "tokenexpiring", expiresTs: number | null}
 *   | {type: "error", conversationId?: string, error: ChatError}
 *   | {type: "overflow"}} ChatEvent
 */

/** What a listener gets, by the type that it listens to: the event as `detail`; with `change` nothing.
 * @typedef {{[T in Exclude<ChatEvent["type"], "overflow">]: CustomEvent<Extract<ChatEvent, {type: T}>>} & {change: CustomEvent<null>}} ChatEventMap */

/**
 * How editors and `tsc` know what each listener gets.
 *
 * @typedef {object} ChatListening
 * @property {<T extends keyof ChatEventMap>(type: T, listener: ((event: ChatEventMap[T]) => void) | null,
 *   options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<T extends keyof ChatEventMap>(type: T, listener: ((event: ChatEventMap[T]) => void) | null,
 *   options?: boolean | EventListenerOptions) => void} removeEventListener
 */

/** An EventTarget whose events are those of a client. */
export const ChatEventTarget = /** @type {new () => ChatListening & EventTarget} */ (EventTarget);

/** Events that wait for one reader, at most; of a streamed message the newest `streamgrew` alone. */
export const EVENTS_MAX = 10_000;

/** One reader of a client's events, for `for await`. Ends when the client is closed. */
export class EventStream {
  /** @type {Map<unknown, ChatEvent>} by `keyOf`, in their order */
  #waiting = new Map();
  /** @type {((result: IteratorResult<ChatEvent, undefined>) => void)[]} */
  #readers = [];
  #isOver = false;

  /** @param {(stream: EventStream) => void} ended is told when nobody reads any more */
  constructor(ended) {
    this.ended = ended;
  }

  /** @param {ChatEvent} event */
  put(event) {
    const reader = this.#readers.shift();
    if (reader) return reader({ done: false, value: event });
    const key = keyOf(event);
    if (this.#waiting.size >= EVENTS_MAX && !this.#waiting.has(key)) this.#waiting = new Map([["overflow", { type: "overflow" }]]);
    this.#waiting.set(key, event);
  }

  /** Nothing more comes; what waits can still be read. */
  end() {
    this.#isOver = true;
    for (const reader of this.#readers.splice(0)) reader({ done: true, value: undefined });
  }

  /** @returns {Promise<IteratorResult<ChatEvent, undefined>>} */
  next() {
    for (const [key, event] of this.#waiting) {
      this.#waiting.delete(key);
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** The loop was left. @returns {Promise<IteratorResult<ChatEvent, undefined>>} */
  return() {
    this.#waiting.clear();
    this.end();
    this.ended(this);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

/** What takes the place of a waiting event has its key: what a streamed message says now, which is all of it. @param {ChatEvent} event */
function keyOf(event) {
  return event.type === "streamgrew" ? `${event.conversationId} ${event.seq}` : event;
}
