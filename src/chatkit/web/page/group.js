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
  #pinsOf = null; // the conversation whose pins are shown, or were
  #named = null; // {id, title, description} of the group that gets another name, as the fields had them

  /** @param {{client, seek: (seq: number) => void}} parts */
  constructor({ client, seek }) {
    this.#client = client;
    this.#seek = seek;
    byId("pins-close").addEventListener("click", () => byId("pins").close());
    byId("pinned").addEventListener("click", ({ target }) => this.#pressed(target.closest("button")));
    byId("rename-cancel").addEventListener("click", () => byId("rename").close());
    byId("rename-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rename();
    });
  }

  /** Pin a message, or no more; what became of it is said. */
  pin(message, pinned) {
    this.#told(this.#client.pin(message, { pinned }), pinned ? "Pinned for everybody." : "No longer pinned.");
  }

  /** Show what is pinned, the last one first. The dialog is there before the answer, so that no other conversation is opened meanwhile. */
  async showPins(conversationId) {
    this.#pinsOf = conversationId;
    this.#drawPins([], "Loading…");
    byId("pins").showModal();
    const asked = this.#client.pins(conversationId);
    const [pins, words] = await asked.then((all) => [all, all.length === 0 ? "Nothing is pinned here." : ""], (error) => [[], error.message]);
    if (this.#pinsOf === conversationId) this.#drawPins(pins, words);
  }

  #drawPins(pins, words) {
    setText(byId("pins-none"), words);
    byId("pinned").replaceChildren(...pins.map((pin) => this.#row(pin)));
    byId("pinned").querySelector("button")?.focus();
  }

  /** Ask what a group is to be called. */
  showRename({ id, title, description }) {
    byId("new-title").value = title;
    byId("new-description").value = description;
    this.#named = { id, title: byId("new-title").value, description: byId("new-description").value };
    byId("rename").showModal();
    byId("new-title").select();
  }

  /** One for which the server's list had no room has no message: it can be opened, and fits once others are pinned no more. */
  #row({ seq, message, by: pinnedBy, pinnedTs }) {
    const by = el("small", { class: "stamp" }, `Pinned by ${pinnedBy} · ${stampOf(pinnedTs, this.#client.serverNow)}`);
    if (message === null) return el("li", {}, el("button", { type: "button", "data-seq": seq }, el("span", { class: "preview" }, "An earlier pinned message"), by));
    const content = contentOf(message);
    const show = el("button", { type: "button", "data-seq": seq }, el("span", { class: "preview" }, el("bdi", {}, message.senderId), ": ", el("bdi", {}, textOf(content))), by);
    const unpin = el("button", { type: "button", class: "tool", "data-action": "unpin", "aria-label": `Unpin: ${textOf(content)}` }, "Unpin");
    unpin.message = message;
    return el("li", {}, show, unpin);
  }

  #pressed(button) {
    if (button === null) return;
    byId("pins").close();
    if (button.message) this.pin(button.message, false);
    else this.#seek(Number(button.dataset.seq));
  }

  /** What was not touched stays as it is, also if somebody else changed it meanwhile. */
  #rename() {
    byId("rename").close();
    const { id, title, description } = this.#named;
    const wanted = { title: byId("new-title").value, description: byId("new-description").value };
    if (wanted.title !== title) this.#told(this.#client.setTitle(id, wanted.title.trim()), "The group has another name.");
    if (wanted.description !== description) this.#told(this.#client.setDescription(id, wanted.description.trim()), "What the group is for is written down.");
  }

  #told(sending, done) {
    sending.then(() => toast(done), (error) => notSaid(this.#client, error));
  }
}
