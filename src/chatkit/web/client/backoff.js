// How long to wait before the next try: full jitter, bounded, and never shorter than the server asked for. The rules are
// those of core/backoff.py; spec/backoff.json holds both to them.

const BASE_MS = 500;
const MAX_MS = 20_000;
export const RETRY_AFTER_MAX_MS = 300_000;

/**
 * Milliseconds to wait before try number `attempt` (from 1). What the server asked for is believed up to five minutes, and
 * spread over half of it more; it can only lengthen the wait.
 *
 * @param {number} attempt tries that failed so far, from 1
 * @param {number} random in [0, 1)
 * @param {number | null} [retryAfterMs] what the server asked for
 * @param {{baseMs?: number, maxMs?: number}} [bounds] of waits that the server did not ask for
 */
export function nextDelay(attempt, random, retryAfterMs = null, { baseMs = BASE_MS, maxMs = MAX_MS } = {}) {
  const jittered = Math.min(maxMs, baseMs * 2 ** Math.min(attempt - 1, 32)) * random;
  if (retryAfterMs === null || !Number.isFinite(retryAfterMs)) return jittered;
  return Math.max(Math.min(retryAfterMs, RETRY_AFTER_MAX_MS) * (1 + random / 2), jittered);
}
