export type Conversation = import("./conversation.js").Conversation;
export type Saved = {
    conversation: Conversation;
    change: import("./types.js").ConversationChange;
};
/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {{conversation: Conversation, change: import("./types.js").ConversationChange}} Saved */
export declare class Keeper {
    #private;
    parts: {
        store: Pick<import("./types.js").LocalStore, "save">;
        stored: (conversation: Conversation) => void;
        storeFailed: (error: unknown) => void;
    };
    /**
     * @param {{store: Pick<import("./types.js").LocalStore, "save">, stored: (conversation: Conversation) => void,
     *   storeFailed: (error: unknown) => void}} parts `stored` hears of each conversation whose `storedUpTo` may have risen
     */
    constructor(parts: {
        store: Pick<import("./types.js").LocalStore, "save">;
        stored: (conversation: Conversation) => void;
        storeFailed: (error: unknown) => void;
    });
    /** A conversation may have changed. @param {Conversation} conversation */
    changed(conversation: Conversation): void;
    /** Save what changed, now or once the save under way is over. */
    flush(): void;
    /** Save nothing more. Resolves once the save under way is over. */
    stop(): Promise<void>;
}
