// Where messages are written: the field, and what is being written is about. Made by ui.js.

import { byId, setAttribute, setLine } from "./dom.js";
import { textOf } from "./format.js";
import { mentionsOf } from "./mentions.js";
import { toast } from "./notices.js";
import { contentOf, isUserMessage } from "../v1/client/chatkit.js";

const NOT_QUEUED = ["BAD_REQUEST", "TOO_LARGE", "QUEUE_FULL", "STORAGE"];
const STILL_QUEUED = ["HELD", "CLOSED"];
const ROWS_MAX = 6;
const DRAFTS_MAX = 100;
const NOTHING = { text: "", context: null, before: null };

/**
 * What is being written.
 *
 * @typedef {object} Draft
 * @property {string} text
 * @property {{kind: "edit" | "reply", entry: object} | null} context what it is about
 * @property {Draft | null} before what it interrupted, which goes on once this is sent or given up
 */

export class Composer {
  #client;
  #sent;
  #openId = null;
  #drafts = new Map(); // by conversation: what was written there and not sent, the longest ago first
  #context = null;
  #before = null;

  /** @param {{client, sent: () => void}} parts */
  constructor({ client, sent }) {
    this.#client = client;
    this.#sent = sent;
    byId("composer").addEventListener("submit", (event) => this.#submitted(event));
    byId("text").addEventListener("keydown", (event) => this.#pressed(event));
    byId("text").addEventListener("input", () => this.#typed());
    byId("context-end").addEventListener("click", () => {
      this.#endContext();
      byId("text").focus(); // the button that had it is gone
    });
  }

  /** A conversation is open, or none; what was being written stays with the one before, while the page lives. */
  opened(conversationId) {
    if (conversationId !== this.#openId) {
      this.#putAside(this.#openId, this.#draft);
      this.#openId = conversationId;
      this.#show(this.#drafts.get(conversationId));
    }
    if (conversationId !== null && matchMedia("(hover: hover)").matches) queueMicrotask(() => byId("text").focus());
  }

  draw(conversation) {
    const isBlocked = conversation.left || ["replaced", "loggedOut", "refused"].includes(this.#client.status.state);
    const field = byId("text");
    field.disabled = byId("attach").disabled = isBlocked;
    setAttribute(field, "placeholder", conversation.left ? "You are no longer in this conversation" : "Write a message");
    byId("send").disabled = isBlocked || field.value.trim() === "";
  }

  /** What is written next is an edit of this message, or answers it. @param {"edit" | "reply"} kind */
  begin(kind, entry) {
    const draft = this.#draft;
    const now = isUntouched(draft) ? (draft.before ?? NOTHING) : draft;
    const context = { kind, entry };
    if (kind === "edit") this.#show({ text: textOf(contentOf(entry)), context, before: now });
    else if (now.context?.kind === "edit") this.#show({ text: "", context, before: now });
    else this.#show({ ...now, context });
    byId("text").focus();
  }

  /** The message that is being answered, if one is; it no longer is then. */
  answered() {
    if (this.#context?.kind !== "reply") return undefined;
    const { entry } = this.#context;
    this.#endContext();
    return entry;
  }

  /** An edit is given up; the text of an answer stays. */
  #endContext() {
    const { text, context, before } = this.#draft;
    const isOver = context.kind === "edit" || text.trim() === "";
    this.#show(isOver ? before : { text, context: null, before });
  }

  // --- drafts ---

  /** @returns {Draft} */
  get #draft() {
    return { text: byId("text").value, context: this.#context, before: this.#before };
  }

  /** @param {Draft | null | undefined} draft */
  #show(draft) {
    const { text, context, before } = draft ?? NOTHING;
    byId("text").value = text;
    this.#context = context;
    this.#before = before;
    byId("context").hidden = context === null;
    if (context) setLine(byId("context-text"), context.kind === "edit" ? "Editing" : `Answering ${context.entry.senderId}`, textOf(contentOf(context.entry)));
    this.#edited();
  }

  #putAside(conversationId, draft) {
    this.#drafts.delete(conversationId);
    if (!isEmpty(draft) && conversationId !== null) this.#drafts.set(conversationId, draft);
    if (this.#drafts.size > DRAFTS_MAX) this.#drafts.delete(this.#drafts.keys().next().value);
  }

  /** It is written once more: now, or after what was begun since it was sent. */
  #giveBack(conversationId, draft) {
    const isOpen = conversationId === this.#openId;
    const now = (isOpen ? this.#draft : this.#drafts.get(conversationId)) ?? NOTHING;
    const { text, context } = draft.before ?? NOTHING;
    const isNext = now.text === text && now.context === context;
    const next = isNext ? { ...draft, before: now } : beneath(now, { ...draft, before: null });
    if (isOpen) this.#show(next);
    else this.#putAside(conversationId, next);
  }

  // --- sending ---

  #submitted(event) {
    event.preventDefault();
    const { text, context, before } = this.#draft;
    if (text.trim() === "" || this.#openId === null) return;
    this.#say(this.#openId, { text: text.trim(), context, before });
    this.#show(before);
    this.#sent();
  }

  #say(conversationId, draft) {
    const { text } = draft;
    const { kind, entry } = draft.context ?? {};
    const mentions = mentionsOf(text, this.#client.conversation(conversationId)?.memberIds ?? []);
    const message = { type: "TEXT", text, ...(mentions.length > 0 && { mentions }) };
    if (kind === "edit") this.#client.edit(entry, message).catch((error) => this.#notEdited(error, conversationId, draft));
    else this.#client.send(conversationId, message, { replyTo: entry }).catch((error) => this.#notTaken(error, conversationId, draft));
  }

  #notEdited(error, conversationId, draft) {
    notSaid(this.#client, error);
    if (!STILL_QUEUED.includes(error.code)) this.#giveBack(conversationId, draft);
  }

  /** What was not even queued goes back to where it was written; all else is shown as a message. */
  #notTaken(error, conversationId, draft) {
    if (!NOT_QUEUED.includes(error.code)) return;
    if (this.#client.pending(conversationId).some((item) => item.payload.text === draft.text)) return;
    toast(error.message);
    this.#giveBack(conversationId, draft);
  }

  #pressed(event) {
    if (event.isComposing || event.keyCode === 229) return; // an input method's own key; in Safari it comes after the composition's end
    if (event.key === "Escape" && this.#context !== null) return this.#endContext();
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  }

  #edited() {
    const field = byId("text");
    field.rows = Math.min(ROWS_MAX, field.value.split("\n").length);
    byId("send").disabled = field.value.trim() === "";
  }

  #typed() {
    this.#edited();
    if (byId("text").value !== "") this.#client.typing(this.#openId);
  }
}

/** @param {Draft | null | undefined} draft */
function isEmpty(draft) {
  return !draft || (draft.text.trim() === "" && draft.context === null && isEmpty(draft.before));
}

/** An edit that changes nothing is nothing to go on with. @param {Draft} draft */
function isUntouched({ text, context }) {
  return context?.kind === "edit" && text === textOf(contentOf(context.entry));
}

/** `draft`, and once all that it interrupted is through, `last`. @returns {Draft} */
function beneath(draft, last) {
  return isEmpty(draft) ? last : { ...draft, before: beneath(draft.before, last) };
}

/** What is no message, such as an edit or a pin, is nothing to show in the log if the server refused it: say why, and drop it. */
export function notSaid(client, error) {
  for (const item of client.pending()) {
    if (item.state === "FAILED" && !isUserMessage(item)) client.cancel(item.conversationId, item.clientMsgId);
  }
  if (error.code !== "CLOSED") toast(error.message);
}
