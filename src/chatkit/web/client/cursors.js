// Delivered and read cursors on their way to the server. What is delivered waits a moment for more of it, or for something else
// that leaves. Neither has an answer: what a cut loses is found again from the next HEADS, what is refused for now is said
// again after a wait. No DOM. Owned by session.js, which says when they move.

/** @typedef {import("./conversation.js").Conversation} Conversation */

import { nextDelay } from "./backoff.js";

const DELIVERED_REF = "delivered";
const READ_REF = "read";
const CONFIRM_WAIT_MS = 50;
const REFUSED_ATTEMPT = 2; // nothing tells which try succeeded, so the wait does not grow

export class Cursors {
  /** @type {Set<Conversation>} */
  #due = new Set();
  /** @type {any} */
  #timer = null;
  /** @type {Map<string, any>} timers by what was refused */
  #again = new Map();

  /** @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /** Confirm what is stored of a conversation, with whatever leaves next or in a moment. @param {Conversation} conversation */
  ackSoon(conversation) {
    if (!isNews(conversation)) return;
    if (this.#due.size === 0) this.#timer = this.parts.setTimeout(() => this.flush(), CONFIRM_WAIT_MS);
    this.#due.add(conversation);
  }

  /** Something leaves, or the moment is over: what waits goes along. */
  flush() {
    if (this.#due.size === 0) return;
    const due = [...this.#due];
    this.#due.clear();
    this.parts.clearTimeout(this.#timer);
    for (const conversation of due) if (isNews(conversation)) this.#deliver(conversation);
  }

  /** The user has read up to here. Returns whether it was handed to the connection. @param {{id: string}} conversation @param {number} upToSeq */
  read({ id }, upToSeq) {
    return this.parts.line.send({ event: "READ", conversationId: id, upToSeq, ref: READ_REF });
  }

  /**
   * Take an ERROR; returns whether it was about a cursor. One refused for good stays unsaid until the next HEADS.
   *
   * @param {import("./types.js").WireEvent} error
   * @param {Conversation | undefined} conversation
   */
  refused(error, conversation) {
    if (error.ref !== DELIVERED_REF && error.ref !== READ_REF) return false;
    const key = `${error.ref} ${error.conversationId}`;
    if (!conversation || !error.retryable || this.#again.has(key)) return true;
    const again = () => {
      this.#again.delete(key);
      if (!conversation.left) this.#repeat(error.ref, conversation);
    };
    const delay = nextDelay(REFUSED_ATTEMPT, this.parts.random(), error.retryAfterMs);
    this.#again.set(key, this.parts.setTimeout(again, delay));
    return true;
  }

  /** Whatever was on its way comes again from the next HEADS. */
  disconnected() {
    for (const timer of this.#again.values()) this.parts.clearTimeout(timer);
    this.#again.clear();
    this.#due.clear();
    this.parts.clearTimeout(this.#timer);
  }

  /** @param {string} ref @param {Conversation} conversation */
  #repeat(ref, conversation) {
    if (ref === DELIVERED_REF && conversation.loaded) this.#deliver(conversation);
    if (ref === READ_REF && conversation.readSeq > 0) this.read(conversation, conversation.readSeq);
  }

  /** @param {Conversation} conversation */
  #deliver(conversation) {
    const upToSeq = conversation.storedUpTo;
    const event = { event: "DELIVERED_ACK", conversationId: conversation.id, upToSeq, ref: DELIVERED_REF };
    if (this.parts.line.send(event)) conversation.deliveredSeq = upToSeq;
  }
}

/** @param {Conversation} conversation */
function isNews(conversation) {
  return conversation.loaded && !conversation.left && conversation.storedUpTo > conversation.deliveredSeq;
}
