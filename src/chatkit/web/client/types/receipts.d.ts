/**
 * How far the other members got, so that one's own messages can show ticks. Every value only rises.
 *
 * `least` comes from HEADS; single members' cursors from RECEIPT and GET receipts once `setMembers` was called.
 */
export declare class OthersCursors {
    #private;
    delivered: number;
    read: number;
    /** @type {Map<string, {delivered: number, read: number}> | null} */
    members: Map<string, {
        delivered: number;
        read: number;
    }> | null;
    /** The server's own sum over the others. @param {number} deliveredSeq @param {number} readSeq */
    setLeast(deliveredSeq: number, readSeq: number): void;
    /** Every other member's cursors: `[{userId, deliveredSeq, readSeq}]`; who is not listed has left.
     * @param {{userId: string, deliveredSeq: number, readSeq: number}[]} rows */
    setMembers(rows: {
        userId: string;
        deliveredSeq: number;
        readSeq: number;
    }[]): void;
    /** A member was added by the entry at `seq`: what lies before was never for them.
     * @param {string} userId @param {number} seq */
    joined(userId: string, seq: number): void;
    /** One member got further. Without the list of members it counts only when `single` says
     * that they are the only one. @param {string} userId @param {number} deliveredSeq @param {number} readSeq @param {boolean} single */
    advance(userId: string, deliveredSeq: number, readSeq: number, single: boolean): void;
    /** A large group's counts for one seq.
     * @param {number} seq @param {number} deliveredCount @param {number} readCount @param {number} memberCount */
    counts(seq: number, deliveredCount: number, readCount: number, memberCount: number): void;
    /** @param {number} seq of one's own entry @returns {"SENT" | "DELIVERED" | "READ"} */
    state(seq: number): "SENT" | "DELIVERED" | "READ";
}
