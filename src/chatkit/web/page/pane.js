// The open conversation: its header, its log, and the ways through it. Made by ui.js.

import { byId, drawAvatar, setAttribute, setText } from "./dom.js";
import { listOf } from "./format.js";
import { MediaView } from "./media.js";
import { itemsOf, showItems } from "./messages.js";
import { toast } from "./notices.js";

const AT_END_PX = 48;
const OLDER_COUNT = 200;
const SEEK_PAGES_MAX = 10;

export class Pane {
  #client;
  #actions;
  #changed;
  #media;
  #conversation = undefined;
  #shownId = null;
  #current = null; // the message that the keyboard is at
  #sought = null; // {seq} of the message to be shown, while what is between is loaded

  /** @param {{client, actions: import("./actions.js").Actions, back: () => void, changed: () => void}} parts */
  constructor({ client, actions, back, changed }) {
    this.#client = client;
    this.#actions = actions;
    this.#changed = changed;
    this.#media = new MediaView(client);
    /** Whether the end of the log is in view. */
    this.atEnd = true;
    byId("back").addEventListener("click", back);
    byId("about").addEventListener("click", ({ currentTarget }) => this.#actions.ofConversation(this.#conversation, currentTarget));
    byId("older").addEventListener("click", () => this.#loadOlder().catch((error) => toast(error.message)));
    byId("to-end").addEventListener("click", () => {
      this.toEnd();
      byId("scroller").focus(); // the button is hidden now
    });
    byId("scroller").addEventListener("scroll", () => this.#scrolled());
    byId("log").addEventListener("click", (event) => this.#acted(event));
    byId("log").addEventListener("keydown", (event) => this.#pressed(event));
    byId("log").addEventListener("focusin", ({ target }) => this.#stand(target.closest(".message")));
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(byId("scroller"));
  }

  /** Another conversation is open, or none, or the same is to be seen from its end. */
  opened() {
    this.#sought = null;
    this.atEnd = true;
  }

  toEnd() {
    this.opened();
    byId("scroller").scrollTop = byId("scroller").scrollHeight;
    this.#changed();
  }

  // --- drawing ---

  /** @param conversation the open one, or undefined */
  draw(conversation, openId) {
    const isNew = this.#shownId !== openId;
    this.#shownId = openId;
    this.#conversation = conversation;
    byId("conversation").hidden = conversation === undefined;
    byId("empty").hidden = conversation !== undefined;
    setText(byId("empty-text"), this.#client.unreached ? "Cannot reach the server." : "Choose a conversation.");
    if (conversation === undefined) return;
    this.#drawHeader(conversation);
    this.#drawLog(conversation, isNew);
  }

  #drawHeader(conversation) {
    const title = conversation.name;
    setText(byId("title"), title);
    drawAvatar(byId("title-avatar"), title, conversation.type === "GROUP");
    setText(byId("subtitle"), subtitleOf(conversation, this.#client));
    const names = conversation.typingUsers(Date.now());
    const verb = names.length > 1 ? "are" : "is";
    setText(byId("typing"), names.length > 0 ? `${listOf(names, 2)} ${verb} typing…` : "");
  }

  #drawLog(conversation, isNew) {
    const scroller = byId("scroller");
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    const former = Number(byId("log").dataset.first);
    const first = conversation.messages[0]?.seq ?? 0;
    setAttribute(byId("log"), "aria-busy", conversation.loaded && !isNew ? null : "true");
    setAttribute(byId("log"), "data-first", first);
    byId("older").hidden = !conversation.loaded || !conversation.hasOlder;
    showItems(itemsOf(conversation, this.#client), this.#media);
    if (this.atEnd || isNew) scroller.scrollTop = scroller.scrollHeight;
    else if (first < former) scroller.scrollTop = scroller.scrollHeight - fromEnd;
    byId("to-end").hidden = this.atEnd;
    if (!this.#current?.isConnected) this.#stand([...byId("log").querySelectorAll(".message")].at(-1) ?? null);
  }

  #scrolled() {
    if (this.#sought !== null) return; // it goes elsewhere
    const scroller = byId("scroller");
    this.atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END_PX;
    this.#changed();
  }

  /** Show a message of the open conversation, and load what is between; within bounds. */
  async seek(seq) {
    const sought = { seq };
    this.#sought = sought;
    this.atEnd = false;
    this.#client.viewing(false); // or of what is loaded only the newest is kept
    try {
      await this.#load(sought);
      if (this.#sought === sought) showRow(document.querySelector(`#log .message[data-seq="${seq}"]`));
    } finally {
      if (this.#sought === sought) {
        this.#sought = null;
        this.#scrolled();
      }
    }
  }

  async #load(sought) {
    for (let page = 0; page < SEEK_PAGES_MAX && this.#sought === sought; page += 1) {
      if (this.#conversation.messages[0]?.seq <= sought.seq || !(await this.#grow())) return;
    }
  }

  async #loadOlder() {
    const conversation = this.#conversation;
    const isFull = !(await this.#grow()) && this.#client.online && conversation.hasOlder;
    if (isFull) toast("No more messages fit into this tab.");
  }

  /** Bring older messages into the open conversation. Resolves to whether there are any more than before. */
  async #grow() {
    const conversation = this.#conversation;
    const [first] = conversation.messages;
    await this.#client.history(conversation.id, { beforeSeq: first?.seq, limit: OLDER_COUNT });
    return conversation.messages[0]?.seq < (first?.seq ?? Infinity);
  }

  // --- the keyboard: one stop for all messages, arrows between them, Enter for what can be done ---

  #stand(row) {
    if (row === this.#current) return;
    this.#current?.setAttribute("tabindex", "-1");
    this.#current = row;
    row?.setAttribute("tabindex", "0");
  }

  #pressed(event) {
    const row = event.target;
    if (!row.matches(".message")) return;
    if (event.key === "Enter" || event.key === "ContextMenu") {
      event.preventDefault();
      return this.#actions.ofMessage(row.item, row);
    }
    const rows = [...byId("log").querySelectorAll(".message")];
    const at = rows.indexOf(row);
    const next = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    rows[next]?.focus();
  }

  // --- what is done with a message ---

  #acted(event) {
    const row = event.target.closest("li");
    const button = event.target.closest("[data-action]");
    if (!button) return choose(row);
    const { entry, item, quote } = row.item;
    const { action, reaction } = button.dataset;
    if (action === "drop") this.#drop(item);
    else if (action === "jump") this.seek(quote.seq).catch((error) => toast(error.message));
    else if (action === "react") this.#actions.react(row.item, reaction);
    else if (action === "reply") this.#actions.reply(entry);
    else if (action === "view") this.#media.view(button.media);
    else if (action === "retry") this.#media.retry(button);
    else if (action === "save") this.#media.save(button.media);
    else this.#actions.ofMessage(row.item, button);
  }

  #drop({ clientMsgId }) {
    byId("scroller").focus(); // its button goes with it
    this.#client.cancel(this.#conversation.id, clientMsgId);
  }
}

function showRow(row) {
  if (row === null) return toast("That message is not here, or too far back to be shown.");
  row.scrollIntoView({ block: "center" });
  row.focus({ preventScroll: true });
  row.classList.add("found");
  row.addEventListener("animationend", () => row.classList.remove("found"), { once: true });
}

/** Where nothing hovers, a touch shows what can be done with a message. */
function choose(row) {
  const former = document.querySelector("#log .chosen");
  former?.classList.remove("chosen");
  if (row !== former) row?.classList.add("chosen");
}

function subtitleOf(conversation, { me, unreached }) {
  if (conversation.left) return "You left";
  if (unreached) return "Earlier messages appear as soon as the server answers";
  if (conversation.description) return conversation.description;
  if (conversation.type !== "GROUP" || conversation.memberIds === null) return "";
  const names = conversation.memberIds.map((userId) => (userId === me ? "you" : userId));
  return `${conversation.memberCount} members: ${listOf(names, 5)}`;
}
