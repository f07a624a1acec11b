export type Conversation = import("./conversation.js").Conversation;
export declare class Cursors {
    #private;
    parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    };
    /** @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts */
    constructor(parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    });
    /** Confirm what is stored of a conversation, with whatever leaves next or in a moment. @param {Conversation} conversation */
    ackSoon(conversation: Conversation): void;
    /** Something leaves, or the moment is over: what waits goes along. */
    flush(): void;
    /** The user has read up to here. Returns whether it was handed to the connection. @param {{id: string}} conversation @param {number} upToSeq */
    read({ id }: {
        id: string;
    }, upToSeq: number): boolean;
    /**
     * Take an ERROR; returns whether it was about a cursor. One refused for good stays unsaid until the next HEADS.
     *
     * @param {import("./types.js").WireEvent} error
     * @param {Conversation | undefined} conversation
     */
    refused(error: import("./types.js").WireEvent, conversation: Conversation | undefined): boolean;
    /** Whatever was on its way comes again from the next HEADS. */
    disconnected(): void;
}
