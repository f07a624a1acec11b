// Delivered and read cursors on their way to the server. Neither has an answer: what a cut loses is found again from the next
// HEADS, what is refused for now is said again after a wait. No DOM. Owned by session.js, which says when they move.

import { nextDelay } from "./wire.js";

const DELIVERED_REF = "delivered";
const READ_REF = "read";
const REFUSED_ATTEMPT = 2; // nothing tells which try succeeded, so the wait does not grow

export class Cursors {
  #due = new Set();
  #again = new Map();

  /** @param {{connection, random: Function, setTimeout: Function, clearTimeout: Function}} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /** Confirm what is held of a conversation once this turn is over; many changes are one event. */
  ackSoon(conversation) {
    if (this.#due.size === 0) this.parts.setTimeout(() => this.#acknowledge(), 0);
    this.#due.add(conversation);
  }

  /** The user has read up to here. Returns whether it was handed to the connection. */
  read({ id }, upToSeq) {
    return this.parts.connection.send({ event: "READ", conversationId: id, upToSeq, ref: READ_REF });
  }

  /** Take an ERROR; returns whether it was about a cursor. One refused for good stays unsaid until the next HEADS. */
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
  }

  #repeat(ref, conversation) {
    if (ref === DELIVERED_REF && conversation.loaded) this.#deliver(conversation);
    if (ref === READ_REF && conversation.readSeq > 0) this.read(conversation, conversation.readSeq);
  }

  #acknowledge() {
    for (const conversation of this.#due) {
      const isNews = conversation.timeline.upTo > conversation.deliveredSeq;
      if (conversation.loaded && !conversation.left && isNews) this.#deliver(conversation);
    }
    this.#due.clear();
  }

  #deliver(conversation) {
    const upToSeq = conversation.timeline.upTo;
    const event = { event: "DELIVERED_ACK", conversationId: conversation.id, upToSeq, ref: DELIVERED_REF };
    if (this.parts.connection.send(event)) conversation.deliveredSeq = upToSeq;
  }
}
