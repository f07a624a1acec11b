// The page as a whole: which conversation is open, and when to draw what. It reads the client, and its rooms tell the client what
// the user did: notices.js, list.js, search.js, pane.js, actions.js, composer.js, attach.js,
// group.js, settings.js, create.js. Everything from outside is shown as text only.

import { Actions } from "./actions.js";
import { Attachments } from "./attach.js";
import { Composer } from "./composer.js";
import { CreateDialog } from "./create.js";
import { byId, setAttribute } from "./dom.js";
import { ConversationList } from "./list.js";
import { Group } from "./group.js";
import { Menu } from "./menu.js";
import { Banner, toast } from "./notices.js";
import { Pane } from "./pane.js";
import { Search } from "./search.js";
import { offerSettings } from "./settings.js";

export class Ui {
  #client;
  #login;
  #notifier;
  #banner;
  #list;
  #pane;
  #composer;
  #attachments;
  #search;
  #due = false;
  #showsTyping = false;

  /** @param {{client, login, notifier, theme, install, actions}} parts `login`: where the open conversation is remembered for a reload */
  constructor({ client, login, notifier, theme, install, actions }) {
    this.#client = client;
    this.#login = login;
    this.#notifier = notifier;
    this.openId = login.openConversation;
    client.focus(this.openId);
    this.#makeRooms({ theme, install, actions });
    client.addEventListener("change", () => this.#draw());
    document.addEventListener("visibilitychange", () => {
      this.changed();
      notifier.looked(this.openId);
    });
    byId("notify").addEventListener("click", () => notifier.toggle());
    byId("app").hidden = false;
  }

  #makeRooms({ theme, install, actions }) {
    const client = this.#client;
    const menu = new Menu();
    this.#banner = new Banner(client, actions);
    this.#list = new ConversationList({ client, choose: (id) => this.show(id) });
    this.#composer = new Composer({ client, sent: () => this.#pane.toEnd() });
    const messageActions = new Actions({ client, menu, group: new Group({ client, seek: (seq) => this.#seek(seq) }), write: (kind, entry) => this.#composer.begin(kind, entry) });
    this.#pane = new Pane({ client, actions: messageActions, back: () => this.#back(), changed: () => this.changed() });
    this.#attachments = new Attachments({ client, answered: () => this.#composer.answered(), sent: () => this.#pane.toEnd() });
    this.#search = new Search({ client, choose: (id, seq) => this.#found(id, seq) });
    this.#opened(this.openId);
    offerSettings({ menu, theme, install, login: this.#login, signOut: actions.signOut });
    new CreateDialog({ client, created: (id) => this.show(id) });
  }

  /** Draw soon; many changes in one turn are drawn once. Also in hidden tabs, so that nothing waits for a frame. */
  changed() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      this.#draw();
    });
  }

  /** Whether something on the page changes with time alone. */
  get needsTick() {
    return this.#client.status.state === "waiting" || this.#open !== undefined || this.#showsTyping;
  }

  /** Show a conversation, or the list when null; remembered for a reload. */
  show(conversationId) {
    this.#login.openConversation = this.openId = conversationId;
    this.#opened(conversationId);
    this.#client.focus(conversationId);
    this.#notifier.looked(conversationId);
  }

  #opened(conversationId) {
    for (const room of [this.#pane, this.#composer, this.#attachments, this.#search]) room.opened(conversationId);
  }

  /** Show a message that a search has found. */
  #found(conversationId, seq) {
    if (this.#client.conversation(conversationId) === undefined) return toast("That conversation is not here.");
    this.show(conversationId);
    this.#pane.atEnd = false; // or all of it counts as read
    this.#draw();
    queueMicrotask(() => this.#seek(seq)); // after the field took the focus
  }

  #seek(seq) {
    this.#pane.seek(seq).catch((error) => toast(error.message));
  }

  get #open() {
    return this.openId === null ? undefined : this.#client.conversation(this.openId);
  }

  #back() {
    const { openId } = this;
    this.show(null);
    queueMicrotask(() => this.#list.focus(openId));
  }

  #draw() {
    const open = this.#open;
    const { atEnd } = this.#pane;
    setAttribute(byId("app"), "data-view", open ? "conversation" : "list"); // also while what is to be open is not known
    this.#banner.draw();
    this.#list.draw(open);
    this.#pane.draw(open, this.openId);
    if (open) this.#composer.draw(open);
    this.#client.viewing(atEnd);
    if (open && atEnd && document.visibilityState === "visible") this.#client.markRead(this.openId);
    this.#drawUnread();
    this.#showsTyping = this.#client.conversations().some((one) => one.typingUsers(Date.now()).length > 0);
  }

  #drawUnread() {
    const unread = this.#client.conversations().reduce((sum, one) => sum + one.unread.count, 0);
    const { available, on, busy } = this.#notifier;
    document.title = unread > 0 ? `(${unread}) chatkit` : "chatkit";
    byId("notify").hidden = !available;
    byId("notify").disabled = busy;
    setAttribute(byId("notify"), "aria-pressed", on);
    this.#notifier.badge(unread);
  }
}
