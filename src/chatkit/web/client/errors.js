// The one error of the client; `code` is for programs, the message for people.

/**
 * Something was refused or did not happen. `code` is a word of the protocol (FORBIDDEN, RATE_LIMITED, ...), or one of the
 * client: QUEUE_FULL, STORAGE, CLOSED, CANCELLED, OFFLINE, NO_ANSWER, NO_TOKEN, CONFIGURATION. Where `retryable`, the same call may succeed later, and it is
 * safe to repeat it.
 */
export class ChatError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{retryable?: boolean, retryAfterMs?: number | null, status?: number | null, cause?: unknown}} [details]
   *   `status` of an HTTP answer
   */
  constructor(code, message, { retryable = false, retryAfterMs = null, status = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ChatError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
  }
}

/**
 * The error that an ERROR event tells of.
 *
 * @param {import("./types.js").WireEvent} event
 */
export function errorOf({ code, message, retryable, retryAfterMs }) {
  return new ChatError(code, message, { retryable: retryable === true, retryAfterMs: waitOf(retryAfterMs) });
}

/**
 * The error that an HTTP answer tells of: a problem document of RFC 9457, or whatever else came.
 *
 * @param {any} problem
 * @param {number} status
 */
export function problemOf(problem, status) {
  return new ChatError(problem?.code ?? "INTERNAL", problem?.detail ?? problem?.title ?? `The server answered ${status}.`, {
    retryable: problem?.retryable === true,
    retryAfterMs: waitOf(problem?.retryAfterMs),
    status,
  });
}

/** @param {unknown} value */
function waitOf(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
