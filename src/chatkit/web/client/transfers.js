// The bytes of files on their way: one PUT or GET of a signed link each, given up if nothing moves. The link is the login. Where
// there is an XMLHttpRequest it uploads, for only that tells how much has left. Made by http_client.js, called by media.js.

import { ChatError, jsonOf, problemOf } from "./errors.js";

const STALLED_MS = 60_000;
const BYTES_PER_MS_MIN = 16; // where nothing tells how much has left, a whole upload has as long as this takes

/** @typedef {(doneBytes: number) => void} OnBytes */

export class Transfers {
  /**
   * @param {import("./types.js").Ports & {base: URL, fetch: typeof globalThis.fetch,
   *   XMLHttpRequest: typeof globalThis.XMLHttpRequest | undefined}} parts
   */
  constructor(parts) {
    this.parts = parts;
  }

  /** Where a link leads: it is relative to the address of the API, under whatever path that is. @param {string} link */
  urlOf(link) {
    return new URL(link.slice(1), this.parts.base).href;
  }

  /**
   * Put bytes to a link, once.
   *
   * @param {string} link
   * @param {Blob} body
   * @param {number} offset where in the file they begin
   * @param {OnBytes} onBytes told how many of them have left, as far as that is known
   * @param {AbortSignal} signal
   * @returns {Promise<any>} the answer
   * @throws {ChatError} what the server says, or (OFFLINE, to be repeated) it was cut off
   */
  async put(link, body, offset, onBytes, signal) {
    const headers = { "Upload-Offset": String(offset), "Content-Type": "application/octet-stream" };
    const send = this.parts.XMLHttpRequest ? this.#request : this.#fetched;
    const { status, text } = await send.call(this, this.urlOf(link), body, headers, onBytes, signal);
    const answer = jsonOf(text);
    if (status < 200 || status > 299) throw problemOf(answer, status);
    if (answer === undefined) throw new ChatError("PROTOCOL_ERROR", "The answer to the upload cannot be read.");
    return answer;
  }

  /**
   * Get the bytes behind a link from `offset` on, once.
   *
   * @param {string} link
   * @param {number} offset
   * @param {(isWhole: boolean) => void} begin told whether all of the file comes, whatever was asked for
   * @param {(chunk: Uint8Array<ArrayBuffer>) => void} take gets the bytes as they come
   * @param {AbortSignal} signal
   * @throws {ChatError} as `put` does
   */
  async get(link, offset, begin, take, signal) {
    const watch = new Watch(this.parts, signal);
    try {
      const headers = offset > 0 ? { Range: `bytes=${offset}-` } : undefined;
      const response = await this.parts.fetch(this.urlOf(link), { headers, cache: "no-store", signal: watch.signal }).catch(cutOff);
      if (!response.ok) throw problemOf(jsonOf(await response.text().catch(cutOff)), response.status);
      begin(response.status !== 206);
      const reader = response.body?.getReader();
      for (let read = await reader?.read().catch(cutOff); read && !read.done; read = await reader?.read().catch(cutOff)) {
        watch.moved();
        take(read.value);
      }
    } catch (error) {
      throw watch.reason(error);
    } finally {
      watch.end();
    }
  }

  /** @param {string} url @param {Blob} body @param {Record<string, string>} headers @param {OnBytes} onBytes @param {AbortSignal} signal
   * @returns {Promise<{status: number, text: string}>} */
  #request(url, body, headers, onBytes, signal) {
    const watch = new Watch(this.parts, signal);
    const request = new /** @type {typeof XMLHttpRequest} */ (this.parts.XMLHttpRequest)();
    const ended = new Promise((resolve, reject) => {
      /** @param {unknown} [cause] */
      const failed = (cause) => reject(watch.reason(cause instanceof Event ? cutOffError() : cause));
      request.addEventListener("load", () => resolve({ status: request.status, text: request.responseText }));
      request.addEventListener("error", failed);
      request.addEventListener("abort", failed);
      watch.signal.addEventListener("abort", () => request.abort());
      request.upload.addEventListener("progress", ({ loaded }) => {
        watch.moved();
        try {
          onBytes(loaded);
        } catch (error) {
          reject(error); // the app's own
          request.abort();
        }
      });
      request.open("PUT", url);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send(body);
      if (watch.signal.aborted) request.abort();
    });
    return ended.finally(() => watch.end());
  }

  /** @param {string} url @param {Blob} body @param {Record<string, string>} headers @param {OnBytes} onBytes @param {AbortSignal} signal */
  async #fetched(url, body, headers, onBytes, signal) {
    const watch = new Watch(this.parts, signal, STALLED_MS + body.size / BYTES_PER_MS_MIN);
    try {
      const response = await this.parts.fetch(url, { method: "PUT", headers, body, signal: watch.signal }).catch(cutOff);
      return { status: response.status, text: await response.text().catch(cutOff) };
    } catch (error) {
      throw watch.reason(error);
    } finally {
      watch.end();
    }
  }
}

/** Ends a transfer of which nothing moves, or that somebody gives up. */
class Watch {
  #ended = new AbortController();
  /** @type {any} */
  #timer;

  /** @param {import("./types.js").Ports} ports @param {AbortSignal} outer of who may give it up */
  constructor(ports, outer, waitMs = STALLED_MS) {
    this.ports = ports;
    this.outer = outer;
    this.waitMs = waitMs;
    this.signal = AbortSignal.any([outer, this.#ended.signal]);
    this.moved();
  }

  moved() {
    this.ports.clearTimeout(this.#timer);
    this.#timer = this.ports.setTimeout(() => this.#ended.abort(), this.waitMs);
  }

  /** Why it failed: given up, or else the error itself. @param {unknown} error */
  reason(error) {
    return this.outer.aborted ? this.outer.reason : error;
  }

  /** It is over; what may still come of it is not wanted. */
  end() {
    this.ports.clearTimeout(this.#timer);
    this.#ended.abort();
  }
}

/** @param {unknown} [cause] */
function cutOffError(cause) {
  return new ChatError("OFFLINE", "The transfer was cut off.", { retryable: true, cause });
}

/** @param {unknown} cause @returns {never} */
function cutOff(cause) {
  throw cutOffError(cause);
}
