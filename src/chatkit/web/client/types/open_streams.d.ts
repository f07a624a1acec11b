export type Message = import("./types.js").Message;
export type Growth = {
    conversationId: string;
    messageId: string;
    seq: number;
    parts: number;
    text: string;
};
/** Streams that are followed at once; the oldest is let go for a new one, and its end brings all of it. */
export declare const OPEN_MAX = 256;
export declare class OpenStreams {
    #private;
    ask: (conversationId: string, seq: number) => void;
    /** @param {(conversationId: string, seq: number) => void} ask is told which one must be asked for */
    constructor(ask: (conversationId: string, seq: number) => void);
    /** Take note of an entry that got its place: a stream begins or ends. @param {Message} entry */
    note(entry: Message): void;
    /** A message as it is shown. Returns how far it has come, if that is news. @param {Message} message @returns {Growth | null} */
    see(message: Message): Growth | null;
    /** So many parts are there. Returns that, if these are more than were known. @param {Growth} growth @returns {Growth | null} */
    grew(growth: Growth): Growth | null;
    /** A part arrived. Returns how far the message has come, if it is the next one; after a hole it is asked for.
     * @param {{conversationId: string, seq: number, part: number, text: string}} event @returns {Growth | null} */
    part({ conversationId, seq, part, text }: {
        conversationId: string;
        seq: number;
        part: number;
        text: string;
    }): Growth | null;
    /** A new connection: it was shown none of them yet. */
    connected(): void;
    /** The server left something out of what it pushed of a conversation: parts, maybe. @param {string} conversationId */
    dropped(conversationId: string): void;
    /** The log is another one, or the user has left: nothing of it is followed. @param {string} conversationId */
    forget(conversationId: string): void;
    /** There is no such message any more, for this user. @param {string} conversationId @param {number} seq */
    gone(conversationId: string, seq: number): void;
    /** Whether one is followed. @param {string} conversationId @param {number} seq */
    has(conversationId: string, seq: number): boolean;
    /** Messages with what is known here of their text. @param {Message[]} messages */
    shown(messages: Message[]): import("./types.js").Message[];
}
