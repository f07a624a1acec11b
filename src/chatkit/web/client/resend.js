// The client's messages that the server has not acknowledged: what to send next, and what an answer means. Values and `nowMs`
// in, values out. The rules are those of core/resend.py, which explains them; spec/resend.json holds both to them.
//
// Each conversation is a lane, first in, first out; across lanes the oldest goes first. A lane that met a retryable refusal
// stands still until the wait is over and every answer of what was under way has come; then the refused message goes first.
// That holds even if the log has meanwhile shown that the refused message is stored: until its key comes again, the server
// refuses the rest of its conversation. A lane that was too fast goes on one message at a time, no faster than the server
// said, until it is empty. What was under way when several connections in a row ended is suspect, and goes out alone.

/** @typedef {import("./types.js").PendingSend} PendingSend */

import { ChatError } from "./errors.js";

export const PENDING_MAX = 1_000;
export const WINDOW = 256; // messages under way at once

/** With so many bytes under way nothing more is sent: on a slow line everything else would wait behind them. */
export const WINDOW_BYTES = 128 * 1024;

/** A message that was under way when so many connections in a row ended is sent alone. */
export const SUSPECT_AFTER = 3;

const PACE_MAX_MS = 10_000;
const FASTER = 0.9;
const SLOWER = 2;

/** @param {{conversationId: string, clientMsgId: string}} send */
export const keyOf = ({ conversationId, clientMsgId }) => `${conversationId} ${clientMsgId}`;

/** One conversation: what waits, how many are under way, what this connection's server waits for, how fast it takes them. */
class Lane {
  /** @type {Map<number, PendingSend>} by order */
  waiting = new Map();
  /** @type {Set<number>} orders */
  refused = new Set();
  inFlight = 0;
  /** @type {number | null} */
  readyAtMs = null;
  refusals = 0;
  paceMs = 0;
  toldMs = 0;
  nextAtMs = 0;

  /** When the next may be sent; null if an answer must come first. */
  get opensAtMs() {
    if (this.readyAtMs === null) return this.nextAtMs;
    return this.inFlight > 0 ? null : this.readyAtMs;
  }

  /** @param {number} nowMs @returns {PendingSend[]} all that waits, or the first of it where there is a pace to keep */
  sendable(nowMs) {
    const { opensAtMs } = this;
    if (this.waiting.size === 0 || opensAtMs === null || nowMs < opensAtMs) return [];
    return this.paceMs > 0 ? [this.first()] : [...this.waiting.values()];
  }

  first() {
    return /** @type {PendingSend} */ (this.waiting.get(Math.min(...this.waiting.keys())));
  }

  /** Keep at least this time between two; twice the former time if the lane kept to one already. @param {number} toldMs */
  tooFast(toldMs) {
    this.toldMs = Math.min(Math.max(this.toldMs, toldMs), PACE_MAX_MS);
    const formerMs = this.readyAtMs === null ? this.paceMs * SLOWER : this.paceMs;
    this.paceMs = Math.min(Math.max(this.toldMs, formerMs), PACE_MAX_MS);
  }

  /** A message got through: a pace that was made slower than the server asked for recovers. */
  answered() {
    this.inFlight -= 1;
    this.refusals = 0;
    if (this.paceMs > 0) this.paceMs = Math.max(this.toldMs, this.paceMs * FASTER);
  }
}

/** Every unacknowledged message of one client, at most `pendingMax`. */
export class ResendQueue {
  /** @type {Map<string, PendingSend>} */
  #pending = new Map();
  /** @type {Map<string, PendingSend>} shown by the log; this connection still owes the answer */
  #due = new Map();
  /** @type {Map<string, {send: PendingSend, atMs: number}>} */
  #sent = new Map();
  #bytesUnderWay = 0;
  /** @type {Map<string, Lane>} */
  #lanes = new Map();
  /** @type {Set<string>} handed to a connection once, maybe by an earlier page */
  #left = new Set();
  /** @type {Map<string, number>} connections that ended while it was under way, in a row */
  #losses = new Map();
  /** @type {Map<string, PendingSend>} */
  #suspects = new Map();
  /** @type {Map<string, number>} kept for review, and when to ask about it; Infinity while that is under way */
  #held = new Map();

