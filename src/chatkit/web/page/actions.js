// What is done with a message, and with the open conversation: the items of their menus. Made by ui.js, called by pane.js.

import { notSaid } from "./composer.js";
import { toast } from "./notices.js";

const LEVELS = { ALL: "Notify me of everything", MENTIONS: "Only of mentions", NONE: "Of nothing" };
const REACTIONS = { "👍": "Like", "❤️": "Love", "😂": "Laugh", "😮": "Wow", "😢": "Sad", "🙏": "Thanks" };

export class Actions {
  #client;
  #menu;
  #write;
  #group;

  /** @param {{client, menu, group: import("./group.js").Group, write: (kind: "edit" | "reply", entry) => void}} parts */
  constructor({ client, menu, group, write }) {
    this.#client = client;
    this.#menu = menu;
    this.#write = write;
    this.#group = group;
  }

  /** Show what can be done with a message, beside `opener`. @param item as messages.js makes them; recalled ones have nothing */
  ofMessage(item, opener) {
    if (item.entry === undefined || item.isRecalled) return;
    const reactions = Object.entries(REACTIONS).map(([label, name]) => {
      return { label, name, kind: "checkbox", checked: isMine(item, label), run: () => this.react(item, label) };
    });
    this.#menu.open(opener, "Message", [
      { name: "React", isRow: true, items: reactions },
      { name: "Message", items: this.#about(item) },
    ]);
  }

  /** Show what can be done with a conversation, beside `opener`; with one that was left, nothing. */
  ofConversation(conversation, opener) {
    const { id, type, mutedUntil, notify, left } = conversation;
    if (left) return;
    const pins = { label: "Pinned messages", run: () => this.#group.showPins(id) };
    const rename = { label: "Change the name", run: () => this.#group.showRename(conversation) };
    const now = mutedUntil > this.#client.serverNow ? notify : "ALL";
    const levels = Object.entries(LEVELS).map(([level, label]) => {
      const choose = () => told(level === "ALL" ? this.#client.unmute(id) : this.#client.mute(id, null, { level }));
      return { label, kind: "radio", checked: level === now, run: choose };
    });
    const leave = { label: "Leave", confirm: "Leave for good?", run: () => this.#leave(id) };
    this.#menu.open(opener, "About this conversation", [
      { name: "Conversation", items: type === "GROUP" ? [pins, rename] : [pins] },
      { name: "Notifications", items: levels },
      { name: "Membership", items: type === "GROUP" ? [leave] : [] },
    ]);
  }

  reply(entry) {
    this.#write("reply", entry);
  }

  /** React, or no more if the user does already. */
  react(item, reaction) {
    this.#client.react(item.entry, reaction, { removed: isMine(item, reaction) }).catch((error) => notSaid(this.#client, error));
  }

  #about({ entry, text, isPlain, isEditable, isRecallable }) {
    const all = [{ label: "Reply", run: () => this.reply(entry) }];
    const { clipboard } = navigator; // only on https and localhost
    if (isPlain && clipboard) all.push({ label: "Copy text", run: () => told(clipboard.writeText(text)) });
    all.push({ label: "Pin", run: () => this.#group.pin(entry, true) });
    if (isEditable) all.push({ label: "Edit", run: () => this.#write("edit", entry) });
    if (isRecallable) all.push({ label: "Recall", confirm: "Recall for everyone?", run: () => this.#recall(entry) });
    return all;
  }

  #recall(entry) {
    this.#client.recall(entry.messageId).catch((error) => toast(recallProblem(error)));
  }

  #leave(id) {
    const me = encodeURIComponent(this.#client.me);
    told(this.#client.request("DELETE", `/v1/conversations/${encodeURIComponent(id)}/members/${me}`));
  }
}

/** Say it if it fails. */
function told(request) {
  request.catch((error) => toast(error.message));
}

function isMine(item, reaction) {
  return item.reactions.some((one) => one.reaction === reaction && one.isMine);
}

function recallProblem(error) {
  if (error.code === "RECALL_WINDOW_PASSED") return "It is too late to recall this message.";
  return `Not recalled: ${error.message}`;
}
