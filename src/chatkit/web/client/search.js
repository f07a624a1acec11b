// Search at the server: what it finds, in the words of an app. Pure. Called by api.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {{hits: SearchHit[], nextCursor: string | null, upToDate: boolean}} SearchPage the newest first; few hits, or none, are
 *   not the end, a `nextCursor` of null is. `upToDate`: all that was stored when the search began was looked at */
/** @typedef {{conversationId?: string, senderId?: string, after?: Date | number, before?: Date | number, cursor?: string | null,
 *   limit?: number}} SearchOptions */

import { ChatError } from "./errors.js";
import { contentOf, messageOf } from "./marks.js";
import { checkedId } from "./validate.js";

/** A message that was found. Ranges are [start, end) as JavaScript counts: `hit.text.slice(start, end)`. */
export class SearchHit {
  /**
   * @param {Message} message all of it
   * @param {string} field of what it says now, where the words are: `text`, `name` of a file, or `fallbackText`
   * @param {[number, number][]} highlights where the words are, ascending; in code points
   * @param {[number, number]} snippet the part to show; in code points
   */
  constructor(message, field, highlights, snippet) {
    const value = contentOf(message)[field];
    this.message = message;
    this.field = field;
    this.text = typeof value === "string" ? value : "";
    const [shown, ...found] = inUnits(this.text, [snippet, ...highlights]);
    this.snippet = /** @type {[number, number]} */ (shown);
    this.highlights = found;
  }
}

/** The query of a request. @param {string} query @param {SearchOptions} options @returns {URLSearchParams} */
export function searchParams(query, { conversationId, senderId, after, before, cursor, limit = 20 }) {
  if (typeof query !== "string") throw bad("what is searched for is a text");
  const params = new URLSearchParams({ q: query, limit: String(limit) });
  if (conversationId !== undefined) params.set("conversationId", checkedId(conversationId, "conversationId"));
  if (senderId !== undefined) params.set("senderId", checkedId(senderId, "senderId"));
  if (after !== undefined) params.set("after", String(momentMs(after, "after")));
  if (before !== undefined) params.set("before", String(momentMs(before, "before")));
  if (cursor !== undefined && cursor !== null) params.set("cursor", cursor);
  return params;
}

/** @param {any} answer @returns {SearchPage} */
export function searchPage({ results, nextCursor, upToDate }) {
  return { hits: results.map(hitOf), nextCursor, upToDate };
}

/** @param {any} row @returns {SearchHit} */
function hitOf({ message, field, highlights, snippet }) {
  const asOfSeq = message.edit?.seq ?? message.seq; // as it was said up to its edit
  return new SearchHit(messageOf(message, asOfSeq), field, highlights, snippet);
}

/** A time in Unix milliseconds. @param {Date | number} moment @param {string} name @returns {number} */
export function momentMs(moment, name) {
  const ms = moment instanceof Date ? moment.getTime() : moment;
  if (Number.isSafeInteger(ms) && ms >= 0) return ms;
  throw bad(`${name} is a Date, or whole Unix milliseconds`);
}

/** Ranges in code points as ranges in UTF-16. @param {string} text @param {[number, number][]} ranges @returns {[number, number][]} */
function inUnits(text, ranges) {
  const starts = [0];
  for (const point of text) starts.push(/** @type {number} */ (starts.at(-1)) + point.length);
  /** @param {number} points */
  const unit = (points) => starts[points] ?? text.length;
  return ranges.map(([start, end]) => [unit(start), unit(end)]);
}

/** @param {string} message */
const bad = (message) => new ChatError("BAD_REQUEST", message);
