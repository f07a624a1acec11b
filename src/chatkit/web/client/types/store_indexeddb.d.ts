export type PendingSend = import("./types.js").PendingSend;
export type ConversationChange = import("./types.js").ConversationChange;
export type ConversationRecord = import("./types.js").ConversationRecord;
export type Message = import("./types.js").Message;
export type LocalStore = import("./types.js").LocalStore;
/** @typedef {import("./types.js").LocalStore} LocalStore */
/** @implements {LocalStore} */
export declare class IndexedDbStore implements LocalStore {
    #private;
    name: string;
    factory: IDBFactory;
    /** @param {string} [name] of the database @param {IDBFactory} [factory] */
    constructor(name?: string, factory?: IDBFactory);
    /**
     * Opens the database and reads what it has of a user on a device. Rejected where the browser keeps nothing.
     *
     * @param {string} scope
     * @returns {Promise<import("./types.js").Loaded>}
     */
    open(scope: string): Promise<import("./types.js").Loaded>;
    /** @param {PendingSend} send */
    addPending(send: PendingSend): Promise<void>;
    /** @param {PendingSend[]} sends */
    removePending(sends: PendingSend[]): Promise<void>;
    /** @param {ConversationChange[]} changes */
    save(changes: ConversationChange[]): Promise<void>;
    /** Deletes messages and cursors; what is pending stays. */
    forget(): Promise<void>;
    close(): void;
}
