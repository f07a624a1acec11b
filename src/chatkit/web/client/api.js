// The HTTP requests of a client. Refusals are RFC 9457 problem documents; they become ChatErrors. Called by session.js.

import { ChatError, problemOf } from "./errors.js";

const PAGES_MAX = 20;
const ANSWER_WAIT_MS = 60_000;

export class Api {
  /**
   * @param {URL} base below it lies `/v1`
   * @param {Pick<import("./tokens.js").TokenSource, "get" | "refused" | "renewable">} tokens
   * @param {typeof globalThis.fetch} fetch
   */
  constructor(base, tokens, fetch) {
    this.base = base;
    this.tokens = tokens;
    this.fetch = fetch;
  }

  /** Every conversation of the user with title; at most 20 pages. @returns {Promise<any[]>} */
  conversations() {
    return this.#all("v1/conversations", "conversations");
  }

  /** @param {string} conversationId */
  conversation(conversationId) {
    return this.request("GET", `v1/conversations/${encodeURIComponent(conversationId)}`);
  }

  /** How far each member got; at most 20 pages. @param {string} conversationId @returns {Promise<any[]>} */
  receipts(conversationId) {
    return this.#all(`v1/conversations/${encodeURIComponent(conversationId)}/receipts`, "receipts");
  }

  /** @param {object} fields */
  createConversation(fields) {
    return this.request("POST", "v1/conversations", fields);
  }

  /** @param {string} path @param {string} field */
  async #all(path, field) {
    const rows = [];
    let cursor = "";
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const query = new URLSearchParams({ limit: "200", ...(cursor && { cursor }) });
      const answer = await this.request("GET", `${path}?${query}`);
      rows.push(...answer[field]);
      cursor = answer.nextCursor;
      if (!cursor) break;
    }
    return rows;
  }

  /**
   * Any request of the contract. A login that has ended is made anew once, where that is possible.
   *
   * @param {string} method
   * @param {string} path below the server's address, without a leading slash
   * @param {object} [body]
   * @returns {Promise<any>} the answer; null where it has none
   * @throws {ChatError} refused, or (OFFLINE) not reached: whether it arrived is not known then
   */
  async request(method, path, body = undefined) {
    const token = await this.tokens.get();
    const response = await this.#fetch(method, path, body, token);
    if (response.status !== 401 || !this.tokens.renewable) return answerOf(response);
    this.tokens.refused(token);
    return answerOf(await this.#fetch(method, path, body, await this.tokens.get()));
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {string | null} token */
  async #fetch(method, path, body, token) {
    try {
      return await this.fetch(new URL(path, this.base), {
        method,
        headers: {
          ...(token === null ? {} : { Authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: token === null ? "include" : "omit",
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_WAIT_MS),
      });
    } catch (cause) {
      throw new ChatError("OFFLINE", "Cannot reach the server.", { retryable: true, cause });
    }
  }
}

/** @param {Response} response */
async function answerOf(response) {
  if (!response.ok) throw problemOf(await response.json().catch(() => ({})), response.status);
  return response.status === 204 ? null : response.json();
}
