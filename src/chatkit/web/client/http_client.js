// What a client asks of the server over HTTP, whether it is connected or not: files, search, members, presence. client.js builds
// on it.

/** @typedef {import("./types.js").Message} Message */

import { Api } from "./api.js";
import { directoryOf, makeWorker, portsOf } from "./browser.js";
import { ChatError } from "./errors.js";
import { ChatEventTarget } from "./events.js";
import { Media } from "./media.js";
import { Timers } from "./timers.js";
import { TokenSource } from "./tokens.js";
import { Transfers } from "./transfers.js";

export class HttpClient extends ChatEventTarget {
  /** The parts. @protected */
  http;

  /** @param {import("./client.js").Options} options */
  constructor({ url = new URL("../../", import.meta.url), token = null, fetch: given, ports: own }) {
    super();
    const timers = own ? null : new Timers(makeWorker);
    const ports = own ?? portsOf(/** @type {Timers} */ (timers));
    const base = directoryOf(url);
    const tokens = new TokenSource(token, ports);
    /** @type {typeof fetch} */
    const request = given ?? ((resource, init) => fetch(resource, init));
    const api = new Api(base, tokens, request);
    const transfers = new Transfers({ ...ports, base, fetch: request, XMLHttpRequest: given ? undefined : globalThis.XMLHttpRequest });
    this.http = { timers, ports, base, tokens, api, media: new Media({ ...ports, api, transfers }), ended: new AbortController() };
  }

  /**
   * Upload a file; resolves once the server has all of it, durably. A message that names it is sent by `send`, with `upload.payload()`.
   *
   * A file without such a message is removed after a day or so. The same content finds its former upload: nothing is sent twice,
   * and what was cut off goes on, after a reload too. A try that gets no further is repeated a few times; there is no deadline for
   * the whole. Before any of it is sent it is read once, for the name of its content.
   *
   * @param {import("./media.js").Source} source a file that was chosen, a Blob, or bytes
   * @param {{mime?: string, name?: string, onProgress?: import("./media.js").OnProgress, signal?: AbortSignal}} [options] `mime`: left out,
   *   by its content and name; `name`: left out, the file's; `onProgress(doneBytes, wholeBytes)`; `signal` ends it
   * @returns {Promise<import("./media.js").Upload>}
   * @throws {ChatError} BAD_REQUEST: empty, or (reason TYPE) its content contradicts `mime`; TOO_LARGE, QUOTA: more than the server
   *   takes, or than the user may have; NOT_FOUND: the server keeps no files; CONFIGURATION: it cannot be read, or changed
   *   meanwhile; OFFLINE, UNAVAILABLE: not now, the same call goes on; CLOSED
   */
  upload(source, { signal, ...options } = {}) {
    return this.#transfer((ended) => this.http.media.upload(source, options, ended), signal);
  }

  /**
   * The file that a message names, as a Blob: of its own type if it is a picture, a sound or a film, else of one that no browser
   * runs. What was cut off goes on.
   *
   * @param {Message | string} message a message with a `blobId`, or that id
   * @param {{onProgress?: import("./media.js").OnProgress, signal?: AbortSignal}} [options] `onProgress(doneBytes, wholeBytes)`
   * @returns {Promise<Blob>}
   * @throws {ChatError} NOT_FOUND: recalled, expired, or not this user's to see; BAD_REQUEST: it names no file; OFFLINE, UNAVAILABLE:
   *   not now, call again; CLOSED
   */
  download(message, { signal, ...options } = {}) {
    return this.#transfer((ended) => this.http.media.download(message, options, ended), signal);
  }

  /**
   * A link to the file that a message names, for `<img src>` or `<video src>`: it holds for some minutes, for whoever has it.
   *
   * @param {Message | string} message as of `download`
   * @returns {Promise<{url: string, mime: string, size: number, expiresTs: number}>}
   * @throws {ChatError} as `download`, OFFLINE at once
   */
  fileLink(message) {
    return this.http.media.link(message);
  }

  /**
   * Messages at the server that the user may read and that match, the newest first.
   *
   * @param {string} query words, all of which must be found; "in quotes" they follow each other, `wor*` finds all that begin so
   * @param {import("./search.js").SearchOptions} [options] only of one conversation or sender, sent `after` (then or later) or
   *   `before`; `cursor`: `nextCursor` of the page before; `limit`: 20 by default, 50 at most
   * @returns {Promise<import("./search.js").SearchPage>}
   * @throws {ChatError} BAD_REQUEST: nothing to search for; FORBIDDEN: search is off; NOT_FOUND: no member there; OFFLINE
   */
  async search(query, options = {}) {
    return this.http.api.search(query, options);
  }

  /** One page of the members, by user id; `nextCursor` leads to the next.
   * @param {string} conversationId @param {{cursor?: string | null, limit?: number}} [options] `limit`: 50 by default
   * @returns {Promise<import("./api.js").MemberPage>} @throws {ChatError} NOT_FOUND, OFFLINE */
  async members(conversationId, options) {
    return this.http.api.members(conversationId, options);
  }

  /** What is pinned of what the user may see, pinned last first; at most 50. @param {string} conversationId
   * @returns {Promise<import("./api.js").Pin[]>} @throws {ChatError} NOT_FOUND, OFFLINE */
  async pins(conversationId) {
    return this.http.api.pins(conversationId);
  }

  /** Call a group something else, at most 256 characters; the log tells of it. @param {string} conversationId @param {string} title
   * @returns {Promise<void>} @throws {ChatError} FORBIDDEN (reason ROLE): the user's role does not allow it; NOT_FOUND, OFFLINE */
  async setTitle(conversationId, title) {
    await this.http.api.update(conversationId, { title });
  }

  /** Say what a group is for, at most 1,024 characters; as `setTitle`. @param {string} conversationId @param {string} description
   * @returns {Promise<void>} */
  async setDescription(conversationId, description) {
    await this.http.api.update(conversationId, { description });
  }

  /** Who of these is online now; the event `presence` says what changes later. Left out are those whom the user may not know of.
   * @param {string[]} userIds 1 to 100 @returns {Promise<import("./api.js").UserPresence[]>}
   * @throws {ChatError} FORBIDDEN: presence is off at this server; BAD_REQUEST, OFFLINE */
  async presence(userIds) {
    return this.http.api.presence(userIds);
  }

  /**
   * Any HTTP request of the protocol, with this login: roles, blocks, push and so on.
   *
   * @param {string} method
   * @param {string} path such as `/v1/blocks`; nothing outside of `/v1/` gets the login
   * @param {object} [body]
   * @returns {Promise<any>} the answer; null where there is none
   * @throws {ChatError}
   */
  async request(method, path, body) {
    if (!path.startsWith("/v1/")) throw new ChatError("BAD_REQUEST", "The path begins with /v1/.");
    return this.http.api.request(method, path.slice(1), body);
  }

  /** A transfer that ends with the client, if nobody gives it up before. @template T @param {(ended: AbortSignal) => Promise<T>} run
   * @param {AbortSignal} [signal] */
  async #transfer(run, signal) {
    this.http.ended.signal.throwIfAborted();
    return run(signal === undefined ? this.http.ended.signal : AbortSignal.any([this.http.ended.signal, signal]));
  }
}
