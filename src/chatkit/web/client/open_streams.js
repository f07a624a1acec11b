// Streamed messages that are open, as far as their parts are here, and which of them must be asked for again. Parts are hints:
// nothing of them is kept, and what is missing comes with the message, by a page of one entry. That is also how the server
// learns that this connection wants its parts. Pure. Owned by logs.js. The rules are those of client/open_streams.py;
// spec/streams.json holds both to them.

/** @typedef {import("./types.js").Message} Message */
/** How far one has come. @typedef {{conversationId: string, messageId: string, seq: number, parts: number, text: string}} Growth */

import { isOpen, namedSeq } from "./marks.js";

/** Streams that are followed at once; the oldest is let go for a new one, and its end brings all of it. */
export const OPEN_MAX = 256;

/** Places of parts whose message is not here yet, at most; the oldest is let go. */
const MISSED_MAX = 256;

export class OpenStreams {
  /** @type {Map<string, Growth>} by place, the oldest first */
  #open = new Map();
  /** @type {Set<string>} parts of these came before their message */
  #missed = new Set();

  /** @param {(conversationId: string, seq: number) => void} ask is told which one must be asked for */
  constructor(ask) {
    this.ask = ask;
  }

  /** Take note of an entry that got its place: a stream begins or ends. @param {Message} entry */
  note(entry) {
    if (entry.payload.type === "STREAM") this.see(entry);
    const named = entry.payload.type === "RECALL" ? entry.payload.seq : entry.payload.type === "EDIT" ? namedSeq(entry) : null;
    if (named !== null) this.gone(entry.conversationId, named);
  }

  /** A message as it is shown. Returns how far it has come, if that is news. @param {Message} message @returns {Growth | null} */
  see(message) {
    const { conversationId, messageId, seq, payload, marks } = message;
    if (!isOpen(message)) {
      this.gone(conversationId, seq);
      return null;
    }
    const { parts, text } = marks?.stream ?? { parts: 0, text: typeof payload.text === "string" ? payload.text : "" };
    return this.grew({ conversationId, messageId, seq, parts, text });
  }

  /** So many parts are there. Returns that, if these are more than were known. @param {Growth} growth @returns {Growth | null} */
  grew(growth) {
    const place = placeOf(growth.conversationId, growth.seq);
    const known = this.#open.get(place);
    if (known && known.parts >= growth.parts) return null;
    const [oldest] = this.#open.keys();
    if (!known && this.#open.size >= OPEN_MAX && oldest !== undefined) this.#open.delete(oldest);
    this.#open.set(place, { ...growth });
    if (this.#missed.delete(place)) this.ask(growth.conversationId, growth.seq);
    return growth.parts > 0 ? { ...growth } : null;
  }

  /** A part arrived. Returns how far the message has come, if it is the next one; after a hole it is asked for.
   * @param {{conversationId: string, seq: number, part: number, text: string}} event @returns {Growth | null} */
  part({ conversationId, seq, part, text }) {
    const place = placeOf(conversationId, seq);
    const known = this.#open.get(place);
    if (!known) return this.#miss(place);
    if (part <= known.parts) return null;
    if (part > known.parts + 1) {
      this.ask(conversationId, seq);
      return null;
    }
    known.parts = part;
    known.text += text;
    return { ...known };
  }

  /** A new connection: it was shown none of them yet. */
  connected() {
    for (const { conversationId, seq } of this.#open.values()) this.ask(conversationId, seq);
  }

  /** The server left something out of what it pushed of a conversation: parts, maybe. @param {string} conversationId */
  dropped(conversationId) {
    for (const open of this.#open.values()) if (open.conversationId === conversationId) this.ask(conversationId, open.seq);
  }

  /** The log is another one, or the user has left: nothing of it is followed. @param {string} conversationId */
  forget(conversationId) {
    for (const [place, open] of this.#open) if (open.conversationId === conversationId) this.#open.delete(place);
  }

  /** There is no such message any more, for this user. @param {string} conversationId @param {number} seq */
  gone(conversationId, seq) {
    this.#open.delete(placeOf(conversationId, seq));
    this.#missed.delete(placeOf(conversationId, seq));
  }

  /** Its message waits for one before it, or nothing is known of it for another reason. @param {string} place */
  #miss(place) {
    this.#missed.add(place);
    const [oldest] = this.#missed;
    if (this.#missed.size > MISSED_MAX && oldest !== undefined) this.#missed.delete(oldest);
    return null;
  }

  /** Whether one is followed. @param {string} conversationId @param {number} seq */
  has(conversationId, seq) {
    return this.#open.has(placeOf(conversationId, seq));
  }

  /** Messages with what is known here of their text. @param {Message[]} messages */
  shown(messages) {
    return this.#open.size === 0 ? messages : messages.map((message) => this.#shown(message));
  }

  /** @param {Message} message @returns {Message} */
  #shown(message) {
    const known = this.#open.get(placeOf(message.conversationId, message.seq));
    if (!known || !isOpen(message) || (message.marks?.stream?.parts ?? -1) >= known.parts) return message;
    const marks = message.marks ?? { asOfSeq: message.seq, edit: null, reactions: [] };
    return { ...message, marks: { ...marks, stream: { parts: known.parts, text: known.text } } };
  }
}

/** @param {string} conversationId @param {number} seq */
function placeOf(conversationId, seq) {
  return `${conversationId} ${seq}`;
}
