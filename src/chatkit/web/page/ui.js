// The page around the messages: banner, list of conversations, header, composer, dialog, notices. It reads the client, draws
// what is there and tells the client what the user did. Everything from outside is shown as text only.

import { byId, el, reconcile, setAttribute, setText } from "./dom.js";
import { hueOf, initials, listOf, memberLine, stampOf, textOf } from "./format.js";
import { itemsOf, showItems } from "./messages.js";
import { contentOf, isUserMessage } from "../v1/client/chatkit.js";

const AT_END_PX = 48;
const TOAST_MS = 6_000;
const TOASTS_MAX = 4;
const OLDER_COUNT = 200;
const NO_CONVERSATIONS = "No conversations yet. Start one with the plus above.";
const NOT_LOADED = "Your conversations appear here as soon as the server answers.";

export class Ui {
  #client;
  #login;
  #notifier;
  #due = false;
  #atEnd = true;
  #shownId = null;
  #context = null; // {kind: "edit" or "reply", entry}: what is being written is about

  /** @param login where the open conversation is remembered for a reload */
  constructor(client, login, notifier, actions) {
    this.#client = client;
    this.#login = login;
    this.#notifier = notifier;
    this.actions = actions;
    this.openId = login.openConversation;
    client.focus(this.openId);
    client.addEventListener("change", () => this.#draw());
    this.#listen();
    byId("app").hidden = false;
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
    return this.#client.status.state === "waiting" || this.#open !== undefined || byId("typing").textContent !== "";
  }

  /** Show a conversation, or the list when null; remembered for a reload. */
  show(conversationId) {
    this.#login.openConversation = this.openId = conversationId;
    this.#atEnd = true;
    this.#endContext();
    this.#client.focus(conversationId);
    this.#notifier.looked(conversationId);
    if (conversationId !== null && matchMedia("(hover: hover)").matches) queueMicrotask(() => byId("text").focus());
  }

  get #open() {
    return this.openId === null ? undefined : this.#client.conversation(this.openId);
  }

  // --- what the user does ---

