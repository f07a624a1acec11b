// What entries and answers are, in the words of an app. Pure. Called by logs.js and answers.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").WireEvent} WireEvent */

import { editOf, namedSeq } from "./marks.js";

/** The event that an entry is for the app; an EDIT or REACTION that says nothing readable comes as it is.
 * @param {Message} message @param {boolean} live @returns {[string, object]} */
export function toldOf(message, live) {
  const { conversationId, senderId, seq, serverTs, payload } = message;
  const named = { conversationId, messageId: payload.messageId, seq: payload.seq };
  if (payload.type === "RECALL") return ["recalled", { ...named, by: payload.by }];
  if (namedSeq(message) !== null && payload.type === "EDIT" && typeof payload.payload?.type === "string") {
    return ["edited", { ...named, by: senderId, edit: editOf(seq, serverTs, payload.payload, payload.ends) }];
  }
  if (namedSeq(message) !== null && typeof payload.reaction === "string") {
    const { reaction, removed = false } = payload;
    return ["reaction", { ...named, userId: senderId, reaction, removed: removed === true, reactionSeq: seq }];
  }
  return ["message", { conversationId, message, live }];
}

/** @param {WireEvent | Message} event */
export function entryOf(event) {
  const { conversationId, epoch, messageId, seq, serverTs } = event;
  return { conversationId, epoch, messageId, seq, serverTs };
}

/** @param {any} event @returns {{messageId: string, seq: number, serverTs: number, payload?: Payload}} */
export function sentOf({ event, messageId, seq, serverTs, payload }) {
  return { messageId, seq, serverTs, ...(event === "MSG_ACK" && payload !== undefined && { payload }) };
}
