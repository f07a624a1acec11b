// How an app hears of what happens: by listeners on the client, and by streams to iterate over. Made by client.js.

/** @typedef {import("./events.js").ChatEvent} ChatEvent */

import { EventStream } from "./events.js";

export class EventFeed {
  /** @type {Set<EventStream>} */
  #streams = new Set();
  #isDue = false;
  #isClosed = false;

  /** @param {EventTarget} target whose listeners are told */
  constructor(target) {
    this.target = target;
  }

  /** All events from now on, for one reader. */
  stream() {
    const stream = new EventStream((one) => this.#streams.delete(one));
    if (this.#isClosed) stream.end();
    else this.#streams.add(stream);
    return stream;
  }

  /** @param {ChatEvent} event */
  emit(event) {
    if (this.#isClosed) return;
    for (const stream of this.#streams) stream.put(event);
    this.target.dispatchEvent(new CustomEvent(event.type, { detail: event }));
  }

  /** Something changed; told once a turn. */
  changed() {
    if (this.#isDue || this.#isClosed) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      this.target.dispatchEvent(new CustomEvent("change"));
    });
  }

  /** Resolves at the next change; rejected if something of this conversation was refused meanwhile. @param {string} [conversationId] */
  nextChange(conversationId) {
    return new Promise((resolve, reject) => {
      /** @param {Event} event */
      const failed = (event) => {
        const { detail } = /** @type {CustomEvent} */ (event);
        if (conversationId !== undefined && detail.conversationId === conversationId) reject(detail.error);
      };
      this.target.addEventListener("error", failed);
      this.target.addEventListener("change", () => resolve(this.target.removeEventListener("error", failed)), { once: true });
    });
  }

  /** Nothing more is told; streams end once what waits in them is read. */
  close() {
    this.#isClosed = true;
    for (const stream of this.#streams) stream.end();
    this.#streams.clear();
  }
}
