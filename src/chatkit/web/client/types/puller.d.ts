export type Conversation = import("./conversation.js").Conversation;
export type WireEvent = import("./types.js").WireEvent;
export type Page = import("./types.js").Page;
export type Request = {
    conversationId: string;
    lastSeq: number;
    limit?: number;
    history?: boolean;
    looks?: boolean;
    answer?: Answer;
};
export type Answer = {
    resolve: (page: WireEvent | null) => void;
    reject: (error: unknown) => void;
};
export declare class Puller {
    #private;
    parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    };
    owner: {
        find: (id: string) => Conversation;
        first: () => string | null;
        arrived: (conversation: Conversation, page: WireEvent, isWhole: boolean) => void;
        looked: (page: WireEvent) => void;
        gone: (id: string, seq: number) => void;
        refused: (conversation: Conversation, error: WireEvent) => void;
    };
    /**
     * @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts
     * @param {{find: (id: string) => Conversation, first: () => string | null,
     *   arrived: (conversation: Conversation, page: WireEvent, isWhole: boolean) => void, looked: (page: WireEvent) => void,
     *   gone: (id: string, seq: number) => void, refused: (conversation: Conversation, error: WireEvent) => void}} owner `find(id)` is
     *   the conversation, `first()` the id that goes before all others, `arrived` hears of a page, `looked` of one of `wantOne` or else
     *   `gone`, `refused` of a refusal that stays
     */
    constructor(parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    }, owner: {
        find: (id: string) => Conversation;
        first: () => string | null;
        arrived: (conversation: Conversation, page: WireEvent, isWhole: boolean) => void;
        looked: (page: WireEvent) => void;
        gone: (id: string, seq: number) => void;
        refused: (conversation: Conversation, error: WireEvent) => void;
    });
    /** The connection is gone: nothing runs, and what was wanted is found out anew from HEADS. */
    reset(): void;
    /** Pull up to the head, now or as soon as it is this one's turn. @param {string} conversationId */
    wantTail(conversationId: string): void;
    /** Ask which log it is now; also while a page is on its way, for that one may be from before. @param {string} conversationId */
    wantEpoch(conversationId: string): void;
    /** Pull `count` entries more of the past. @param {string} conversationId @param {number} count */
    wantOlder(conversationId: string, count: number): void;
    /** Look at one message as it is now. @param {string} conversationId @param {number} seq */
    wantOne(conversationId: string, seq: number): void;
    /** A page of the past for the caller alone; null if the connection is lost before it comes. Needs a connection.
     * @param {string} conversationId @param {number} lastSeq @param {number} limit @returns {Promise<WireEvent | null>} */
    fetch(conversationId: string, lastSeq: number, limit: number): Promise<WireEvent | null>;
    /** After a push: pull if a hole is still there in a moment, for pushes may be on their way. @param {Conversation} conversation */
    watchGap({ id, timeline }: Conversation): void;
    /** Ask for the next pages, as far as the window lets. */
    pump(): void;
    /** Take a SYNC_PAGE; one that nobody waits for any more is ignored. @param {WireEvent} event */
    page(event: WireEvent): void;
    /** Take an ERROR; returns whether it was the answer to a SYNC. @param {WireEvent} event */
    error(event: WireEvent): boolean;
}