  #listen() {
    const on = (id, type, handler) => byId(id).addEventListener(type, handler);
    on("conversations", "click", (event) => this.#chosen(event));
    on("back", "click", () => this.#back());
    on("older", "click", () => this.#loadOlder());
    on("to-end", "click", () => this.#toEnd());
    on("scroller", "scroll", () => this.#scrolled());
    on("log", "click", (event) => this.#acted(event));
    on("composer", "submit", (event) => this.#submitted(event));
    on("text", "keydown", (event) => this.#pressed(event));
    on("text", "input", () => this.#edited());
    on("banner-action", "click", () => this.actions[byId("banner-action").dataset.action]?.()); // it may be hidden since
    on("sign-out", "click", () => this.actions.signOut());
    on("context-end", "click", () => this.#endContext());
    on("notify", "click", () => this.#notifier.toggle());
    document.addEventListener("visibilitychange", () => {
      this.changed();
      this.#notifier.looked(this.openId);
    });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(byId("scroller"));
    this.#listenToDialog(on);
  }

  #chosen(event) {
    const row = event.target.closest("[data-conversation]");
    if (row) this.show(row.dataset.conversation);
  }

  #back() {
    const { openId } = this;
    this.show(null);
    queueMicrotask(() => document.querySelector(`#conversations [data-conversation="${CSS.escape(openId)}"]`)?.focus());
  }

  #acted(event) {
    const row = event.target.closest("li");
    const button = event.target.closest("[data-action]");
    if (!button) return this.#choose(row);
    const { entry, item, quote, reactions } = row.item;
    const { action, reaction, armed: isArmed } = button.dataset;
    if (action === "drop") this.#client.cancel(this.openId, item.clientMsgId);
    else if (action === "jump") document.querySelector(`#log [data-seq="${quote.seq}"]`)?.scrollIntoView({ block: "center" });
    else if (action === "react") this.#react(entry, reaction, reactions);
    else if (action === "edit" || action === "reply") this.#beginContext(action, entry);
    else if (isArmed) this.#client.recall(entry.messageId).catch((error) => this.toast(recallProblem(error)));
    else armed(button);
  }

  /** Where nothing hovers, a touch shows what can be done with a message. */
  #choose(row) {
    const former = document.querySelector("#log .chosen");
    former?.classList.remove("chosen");
    if (row !== former) row?.classList.add("chosen");
  }

  #react(entry, reaction, reactions) {
    const removed = reactions.some((one) => one.reaction === reaction && one.isMine);
    this.#client.react(entry, reaction, { removed }).catch((error) => this.#notSaid(error));
  }

  #beginContext(kind, entry) {
    this.#context = { kind, entry };
    const text = textOf(contentOf(entry));
    setText(byId("context-text"), kind === "edit" ? `Editing: ${text}` : `Answering ${entry.senderId}: ${text}`);
    byId("context").hidden = false;
    if (kind === "edit") byId("text").value = text;
    this.#edited();
    byId("text").focus();
  }

  #endContext() {
    if (this.#context?.kind === "edit") byId("text").value = "";
    this.#context = null;
    byId("context").hidden = true;
    this.#edited();
  }

  /** An edit or a reaction that the server refused is nothing to show in the log. */
  #notSaid(error) {
    for (const item of this.#client.pending()) {
      if (item.state === "FAILED" && !isUserMessage(item)) this.#client.cancel(item.conversationId, item.clientMsgId);
    }
    if (error.code !== "CLOSED") this.toast(error.message);
  }

  #submitted(event) {
    event.preventDefault();
    const field = byId("text");
    const text = field.value.trim();
    if (text === "" || this.openId === null) return;
    this.#say(text);
    field.value = "";
    this.#endContext();
    this.#edited();
    this.#toEnd();
  }

  #say(text) {
    const { kind, entry } = this.#context ?? {};
    if (kind === "edit") return this.#client.edit(entry, text).catch((error) => this.#notSaid(error));
    return this.#client.send(this.openId, text, { replyTo: entry }).catch((error) => this.#notTaken(error, text));
  }

  /** What was not even queued goes back to where it was written; all else is shown as a message. */
  #notTaken(error, text) {
    if (!["BAD_REQUEST", "TOO_LARGE", "QUEUE_FULL", "STORAGE"].includes(error.code)) return;
    if (this.#client.pending(this.openId).some((item) => item.payload.text === text)) return;
    this.toast(error.message);
    if (byId("text").value === "") byId("text").value = text;
    this.#edited();
  }

  async #loadOlder() {
    const { id, messages } = this.#open;
    try {
      const older = await this.#client.history(id, { beforeSeq: messages[0]?.seq, limit: OLDER_COUNT });
      if (older.length === 0 && this.#client.online && this.#open?.hasOlder) this.toast("No more messages fit into this tab.");
    } catch (error) {
      this.toast(error.message);
    }
  }

  #pressed(event) {
    if (event.key === "Escape" && this.#context !== null) return this.#endContext();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  }

  #edited() {
    const field = byId("text");
    field.rows = Math.min(6, field.value.split("\n").length);
    byId("send").disabled = field.value.trim() === "";
    if (field.value !== "") this.#client.typing(this.openId);
  }

  #scrolled() {
    const scroller = byId("scroller");
    this.#atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END_PX;
    this.changed();
  }

