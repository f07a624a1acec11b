// When each message of the outbox goes out, and what an answer means. Each conversation is a lane, first in, first out. A
// lane that met a retryable refusal stands still until the wait is over and every answer under way has come; then the
// refused message goes first and the rest follow, so that a sender's order survives. That holds even if the log has
// meanwhile shown that the refused message is stored: until its key comes again, the server refuses the rest of its
// conversation. A lane that was too fast for the server goes on one message at a time, no faster than the server said,
// until it is empty. The rules are those of core/resend.py. No DOM. Owned by session.js, which says what was answered;
// tested in tests/browser/units.

import { nextDelay } from "./wire.js";

const ANSWER_WAIT_MS = 60_000;
const WINDOW = 256; // messages under way at once
const PACE_MAX_MS = 10_000;
const SLOWER = 2;
const FASTER = 0.9;

class Lane {
  inFlight = new Map(); // clientMsgId: the timer that gives the answer up
  owed = new Map(); // clientMsgId: an item that the log has shown, while this connection's server still awaits or owes it
  refused = new Set(); // clientMsgIds that this connection's server refused and awaits
  isPaused = false;
  refusals = 0;
  pause = null; // {timer, untilMs} while the wait lasts
  askedMs = 0;
  paceMs = 0;

  get isOpen() {
    return this.pause === null && (!this.isPaused || this.inFlight.size === 0);
  }

  isOwed(clientMsgId) {
    return this.inFlight.has(clientMsgId) || this.refused.has(clientMsgId);
  }

  /** A try failed. What was under way together is one try: its refusals count once. */
  failed() {
    if (!this.isPaused) this.refusals += 1;
    this.isPaused = true;
  }

  /** Keep at least this time between two; twice the former time if the lane kept to one already. */
  tooFast(askedMs) {
    this.askedMs = Math.min(Math.max(this.askedMs, askedMs), PACE_MAX_MS);
    const formerMs = this.isPaused ? this.paceMs : this.paceMs * SLOWER;
    this.paceMs = Math.min(Math.max(this.askedMs, formerMs), PACE_MAX_MS);
  }

  /** A message got through: a pace that was made slower than the server asked for recovers. */
  succeeded() {
    this.refusals = 0;
    this.paceMs = Math.max(this.askedMs, this.paceMs * FASTER);
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
    let room = WINDOW - this.#count((lane) => lane.inFlight.size);
    for (const item of this.#waiting()) {
      const lane = this.#lane(item.conversationId);
      if (lane.inFlight.has(item.clientMsgId) || !lane.isOpen) continue;
      if (room <= 0 || !this.#send(lane, item)) return;
      room -= 1;
    }
  }

  /** The item that an answer under this key is for: it waits in the outbox, or the log has shown it already. */
  find(conversationId, clientMsgId) {
    return this.parts.outbox.find(clientMsgId) ?? this.#lanes.get(conversationId)?.owed.get(clientMsgId);
  }

  /** The server answered it for good: whatever stood behind it may go. */
  answered({ conversationId, clientMsgId }) {
    const lane = this.#lane(conversationId);
    if (this.#landed(lane, clientMsgId)) lane.succeeded();
    lane.refused.delete(clientMsgId);
    lane.owed.delete(clientMsgId);
    this.#forgetIfEmpty(conversationId, lane);
    this.pump();
  }

  /** The log has shown it, so it left the outbox; an answer that is still owed is waited for. */
  shown(item) {
    const lane = this.#lane(item.conversationId);
    if (lane.isOwed(item.clientMsgId)) lane.owed.set(item.clientMsgId, item);
    this.#forgetIfEmpty(item.conversationId, lane);
    this.pump();
  }

  /** A retryable refusal: the message waits again in its old place, and its conversation pauses. */
  refused({ conversationId, clientMsgId }, { code, retryAfterMs }) {
    const lane = this.#lane(conversationId);
    if (!this.#landed(lane, clientMsgId)) return;
    if (code === "RATE_LIMITED" && Number.isFinite(retryAfterMs)) lane.tooFast(retryAfterMs);
    lane.failed();
    lane.refused.add(clientMsgId);
    this.#wait(lane, nextDelay(lane.refusals, this.parts.random(), retryAfterMs));
  }

  /**
   * The connection is gone: whatever was under way may be lost and waits again. Pauses keep their end. The next server
   * awaits nothing and owes nothing.
   */
  disconnected() {
    for (const [conversationId, lane] of this.#lanes) {
      for (const clientMsgId of [...lane.inFlight.keys()]) this.#landed(lane, clientMsgId);
      lane.refused.clear();
      lane.owed.clear();
      this.#forgetIfEmpty(conversationId, lane);
    }
  }

  #waiting() {
    const owed = [...this.#lanes.values()].flatMap((lane) => [...lane.owed.values()]);
    return [...owed, ...this.parts.outbox.pending()].sort((a, b) => a.order - b.order);
  }

  #send(lane, { conversationId, clientMsgId, payload }) {
    if (!this.parts.connection.send({ event: "SEND_MSG", conversationId, clientMsgId, payload })) return false;
    lane.isPaused = false;
    lane.inFlight.set(clientMsgId, this.parts.setTimeout(() => this.parts.connection.restart(), ANSWER_WAIT_MS));
    if (lane.paceMs > 0) this.#wait(lane, lane.paceMs);
    return true;
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

  #forgetIfEmpty(conversationId, lane) {
    const isEmpty = lane.inFlight.size === 0 && lane.owed.size === 0;
    if (!isEmpty || this.parts.outbox.pending(conversationId).length > 0) return;
    if (lane.pause !== null) this.parts.clearTimeout(lane.pause.timer);
    this.#lanes.delete(conversationId);
  }

  #count(each) {
    return [...this.#lanes.values()].reduce((sum, lane) => sum + each(lane), 0);
  }

  #lane(conversationId) {
    const lane = this.#lanes.get(conversationId) ?? new Lane();
    this.#lanes.set(conversationId, lane);
    return lane;
  }
}
