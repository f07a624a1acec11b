// What a conversation keeps beside its messages: what is pinned, and in a group its name and what it is for. Two dialogs, opened
// by actions.js. Made by ui.js.

import { notSaid } from "./composer.js";
import { byId, el, setText } from "./dom.js";
import { stampOf, textOf } from "./format.js";
import { toast } from "./notices.js";
import { contentOf } from "../v1/client/chatkit.js";

export class Group {
  #client;
  #seek;
  #id = null; // the conversation that a dialog is about

  /** @param {{client, seek: (seq: number) => void}} parts */
  constructor({ client, seek }) {
    this.#client = client;
    this.#seek = seek;
    byId("pins-close").addEventListener("click", () => byId("pins").close());
    byId("pinned").addEventListener("click", ({ target }) => this.#pressed(target.closest("button")));
    byId("rename-cancel").addEventListener("click", () => byId("rename").close());
    byId("rename-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rename(new FormData(event.target));
    });
  }

  /** Pin a message, or no more; what became of it is said. */
  pin(conversationId, { messageId, seq }, pinned) {
    this.#say(conversationId, { type: "PINNED", messageId, seq, pinned }, pinned ? "Pinned for everybody." : "No longer pinned.");
  }

  /** Show what is pinned, the last one first. */
  async showPins(conversationId) {
    try {
      const { pins } = await this.#client.request("GET", `/v1/conversations/${encodeURIComponent(conversationId)}/pins`);
      this.#id = conversationId;
      setText(byId("pins-none"), pins.length === 0 ? "Nothing is pinned here." : "");
      byId("pinned").replaceChildren(...pins.map((pin) => this.#row(pin)));
      byId("pins").showModal();
    } catch (error) {
      toast(error.message);
    }
  }

  /** Ask what a group is to be called. */
  showRename({ id, title }) {
    this.#id = id;
    byId("rename-form").reset();
    byId("new-title").value = title;
    byId("rename").showModal();
    byId("new-title").select();
  }

  #row({ message, pinnedBy, pinnedTs }) {
    const { messageId, seq, senderId } = message;
    const content = message.edit?.payload ?? contentOf(message);
    const by = `Pinned by ${pinnedBy} · ${stampOf(pinnedTs, this.#client.serverNow)}`;
    const show = el("button", { type: "button", "data-seq": seq }, el("span", { class: "preview" }, el("bdi", {}, senderId), ": ", el("bdi", {}, textOf(content))), el("small", { class: "stamp" }, by));
    const unpin = el("button", { type: "button", class: "tool", "data-unpin": messageId, "data-seq": seq, "aria-label": `Unpin: ${textOf(content)}` }, "Unpin");
    return el("li", {}, show, unpin);
  }

  #pressed(button) {
    if (button === null) return;
    byId("pins").close();
    const { unpin: messageId, seq } = button.dataset;
    if (messageId === undefined) this.#seek(Number(seq));
    else this.pin(this.#id, { messageId, seq: Number(seq) }, false);
  }

  #rename(form) {
    byId("rename").close();
    const description = form.get("description").trim();
    this.#say(this.#id, { type: "TITLE", title: form.get("title").trim(), ...(description && { description }) }, "The group has another name.");
  }

  #say(conversationId, payload, done) {
    this.#client.send(conversationId, payload).then(() => toast(done), (error) => notSaid(this.#client, error));
  }
}
