// The HTTP requests of a client. Refusals are RFC 9457 problem documents; they become ChatErrors. Made by http_client.js.

/** @typedef {{cursor?: string | null, limit?: number}} Paging */
/** A current member; `silencedUntil`, in Unix milliseconds, is 0 for who may write. @typedef {{userId: string,
 *   role: "OWNER" | "ADMIN" | "MEMBER" | "GUEST", joinedSeq: number, silencedUntil: number}} Member */
/** A pinned message: its place, who pinned it when, and the message as it reads now, null where the answer had no room for it.
 * @typedef {{seq: number, by: string, pinnedTs: number, message: import("./types.js").Message | null}} Pin */
/** By user id. @typedef {{members: Member[], nextCursor: string | null}} MemberPage */
/** `lastSeenTs` is null while they have not gone, and where nobody knows it.
 * @typedef {{userId: string, state: "ONLINE" | "AWAY" | "OFFLINE", lastSeenTs: number | null}} UserPresence */

import { ChatError, jsonOf, problemOf } from "./errors.js";
import { messageOf } from "./marks.js";
import { searchPage, searchParams } from "./search.js";
import { checkedId } from "./validate.js";

const PAGES_MAX = 20;
const ANSWER_WAIT_MS = 60_000;
const ROLES = new Set(["OWNER", "ADMIN", "MEMBER", "GUEST"]);

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

  /** The user's conversations as a list shows them, newest activity first; at most 20 pages, and fewer where `enough` says so.
   * @param {(rows: any[]) => boolean} enough asked after each page, with all rows so far @returns {Promise<any[]>} */
  conversations(enough) {
    return this.#all("v1/conversations", "conversations", { order: "activity" }, enough);
  }

  /** @param {string} conversationId */
  conversation(conversationId) {
    return this.request("GET", `v1/conversations/${part(conversationId)}`);
  }

  /** How far each member got; at most 20 pages. @param {string} conversationId @returns {Promise<any[]>} */
  receipts(conversationId) {
    return this.#all(`v1/conversations/${part(conversationId)}/receipts`, "receipts");
  }

  /** @param {object} fields */
  createConversation(fields) {
    return this.request("POST", "v1/conversations", fields);
  }

  /** One page of the members. @param {string} conversationId @param {Paging} [paging] @returns {Promise<MemberPage>} */
  members(conversationId, paging) {
    const path = `v1/conversations/${part(conversationId)}/members?${queryOf(paging)}`;
    return this.#read(path, ({ members, nextCursor }) => ({ members: members.map(memberOf), nextCursor }));
  }

  /** What is pinned, pinned last first. @param {string} conversationId @returns {Promise<Pin[]>} */
  pins(conversationId) {
    return this.#read(`v1/conversations/${part(conversationId)}/pins`, ({ pins }) => pins.map(pinOf));
  }

  /** @param {string} conversationId @param {{title?: string, description?: string}} fields */
  update(conversationId, fields) {
    return this.request("PATCH", `v1/conversations/${part(conversationId)}`, fields);
  }

  /** @param {string} conversationId @param {number | null} untilMs null: for ever @param {"MENTIONS" | "NONE"} level */
  mute(conversationId, untilMs, level) {
    return this.request("PUT", `v1/conversations/${part(conversationId)}/mute`, { until: untilMs, level });
  }

  /** @param {string} conversationId */
  unmute(conversationId) {
    return this.request("DELETE", `v1/conversations/${part(conversationId)}/mute`);
  }

  /** @param {string} query @param {import("./search.js").SearchOptions} options */
  search(query, options) {
    return this.#read(`v1/search?${searchParams(query, options)}`, searchPage);
  }

  /** @param {string[]} userIds @returns {Promise<UserPresence[]>} */
  presence(userIds) {
    if (!Array.isArray(userIds)) throw new ChatError("BAD_REQUEST", "userIds is a list");
    const users = userIds.map((userId) => checkedId(userId, "userIds")).join(",");
    return this.#read(`v1/presence?users=${users}`, ({ presence }) => presence.map(presenceOf));
  }

  /** What an answer says; one that does not keep to the protocol is PROTOCOL_ERROR. @template T @param {string} path
   * @param {(answer: any) => T} take @returns {Promise<T>} */
  async #read(path, take) {
    const answer = await this.request("GET", path);
    try {
      return take(answer);
    } catch (cause) {
      throw new ChatError("PROTOCOL_ERROR", "The answer does not keep to the protocol.", { cause });
    }
  }

  /** @param {string} path @param {string} field @param {object} [fields] @param {(rows: any[]) => boolean} [enough] */
  async #all(path, field, fields, enough = () => false) {
    const rows = [];
    let cursor = "";
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const answer = await this.request("GET", `${path}?${queryOf({ limit: 200, cursor, ...fields })}`);
      rows.push(...answer[field]);
      cursor = answer.nextCursor;
      if (!cursor || enough(rows)) break;
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
    const { status, text } = await this.#fetch(method, path, body, token);
    if (status !== 401 || !this.tokens.renewable) return answerOf(status, text);
    this.tokens.refused(token);
    const again = await this.#fetch(method, path, body, await this.tokens.get());
    return answerOf(again.status, again.text);
  }

  /** @param {string} method @param {string} path @param {object | undefined} body @param {string | null} token */
  async #fetch(method, path, body, token) {
    try {
      const response = await this.fetch(new URL(path, this.base), {
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
      return { status: response.status, text: await response.text() };
    } catch (cause) {
      throw new ChatError("OFFLINE", "Cannot reach the server.", { retryable: true, cause });
    }
  }
}

/** @param {number} status @param {string} text */
function answerOf(status, text) {
  const isGood = status >= 200 && status <= 299;
  if (isGood && text === "") return null;
  const answer = jsonOf(text);
  if (!isGood) throw problemOf(answer, status);
  if (answer === undefined) throw new ChatError("PROTOCOL_ERROR", "The answer is none of a chatkit server.", { status });
  return answer;
}

/** @param {any} row @returns {Member} */
function memberOf({ userId, memberRole, joinedSeq, silencedUntil }) {
  return { userId, role: roleOf(memberRole), joinedSeq, silencedUntil: silencedUntil ?? 0 };
}

/** A role as apps know it: one that is not said, or is of a newer server, counts as MEMBER.
 * @param {any} memberRole @returns {Member["role"]} */
export function roleOf(memberRole) {
  return ROLES.has(memberRole) ? memberRole : "MEMBER";
}

/** @param {any} row @returns {UserPresence} */
function presenceOf({ userId, state, lastSeenTs }) {
  return { userId, state, lastSeenTs: lastSeenTs ?? null };
}

/** @param {any} row @returns {Pin} */
function pinOf({ seq, pinnedBy, pinnedTs, pinnedBySeq, message }) {
  return { seq, by: pinnedBy, pinnedTs, message: message === undefined ? null : messageOf(message, pinnedBySeq) };
}

/** @param {{[name: string]: string | number | null | undefined}} [fields] what is null, or an empty text, is left out */
function queryOf(fields = {}) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

/** @param {string} conversationId */
function part(conversationId) {
  return encodeURIComponent(checkedId(conversationId, "conversationId"));
}
