// How a client begins: by whose token, as which device of theirs, and with what is kept of them. Called by client.js.

/** @typedef {import("./types.js").LocalStore} LocalStore */

import { nextDelay } from "./backoff.js";
import { allowed } from "./browser.js";
import { claimDevice } from "./device.js";
import { ChatError } from "./errors.js";
import { IndexedDbStore } from "./store_indexeddb.js";
import { MemoryStore } from "./store_memory.js";
import { claimsOf } from "./tokens.js";

/**
 * The token that says whose messages to show: asked for until there is one, with growing waits, of which the app is told. Null if
 * the app has said who it is, and at the end.
 *
 * @param {import("./tokens.js").TokenSource} tokens
 * @param {import("./types.js").Ports} ports
 * @param {{userId: string | undefined, waits: (status: import("./types.js").Status) => void, ended: AbortSignal}} client
 */
export async function firstToken(tokens, ports, { userId, waits, ended }) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tokens.get();
    } catch (cause) {
      const error = /** @type {ChatError} */ (cause);
      if (ended.aborted || userId !== undefined) return null;
      const delayMs = nextDelay(attempt, ports.random());
      const waited = new Promise((resolve) => {
        const done = () => resolve(ended.removeEventListener("abort", done));
        ports.setTimeout(done, delayMs);
        ended.addEventListener("abort", done);
      });
      waits({ state: "waiting", untilMs: ports.now() + delayMs, code: 1006, reason: `no token: ${error.message}`, error });
      await waited;
      if (ended.aborted) return null;
    }
  }
}

/**
 * The user, "" where nobody says, and the device: as the app says, as the token does, or one for this tab until `release`.
 *
 * @param {string | null} token
 * @param {URL} base
 * @param {{userId?: string, deviceId?: string}} options
 */
export async function whoIs(token, base, { userId: saidUser, deviceId: saidDevice }) {
  const { sub, dev } = claimsOf(token);
  const userId = saidUser ?? (typeof sub === "string" ? sub : "");
  const named = saidDevice ?? (typeof dev === "string" && dev !== "" ? dev : null);
  if (named !== null) return { userId, deviceId: named, release: () => {} };
  const local = allowed(() => globalThis.localStorage);
  const session = allowed(() => globalThis.sessionStorage);
  const claimed = await claimDevice(`chatkit:${base.href}:${userId}:`, { local, session, locks: globalThis.navigator?.locks });
  return { userId, ...claimed };
}

/**
 * The store of this user on this device and what it has; one in memory where nobody says who the user is, for what is kept then may
 * be somebody else's, and, with the `error`, where the browser keeps nothing.
 *
 * @param {LocalStore | undefined} wished
 * @param {URL} base
 * @param {string} userId
 * @param {string} deviceId
 */
export async function openedStore(wished, base, userId, deviceId) {
  const isKept = userId !== "" && (wished !== undefined || allowed(() => globalThis.indexedDB) !== null);
  const store = isKept ? (wished ?? new IndexedDbStore()) : new MemoryStore();
  try {
    return { store, loaded: await store.open(`${base.href} ${userId} ${deviceId}`) };
  } catch (cause) {
    const error = new ChatError("STORAGE", "The browser keeps nothing for this page.", { cause });
    return { store: new MemoryStore(), loaded: { pending: [], conversations: [] }, error };
  }
}
