export type PendingSend = import("./types.js").PendingSend;
export declare const PENDING_MAX = 1000;
export declare const WINDOW = 256;
/** With so many bytes under way nothing more is sent: on a slow line everything else would wait behind them. */
export declare const WINDOW_BYTES: number;
/** A message that was under way when so many connections in a row ended is sent alone. */
export declare const SUSPECT_AFTER = 3;
/** @param {{conversationId: string, clientMsgId: string}} send */
export declare const keyOf: ({ conversationId, clientMsgId }: {
    conversationId: string;
    clientMsgId: string;
}) => string;
/** Every unacknowledged message of one client, at most `pendingMax`. */
export declare class ResendQueue {
    #private;
    pendingMax: number;
    window: number;
    lastOrder: number;
    constructor(pendingMax?: number, window?: number);
    get size(): number;
    /** When the longest unanswered message was handed to the connection; null if nothing is under way. */
    get oldestSentAtMs(): number | null;
    /** The message that an answer is for: pending, or shown by the log with its answer still owed. @param {string} key */
    find(key: string): import("./types.js").PendingSend | undefined;
    /** @param {string} key */
    isPending(key: string): boolean;
    /** Whether it was handed to a connection, now or by an earlier page: it may be stored already. @param {string} key */
    mayHaveLeft(key: string): boolean;
    /** @param {string} key */
    isHeld(key: string): boolean;
    /** How many connections in a row ended while it was under way. @param {string} key */
    losses(key: string): number;
    /** Raises QUEUE_FULL when another message would go beyond the bound. */
    checkRoom(): void;
    /** Queue a new message; the caller has checked for room and for its key. @param {PendingSend} send */
    add(send: PendingSend): void;
    /** Queue what a store kept; the bound does not count here, for nothing stored may be lost. @param {PendingSend[]} sends */
    restore(sends: PendingSend[]): void;
    /** @returns {PendingSend[]} every message without an answer, oldest first */
    pending(): PendingSend[];
    /** What to send now, oldest first; it counts as under way from here on. @param {number} nowMs @returns {PendingSend[]} */
    take(nowMs: number): PendingSend[];
    /** The only message under way; null if there is none or more than one, or if the log has shown it. */
    get aloneUnderWay(): import("./types.js").PendingSend | null;
    /** Something under way is too large for the other side: all of it is sent one by one from now on. */
    suspectAll(): void;
    /**
     * The server keeps a message for review: it stays pending, and is sent again at `askAtMs`, or with the next connection.
     * Returns whether this connection's server says so for the first time.
     *
     * @param {string} key
     * @param {number} askAtMs
     */
    hold(key: string, askAtMs: number): boolean;
    /** A conversation lets the others go first for a while. @param {string} conversationId @param {number} readyAtMs */
    pause(conversationId: string, readyAtMs: number): void;
    /**
     * Take out the message whose outcome is known for good. Not `answered` means that the log showed it, or that the end of a
     * review was told: then an answer that this connection still owes is waited for, and what it refused is sent once more.
     *
     * @param {string} key
     * @returns {PendingSend | undefined} undefined if it was not pending
     */
    resolve(key: string, answered?: boolean): PendingSend | undefined;
    /** How many tries of this conversation failed in a row, with the one whose refusals come in now. @param {string} conversationId */
    failedTries(conversationId: string): number;
    /**
     * A retryable refusal: the message waits again in its old place, and its conversation pauses. Returns whether such a
     * message was under way.
     *
     * @param {string} key
     * @param {number} readyAtMs the end of the pause
     * @param {number | null} [tooFastMs] where messages come too fast: after which time the next is welcome
     */
    putBack(key: string, readyAtMs: number, tooFastMs?: number | null): boolean;
    /** Whatever was under way may be lost: all of it waits again. Pauses keep their end. A new server waits for nothing and owes
     * nothing. */
    disconnected(): void;
    /**
     * Milliseconds until something can change by time alone: a pause or a pace is over, or it is time to ask about what is
     * held. Null if only an answer or a new send can change anything.
     *
     * @param {number} nowMs
     */
    waitMs(nowMs: number): number | null;
}
