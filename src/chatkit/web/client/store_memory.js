// The store where nothing outlives the page: for tests, and where the browser keeps nothing.

/** @typedef {import("./types.js").LocalStore} LocalStore */

/** @implements {LocalStore} */
export class MemoryStore {
  /** @param {string} scope @returns {import("./types.js").Loaded} */
  open(scope) {
    return { pending: [], conversations: [] };
  }

  addPending() {}

  removePending() {}

  save() {}

  forget() {}

  close() {}
}
