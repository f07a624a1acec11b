export type Conversation = import("./conversation.js").Conversation;
export declare class Directory {
    #private;
    parts: import("./types.js").Ports & {
        api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts">;
    };
    owner: {
        conversations: Map<string, Conversation>;
        me: () => string;
        changed: (conversation?: Conversation) => void;
    };
    /**
     * @param {import("./types.js").Ports & {api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts">}} parts
     * @param {{conversations: Map<string, Conversation>, me: () => string, changed: (conversation?: Conversation) => void}} owner
     *   whose conversations are filled in
     */
    constructor(parts: import("./types.js").Ports & {
        api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts">;
    }, owner: {
        conversations: Map<string, Conversation>;
        me: () => string;
        changed: (conversation?: Conversation) => void;
    });
    /** Fetch what a list shows, of one conversation or of all, and the members of those that lack them. One run at a time; what is
     * wished for meanwhile is the next. @param {string} [conversationId] */
    refresh(conversationId?: string): Promise<void>;
    /** Fetch the members of a group and their cursors, so that its ticks follow the slowest one. @param {Conversation} conversation */
    details(conversation: Conversation): Promise<void>;
}
/** Take title and members from an answer that describes one conversation. @param {Conversation} conversation @param {any} answer */
export declare function describe(conversation: Conversation, answer: any): void;
