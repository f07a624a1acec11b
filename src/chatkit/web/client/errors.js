// The one error of the client; `code` is for programs, the message for people.

const PASSING = new Set([429, 502, 503, 504]);

/**
 * Something was refused or did not happen. `code` is a word of the protocol (FORBIDDEN, RATE_LIMITED, ...), or one of the
 * client: QUEUE_FULL, STORAGE, CLOSED, CANCELLED, OFFLINE, NO_ANSWER, NO_TOKEN, CONFIGURATION, PROTOCOL_ERROR. Where `retryable`, the
 * same call may succeed later, and it is safe to repeat it. `reason` is the server's word where one code has several, else null.
 */
export class ChatError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{retryable?: boolean, retryAfterMs?: number | null, status?: number | null, reason?: string | null, cause?: unknown}} [details]
   *   `status` of an HTTP answer
   */
  constructor(code, message, { retryable = false, retryAfterMs = null, status = null, reason = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ChatError";
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
    this.reason = reason;
  }
}

/** Whether it says of a streamed message that it was recalled. @param {unknown} error */
export function isRecalled(error) {
  return error instanceof ChatError && error.code === "STREAM_ENDED" && error.reason === "RECALLED";
}

/**
 * The error that an ERROR event tells of.
 *
 * @param {import("./types.js").WireEvent} event
 */
export function errorOf({ code, message, retryable, retryAfterMs, reason }) {
  return new ChatError(code, message, { retryable: retryable === true, retryAfterMs: waitOf(retryAfterMs), reason: wordOf(reason) });
}

/**
 * The error that an HTTP answer tells of: a problem document of RFC 9457, or whatever something on the way says instead.
 *
 * @param {any} problem
 * @param {number} status
 */
export function problemOf(problem, status) {
  if (typeof problem?.code !== "string") {
    const code = PASSING.has(status) ? "UNAVAILABLE" : status === 413 ? "TOO_LARGE" : "PROTOCOL_ERROR";
    return new ChatError(code, `Something that is no chatkit server answered ${status}.`, { retryable: PASSING.has(status), status });
  }
  const { code, detail, title, retryable, retryAfterMs, reason } = problem;
  const details = { retryable: retryable === true, retryAfterMs: waitOf(retryAfterMs), status, reason: wordOf(reason) };
  return new ChatError(code, detail ?? title ?? code, details);
}

/** @param {unknown} value */
function waitOf(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** @param {unknown} value */
function wordOf(value) {
  return typeof value === "string" ? value : null;
}

/** What a body says; undefined if it is no JSON. @param {string} text @returns {any} */
export function jsonOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
