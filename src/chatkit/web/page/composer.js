// Where messages are written: the field, and what is being written is about. Made by ui.js.

import { byId, setAttribute, setLine } from "./dom.js";
import { textOf } from "./format.js";
import { mentionsOf } from "./mentions.js";
import { toast } from "./notices.js";
import { contentOf, isUserMessage } from "../v1/client/chatkit.js";

const NOT_QUEUED = ["BAD_REQUEST", "TOO_LARGE", "QUEUE_FULL", "STORAGE"];
const ROWS_MAX = 6;
const DRAFTS_MAX = 100;

export class Composer {
  #client;
  #sent;
  #openId = null;
  #drafts = new Map(); // by conversation: what was written there and not sent, the longest ago first
  #context = null; // {kind: "edit" or "reply", entry}: what is being written is about

  /** @param {{client, sent: () => void}} parts */
  constructor({ client, sent }) {
    this.#client = client;
    this.#sent = sent;
    byId("composer").addEventListener("submit", (event) => this.#submitted(event));
    byId("text").addEventListener("keydown", (event) => this.#pressed(event));
    byId("text").addEventListener("input", () => this.#typed());
    byId("context-end").addEventListener("click", () => this.#endContext());
  }

  /** Another conversation is open, or none; what was being written stays with the one before, while the page lives. */
  opened(conversationId) {
    this.#endContext();
    this.#putAside(byId("text").value);
    this.#openId = conversationId;
    byId("text").value = this.#drafts.get(conversationId) ?? "";
    this.#edited();
    if (conversationId !== null && matchMedia("(hover: hover)").matches) queueMicrotask(() => byId("text").focus());
  }

  draw(conversation) {
    const isBlocked = conversation.left || ["replaced", "loggedOut", "refused"].includes(this.#client.status.state);
    const field = byId("text");
    field.disabled = byId("attach").disabled = isBlocked;
    setAttribute(field, "placeholder", conversation.left ? "You are no longer in this conversation" : "Write a message");
    byId("send").disabled = isBlocked || field.value.trim() === "";
  }

  #putAside(text) {
    this.#drafts.delete(this.#openId);
    if (text.trim() !== "" && this.#openId !== null) this.#drafts.set(this.#openId, text);
    if (this.#drafts.size > DRAFTS_MAX) this.#drafts.delete(this.#drafts.keys().next().value);
  }

  /** What is written next is an edit of this message, or answers it. @param {"edit" | "reply"} kind */
  begin(kind, entry) {
    this.#endContext();
    if (kind === "edit") this.#putAside(byId("text").value);
    this.#context = { kind, entry };
    const text = textOf(contentOf(entry));
    setLine(byId("context-text"), kind === "edit" ? "Editing" : `Answering ${entry.senderId}`, text);
    byId("context").hidden = false;
    if (kind === "edit") byId("text").value = text;
    this.#edited();
    byId("text").focus();
  }

  /** The message that is being answered, if one is; it no longer is then. */
  answered() {
    if (this.#context?.kind !== "reply") return undefined;
    const { entry } = this.#context;
    this.#endContext();
    return entry;
  }

  #endContext() {
    if (this.#context?.kind === "edit") byId("text").value = this.#drafts.get(this.#openId) ?? "";
    this.#context = null;
    byId("context").hidden = true;
    this.#edited();
  }

  #submitted(event) {
    event.preventDefault();
    const field = byId("text");
    const text = field.value.trim();
    if (text === "" || this.#openId === null) return;
    this.#say(text);
    field.value = "";
    this.#endContext();
    this.#sent();
  }

  #say(text) {
    const { kind, entry } = this.#context ?? {};
    const conversationId = this.#openId;
    const mentions = mentionsOf(text, this.#client.conversation(conversationId)?.memberIds ?? []);
    const message = { type: "TEXT", text, ...(mentions.length > 0 && { mentions }) };
    if (kind === "edit") return this.#client.edit(entry, message).catch((error) => notSaid(this.#client, error));
    return this.#client.send(conversationId, message, { replyTo: entry }).catch((error) => this.#notTaken(error, conversationId, text));
  }

  /** What was not even queued goes back to where it was written; all else is shown as a message. */
  #notTaken(error, conversationId, text) {
    if (!NOT_QUEUED.includes(error.code)) return;
    if (this.#client.pending(conversationId).some((item) => item.payload.text === text)) return;
    toast(error.message);
    if (byId("text").value === "" && this.#openId === conversationId) byId("text").value = text;
    this.#edited();
  }

  #pressed(event) {
    if (event.key === "Escape" && this.#context !== null) return this.#endContext();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
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

/** What is no message, such as an edit or a pin, is nothing to show in the log if the server refused it: say why, and drop it. */
export function notSaid(client, error) {
  for (const item of client.pending()) {
    if (item.state === "FAILED" && !isUserMessage(item)) client.cancel(item.conversationId, item.clientMsgId);
  }
  if (error.code !== "CLOSED") toast(error.message);
}
