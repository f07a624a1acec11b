// What the browser keeps for this page, or memory where it keeps nothing (site data blocked). No DOM. Called by main.js.

/** Has Storage's methods; everything is gone with the page. */
export class MemoryStorage {
  #values = new Map();

  get length() {
    return this.#values.size;
  }

  key(index) {
    return [...this.#values.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#values.get(key) ?? null;
  }

  setItem(key, value) {
    this.#values.set(key, String(value));
  }

  removeItem(key) {
    this.#values.delete(key);
  }
}

/** The storage that `get` returns, or one in memory if the browser blocks it: then even naming it throws. */
export function storageOf(get) {
  try {
    const storage = get();
    storage.getItem("");
    return storage;
  } catch {
    return new MemoryStorage();
  }
}