  #toEnd() {
    this.#atEnd = true;
    byId("scroller").scrollTop = byId("scroller").scrollHeight;
    this.changed();
  }

  // --- drawing ---

  #draw() {
    this.#drawBanner();
    this.#drawMe();
    this.#drawList();
    this.#drawConversation();
    this.#client.viewing(this.#atEnd);
    if (this.#open && this.#atEnd && document.visibilityState === "visible") this.#client.markRead(this.openId);
    const unread = this.#client.conversations().reduce((sum, one) => sum + one.unread.count, 0);
    document.title = unread > 0 ? `(${unread}) chatkit` : "chatkit";
    this.#drawNotify(unread);
  }

  #drawNotify(unread) {
    const { available, on, busy } = this.#notifier;
    byId("notify").hidden = !available;
    byId("notify").disabled = busy;
    setAttribute(byId("notify"), "aria-pressed", on);
    this.#notifier.badge(unread);
  }

  #drawBanner() {
    const [text, action, label] = bannerOf(this.#client);
    byId("banner").hidden = text === null;
    setAttribute(byId("banner"), "data-state", this.#client.status.state);
    setText(byId("banner-text"), text ?? "");
    byId("banner-action").hidden = action === null;
    setAttribute(byId("banner-action"), "data-action", action);
    setText(byId("banner-action"), label ?? "");
    setAttribute(byId("app"), "data-connection", this.#client.status.state);
  }

  #drawMe() {
    const { me, status } = this.#client;
    setText(byId("me-name"), me);
    drawAvatar(byId("me-avatar"), me, false);
    setText(byId("me-state"), status.state === "online" ? "Online" : "Offline");
  }

  #drawList() {
    const { ready, unreached } = this.#client;
    const open = this.#open;
    const shown = this.#client.conversations();
    if (open?.left) shown.push(open);
    const items = shown.map((conversation) => ({ key: conversation.id, conversation }));
    reconcile(byId("conversations"), items, makeRow, (row, item) => this.#drawRow(row, item.conversation));
    byId("no-conversations").hidden = !(ready || unreached) || items.length > 0;
    setText(byId("no-conversations"), unreached ? NOT_LOADED : NO_CONVERSATIONS);
  }

  #drawRow(row, conversation) {
    const [avatar, name, stamp, preview, badge] = row.firstElementChild.children;
    const { count, more } = conversation.unread;
    const title = conversation.name;
    setAttribute(row.firstElementChild, "aria-current", conversation.id === this.openId ? "true" : null);
    drawAvatar(avatar, title, conversation.type === "GROUP");
    setText(name, title);
    setText(stamp, stampOf(conversation.activityTs, this.#client.serverNow));
    setText(preview, this.#preview(conversation));
    badge.hidden = count === 0;
    setText(badge, count > 0 ? `${count}${more ? "+" : ""}` : "");
    setAttribute(badge, "aria-label", `${count} unread`);
  }

  #preview(conversation) {
    const { me } = this.#client;
    if (conversation.typingUsers(Date.now()).length > 0) return "typing…";
    const waiting = this.#client.pending(conversation.id).findLast(isUserMessage);
    if (waiting) return `You: ${textOf(waiting.payload)}`;
    const last = conversation.lastMessage;
    if (!last) return "";
    if (!isUserMessage(last)) return memberLine(last, me, conversation.type === "SINGLE");
    const by = last.senderId === me ? "You: " : conversation.type === "GROUP" ? `${last.senderId}: ` : "";
    return by + textOf(contentOf(last));
  }

  #drawConversation() {
    const conversation = this.#open;
    const isNew = this.#shownId !== this.openId;
    this.#shownId = this.openId;
    setAttribute(byId("app"), "data-view", this.openId === null ? "list" : "conversation");
    byId("conversation").hidden = conversation === undefined;
    byId("empty").hidden = conversation !== undefined;
    setText(byId("empty-text"), this.#client.unreached ? "Cannot reach the server." : "Choose a conversation.");
    if (conversation === undefined) return;
    this.#drawHeader(conversation);
    this.#drawLog(conversation, isNew);
    this.#drawComposer(conversation);
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
    showItems(itemsOf(conversation, this.#client));
    if (this.#atEnd) scroller.scrollTop = scroller.scrollHeight;
    else if (first < former) scroller.scrollTop = scroller.scrollHeight - fromEnd;
    byId("to-end").hidden = this.#atEnd;
  }

  #drawComposer(conversation) {
    const isBlocked = conversation.left || ["replaced", "loggedOut", "refused"].includes(this.#client.status.state);
    const field = byId("text");
    field.disabled = isBlocked;
    setAttribute(field, "placeholder", conversation.left ? "You are no longer in this conversation" : "Write a message");
    byId("send").disabled = isBlocked || field.value.trim() === "";
  }

  // --- notices and the dialog ---

  /** Say something for a few seconds. */
  toast(text) {
    const box = byId("toasts");
    while (box.childElementCount >= TOASTS_MAX) box.firstElementChild.remove();
    const toast = el("p", { class: "toast" }, text);
    box.append(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  #listenToDialog(on) {
    const dialog = byId("create");
    on("new-conversation", "click", () => {
      byId("create-form").reset();
      this.#kindChosen();
      dialog.showModal();
      byId("members").focus();
    });
    on("create-cancel", "click", () => dialog.close());
    on("create-form", "change", () => this.#kindChosen());
    on("create-form", "submit", (event) => this.#create(event));
  }

  #kindChosen() {
    const isGroup = new FormData(byId("create-form")).get("type") === "GROUP";
    byId("group-title").hidden = !isGroup;
    setText(byId("members-label"), isGroup ? "User ids, separated by commas or spaces" : "User id");
    setText(byId("create-problem"), "");
  }

  async #create(event) {
    event.preventDefault();
    const form = new FormData(byId("create-form"));
    const type = form.get("type");
    const memberIds = form.get("members").split(/[\s,;]+/).filter(Boolean);
    const title = type === "GROUP" ? form.get("title").trim() : "";
    try {
      const { id } = await this.#client.create({ type, memberIds, ...(title && { title }) });
      byId("create").close();
      this.show(id);
    } catch (error) {
      setText(byId("create-problem"), error.message);
    }
  }
}

function makeRow(item) {
  const button = el(
    "button",
    { type: "button", "data-conversation": item.key },
    el("span", { class: "avatar", "aria-hidden": "true" }),
    el("strong", { dir: "auto" }),
    el("small", { class: "stamp" }),
    el("span", { class: "preview", dir: "auto" }),
    el("span", { class: "badge" }),
  );
  return el("li", {}, button);
}

function drawAvatar(element, name, isGroup) {
  setText(element, name === "" ? "" : initials(name));
  setAttribute(element, "data-hue", hueOf(name));
  element.classList.toggle("group", isGroup);
}

function subtitleOf(conversation, { me, unreached }) {
  if (conversation.left) return "You left";
  if (unreached) return "Earlier messages appear as soon as the server answers";
  if (conversation.type !== "GROUP" || conversation.memberIds === null) return "";
  const names = conversation.memberIds.map((userId) => (userId === me ? "you" : userId));
  return `${conversation.memberCount} members: ${listOf(names, 5)}`;
}

/** [text or null, action or null, its label] */
function bannerOf({ status, ready, unreached }) {
  switch (status.state) {
    case "stopped":
    case "checking":
    case "connecting":
      return [ready || unreached ? "Connecting again…" : "Connecting…", null, null];
    case "waiting": {
      const seconds = Math.max(1, Math.ceil((status.untilMs - Date.now()) / 1000));
      const problem = unreached ? "Cannot reach the server." : "Offline.";
      return [`${problem} Next try in ${seconds} s. Messages are kept and sent later.`, "hurry", "Try now"];
    }
    case "replaced":
      return ["This chat is open in another tab or window of this device.", "reopen", "Use here"];
    case "loggedOut":
      return ["The sign-in has ended. Open a new link, or sign in again.", "signOut", "Sign in"];
    case "refused":
      return [`The server refused this page (${status.code} ${status.reason}).`, "reopen", "Try again"];
    default:
      return [null, null, null];
  }
}

function recallProblem(error) {
  if (error.code === "RECALL_WINDOW_PASSED") return "It is too late to recall this message.";
  return `Not recalled: ${error.message}`;
}

/** The first press asks, the second one acts; leaving the button takes it back. */
function armed(button) {
  const label = button.textContent;
  button.dataset.armed = "true";
  button.textContent = "Recall for everyone?";
  const disarm = () => {
    delete button.dataset.armed;
    button.textContent = label;
  };
  button.addEventListener("blur", disarm, { once: true });
  button.focus();
}
