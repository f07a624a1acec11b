// A streamed message that this client writes. It begins as a message that is sent, and ends as an edit that is sent: both are kept,
// resent and stored once like any other. In between one part is under way at a time, and what is written meanwhile is joined to the
// next one. A part is held here until it is acknowledged, so a connection that breaks loses none. Where parts find no way any more
// (the server cut the message off, a moderator sees the whole first) the message still comes with its end. Made by client.js.

/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */
/** @typedef {"WHOLE" | "CUT_OFF"} StreamEnd */
/** @typedef {{messageId: string, seq: number}} Named */
/** `online()` resolves once there is a connection, `grew(part, text)` hears of what is durable.
 * @typedef {import("./types.js").Ports & {ended: AbortSignal, online: () => Promise<unknown>,
 *   ask: (event: import("./types.js").WireEvent) => Promise<any>, grew: (part: number, text: string) => void,
 *   end: (content: string | Payload, ends: StreamEnd) => Promise<Sent>}} Parts */

import { nextDelay } from "./backoff.js";
import { randomId } from "./device.js";
import { ChatError, isRecalled } from "./errors.js";
import { checkedClientMsgId, payloadOf, textBytes } from "./validate.js";

const PART_BYTES_MAX = 8 * 1024;
const STREAM_BYTES_MAX = 60 * 1024;
const PART_UNITS = Math.trunc(PART_BYTES_MAX / 6); // so many fit a part, whatever they are: one takes six bytes at most, as JSON
const ALIVE_MS = 20_000; // after so long without a part the server is told that the author is there; it waits 60 s by default
const LOST = new Set(["OFFLINE", "NO_ANSWER"]);
const STILL_OPEN = new Set(["FORBIDDEN", "TOO_LARGE"]); // parts are refused so, and the author's signs of life are taken
const NOT_QUEUED = new Set(["BAD_REQUEST", "TOO_LARGE", "STORAGE", "QUEUE_FULL"]); // an end refused so may be tried again, or be another

/**
 * Begin a streamed message; resolves once its beginning is durable. See `ChatClient.stream`.
 *
 * @param {string} conversationId
 * @param {string} text
 * @param {{fallbackText?: string, clientMsgId?: string, replyTo?: Named, signal?: AbortSignal}} options
 * @param {import("./types.js").Ports & Pick<Parts, "ended" | "online" | "ask"> & {
 *   send: (payload: Payload, options: {clientMsgId: string, replyTo?: Named, signal?: AbortSignal}) => Promise<Sent>,
 *   cancel: (clientMsgId: string) => unknown, streams: import("./open_streams.js").OpenStreams, changed: () => void}} parts
 */
export async function beginStream(conversationId, text, { fallbackText, clientMsgId, ...options }, parts) {
  const key = clientMsgId ?? randomId("w-");
  const keys = { WHOLE: checkedClientMsgId(`${key}-end`), CUT_OFF: checkedClientMsgId(`${key}-cut`) };
  const payload = { type: "STREAM", text, ...(fallbackText !== undefined && { fallbackText }) };
  const sent = await parts.send(payload, { ...options, clientMsgId: key }).catch((error) => {
    if (options.signal?.aborted) parts.cancel(key); // nobody would write into it
    throw error;
  });
  const begun = typeof sent.payload?.text === "string" ? sent.payload.text : text; // a moderator may have had it begin otherwise
  const { messageId, seq } = sent;
  const place = { conversationId, messageId, seq };
  parts.streams.grew({ ...place, parts: 0, text: begun });
  /** @param {number} part @param {string} added */
  const grew = (part, added) => {
    parts.streams.part({ ...place, part, text: added });
    parts.changed();
  };
  /** @param {string | Payload} content @param {StreamEnd} ends */
  const end = (content, ends) => parts.send({ type: "EDIT", messageId, seq, ends, payload: payloadOf(content) }, { clientMsgId: keys[ends] });
  return new MessageStream(sent, begun, { ...parts, grew, end }, clientMsgId !== undefined);
}

export class MessageStream {
  /** How many parts are durable at the server. */
  ackedParts = 0;
  #texts;
  #size;
  /** What was written and is in no part that the server has. */
  #held = "";
  /** Whether the server takes parts with a text. */
  #takesParts = true;
  /** Whether it is open at the server, as far as is known here; once it is not, it takes no parts either. */
  #isOpen = true;
  /** @type {Promise<Sent> | null} */
  #ended = null;
  /** @type {ChatError | null} */
  #failure = null;
  /** @type {Set<() => void>} */
  #wakers = new Set();

  /**
   * @param {Sent} sent the answer to its beginning
   * @param {string} text what it begins with
   * @param {Parts} parts
   * @param {boolean} isKnown whether an earlier try may have begun it, and have written something else
   */
  constructor(sent, text, parts, isKnown) {
    /** The answer to its beginning: its id and its place. */
    this.sent = sent;
    this.parts = parts;
    this.#texts = [text];
    this.#size = textBytes(text);
    const closed = () => this.#noParts(parts.ended.reason);
    parts.ended.addEventListener("abort", closed);
    this.#run(isKnown).finally(() => parts.ended.removeEventListener("abort", closed));
  }

