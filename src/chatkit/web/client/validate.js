// What the server would have to refuse is refused here, before it is queued. The rules are those of docs/protocol.md.

/** @typedef {import("./types.js").Payload} Payload */

import { ChatError } from "./errors.js";

export const PAYLOAD_BYTES_MAX = 65_536;
const DEPTH_MAX = 32;
const MENTIONS_MAX = 50;
const ID = /^(?!\.{1,2}$)[A-Za-z0-9._:@-]{1,128}$/;

/** @param {unknown} value @param {string} name @returns {string} */
export function checkedId(value, name) {
  if (typeof value === "string" && ID.test(value)) return value;
  throw bad(`${name} must be 1 to 128 of A-Z a-z 0-9 . _ : @ -`);
}

/** @param {unknown} value @returns {string} */
export function checkedClientMsgId(value) {
  if (typeof value === "string" && !value.includes("\0") && value.isWellFormed?.() !== false && size(value) <= 128 && value !== "") return value;
  throw bad("clientMsgId must be 1 to 128 characters without NUL");
}

/** @param {unknown} value @returns {string[]} */
export function checkedMentions(value) {
  if (!Array.isArray(value) || value.length > MENTIONS_MAX) throw bad(`mentions is a list of at most ${MENTIONS_MAX} user ids`);
  return value.map((userId) => (userId === "*" ? userId : checkedId(userId, "mentions")));
}

/** @param {unknown} value @returns {number} */
export function checkedSeq(value) {
  if (Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0) return /** @type {number} */ (value);
  throw bad("upToSeq must be a whole number, 0 or more");
}

/** A text is a TEXT. @param {string | Payload} message @returns {Payload} */
export function payloadOf(message) {
  return typeof message === "string" ? { type: "TEXT", text: message } : message;
}

/**
 * The payload as it is kept and sent, and its size as JSON in UTF-8. Raises BAD_REQUEST or TOO_LARGE.
 *
 * @param {string | Payload} message a text, or a payload of the contract
 * @returns {{payload: Payload, sizeBytes: number}}
 */
export function checkedPayload(message, bytesMax = PAYLOAD_BYTES_MAX) {
  const payload = payloadOf(message);
  if (payload === null || typeof payload !== "object" || typeof payload.type !== "string") throw bad("a message is a text, or an object with a type");
  if ((payload.type === "TEXT" || payload.type === "STREAM") && typeof payload.text !== "string") throw bad(`a ${payload.type} has a text`);
  checkValue(payload, 0);
  const json = JSON.stringify(payload);
  const sizeBytes = size8(json);
  if (sizeBytes > bytesMax) throw new ChatError("TOO_LARGE", `The message is too long: ${sizeBytes} of at most ${bytesMax} bytes.`);
  return { payload: JSON.parse(json), sizeBytes };
}

/** @param {unknown} value @param {number} depth */
function checkValue(value, depth) {
  if (depth > DEPTH_MAX) throw bad(`a payload is at most ${DEPTH_MAX} deep`);
  if (value === null || typeof value === "boolean") return;
  if (typeof value === "string") return checkText(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) throw bad(`${value} is no number of the contract`);
    return;
  }
  if (typeof value !== "object") throw bad(`${typeof value} is no JSON`);
  if (Array.isArray(value)) return value.forEach((one) => checkValue(one, depth + 1));
  for (const [key, one] of Object.entries(value)) {
    checkText(key);
    if (one !== undefined) checkValue(one, depth + 1);
  }
}

/** @param {string} text */
function checkText(text) {
  if (text.includes("\0")) throw bad("The text holds a NUL character.");
  if (/\p{Surrogate}/u.test(text)) throw bad("The text holds half a character.");
}

/** What a text takes of the bounds of a stream: bytes as JSON in UTF-8, without the quotes. Raises BAD_REQUEST. @param {unknown} text */
export function textBytes(text) {
  if (typeof text !== "string") throw bad("what is written is a text");
  checkText(text);
  return size8(JSON.stringify(text)) - 2;
}

/** @param {string} text */
const size = (text) => [...text].length;

/** @param {string} text */
const size8 = (text) => new TextEncoder().encode(text).length;

/** @param {string} message */
const bad = (message) => new ChatError("BAD_REQUEST", message);
