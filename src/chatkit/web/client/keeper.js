// Keeps conversations in the local store as they change. What is kept may be confirmed to the server, nothing before. While one
// transaction is under way, what changes meanwhile is collected for the next. Where the store fails, the client goes on in
// memory and the next save begins anew. Owned by session.js.

/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {{conversation: Conversation, change: import("./types.js").ConversationChange}} Saved */

export class Keeper {
  /** @type {Set<Conversation>} */
  #dirty = new Set();
  #isBusy = false;
  #isStopped = false;
  /** @type {Promise<void>} resolves once the save that began last is over */
  #lastSave = Promise.resolve();

  /**
   * @param {{store: Pick<import("./types.js").LocalStore, "save">, stored: (conversation: Conversation) => void,
   *   storeFailed: (error: unknown) => void}} parts `stored` hears of each conversation whose `storedUpTo` may have risen
   */
  constructor(parts) {
    this.parts = parts;
  }

  /** A conversation may have changed. @param {Conversation} conversation */
  changed(conversation) {
    if (!conversation.isBeingCompared) this.#dirty.add(conversation); // until it is known which log it is, the former one is kept
  }

  /** Save what changed, now or once the save under way is over. */
  flush() {
    if (this.#isBusy || this.#isStopped || this.#dirty.size === 0) return;
    const saved = [...this.#dirty].filter((one) => !one.isBeingCompared).map((one) => ({ conversation: one, change: one.takeChange() }));
    this.#dirty.clear();
    this.#isBusy = true;
    try {
      const promise = this.parts.store.save(saved.map(({ change }) => change));
      if (promise instanceof Promise) this.#lastSave = promise.then(() => this.#saved(saved), (error) => this.#failed(saved, error));
      else this.#saved(saved);
    } catch (error) {
      this.#failed(saved, error);
    }
  }

  /** Save nothing more. Resolves once the save under way is over. */
  stop() {
    this.#isStopped = true;
    return this.#lastSave;
  }

  /** @param {Saved[]} saved */
  #saved(saved) {
    this.#isBusy = false;
    for (const { conversation, change } of saved) {
      if (conversation.timeline.epoch === change.record.epoch) conversation.storedUpTo = change.record.upTo;
      this.parts.stored(conversation);
    }
    this.flush();
  }

  /** The server gives all of it again, should the page be gone before the store works. @param {Saved[]} saved @param {unknown} error */
  #failed(saved, error) {
    for (const { conversation } of saved) conversation.timeline.changeAll();
    this.parts.storeFailed(error);
    this.#saved(saved);
  }
}
