// Messages that the server has not acknowledged yet. Each is written to the browser's storage before it is sent and
// taken out when its MSG_ACK (or its entry in a page) arrives; until then it is sent again, in order, under the same
// clientMsgId. No network and no DOM here. Called by session.js; tested in tests/browser/units.

/** The storage refused to keep a message, or too many wait already. Nothing was queued. */
export class OutboxFullError extends Error {}

export class Outbox {
  #storage;
  #prefix;
  #maximum;
  #items;
  #lastOrder; // rises with every message, also while none waits

  /**
   * @param {Storage} storage localStorage or sessionStorage, or anything with their methods
   * @param {string} prefix of the keys used; one per user and device
   * @param {number} maximum of messages that may wait; the next one is refused
   */
  constructor(storage, prefix, maximum = 200) {
    this.#storage = storage;
    this.#prefix = prefix;
    this.#maximum = maximum;
    this.#items = load(storage, prefix);
    this.#lastOrder = this.#items.at(-1)?.order ?? 0;
  }

  /** Keep a message, durably, before anything is sent. Returns the item. */
  add(conversationId, payload, clientMsgId, atMs) {
    if (this.#items.length >= this.#maximum) {
      throw new OutboxFullError("Too many messages are waiting. They leave once the connection is back.");
    }
    const item = { order: this.#lastOrder + 1, conversationId, payload, clientMsgId, atMs };
    this.#write(item);
    this.#lastOrder = item.order;
    this.#items.push(item);
    return item;
  }

  /** Take one out by its key, for its outcome is known; returns the item, or undefined if it was taken out before. */
  resolve(clientMsgId) {
    const index = this.#items.findIndex((item) => item.clientMsgId === clientMsgId);
    if (index < 0) return undefined;
    const [item] = this.#items.splice(index, 1);
    this.#storage.removeItem(this.#key(item));
    return item;
  }

  /**
   * A refusal that no repetition can change: the message stays visible until the user drops it or tries anew.
   * Not written down: after a reload it is sent and refused once more. Returns the item, or undefined if it is not here.
   */
  fail(clientMsgId, reason) {
    const item = this.find(clientMsgId);
    if (item) item.failure = reason;
    return item;
  }

  find(clientMsgId) {
    return this.#items.find((item) => item.clientMsgId === clientMsgId);
  }

  /** What is to be sent again, oldest first; of one conversation or of all. Refused ones are left out. */
  pending(conversationId = null) {
    return this.of(conversationId).filter((item) => item.failure === undefined);
  }

  /** Everything kept, oldest first, refused ones included. */
  of(conversationId = null) {
    return this.#items.filter((item) => conversationId === null || item.conversationId === conversationId);
  }

  #key(item) {
    return `${this.#prefix}${item.clientMsgId}`;
  }

  #write(item) {
    try {
      this.#storage.setItem(this.#key(item), JSON.stringify(item));
    } catch (error) {
      throw new OutboxFullError(`The browser could not keep the message: ${error.name}`);
    }
  }
}

function load(storage, prefix) {
  const items = [];
  for (let index = 0; index < storage.length; index += 1) {
    const key = storage.key(index);
    if (key?.startsWith(prefix)) items.push(read(storage.getItem(key)));
  }
  return items.filter((item) => item !== null).sort((a, b) => a.order - b.order);
}

/** An item as it was written; null for one that was damaged, which is left where it is and costs the others nothing. */
function read(text) {
  try {
    const item = JSON.parse(text);
    if (Number.isSafeInteger(item.order) && typeof item.payload.type === "string") return item;
    throw new TypeError("not a message");
  } catch (error) {
    console.warn(`a waiting message could not be read from the browser's storage: ${error.message}`);
    return null;
  }
}

/**
 * Why the server would refuse this text, or null. What it must refuse is never queued.
 *
 * @param {number} bytesMax of the payload as JSON in UTF-8, from WELCOME.limits
 */
export function textProblem(text, bytesMax = 65536) {
  if (text.includes("\0")) return "The text holds a NUL character.";
  if (/\p{Surrogate}/u.test(text)) return "The text holds half a character.";
  const bytes = new TextEncoder().encode(JSON.stringify({ text, type: "TEXT" })).length;
  return bytes > bytesMax ? `The text is too long: ${bytes} of at most ${bytesMax} bytes.` : null;
}
