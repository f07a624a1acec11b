export type Paging = {
    cursor?: string | null;
    limit?: number;
};
export type Member = {
    userId: string;
    role: "OWNER" | "ADMIN" | "MEMBER" | "GUEST";
    joinedSeq: number;
    silencedUntil: number;
};
export type Pin = {
    seq: number;
    by: string;
    pinnedTs: number;
    message: import("./types.js").Message | null;
};
export type MemberPage = {
    members: Member[];
    nextCursor: string | null;
};
export type UserPresence = {
    userId: string;
    state: "ONLINE" | "AWAY" | "OFFLINE";
    lastSeenTs: number | null;
};
export declare class Api {
    #private;
    base: URL;
    tokens: Pick<import("./tokens.js").TokenSource, "get" | "refused" | "renewable">;
    fetch: typeof fetch;
    /**
     * @param {URL} base below it lies `/v1`
     * @param {Pick<import("./tokens.js").TokenSource, "get" | "refused" | "renewable">} tokens
     * @param {typeof globalThis.fetch} fetch
     */
    constructor(base: URL, tokens: Pick<import("./tokens.js").TokenSource, "get" | "refused" | "renewable">, fetch: typeof globalThis.fetch);
    /** The user's conversations as a list shows them, newest activity first; at most 20 pages, and fewer where `enough` says so.
     * @param {(rows: any[]) => boolean} enough asked after each page, with all rows so far @returns {Promise<any[]>} */
    conversations(enough: (rows: any[]) => boolean): Promise<any[]>;
    /** @param {string} conversationId */
    conversation(conversationId: string): Promise<any>;
    /** How far each member got; at most 20 pages. @param {string} conversationId @returns {Promise<any[]>} */
    receipts(conversationId: string): Promise<any[]>;
    /** @param {object} fields */
    createConversation(fields: object): Promise<any>;
    /** One page of the members. @param {string} conversationId @param {Paging} [paging] @returns {Promise<MemberPage>} */
    members(conversationId: string, paging?: Paging): Promise<MemberPage>;
    /** What is pinned, pinned last first. @param {string} conversationId @returns {Promise<Pin[]>} */
    pins(conversationId: string): Promise<Pin[]>;
    /** @param {string} conversationId @param {{title?: string, description?: string}} fields */
    update(conversationId: string, fields: {
        title?: string;
        description?: string;
    }): Promise<any>;
    /** @param {string} conversationId @param {number | null} untilMs null: for ever @param {"MENTIONS" | "NONE"} level */
    mute(conversationId: string, untilMs: number | null, level: "MENTIONS" | "NONE"): Promise<any>;
    /** @param {string} conversationId */
    unmute(conversationId: string): Promise<any>;
    /** @param {string} query @param {import("./search.js").SearchOptions} options */
    search(query: string, options: import("./search.js").SearchOptions): Promise<import("./search.js").SearchPage>;
    /** @param {string[]} userIds @returns {Promise<UserPresence[]>} */
    presence(userIds: string[]): Promise<UserPresence[]>;
    /**
     * Any request of the contract. A login that has ended is made anew once, where that is possible.
     *
     * @param {string} method
     * @param {string} path below the server's address, without a leading slash
     * @param {object} [body]
     * @returns {Promise<any>} the answer; null where it has none
     * @throws {ChatError} refused, or (OFFLINE) not reached: whether it arrived is not known then
     */
    request(method: string, path: string, body?: object): Promise<any>;
}
/** A role as apps know it: one that is not said, or is of a newer server, counts as MEMBER.
 * @param {any} memberRole @returns {Member["role"]} */
export declare function roleOf(memberRole: any): Member["role"];
