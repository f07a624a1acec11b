export declare const RETRY_AFTER_MAX_MS = 300000;
/**
 * Milliseconds to wait before try number `attempt` (from 1). What the server asked for is believed up to five minutes, and
 * spread over half of it more; it can only lengthen the wait.
 *
 * @param {number} attempt tries that failed so far, from 1
 * @param {number} random in [0, 1)
 * @param {number | null} [retryAfterMs] what the server asked for
 * @param {{baseMs?: number, maxMs?: number}} [bounds] of waits that the server did not ask for
 */
export declare function nextDelay(attempt: number, random: number, retryAfterMs?: number | null, { baseMs, maxMs }?: {
    baseMs?: number;
    maxMs?: number;
}): number;
