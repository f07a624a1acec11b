// What only HTTP tells: titles, members, and how far each member of a group got. Failures cost names, nothing else, and
// are made good on the next connection, or after the wait that the server asked for. Owned by session.js.

import { nextDelay } from "./wire.js";

const REFUSED_ATTEMPT = 3; // nothing tells how many were refused before, so the wait does not grow
const RECEIPTS_MEMBERS_MAX = 100;

export class Directory {
  #busy = false;
  #again = false;
  #later = null;

  /**
   * @param {{api, random: Function, setTimeout: Function, clearTimeout: Function, changed: Function}} parts
   * @param {{conversations: Map, me: Function}} owner whose conversations are filled in
   */
  constructor(parts, owner) {
    Object.assign(this, parts, owner);
  }

  /** Fetch titles, and the members of conversations that lack them. One run at a time; a wish meanwhile runs once more. */
  async refresh() {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#again) {
        this.#again = false;
        await this.#read();
      }
    } catch (error) {
      if (error.retryable) this.#refreshLater(error.retryAfterMs);
      else console.warn(`names were not loaded; they are asked for again on the next connection: ${error.message}`);
    } finally {
      this.#busy = false;
      this.changed();
    }
  }

  /** Fetch the members of a group and their cursors, so that its ticks follow the slowest one. */
  async details(conversation) {
    if (conversation.left || conversation.type !== "GROUP") return;
    try {
      describe(conversation, await this.api.conversation(conversation.id));
      if (conversation.memberCount > RECEIPTS_MEMBERS_MAX) return;
      const rows = await this.api.receipts(conversation.id);
      conversation.others.setMembers(rows.filter((row) => row.userId !== this.me()));
      this.changed();
    } catch (error) {
      console.warn(`members of ${conversation.id} were not loaded: ${error.message}`);
    }
  }

  #refreshLater(retryAfterMs) {
    this.clearTimeout(this.#later);
    this.#later = this.setTimeout(() => this.refresh(), nextDelay(REFUSED_ATTEMPT, this.random(), retryAfterMs));
  }

  async #read() {
    for (const row of await this.api.conversations()) {
      const conversation = this.conversations.get(row.conversationId);
      if (!conversation) continue; // HEADS or its first entry makes it known
      conversation.title = row.title ?? "";
      conversation.lastActivityTs = row.lastActivityTs ?? 0;
      conversation.mutedUntil = row.mutedUntil ?? 0;
    }
    this.changed();
    for (const conversation of this.conversations.values()) {
      const isNeeded = conversation.memberIds === null && !conversation.left;
      if (isNeeded) describe(conversation, await this.api.conversation(conversation.id));
    }
  }
}

/** Take title and members from an answer that describes one conversation. */
export function describe(conversation, answer) {
  conversation.title = answer.title ?? conversation.title;
  conversation.memberIds = answer.memberIds ?? [];
  conversation.memberCount = answer.memberCount ?? conversation.memberIds.length;
}
