// The store in the browser's IndexedDB: pending sends, the newest messages of each conversation, and how far each is held.
// Everything lies under the scope that `open` names, so users, servers and devices do not meet.

/** @typedef {import("./types.js").PendingSend} PendingSend */
/** @typedef {import("./types.js").ConversationChange} ConversationChange */
/** @typedef {import("./types.js").ConversationRecord} ConversationRecord */
/** @typedef {import("./types.js").Message} Message */

const VERSION = 1;
const STORES = ["pending", "conversations", "messages"];

/** @typedef {import("./types.js").LocalStore} LocalStore */

/** @implements {LocalStore} */
export class IndexedDbStore {
  /** @type {IDBDatabase | null} */
  #database = null;
  #scope = "";

  /** @param {string} [name] of the database @param {IDBFactory} [factory] */
  constructor(name = "chatkit", factory = globalThis.indexedDB) {
    this.name = name;
    this.factory = factory;
  }

  /**
   * Opens the database and reads what it has of a user on a device. Rejected where the browser keeps nothing.
   *
   * @param {string} scope
   * @returns {Promise<import("./types.js").Loaded>}
   */
  async open(scope) {
    this.#scope = scope;
    this.#database = await this.#opened();
    const transaction = this.#database.transaction(STORES, "readonly");
    const all = IDBKeyRange.bound([scope], [scope, []]);
    /** @param {string} name */
    const read = (name) => answered(transaction.objectStore(name).getAll(all));
    const [pending, records, messages] = await Promise.all([read("pending"), read("conversations"), read("messages")]);
    return { pending, conversations: joined(records, messages) };
  }

  /** @param {PendingSend} send */
  addPending(send) {
    return this.#write("strict", ["pending"], (stores) => stores[0]?.put(send, [this.#scope, send.conversationId, send.clientMsgId]));
  }

  /** @param {PendingSend[]} sends */
  removePending(sends) {
    return this.#write("relaxed", ["pending"], (stores) => {
      for (const { conversationId, clientMsgId } of sends) stores[0]?.delete([this.#scope, conversationId, clientMsgId]);
    });
  }

  /** @param {ConversationChange[]} changes */
  save(changes) {
    return this.#write("relaxed", ["conversations", "messages"], ([conversations, messages]) => {
      for (const { record, put, forgetAbove } of changes) {
        const key = [this.#scope, record.id];
        conversations?.put(record, key);
        if (forgetAbove !== null) messages?.delete(IDBKeyRange.bound([...key, forgetAbove], [...key, Infinity], true));
        messages?.delete(IDBKeyRange.bound([...key, 0], [...key, record.floor]));
        for (const message of put) messages?.put(message, [...key, message.seq]);
      }
    });
  }

  /** Deletes messages and cursors; what is pending stays. */
  forget() {
    return this.#write("strict", ["conversations", "messages"], (stores) => {
      for (const store of stores) store.delete(IDBKeyRange.bound([this.#scope], [this.#scope, []]));
    });
  }

  close() {
    this.#database?.close();
    this.#database = null;
  }

  /** @returns {Promise<IDBDatabase>} */
  async #opened() {
    const request = this.factory.open(this.name, VERSION);
    request.onupgradeneeded = () => {
      for (const name of STORES) request.result.createObjectStore(name);
    };
    const database = await answered(request);
    database.onversionchange = () => database.close(); // a later version of this client in another tab
    return database;
  }

  /** One transaction. Own messages must be durable once the promise resolves; what the server has, and what was answered, comes
   * again where a power cut takes it, for cursors and messages go together.
   * @param {IDBTransactionDurability} durability @param {string[]} names @param {(stores: IDBObjectStore[]) => void} action
   * @returns {Promise<void>} */
  #write(durability, names, action) {
    return new Promise((resolve, reject) => {
      if (this.#database === null) throw new Error("the store is closed");
      const transaction = this.#database.transaction(names, "readwrite", { durability });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
      try {
        action(names.map((name) => transaction.objectStore(name)));
      } catch (error) {
        transaction.abort(); // what it did before is not kept either
        reject(error);
      }
    });
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function answered(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {ConversationRecord[]} records @param {Message[]} messages */
function joined(records, messages) {
  const byId = new Map(records.map((record) => [record.id, { record, messages: /** @type {Message[]} */ ([]) }]));
  for (const message of messages) byId.get(message.conversationId)?.messages.push(message);
  return [...byId.values()];
}