  /** All that was written so far. */
  get text() {
    if (this.#texts.length > 1) this.#texts = [this.#texts.join("")];
    return this.#texts[0] ?? "";
  }

  /**
   * Add to the message. Resolves at once, or once there is room: at most 8 KiB are not acknowledged yet. What was given is part of the
   * message when this returns, in the order of the calls. Without a connection it waits for one.
   *
   * @param {string} text
   * @throws {ChatError} BAD_REQUEST: what no payload may hold, or it has ended; TOO_LARGE: all of it would be above 60 KiB; then nothing
   *   was added. STREAM_ENDED: the message was recalled; CLOSED
   */
  async write(text) {
    this.#checkOpen();
    const size = textBytes(text);
    if (this.#size + size > STREAM_BYTES_MAX) throw new ChatError("TOO_LARGE", `A streamed message has at most ${STREAM_BYTES_MAX} bytes.`);
    this.#texts.push(text);
    this.#size += size;
    if (text === "" || !this.#takesParts) return; // it comes with the end
    this.#held += text;
    this.#wake();
    while (this.#sendsParts && textBytes(this.#held) > PART_BYTES_MAX) await this.#woken();
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * End it as finished; resolves once that is durable. A second call has the answer of the first.
   *
   * @param {string | Payload} [content] what the message says in the end; left out, what was written
   * @returns {Promise<Sent>}
   * @throws {ChatError} as `ChatClient.send`; STREAM_ENDED: it was recalled. With BAD_REQUEST, TOO_LARGE, STORAGE and QUEUE_FULL it goes
   *   on as if this had not been called
   */
  async end(content) {
    return this.#end(content ?? this.text, "WHOLE");
  }

  /** End it as it is, for it will not be finished; resolves once that is durable, with null where the message was recalled: then
   * nothing is left to end. @returns {Promise<Sent | null>} @throws {ChatError} as `end`, without STREAM_ENDED */
  async cutOff() {
    try {
      return await this.#end(this.text, "CUT_OFF");
    } catch (error) {
      if (isRecalled(error)) return null;
      throw error;
    }
  }

  /** @param {string | Payload} content @param {StreamEnd} ends */
  #end(content, ends) {
    if (this.#ended !== null) return this.#ended;
    this.#checkOpen();
    const ended = (this.#ended = this.parts.end(content, ends));
    this.#wake(); // the end has everything: nobody waits for room
    ended.then(
      () => this.#over(),
      ({ code }) => {
        if (!NOT_QUEUED.has(code)) return this.#over();
        this.#ended = null;
        this.#wake();
      },
    );
    return ended;
  }

  #checkOpen() {
    this.parts.ended.throwIfAborted();
    if (this.#failure !== null) throw this.#failure;
    if (this.#ended !== null) throw new ChatError("BAD_REQUEST", "The stream has ended.");
  }

  // --- parts, one at a time ---

  /** Send what is held, and say now and then that somebody is there, for as long as it is open at the server. @param {boolean} isKnown */
  async #run(isKnown) {
    if (isKnown) this.#takesParts = (await this.#asked(0, "")) === 0 && this.#takesParts;
    while (this.#isOpen) {
      if (this.#held !== "" && this.#sendsParts) await this.#sendPart();
      else if (await this.#isIdle()) await this.#asked(0, "");
      this.#wake();
    }
  }

  /** Whether what is written goes out in parts; else it comes with the end. */
  get #sendsParts() {
    return this.#takesParts && this.#ended === null;
  }

  async #sendPart() {
    const part = textBytes(this.#held) <= PART_BYTES_MAX ? this.#held : this.#held.slice(0, cutAt(this.#held, PART_UNITS));
    const number = this.ackedParts + 1;
    if ((await this.#asked(number, part)) === null) return;
    this.#held = this.#held.slice(part.length);
    this.ackedParts = number;
    this.parts.grew(number, part);
  }

  /** How many parts the server has after this one; null if it takes none. Asked again until there is an answer.
   * @param {number} part @param {string} text @returns {Promise<number | null>} */
  async #asked(part, text) {
    const { conversationId, messageId } = this.sent;
    for (let attempt = 1; this.#isOpen; attempt += 1) {
      try {
        await this.parts.online();
        return (await this.parts.ask({ event: "STREAM_PART", conversationId, messageId, part, text })).part;
      } catch (cause) {
        const error = /** @type {ChatError} */ (cause);
        if (LOST.has(error.code)) continue;
        if (!error.retryable) return this.#noParts(error);
        await this.#woken(nextDelay(attempt, this.parts.random(), error.retryAfterMs), false);
      }
    }
    return null;
  }

  /** No part is taken any more. After a recall, or the end of the client, nothing is. @param {ChatError} error */
  #noParts(error) {
    this.#takesParts = false;
    if (error.code === "CLOSED" || isRecalled(error)) this.#failure = error;
    if (STILL_OPEN.has(error.code)) this.#wake();
    else this.#over();
    return null;
  }

  /** It is open no more. */
  #over() {
    this.#isOpen = this.#takesParts = false;
    this.#wake();
  }

  /** Whether nothing was said for a while, and it is not ending. */
  async #isIdle() {
    const isLate = await this.#woken(ALIVE_MS);
    return isLate && this.#isOpen && this.#ended === null;
  }

  #wake() {
    for (const wake of [...this.#wakers]) wake();
  }

  /** Wait until something is written, there is room, or it is open no more. Returns whether the time was over before.
   * @param {number} [waitMs] @param {boolean} [byWrites] false: the time only, and the end of it all @returns {Promise<boolean>} */
  #woken(waitMs, byWrites = true) {
    return new Promise((resolve) => {
      /** @param {boolean} isOver */
      const done = (isOver) => {
        if (!isOver && !byWrites && this.#isOpen) return;
        this.#wakers.delete(wake);
        this.parts.clearTimeout(timer);
        resolve(isOver);
      };
      const wake = () => done(false);
      const timer = waitMs === undefined ? null : this.parts.setTimeout(() => done(true), waitMs);
      this.#wakers.add(wake);
    });
  }
}

/** Where to cut so that no character is cut through. @param {string} text @param {number} units */
function cutAt(text, units) {
  const last = text.charCodeAt(units - 1);
  return last >= 0xd800 && last < 0xdc00 ? units - 1 : units;
}
