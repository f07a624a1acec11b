// When each message of the outbox goes out, and what an answer means. Each conversation is a lane, first in, first out. A
// lane that met a retryable refusal stands still until the wait is over and every answer under way has come; then the
// refused message goes first and the rest follow, so that a sender's order survives. The rules are those of
// core/resend.py. No DOM. Owned by session.js, which tells it what was answered; tested in tests/browser/units.

import { nextDelay } from "./wire.js";

const ANSWER_WAIT_MS = 60_000;

class Lane {
  inFlight = new Map(); // clientMsgId: the timer that gives the answer up
  isPaused = false;
  refusals = 0;
  pause = null; // {timer, untilMs} while the wait lasts

  get isOpen() {
    return !this.isPaused || (this.pause === null && this.inFlight.size === 0);
  }
}

export class Resend {
  #lanes = new Map();

  /**
   * @param {{outbox, connection, now: Function, random: Function, setTimeout: Function, clearTimeout: Function}} parts the
   *   outbox bounds how many messages there are
   */
  constructor(parts) {
    this.parts = parts;
  }

  /** Send whatever may go now, oldest first. */
  pump() {
    for (const item of this.parts.outbox.pending()) {
      const lane = this.#lane(item.conversationId);
      if (lane.inFlight.has(item.clientMsgId) || !lane.isOpen) continue;
      const { conversationId, clientMsgId, payload } = item;
      if (!this.parts.connection.send({ event: "SEND_MSG", conversationId, clientMsgId, payload })) return;
      lane.isPaused = false;
      lane.inFlight.set(clientMsgId, this.parts.setTimeout(() => this.parts.connection.restart(), ANSWER_WAIT_MS));
    }
  }

  /** A message left the outbox, or was refused for good: whatever stood behind it may go. */
  answered({ conversationId, clientMsgId }) {
    const lane = this.#lane(conversationId);
    if (this.#landed(lane, clientMsgId)) lane.refusals = 0;
    if (this.parts.outbox.pending(conversationId).length === 0) this.#forget(conversationId, lane);
    this.pump();
  }

  /** A retryable refusal: the message waits again in its old place, and its conversation pauses. */
  refused({ conversationId, clientMsgId }, retryAfterMs) {
    const lane = this.#lane(conversationId);
    if (!this.#landed(lane, clientMsgId)) return;
    if (!lane.isPaused) lane.refusals += 1; // those that were refused along with the first say nothing new
    lane.isPaused = true;
    this.#wait(lane, nextDelay(lane.refusals, this.parts.random(), retryAfterMs));
  }

  /** The connection is gone: whatever was under way may be lost and waits again. Pauses keep their end. */
  disconnected() {
    for (const lane of this.#lanes.values()) {
      for (const clientMsgId of [...lane.inFlight.keys()]) this.#landed(lane, clientMsgId);
    }
  }

  #wait(lane, delayMs) {
    const untilMs = this.parts.now() + delayMs;
    if (lane.pause !== null && lane.pause.untilMs >= untilMs) return;
    if (lane.pause !== null) this.parts.clearTimeout(lane.pause.timer);
    const end = () => {
      lane.pause = null;
      this.pump();
    };
    lane.pause = { timer: this.parts.setTimeout(end, delayMs), untilMs };
  }

  #landed(lane, clientMsgId) {
    if (!lane.inFlight.has(clientMsgId)) return false;
    this.parts.clearTimeout(lane.inFlight.get(clientMsgId));
    return lane.inFlight.delete(clientMsgId);
  }

  #forget(conversationId, lane) {
    if (lane.pause !== null) this.parts.clearTimeout(lane.pause.timer);
    this.#lanes.delete(conversationId);
  }

  #lane(conversationId) {
    const lane = this.#lanes.get(conversationId) ?? new Lane();
    this.#lanes.set(conversationId, lane);
    return lane;
  }
}
