export type Message = import("./types.js").Message;
export type SearchPage = {
    hits: SearchHit[];
    nextCursor: string | null;
    upToDate: boolean;
};
export type SearchOptions = {
    conversationId?: string;
    senderId?: string;
    after?: Date | number;
    before?: Date | number;
    cursor?: string | null;
    limit?: number;
};
/** A message that was found. Ranges are [start, end) as JavaScript counts: `hit.text.slice(start, end)`. */
export declare class SearchHit {
    message: import("./types.js").Message;
    field: string;
    text: string;
    snippet: [number, number];
    highlights: [number, number][];
    /**
     * @param {Message} message all of it
     * @param {string} field of what it says now, where the words are: `text`, `name` of a file, or `fallbackText`
     * @param {[number, number][]} highlights where the words are, ascending; in code points
     * @param {[number, number]} snippet the part to show; in code points
     */
    constructor(message: Message, field: string, highlights: [number, number][], snippet: [number, number]);
}
/** The query of a request. @param {string} query @param {SearchOptions} options @returns {URLSearchParams} */
export declare function searchParams(query: string, { conversationId, senderId, after, before, cursor, limit }: SearchOptions): URLSearchParams;
/** @param {any} answer @returns {SearchPage} */
export declare function searchPage({ results, nextCursor, upToDate }: any): SearchPage;
/** A time in Unix milliseconds. @param {Date | number} moment @param {string} name @returns {number} */
export declare function momentMs(moment: Date | number, name: string): number;
