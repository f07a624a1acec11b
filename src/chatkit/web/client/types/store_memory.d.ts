export type LocalStore = import("./types.js").LocalStore;
/** @typedef {import("./types.js").LocalStore} LocalStore */
/** @implements {LocalStore} */
export declare class MemoryStore implements LocalStore {
    /** @param {string} scope @returns {import("./types.js").Loaded} */
    open(scope: string): import("./types.js").Loaded;
    addPending(): void;
    removePending(): void;
    save(): void;
    forget(): void;
    close(): void;
}