  constructor(pendingMax = PENDING_MAX, window = WINDOW) {
    this.pendingMax = pendingMax;
    this.window = window;
    this.lastOrder = 0;
  }

  get size() {
    return this.#pending.size;
  }

  /** When the longest unanswered message was handed to the connection; null if nothing is under way. */
  get oldestSentAtMs() {
    for (const { atMs } of this.#sent.values()) return atMs;
    return null;
  }

  /** The message that an answer is for: pending, or shown by the log with its answer still owed. @param {string} key */
  find(key) {
    return this.#pending.get(key) ?? this.#due.get(key);
  }

  /** @param {string} key */
  isPending(key) {
    return this.#pending.has(key);
  }

  /** Whether it was handed to a connection, now or by an earlier page: it may be stored already. @param {string} key */
  mayHaveLeft(key) {
    return this.#left.has(key);
  }

  /** @param {string} key */
  isHeld(key) {
    return this.#held.has(key);
  }

  /** How many connections in a row ended while it was under way. @param {string} key */
  losses(key) {
    return this.#losses.get(key) ?? 0;
  }

  /** Raises QUEUE_FULL when another message would go beyond the bound. */
  checkRoom() {
    if (this.size < this.pendingMax) return;
    throw new ChatError("QUEUE_FULL", "Too many messages are waiting. They leave once the connection is back.", { retryable: true });
  }

  /** Queue a new message; the caller has checked for room and for its key. @param {PendingSend} send */
  add(send) {
    this.lastOrder = Math.max(this.lastOrder, send.order);
    this.#pending.set(keyOf(send), send);
    this.#enqueue(send);
  }

  /** Queue what a store kept; the bound does not count here, for nothing stored may be lost. @param {PendingSend[]} sends */
  restore(sends) {
    for (const send of sends) {
      this.add(send);
      this.#left.add(keyOf(send));
    }
  }

  /** @returns {PendingSend[]} every message without an answer, oldest first */
  pending() {
    return [...this.#pending.values()].sort(byOrder);
  }

  /** What to send now, oldest first; it counts as under way from here on. @param {number} nowMs @returns {PendingSend[]} */
  take(nowMs) {
    this.#askAboutHeld(nowMs);
    const taken = this.#mustBeAlone(nowMs) ? this.#alone(nowMs) : this.#next(nowMs);
    for (const send of taken) {
      const lane = this.#lane(send.conversationId);
      lane.readyAtMs = null;
      lane.nextAtMs = nowMs + lane.paceMs;
      lane.waiting.delete(send.order);
      lane.inFlight += 1;
      this.#sent.set(keyOf(send), { send, atMs: nowMs });
      this.#bytesUnderWay += send.sizeBytes;
      this.#left.add(keyOf(send));
    }
    return taken;
  }

  /** The only message under way; null if there is none or more than one, or if the log has shown it. */
  get aloneUnderWay() {
    const [key] = this.#sent.keys();
    return this.#sent.size === 1 && key !== undefined ? (this.#pending.get(key) ?? null) : null;
  }

  /** Something under way is too large for the other side: all of it is sent one by one from now on. */
  suspectAll() {
    for (const key of this.#sent.keys()) {
      const send = this.#pending.get(key);
      if (send) this.#suspects.set(key, send);
    }
  }

  /**
   * The server keeps a message for review: it stays pending, and is sent again at `askAtMs`, or with the next connection.
   * Returns whether this connection's server says so for the first time.
   *
   * @param {string} key
   * @param {number} askAtMs
   */
  hold(key, askAtMs) {
    const send = this.find(key);
    if (!send || !this.#sent.has(key)) return false;
    if (this.#due.has(key)) {
      this.#forget(send); // shown or told meanwhile, and this was the answer still owed
      return false;
    }
    this.#landed(key);
    this.#clear(key);
    const lane = this.#lane(send.conversationId);
    lane.answered();
    lane.refused.delete(send.order);
    const isNews = !this.#held.has(key);
    this.#held.set(key, askAtMs);
    return isNews;
  }

  /** A conversation lets the others go first for a while. @param {string} conversationId @param {number} readyAtMs */
  pause(conversationId, readyAtMs) {
    const lane = this.#lanes.get(conversationId);
    if (lane) lane.readyAtMs = readyAtMs;
  }

  /**
   * Take out the message whose outcome is known for good. Not `answered` means that the log showed it, or that the end of a
   * review was told: then an answer that this connection still owes is waited for, and what it refused is sent once more.
   *
   * @param {string} key
   * @returns {PendingSend | undefined} undefined if it was not pending
   */
  resolve(key, answered = true) {
    const send = this.#pending.get(key);
    this.#pending.delete(key);
    this.#held.delete(key);
    const known = send ?? this.#due.get(key);
    if (!known) return undefined;
    if (answered || !this.#isOwed(known)) this.#forget(known);
    else this.#due.set(key, known);
    return send;
  }

  /** How many tries of this conversation failed in a row, with the one whose refusals come in now. @param {string} conversationId */
  failedTries(conversationId) {
    const lane = this.#lane(conversationId);
    return lane.refusals + (lane.readyAtMs === null ? 1 : 0);
  }

  /**
   * A retryable refusal: the message waits again in its old place, and its conversation pauses. Returns whether such a
   * message was under way.
   *
   * @param {string} key
   * @param {number} readyAtMs the end of the pause
   * @param {number | null} [tooFastMs] where messages come too fast: after which time the next is welcome
   */
  putBack(key, readyAtMs, tooFastMs = null) {
    const send = this.find(key);
    if (!send || !this.#landed(key)) return false;
    this.#clear(key);
    const lane = this.#lane(send.conversationId);
    lane.inFlight -= 1;
    lane.refusals = this.failedTries(send.conversationId);
    if (tooFastMs !== null) lane.tooFast(tooFastMs);
    lane.waiting.set(send.order, send);
    lane.refused.add(send.order);
    lane.readyAtMs = Math.max(readyAtMs, lane.readyAtMs ?? readyAtMs);
    return true;
  }

  /** Whatever was under way may be lost: all of it waits again. Pauses keep their end. A new server waits for nothing and owes
   * nothing. */
  disconnected() {
    for (const send of [...this.#due.values()]) this.#forget(send);
    for (const [key, { send }] of this.#sent) {
      this.#enqueue(send);
      this.#losses.set(key, this.losses(key) + 1);
      if (this.losses(key) >= SUSPECT_AFTER) this.#suspects.set(key, send);
    }
    for (const lane of this.#lanes.values()) {
      lane.inFlight = 0;
      lane.refused.clear();
    }
    for (const key of this.#held.keys()) this.#enqueue(/** @type {PendingSend} */ (this.#pending.get(key)));
    this.#held.clear();
    this.#sent.clear();
    this.#bytesUnderWay = 0;
  }

  /**
   * Milliseconds until something can change by time alone: a pause or a pace is over, or it is time to ask about what is
   * held. Null if only an answer or a new send can change anything.
   *
   * @param {number} nowMs
   */
  waitMs(nowMs) {
    if (this.#isFull || (this.#sent.size > 0 && this.#mustBeAlone(nowMs))) return null;
    const ends = [];
    for (const [key, askAtMs] of this.#held) if (askAtMs < Infinity && this.#mayAsk(key)) ends.push(askAtMs - nowMs);
    for (const lane of this.#lanes.values()) {
      const { opensAtMs } = lane;
      if (lane.waiting.size > 0 && opensAtMs !== null) ends.push(opensAtMs - nowMs);
    }
    return ends.length > 0 ? Math.max(0, Math.min(...ends)) : null;
  }

  get #isFull() {
    return this.#sent.size >= this.window || this.#bytesUnderWay >= WINDOW_BYTES;
  }

  /** What was held long enough waits to be sent once more: word of the decision may have been lost. @param {number} nowMs */
  #askAboutHeld(nowMs) {
    const due = [...this.#held].filter(([key, askAtMs]) => askAtMs <= nowMs && this.#mayAsk(key));
    for (const [key] of due) {
      this.#enqueue(/** @type {PendingSend} */ (this.#pending.get(key)));
      this.#held.set(key, Infinity);
    }
  }

  /** Whether its conversation has no answer to wait for; the server waits for what it refused first. @param {string} key */
  #mayAsk(key) {
    const lane = this.#lanes.get(/** @type {PendingSend} */ (this.#pending.get(key)).conversationId);
    return !lane || (lane.inFlight === 0 && lane.refused.size === 0);
  }

  /** @param {number} nowMs */
  #next(nowMs) {
    if (this.#isFull) return [];
    const waiting = [...this.#lanes.values()].flatMap((lane) => lane.sendable(nowMs)).sort(byOrder);
    /** @type {PendingSend[]} */
    const taken = [];
    let sizeBytes = this.#bytesUnderWay;
    for (const send of waiting.slice(0, this.window - this.#sent.size)) {
      if (sizeBytes >= WINDOW_BYTES) break;
      taken.push(send);
      sizeBytes += send.sizeBytes;
    }
    return taken;
  }

  /** @param {number} nowMs */
  #alone(nowMs) {
    return this.#sent.size > 0 ? [] : this.#firstsOfSuspects(nowMs).sort(byOrder).slice(0, 1);
  }

  /** @param {number} nowMs */
  #mustBeAlone(nowMs) {
    if (this.#suspects.size === 0) return false;
    return [...this.#suspects.keys()].some((key) => this.#sent.has(key)) || this.#firstsOfSuspects(nowMs).length > 0;
  }

  /** The next message of each conversation that holds a suspect: itself, or one that must go before it. @param {number} nowMs */
  #firstsOfSuspects(nowMs) {
    const ids = new Set([...this.#suspects.values()].map((send) => send.conversationId));
    const lanes = [...ids].map((id) => this.#lane(id));
    return lanes.filter((lane) => lane.sendable(nowMs).length > 0).map((lane) => lane.first());
  }

  /** It is under way no longer. Returns whether it was. @param {string} key */
  #landed(key) {
    const sent = this.#sent.get(key);
    if (!sent) return false;
    this.#bytesUnderWay -= sent.send.sizeBytes;
    return this.#sent.delete(key);
  }

  /** @param {PendingSend} send */
  #isOwed(send) {
    return this.#sent.has(keyOf(send)) || this.#lane(send.conversationId).refused.has(send.order);
  }

  /** @param {PendingSend} send */
  #forget(send) {
    const key = keyOf(send);
    const lane = this.#lane(send.conversationId);
    this.#clear(key);
    this.#left.delete(key);
    if (this.#landed(key)) lane.answered();
    this.#due.delete(key);
    lane.waiting.delete(send.order);
    lane.refused.delete(send.order);
    if (lane.waiting.size === 0 && lane.inFlight === 0) this.#lanes.delete(send.conversationId);
  }

  /** It was answered: no suspect. @param {string} key */
  #clear(key) {
    this.#suspects.delete(key);
    this.#losses.delete(key);
  }

  /** @param {PendingSend} send */
  #enqueue(send) {
    this.#lane(send.conversationId).waiting.set(send.order, send);
  }

  /** @param {string} conversationId */
  #lane(conversationId) {
    const lane = this.#lanes.get(conversationId) ?? new Lane();
    this.#lanes.set(conversationId, lane);
    return lane;
  }
}

/** @param {PendingSend} a @param {PendingSend} b */
function byOrder(a, b) {
  return a.order - b.order;
}
