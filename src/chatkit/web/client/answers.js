// What the server answers to this client's own messages and requests, and what becomes of them: sent, held, failed. Owned by
// session.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").PendingSend} PendingSend */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./conversation.js").Conversation} Conversation */

import { ChatError, errorOf, isRecalled } from "./errors.js";
import { keyOf } from "./resend.js";
import { entryOf, sentOf } from "./told.js";

const REVIEWED = "REVIEWED"; // the reason of an ERROR that tells of a held message, and answers no SEND_MSG

export class Answers {
  /**
   * @param {{requests: import("./requests.js").Requests, outbox: import("./outbox.js").Outbox, emit: (type: string, detail: any) => void}} parts
   * @param {{me: () => string, known: (id: string) => Conversation}} owner
   */
  constructor(parts, owner) {
    this.parts = parts;
    this.owner = owner;
  }

  /** The connection is gone; `code` is how it was closed. @param {number} [code] */
  disconnected(code) {
    const tooLarge = code === 1009 ? this.parts.outbox.tooLarge() : null;
    if (tooLarge !== null) this.#failed(keyOf(tooLarge), new ChatError("TOO_LARGE", "The message is too large for the way to the server."));
    this.parts.outbox.disconnected();
    this.parts.requests.disconnected();
  }

  /** Take a MSG_ACK. Returns the entry that it tells of, or null where its page brings it. @param {WireEvent} ack @returns {Message | null} */
  acknowledged(ack) {
    const recall = this.parts.requests.take(ack);
    if (recall) return this.#recalled(ack, recall);
    const key = keyOf(/** @type {any} */ (ack));
    const known = this.parts.outbox.find(key);
    const fields = sentOf(ack);
    const send = this.parts.outbox.resolve(key, fields);
    const payload = ack.payload ?? known?.payload; // what a moderator had stored instead
    if (!payload) return null;
    if (send) this.#sent(this.owner.known(ack.conversationId), send, fields);
    return { ...entryOf(ack), senderId: this.owner.me(), payload, clientMsgId: ack.clientMsgId };
  }

  /** An entry of the log may be what a send still waits for. @param {Conversation} conversation @param {Message} entry */
  shown(conversation, entry) {
    if (entry.senderId !== this.owner.me() || entry.clientMsgId === undefined) return;
    const send = this.parts.outbox.resolve(keyOf(/** @type {any} */ (entry)), sentOf(entry), false);
    if (send) this.#sent(conversation, send, sentOf(entry));
  }

  /** Take an ERROR; returns whether it was about an own message or request. @param {WireEvent} event */
  refused(event) {
    const error = errorOf(event);
    const asked = this.parts.requests.take(event);
    if (asked) {
      asked.reject(error);
      return true;
    }
    const send = this.parts.outbox.find(keyOf(/** @type {any} */ (event)));
    if (send) this.#sendRefused(send, error, event.reason !== REVIEWED);
    return send !== undefined && send !== null;
  }

  /** @param {WireEvent} ack @param {import("./requests.js").Asked} recall @returns {Message | null} */
  #recalled(ack, { event: { messageId }, resolve }) {
    resolve({ conversationId: ack.conversationId, clientMsgId: "", ...sentOf(ack) });
    const { timeline } = this.owner.known(ack.conversationId);
    const by = this.owner.me();
    const seq = timeline.shown(by).find((entry) => entry.messageId === messageId)?.seq;
    return seq === undefined ? null : { ...entryOf(ack), senderId: by, payload: { type: "RECALL", messageId, seq, by } };
  }

  /** @param {Conversation} conversation @param {PendingSend} send @param {ReturnType<typeof sentOf>} fields */
  #sent(conversation, { conversationId, clientMsgId, payload }, fields) {
    conversation.sentSeqs.add(fields.seq);
    this.parts.emit("sent", { conversationId, payload, ...fields, clientMsgId });
  }

  /** @param {PendingSend} send @param {ChatError} error @param {boolean} answered */
  #sendRefused(send, error, answered) {
    const key = keyOf(send);
    if (error.code === "HELD") this.#held(send, error);
    else if (error.retryable) this.parts.outbox.putBack(key, error);
    else this.#failed(key, error, answered);
  }

  /** @param {PendingSend} send @param {ChatError} error */
  #held(send, error) {
    const { conversationId, clientMsgId } = send;
    if (this.parts.outbox.hold(keyOf(send), error.retryAfterMs)) this.parts.emit("held", { conversationId, clientMsgId });
  }

  /** @param {string} key @param {ChatError} error */
  #failed(key, error, answered = true) {
    const send = this.parts.outbox.fail(key, error, answered);
    if (!send || isRecalled(error)) return; // the log has shown it all the same, or that there is nothing to end
    const { conversationId, clientMsgId, payload } = send;
    this.parts.emit("failed", { conversationId, clientMsgId, payload, error });
  }
}
