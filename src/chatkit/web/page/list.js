// The list of conversations, newest activity first, and who is signed in above it. Made by ui.js.

import { byId, drawAvatar, el, reconcile, setAttribute, setLine, setText } from "./dom.js";
import { noticeLine, stampOf, textOf } from "./format.js";
import { contentOf, isUserMessage } from "../v1/client/chatkit.js";

const NO_CONVERSATIONS = "No conversations yet. Start one with the plus above.";
const NOT_LOADED = "Your conversations appear here as soon as the server answers.";

export class ConversationList {
  #client;

  /** @param {{client, choose: (conversationId: string) => void}} parts */
  constructor({ client, choose }) {
    this.#client = client;
    byId("conversations").addEventListener("click", ({ target }) => {
      const row = target.closest("[data-conversation]");
      if (row) choose(row.dataset.conversation);
    });
  }

  /** @param open the conversation that is open, if there is one; it stays in the list also after it was left */
  draw(open) {
    const { me, status, ready, unreached } = this.#client;
    setText(byId("me-name"), me);
    drawAvatar(byId("me-avatar"), me, false);
    setText(byId("me-state"), status.state === "online" ? "Online" : "Offline");
    const shown = this.#client.conversations();
    if (open?.left) shown.push(open);
    const items = shown.map((conversation) => ({ key: conversation.id, conversation, isOpen: conversation === open }));
    reconcile(byId("conversations"), items, makeRow, (row, item) => this.#drawRow(row, item));
    byId("no-conversations").hidden = !(ready || unreached) || items.length > 0;
    setText(byId("no-conversations"), unreached ? NOT_LOADED : NO_CONVERSATIONS);
  }

  /** The keyboard goes on where it came from. */
  focus(conversationId) {
    document.querySelector(`#conversations [data-conversation="${CSS.escape(conversationId)}"]`)?.focus();
  }

  #drawRow(row, { conversation, isOpen }) {
    const [avatar, name, stamp, preview, badge] = row.firstElementChild.children;
    const { count, more } = conversation.unread;
    const title = conversation.name;
    setAttribute(row.firstElementChild, "aria-current", isOpen ? "true" : null);
    drawAvatar(avatar, title, conversation.type === "GROUP");
    setText(name, title);
    const isMuted = conversation.mutedUntil > this.#client.serverNow;
    setText(stamp, [isMuted ? "muted" : "", stampOf(conversation.activityTs, this.#client.serverNow)].filter(Boolean).join(" · "));
    setLine(preview, ...this.#preview(conversation));
    const mentions = conversation.unreadMentions;
    badge.hidden = count === 0 && mentions === 0; // the edit of a message that was read may mention
    row.firstElementChild.classList.toggle("muted", isMuted);
    setText(badge, [mentions > 0 ? "@" : "", count > 0 ? `${count}${more ? "+" : ""}` : ""].filter(Boolean).join(" "));
    setAttribute(badge, "aria-label", mentions > 0 ? `${count} unread, ${mentions} that mention you` : `${count} unread`);
  }

  /** [who says it or "", what they say] */
  #preview(conversation) {
    const { me } = this.#client;
    if (conversation.typingUsers(Date.now()).length > 0) return ["", "typing…"];
    const waiting = this.#client.pending(conversation.id).findLast(isUserMessage);
    if (waiting) return ["You", textOf(waiting.payload)];
    const last = conversation.lastMessage;
    const notice = conversation.messages.at(-1);
    if (notice && !isUserMessage(notice) && notice.seq > (last?.seq ?? 0)) {
      return ["", noticeLine(notice, me, conversation.type === "SINGLE")];
    }
    if (!last) return ["", ""];
    const by = last.senderId === me ? "You" : conversation.type === "GROUP" ? last.senderId : "";
    return [by, textOf(contentOf(last))];
  }
}

function makeRow(item) {
  const button = el(
    "button",
    { type: "button", "data-conversation": item.key },
    el("span", { class: "avatar", "aria-hidden": "true" }),
    el("strong", { dir: "auto" }),
    el("small", { class: "stamp" }),
    el("span", { class: "preview" }),
    el("span", { class: "badge" }),
  );
  return el("li", {}, button);
}
