export type PendingSend = import("./types.js").PendingSend;
export type Pending = import("./types.js").Pending;
export type Payload = import("./types.js").Payload;
export type Sent = import("./types.js").Sent;
import { ChatError } from "./errors.js";
export declare class Outbox {
    #private;
    parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
        store: Pick<import("./types.js").LocalStore, "addPending" | "removePending">;
        changed: () => void;
        storeFailed: (error: unknown) => void;
    };
    /**
     * @param {import("./types.js").Ports & {line: import("./types.js").Line,
     *   store: Pick<import("./types.js").LocalStore, "addPending" | "removePending">, changed: () => void,
     *   storeFailed: (error: unknown) => void}} parts
     */
    constructor(parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
        store: Pick<import("./types.js").LocalStore, "addPending" | "removePending">;
        changed: () => void;
        storeFailed: (error: unknown) => void;
    });
    /** Queue what the store kept. Two pages may have given one order twice: then the earlier one goes first. @param {PendingSend[]} sends */
    restore(sends: PendingSend[]): void;
    /**
     * Keep a message, durably, and send it once it is kept. The same one again is nothing.
     *
     * @param {{conversationId: string, clientMsgId: string, payload: Payload, sizeBytes: number, atMs: number}} fields
     * @returns {Promise<Sent>} see `outcome`; rejected with STORAGE if it could not be kept, and then it is not queued
     */
    submit(fields: {
        conversationId: string;
        clientMsgId: string;
        payload: Payload;
        sizeBytes: number;
        atMs: number;
    }): Promise<Sent>;
    /**
     * What becomes of a pending message. Rejected with the refusal if it was refused for good; with HELD if somebody is to look
     * at it first, and with CLOSED if the client was closed: then it stays queued.
     *
     * @param {string} key
     */
    outcome(key: string): any;
    /** The message that an answer is for: it waits, or the log has shown it already. @param {string} key */
    find(key: string): import("./types.js").PendingSend | undefined;
    /** Everything without a final answer, and what was refused for good, oldest first. @param {string | null} [conversationId] @returns {Pending[]} */
    list(conversationId?: string | null): Pending[];
    /**
     * The server answered it for good, or (not `answered`) the log showed it. Returns the message if it was pending.
     *
     * @param {string} key
     * @param {Omit<Sent, "conversationId" | "clientMsgId">} sent
     */
    resolve(key: string, sent: Omit<Sent, "conversationId" | "clientMsgId">, answered?: boolean): import("./types.js").PendingSend | undefined;
    /** A refusal that no repetition can change; not `answered`: word of it, which answers no send. Returns the message if it was
     * pending. The end of a stream that was recalled is not kept: there is nothing to say again. @param {string} key @param {ChatError} error */
    fail(key: string, error: ChatError, answered?: boolean): import("./types.js").PendingSend | undefined;
    /** Refused for now: sent again after a wait; its conversation pauses until then. @param {string} key @param {ChatError} error */
    putBack(key: string, error: ChatError): void;
    /** Kept for review: asked about after a wait. Returns whether that is new. @param {string} key @param {number | null} retryAfterMs */
    hold(key: string, retryAfterMs: number | null): boolean;
    /**
     * Take a message back that surely never left, or one that was refused for good. UNKNOWN: nothing pending has this key.
     *
     * @param {string} key
     * @returns {"CANCELLED" | "MAY_BE_SENT" | "UNKNOWN"}
     */
    cancel(key: string): "CANCELLED" | "MAY_BE_SENT" | "UNKNOWN";
    /** A connection begins: what may have ended the one before waits a while. */
    connected(): void;
    /**
     * Everything under way goes out again with the next connection. A message that was alone under way when several ended lets
     * the other conversations go first for a while, for it may be what the way to the server does not let through.
     */
    disconnected(): void;
    /**
     * The connection ended because a frame was too large, before `disconnected`. Returns the message that it was for certain,
     * the only one under way; else each that was under way goes out alone next time.
     */
    tooLarge(): import("./types.js").PendingSend | null;
    /** Nobody waits any longer; what is pending stays in the store. @param {ChatError} error */
    release(error: ChatError): void;
    /** Send whatever may go now, oldest first, and look again when that changes. */
    pump(): void;
}
