/**
 * Something was refused or did not happen. `code` is a word of the protocol (FORBIDDEN, RATE_LIMITED, ...), or one of the
 * client: QUEUE_FULL, STORAGE, CLOSED, CANCELLED, OFFLINE, NO_ANSWER, NO_TOKEN, CONFIGURATION, PROTOCOL_ERROR. Where `retryable`, the
 * same call may succeed later, and it is safe to repeat it. `reason` is the server's word where one code has several, else null.
 */
export declare class ChatError extends Error {
    code: string;
    retryable: boolean;
    retryAfterMs: number | null;
    status: number | null;
    reason: string | null;
    /**
     * @param {string} code
     * @param {string} message
     * @param {{retryable?: boolean, retryAfterMs?: number | null, status?: number | null, reason?: string | null, cause?: unknown}} [details]
     *   `status` of an HTTP answer
     */
    constructor(code: string, message: string, { retryable, retryAfterMs, status, reason, cause }?: {
        retryable?: boolean;
        retryAfterMs?: number | null;
        status?: number | null;
        reason?: string | null;
        cause?: unknown;
    });
}
/** Whether it says of a streamed message that it was recalled. @param {unknown} error */
export declare function isRecalled(error: unknown): boolean;
/**
 * The error that an ERROR event tells of.
 *
 * @param {import("./types.js").WireEvent} event
 */
export declare function errorOf({ code, message, retryable, retryAfterMs, reason }: import("./types.js").WireEvent): ChatError;
/**
 * The error that an HTTP answer tells of: a problem document of RFC 9457, or whatever something on the way says instead.
 *
 * @param {any} problem
 * @param {number} status
 */
export declare function problemOf(problem: any, status: number): ChatError;
/** What a body says; undefined if it is no JSON. @param {string} text @returns {any} */
export declare function jsonOf(text: string): any;
