// What only HTTP tells: members, what a list shows of what is not held here, and how far each member of a group got. Failures cost
// names and counts, nothing else, and are made good on the next connection, or after the wait that the server asked for. Owned by session.js.

/** @typedef {import("./conversation.js").Conversation} Conversation */

import { roleOf } from "./api.js";
import { nextDelay } from "./backoff.js";
import { ChatError } from "./errors.js";

const REFUSED_ATTEMPT = 3; // nothing tells how many were refused before, so the wait does not grow
const RECEIPTS_MEMBERS_MAX = 100;

export class Directory {
  #busy = false;
  /** @type {Set<string>} whose row is wished for */
  #wanted = new Set();
  #wantsAll = false;
  /** @type {any} */
  #later = null;

  /**
   * @param {import("./types.js").Ports & {api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts">}} parts
   * @param {{conversations: Map<string, Conversation>, me: () => string, changed: (conversation?: Conversation) => void}} owner
   *   whose conversations are filled in
   */
  constructor(parts, owner) {
    this.parts = parts;
    this.owner = owner;
  }

  /** Fetch what a list shows, of one conversation or of all, and the members of those that lack them. One run at a time; what is
   * wished for meanwhile is the next. @param {string} [conversationId] */
  async refresh(conversationId) {
    if (conversationId === undefined) this.#wantsAll = true;
    else this.#wanted.add(conversationId);
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#wantsAll || this.#wanted.size > 0) {
        const wanted = this.#wantsAll ? null : this.#wanted;
        this.#wantsAll = false;
        this.#wanted = new Set();
        await this.#read(wanted);
      }
    } catch (error) {
      if (error instanceof ChatError && error.retryable && error.status !== null) this.#refreshLater(error.retryAfterMs);
      else console.warn(`names were not loaded; they are asked for again on the next connection: ${messageOf(error)}`);
    } finally {
      this.#busy = false;
      this.owner.changed();
    }
  }

  /** Fetch the members of a group and their cursors, so that its ticks follow the slowest one. @param {Conversation} conversation */
  async details(conversation) {
    if (conversation.left || conversation.type !== "GROUP") return;
    try {
      describe(conversation, await this.parts.api.conversation(conversation.id));
      if ((conversation.memberCount ?? 0) > RECEIPTS_MEMBERS_MAX) return;
      const rows = await this.parts.api.receipts(conversation.id);
      conversation.others.setMembers(rows.filter((row) => row.userId !== this.owner.me()));
      this.owner.changed();
    } catch (error) {
      console.warn(`members of ${conversation.id} were not loaded: ${messageOf(error)}`);
    }
  }

  /** @param {number | null} retryAfterMs */
  #refreshLater(retryAfterMs) {
    this.parts.clearTimeout(this.#later);
    this.#later = this.parts.setTimeout(() => this.refresh(), nextDelay(REFUSED_ATTEMPT, this.parts.random(), retryAfterMs));
  }

  /** @param {Set<string> | null} wanted null: all */
  async #read(wanted) {
    /** @param {any[]} rows */
    const enough = (rows) => wanted !== null && rows.filter((row) => wanted.has(row.conversationId)).length >= wanted.size;
    for (const row of await this.parts.api.conversations(enough)) {
      const conversation = this.owner.conversations.get(row.conversationId);
      if (!conversation) continue; // HEADS or its first entry makes it known
      conversation.role = row.type === "GROUP" ? roleOf(row.memberRole) : null;
      conversation.listed(row);
      conversation.previewed(row);
      this.owner.changed(conversation);
    }
    this.owner.changed();
    for (const conversation of this.owner.conversations.values()) {
      const isNeeded = conversation.memberIds === null && !conversation.left;
      if (!isNeeded) continue;
      describe(conversation, await this.parts.api.conversation(conversation.id));
      this.owner.changed(conversation);
    }
  }
}

/** Take title and members from an answer that describes one conversation. @param {Conversation} conversation @param {any} answer */
export function describe(conversation, answer) {
  conversation.title = answer.title ?? conversation.title;
  conversation.memberIds = answer.memberIds ?? [];
  conversation.memberCount = answer.memberCount ?? answer.memberIds?.length ?? 0;
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
