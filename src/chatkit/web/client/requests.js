// Requests over the connection that have an answer of their own, matched by `ref`: RECALL and STREAM_PART. Owned by session.js.

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {{event: WireEvent, resolve: (answer: any) => void, reject: (error: ChatError) => void, timer: any}} Asked */

import { ChatError } from "./errors.js";

const ANSWER_WAIT_MS = 60_000;
const WAITING_MAX = 1_000;

export class Requests {
  /** @type {Map<string, Asked>} by ref */
  #waiting = new Map();
  #count = 0;

  /** @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /**
   * Send an event, and wait for what `answered` is told. An answer that does not come breaks the connection.
   *
   * @param {WireEvent} event
   * @returns {Promise<any>}
   * @throws {ChatError} the server's refusal; OFFLINE: there is no connection; NO_ANSWER: it broke before the answer; QUEUE_FULL
   */
  ask(event) {
    return new Promise((resolve, reject) => {
      if (this.#waiting.size >= WAITING_MAX) throw new ChatError("QUEUE_FULL", `${WAITING_MAX} requests wait for their answer already.`, { retryable: true });
      this.#count += 1;
      const ref = `ask:${this.#count}`;
      if (!this.parts.line.send({ ...event, ref })) throw new ChatError("OFFLINE", "This needs a connection.", { retryable: true });
      const timer = this.parts.setTimeout(() => this.parts.line.restart(), ANSWER_WAIT_MS);
      this.#waiting.set(ref, { event, resolve, reject, timer });
    });
  }

  /** What an answer or ERROR is for, which waits no more; null if nobody asked. @param {WireEvent} answer @returns {Asked | null} */
  take({ ref }) {
    const asked = this.#waiting.get(ref) ?? null;
    this.#waiting.delete(ref);
    if (asked) this.parts.clearTimeout(asked.timer);
    return asked;
  }

  /** The connection is gone, and with it whatever was to answer. */
  disconnected() {
    const lost = new ChatError("NO_ANSWER", "The connection broke before the answer. Please try it again.", { retryable: true });
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject, timer } of waiting) {
      this.parts.clearTimeout(timer);
      reject(lost);
    }
  }
}
