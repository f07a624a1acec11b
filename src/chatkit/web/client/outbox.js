// Own messages from `submit` to their answer. Each is in the local store before it is sent and leaves it once its answer (or
// its entry in the log) has come; until then it is sent again, in order, under the same clientMsgId. When each goes out is
// resend.js's business. No DOM. Owned by session.js, which says what was answered.

/** @typedef {import("./types.js").PendingSend} PendingSend */
/** @typedef {import("./types.js").Pending} Pending */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */

import { nextDelay } from "./backoff.js";
import { ChatError, isRecalled } from "./errors.js";
import { keyOf, ResendQueue, SUSPECT_AFTER } from "./resend.js";

const ANSWER_WAIT_MS = 60_000;
const HELD_RETRY_MS = 60_000; // where the server names no time
const FAILED_MAX = 100;

export class Outbox {
  #queue = new ResendQueue();
  /** @type {Map<string, PendingSend>} on their way into the store */
  #unstored = new Map();
  /** @type {Map<string, {send: PendingSend, error: ChatError}>} refused for good, until the app takes them away */
  #failed = new Map();
  /** @type {Map<string, {promise: Promise<Sent>, resolve: (sent: Sent) => void, reject: (error: ChatError) => void}>} */
  #waiters = new Map();
  /** @type {Map<string, number>} conversations to pause once connected: why the last connections ended */
  #toPause = new Map();
  #lastOrder = 0;
  /** @type {any} */
  #timer = null;

  /**
   * @param {import("./types.js").Ports & {line: import("./types.js").Line,
   *   store: Pick<import("./types.js").LocalStore, "addPending" | "removePending">, changed: () => void,
   *   storeFailed: (error: unknown) => void}} parts
   */
  constructor(parts) {
    this.parts = parts;
  }

  /** Queue what the store kept. Two pages may have given one order twice: then the earlier one goes first. @param {PendingSend[]} sends */
  restore(sends) {
    const sound = sends.filter(isSound).sort((a, b) => a.order - b.order || a.atMs - b.atMs);
    this.#queue.restore(sound.map((send) => ({ ...send, order: (this.#lastOrder = Math.max(this.#lastOrder + 1, send.order)) })));
  }

