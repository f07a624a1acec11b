export type Message = import("./types.js").Message;
import { OthersCursors } from "./receipts.js";
import { Timeline } from "./timeline.js";
export type Preview = {
    epoch: string;
    headSeq: number;
    readSeq: number;
    unread: number;
    unreadMentions: number;
    lastMessage: Message | null;
};
/** What the server said of the log up to `headSeq`: by it a list shows what is not held here.
 * @typedef {{epoch: string, headSeq: number, readSeq: number, unread: number, unreadMentions: number,
 *   lastMessage: Message | null}} Preview */
/** What an app reads of it changes while the client runs; the client's event `change` says when to look again. */
export declare class Conversation {
    #private;
    id: string;
    owner: {
        me: string;
        shown: (messages: Message[]) => Message[];
    };
    /** @type {string | null} SINGLE or GROUP; null until the server has said */
    type: string | null;
    title: string;
    /** What a group is for; "" if nobody said. */
    description: string;
    /** @type {string[] | null} the first 200 by id; null until known, and for a moment after it changed */
    memberIds: string[] | null;
    /** @type {number | null} */
    memberCount: number | null;
    /** @type {import("./api.js").Member["role"] | null} the user's own role in a group; null until known, and where there are no roles,
     * between two */
    role: import("./api.js").Member["role"] | null;
    lastActivityTs: number;
    /** @type {number} no notifications before this time, in Unix milliseconds; 0: not muted */
    mutedUntil: number;
    /** @type {"ALL" | "MENTIONS" | "NONE"} what of it notifies the user until then */
    notify: "ALL" | "MENTIONS" | "NONE";
    /** @type {Preview | null} null where that is not known, or is no longer so */
    preview: Preview | null;
    /** Whether the user is a member no longer. */
    left: boolean;
    /** Whether the newest messages are here. */
    loaded: boolean;
    /** How far the server knows that this device has it. */
    deliveredSeq: number;
    /** How far the local store has it. */
    storedUpTo: number;
    readSeq: number;
    /** How far the user wants it to be read, where the server does not know yet. */
    wantedReadSeq: number;
    formerReadSeq: number;
    heldAtConnect: number;
    isReplaced: boolean;
    toldSeq: number;
    timeline: Timeline;
    others: OthersCursors;
    /** @type {Map<string, number>} until when, by user */
    typing: Map<string, number>;
    /** @type {Set<number>} entries that the app knows as sent by itself */
    sentSeqs: Set<number>;
    /** @type {Set<number>} entries that came as they were written, and have no place yet */
    pushedSeqs: Set<number>;
    /** @param {string} id @param {{me: string, shown: (messages: Message[]) => Message[]}} owner whose user it is shown to, and what is
     *   known of streams that are open */
    constructor(id: string, owner: {
        me: string;
        shown: (messages: Message[]) => Message[];
    });
    /** Messages as they read now, and member changes, that are here, ascending; one's own above a hole among them. @returns {Message[]} */
    get messages(): Message[];
    /** The newest message as it reads now; undefined where none is known. @returns {Message | undefined} */
    get lastMessage(): Message | undefined;
    /** When something last happened, in Unix milliseconds; 0 if nothing is known. */
    get activityTs(): number;
    /** How many messages of others are unread, at most 999, as far as is known here; `more` says that there may be others. */
    get unread(): {
        count: number;
        more: boolean;
    };
    /** How many of these, and of later edits, mention the user or everybody; likewise. */
    get unreadMentions(): number;
    /** Whether there is a past that is not here yet; `client.history` brings it. */
    get hasOlder(): boolean;
    /** The name to show: a group's title, else who else is in it; a placeholder until that is known, the id until anything is. */
    get name(): string;
    /** How far one's own message got: SENT, DELIVERED to all others, or READ by all. @param {number} seq */
    stateOf(seq: number): "DELIVERED" | "READ" | "SENT";
    /** Who is writing now. @param {number} nowMs */
    typingUsers(nowMs: number): string[];
    /** Take what the server says for a list, in a row of HEADS or of the list. @param {any} row */
    listed(row: any): void;
    /** Take what a row of the list says of the log up to its head. @param {any} row */
    previewed({ epoch, headSeq, readSeq, unread, unreadMentions, lastMessage, description }: any): void;
    /** A message was recalled: what the list said of it is forgotten. Returns whether that has to be asked for anew. @param {number} seq */
    recalled(seq: number): boolean;
    /** Take a row of HEADS; the first row starts the log near its end. @param {import("./types.js").Head} row @param {boolean} isFirst */
    head(row: import("./types.js").Head, isFirst: boolean): void;
    /**
     * Make sure that what follows belongs to the log held, which has at least the entries up to `leastSeq`. If it is another
     * one, or was put back from a backup, the cursors go and what is shown is compared with it.
     *
     * @param {string} epoch
     * @param {number} headSeq
     * @param {number} [leastSeq]
     * @param {number} [deliveredSeq] what this device has confirmed of it
     */
    ofLog(epoch: string, headSeq: number, leastSeq?: number, deliveredSeq?: number): void;
    /** Whether it is not known yet how much of the log is the one held before. */
    get isBeingCompared(): boolean;
    /** How far the user has read in this log, as far as it was read in the one before; the server may not know it. */
    get readBefore(): number;
    /** How many entries of the past to load so that an opened conversation fills its pane; 0 if enough are there. */
    get tooShort(): number;
    /** @param {string} userId @param {number} nowMs */
    typed(userId: string, nowMs: number): void;
    /** What a newly pushed entry means beyond its place in the log. @param {Message} entry */
    noticed(entry: Message): void;
    /** What a store is to be told: the newest entries are kept. @returns {import("./types.js").ConversationChange} */
    takeChange(): import("./types.js").ConversationChange;
    /** Go on with what a store kept. @param {import("./types.js").ConversationRecord} record @param {Message[]} messages */
    restore(record: import("./types.js").ConversationRecord, messages: Message[]): void;
}
