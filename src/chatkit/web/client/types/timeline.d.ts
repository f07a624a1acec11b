export type Message = import("./types.js").Message;
export type Page = import("./types.js").Page;
import { Renewal } from "./renewal.js";
/** Most entries held above a hole, and most recalls remembered for entries not held; what is beyond comes again by SYNC. */
export declare const HELD_MAX = 1000;
/** Whether an entry, or what is pending, is a person's message (or the place where one was), not something that is noted beside them.
 * @param {{payload: import("./types.js").Payload}} entry */
export declare function isUserMessage(entry: {
    payload: import("./types.js").Payload;
}): boolean;
/**
 * The entries of one log between `floor` (exclusive) and `upTo` (inclusive), complete and in order.
 *
 * Entries above a hole are `held`, and not shown until the hole is closed by a push or a page; entries below the
 * floor come in through `older` pages and are shown once they reach it.
 */
export declare class Timeline {
    #private;
    epoch: string;
    firstSeq: number;
    floor: number;
    upTo: number;
    headSeq: number;
    /** @type {number | null} */
    olderUpTo: number | null;
    /** @type {number | null} */
    olderFrom: number | null;
    /** @type {Map<number, Message>} */
    entries: Map<number, Message>;
    /** @type {Map<number, Message>} */
    held: Map<number, Message>;
    /** @type {Set<number>} */
    recalls: Set<number>;
    /** @type {Renewal | null} what is held is of the log before, while it is not known how much of it this one has */
    renewal: Renewal | null;
    commonSeq: number;
    /** @type {Map<string | null, Message[]>} */
    sorted: Map<string | null, Message[]>;
    /**
     * @param {string} epoch identity of the log; "" while unknown
     * @param {number} floor everything up to here is not loaded
     * @param {number} firstSeq the first entry this user may see; nothing is loaded below it
     */
    constructor(epoch: string, floor: number, firstSeq?: number);
    /** Forget everything: another epoch means another log. @param {string} epoch */
    reset(epoch: string, floor?: number, firstSeq?: number): void;
    /**
     * Go on with what a store kept.
     *
     * @param {{epoch: string, floor: number, upTo: number, headSeq: number, firstSeq: number}} record
     * @param {Message[]} messages
     */
    restore({ epoch, floor, upTo, headSeq, firstSeq }: {
        epoch: string;
        floor: number;
        upTo: number;
        headSeq: number;
        firstSeq: number;
    }, messages: Message[]): void;
    /** What a store of the newest `most` entries is to be told, once: above which seq all that it had goes, what comes, and the floor above
     * which it has all of them then. @param {number} most */
    takeChanges(most: number): {
        floor: number;
        put: import("./types.js").Message[];
        forgetAbove: number | null;
    };
    /** The store has nothing, or not what was taken for it: all is to be told again. */
    changeAll(): void;
    /** The entries that got their place at the end since the last call, ascending; as they read now. */
    takePlaced(): import("./types.js").Message[];
    /**
     * It is another log now, or an older state of the same. Entries keep their ids, and no id is given twice, so the next pages
     * say what both have: what is held stays shown until then, and nothing of it is shown again. Returns false, and changes
     * nothing, if there is nothing to compare.
     *
     * @param {string} epoch
     * @param {number} headSeq
     * @param {number} [deliveredSeq] what this device has confirmed of it
     */
    renew(epoch: string, headSeq: number, deliveredSeq?: number): boolean;
    /** Begin nearer to the end, unless what is held reaches further already. @param {number} floor @param {number} firstSeq */
    rebase(floor: number, firstSeq: number): void;
    /** Entries up to here are there for nobody any more. @param {number} seq */
    expire(seq: number): void;
    /** Note that the log reaches at least `seq`. Heads only rise. @param {number} seq */
    reach(seq: number): void;
    /**
     * Take one pushed entry. Returns whether it was new and kept; a repeated or already covered one changes nothing.
     *
     * With HELD_MAX entries above the hole it is dropped, and its seq only remembered as head, so that a SYNC brings it; a
     * recall that it carries counts all the same.
     *
     * @param {Message} entry
     */
    accept(entry: Message): boolean;
    /**
     * Take a page that covers (lastSeq, page.upToSeq]. What it does not list is not visible to this user.
     *
     * A page of the past (below the floor) is kept aside until it reaches the floor.
     *
     * @param {number} lastSeq
     * @param {Page} page
     */
    page(lastSeq: number, page: Page): void;
    /** Forget all but the newest `most` entries shown; the others are a past to be loaded again. @param {number} most */
    trim(most: number): void;
    /** The lastSeq to SYNC from, or null when nothing is missing. */
    missingAfter(): number | null;
    /** Where the next page begins, not included: of what is missing, or of a new log to compare with. */
    get syncAfter(): number;
    /** Whether there is a past that is not loaded. */
    get hasOlder(): boolean;
    /** Where to SYNC from for `count` more entries of the past, going on where a short page ended; null if none. @param {number} count */
    olderAfter(count: number): number | null;
    /** All entries that may be shown, ascending; recalls are applied. `own` adds that user's entries above a hole.
     * @param {string | null} [own] */
    shown(own?: string | null): import("./types.js").Message[];
    /** What there is to read, ascending: messages as they read now, and members that come and go. @param {string | null} [own] */
    readable(own?: string | null): import("./types.js").Message[];
    /** What there is to read of entries of this log, held or not, likewise. @param {Message[]} entries */
    readableAmong(entries: Message[]): import("./types.js").Message[];
    /** How many people's messages of others lie after `readSeq`, as far as loaded. @param {number} readSeq @param {string} userId */
    unread(readSeq: number, userId: string): number;
    /** How many entries of others after `readSeq` mention this user, as far as loaded: messages, and edits that add them.
     * @param {number} readSeq @param {string} userId */
    mentions(readSeq: number, userId: string): number;
}
/** The seq that a RECALL entry withdraws; null for any other entry, and for one that names no earlier seq.
 * @param {Message} entry @returns {number | null} */
export declare function recallTarget(entry: Message): number | null;