  /**
   * Keep a message, durably, and send it once it is kept. The same one again is nothing.
   *
   * @param {{conversationId: string, clientMsgId: string, payload: Payload, sizeBytes: number, atMs: number}} fields
   * @returns {Promise<Sent>} see `outcome`; rejected with STORAGE if it could not be kept, and then it is not queued
   */
  submit(fields) {
    const key = keyOf(fields);
    const earlier = this.#find(key);
    if (earlier && JSON.stringify(earlier.payload) !== JSON.stringify(fields.payload)) {
      throw new ChatError("CONFLICT", "This clientMsgId is pending with another payload.");
    }
    if (earlier) return this.outcome(key);
    this.#checkRoom();
    const send = { ...fields, order: (this.#lastOrder += 1) };
    const outcome = this.outcome(key);
    this.#unstored.set(key, send);
    const written = attempt(() => this.parts.store.addPending(send));
    if (written.promise) written.promise.then(() => this.#stored(send), (error) => this.#notStored(send, error));
    else if (written.error === undefined) this.#stored(send);
    else this.#notStored(send, written.error);
    return outcome;
  }

  /**
   * What becomes of a pending message. Rejected with the refusal if it was refused for good; with HELD if somebody is to look
   * at it first, and with CLOSED if the client was closed: then it stays queued.
   *
   * @param {string} key
   */
  outcome(key) {
    const known = this.#waiters.get(key);
    if (known) return known.promise;
    if (this.#queue.isHeld(key)) return Promise.reject(heldError());
    const waiter = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
    waiter.promise.catch(() => {}); // whoever asked hears of it; nobody else must
    this.#waiters.set(key, waiter);
    return waiter.promise;
  }

  /** The message that an answer is for: it waits, or the log has shown it already. @param {string} key */
  find(key) {
    return this.#queue.find(key);
  }

  /** Everything without a final answer, and what was refused for good, oldest first. @param {string | null} [conversationId] @returns {Pending[]} */
  list(conversationId = null) {
    /** @type {Pending[]} */
    const all = [
      ...[...this.#queue.pending(), ...this.#unstored.values()].map((send) => ({ ...send, state: this.#stateOf(send), error: null })),
      ...[...this.#failed.values()].map(({ send, error }) => ({ ...send, state: /** @type {const} */ ("FAILED"), error })),
    ];
    return all.filter((one) => conversationId === null || one.conversationId === conversationId).sort((a, b) => a.order - b.order);
  }

  /**
   * The server answered it for good, or (not `answered`) the log showed it. Returns the message if it was pending.
   *
   * @param {string} key
   * @param {Omit<Sent, "conversationId" | "clientMsgId">} sent
   */
  resolve(key, sent, answered = true) {
    const send = this.#queue.resolve(key, answered);
    if (send) {
      this.#remove([send]);
      this.#answer(key, (waiter) => waiter.resolve({ conversationId: send.conversationId, clientMsgId: send.clientMsgId, ...sent }));
    }
    this.pump();
    return send;
  }

  /** A refusal that no repetition can change; not `answered`: word of it, which answers no send. Returns the message if it was
   * pending. The end of a stream that was recalled is not kept: there is nothing to say again. @param {string} key @param {ChatError} error */
  fail(key, error, answered = true) {
    const send = this.#queue.resolve(key, answered);
    if (send) {
      if (isRecalled(error)) this.#remove([send]);
      else this.#keepFailed(key, send, error);
      this.#answer(key, (waiter) => waiter.reject(error));
    }
    this.pump();
    return send;
  }

  /** Refused for now: sent again after a wait; its conversation pauses until then. @param {string} key @param {ChatError} error */
  putBack(key, error) {
    const send = this.#queue.find(key);
    if (!send) return;
    const delayMs = nextDelay(this.#queue.failedTries(send.conversationId), this.parts.random(), error.retryAfterMs);
    const tooFastMs = error.code === "RATE_LIMITED" ? error.retryAfterMs : null;
    this.#queue.putBack(key, this.parts.now() + delayMs, tooFastMs);
    this.pump();
  }

  /** Kept for review: asked about after a wait. Returns whether that is new. @param {string} key @param {number | null} retryAfterMs */
  hold(key, retryAfterMs) {
    const delayMs = nextDelay(1, this.parts.random(), retryAfterMs ?? HELD_RETRY_MS);
    const isNews = this.#queue.hold(key, this.parts.now() + delayMs);
    this.#answer(key, (waiter) => waiter.reject(heldError()));
    this.pump();
    return isNews;
  }

  /**
   * Take a message back that surely never left, or one that was refused for good. UNKNOWN: nothing pending has this key.
   *
   * @param {string} key
   * @returns {"CANCELLED" | "MAY_BE_SENT" | "UNKNOWN"}
   */
  cancel(key) {
    if (this.#failed.has(key)) {
      this.#discard(key);
      return "CANCELLED";
    }
    const send = this.#queue.find(key);
    if (!send || !this.#queue.isPending(key)) return this.#unstored.has(key) ? "MAY_BE_SENT" : "UNKNOWN";
    if (this.#queue.mayHaveLeft(key)) return "MAY_BE_SENT";
    this.#queue.resolve(key);
    this.#remove([send]);
    this.#answer(key, (waiter) => waiter.reject(new ChatError("CANCELLED", "The message was taken back; it was never sent.")));
    return "CANCELLED";
  }

  /** A connection begins: what may have ended the one before waits a while. */
  connected() {
    for (const [conversationId, delayMs] of this.#toPause) this.#queue.pause(conversationId, this.parts.now() + delayMs);
    this.#toPause.clear();
    this.pump();
  }

  /**
   * Everything under way goes out again with the next connection. A message that was alone under way when several ended lets
   * the other conversations go first for a while, for it may be what the way to the server does not let through.
   */
  disconnected() {
    const alone = this.#queue.aloneUnderWay;
    this.#queue.disconnected();
    const losses = alone === null ? 0 : this.#queue.losses(keyOf(alone));
    if (alone !== null && losses > SUSPECT_AFTER) this.#toPause.set(alone.conversationId, nextDelay(losses, this.parts.random()));
    this.parts.clearTimeout(this.#timer);
  }

  /**
   * The connection ended because a frame was too large, before `disconnected`. Returns the message that it was for certain,
   * the only one under way; else each that was under way goes out alone next time.
   */
  tooLarge() {
    const alone = this.#queue.aloneUnderWay;
    if (alone === null) this.#queue.suspectAll();
    return alone;
  }

  /** Nobody waits any longer; what is pending stays in the store. @param {ChatError} error */
  release(error) {
    this.parts.clearTimeout(this.#timer);
    for (const key of [...this.#waiters.keys()]) this.#answer(key, (waiter) => waiter.reject(error));
  }

  /** Send whatever may go now, oldest first, and look again when that changes. */
  pump() {
    const { line, now } = this.parts;
    if (!line.online) return;
    const taken = this.#queue.take(now());
    for (const { conversationId, clientMsgId, payload } of taken) line.send({ event: "SEND_MSG", conversationId, clientMsgId, payload });
    this.#lookLater();
  }

  #lookLater() {
    this.parts.clearTimeout(this.#timer);
    const nowMs = this.parts.now();
    const { oldestSentAtMs } = this.#queue;
    const waitMs = this.#queue.waitMs(nowMs);
    const answerMs = oldestSentAtMs === null ? null : Math.max(0, oldestSentAtMs + ANSWER_WAIT_MS - nowMs);
    if (waitMs === null && answerMs === null) return;
    this.#timer = this.parts.setTimeout(() => this.#look(), Math.min(waitMs ?? Infinity, answerMs ?? Infinity));
  }

  #look() {
    const { oldestSentAtMs } = this.#queue;
    const isSilent = oldestSentAtMs !== null && this.parts.now() - oldestSentAtMs >= ANSWER_WAIT_MS;
    if (isSilent) this.parts.line.restart();
    else this.pump();
  }

  /** @param {PendingSend} send */
  #stored(send) {
    this.#unstored.delete(keyOf(send));
    this.#queue.add(send);
    this.pump();
    this.parts.changed();
  }

  /** @param {PendingSend} send @param {unknown} cause */
  #notStored(send, cause) {
    const key = keyOf(send);
    this.#unstored.delete(key);
    const error = new ChatError("STORAGE", "The browser could not keep the message.", { retryable: true, cause });
    this.#answer(key, (waiter) => waiter.reject(error));
    this.parts.changed();
  }

  /** @param {PendingSend[]} sends */
  #remove(sends) {
    const removed = attempt(() => this.parts.store.removePending(sends));
    if (removed.error !== undefined) this.parts.storeFailed(removed.error);
    removed.promise?.catch(this.parts.storeFailed);
  }

  /** @param {string} key @param {PendingSend} send @param {ChatError} error */
  #keepFailed(key, send, error) {
    this.#failed.set(key, { send, error });
    const [oldest] = this.#failed.keys();
    if (this.#failed.size > FAILED_MAX && oldest !== undefined) this.#discard(oldest);
  }

  /** @param {string} key */
  #discard(key) {
    const failed = this.#failed.get(key);
    this.#failed.delete(key);
    if (failed) this.#remove([failed.send]);
  }

  /** @param {string} key @param {(waiter: any) => void} action */
  #answer(key, action) {
    const waiter = this.#waiters.get(key);
    this.#waiters.delete(key);
    if (waiter) action(waiter);
  }

  #checkRoom() {
    this.#queue.checkRoom();
    if (this.#queue.size + this.#unstored.size < this.#queue.pendingMax) return;
    throw new ChatError("QUEUE_FULL", "Too many messages are on their way into the store.", { retryable: true });
  }

  /** @param {string} key */
  #find(key) {
    return this.#unstored.get(key) ?? this.#queue.find(key);
  }

  /** @param {PendingSend} send @returns {"HELD" | "SENDING"} */
  #stateOf(send) {
    return this.#queue.isHeld(keyOf(send)) ? "HELD" : "SENDING";
  }
}

function heldError() {
  return new ChatError("HELD", "A moderator looks at this message first. It stays queued.", { retryable: true });
}

/** @param {() => void | Promise<void>} action @returns {{promise?: Promise<void>, error?: unknown}} */
function attempt(action) {
  try {
    const promise = action();
    return promise instanceof Promise ? { promise } : {};
  } catch (error) {
    return { error: error ?? new Error("the store failed") };
  }
}

function withResolvers() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/** Whether a message of the store can be sent; a damaged one is left where it is and costs the others nothing. @param {any} send */
function isSound(send) {
  const { conversationId, clientMsgId, payload, order, sizeBytes } = send ?? {};
  const isText = typeof conversationId === "string" && typeof clientMsgId === "string" && typeof payload?.type === "string";
  if (isText && Number.isSafeInteger(order) && Number.isSafeInteger(sizeBytes)) return true;
  console.warn("a waiting message could not be read from the local store");
  return false;
}
