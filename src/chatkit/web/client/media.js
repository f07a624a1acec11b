// Uploads and downloads: by links, gone on with where they were cut off. Made by http_client.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {Blob | ArrayBuffer | ArrayBufferView} Source a file, or bytes */
/** @typedef {(doneBytes: number, wholeBytes: number) => void} OnProgress called again and again; it falls where a part is sent anew */
/** @typedef {import("./types.js").Ports & {transfers: import("./transfers.js").Transfers,
 *   api: Pick<import("./api.js").Api, "request">}} Parts */

import { nextDelay } from "./backoff.js";
import { contentOf } from "./marks.js";
import { randomId } from "./device.js";
import { ChatError } from "./errors.js";
import { HEAD_BYTES, likely, mayBe, SHOWN } from "./media_types.js";

const FUTILE_MAX = 5;
const BLOCK_BYTES = 1024 * 1024;
const FOLDED_BYTES = 4 * 1024 * 1024; // what was downloaded is handed to the browser, which may put it on disk
const NAME_MAX = 1_024;
const LINK = "/v1/blobs/";
const BLOB_ID = /^[0-9a-f]{32}$/;

/** A file that was uploaded, and may be sent. */
export class Upload {
  /** @param {string} blobId its name on the server @param {string} mime @param {number} size in bytes
   * @param {string | null} name what it is called */
  constructor(blobId, mime, size, name) {
    this.blobId = blobId;
    this.mime = mime;
    this.size = size;
    this.name = name;
  }

  /** The payload of a message that shows it: IMAGE, VOICE, or FILE for all else. More fields may be added. @returns {Payload} */
  payload() {
    const type = { image: "IMAGE", audio: "VOICE" }[this.mime.split("/")[0] ?? ""] ?? "FILE";
    const named = this.name === null ? {} : { name: [...this.name].slice(0, NAME_MAX).join("") };
    return { type, blobId: this.blobId, mime: this.mime, bytes: this.size, ...named };
  }
}

/** The files of one login. */
export class Media {
  /** @param {Parts} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /** See `ChatClient.upload`.
   * @param {Source} source @param {{mime?: string, name?: string, onProgress?: OnProgress}} options @param {AbortSignal} signal
   * @returns {Promise<Upload>} */
  async upload(source, { mime, name, onProgress = ignore }, signal) {
    checkedFunction(onProgress);
    const file = await opened(source, mime, name);
    const body = { key: await keyOf(file), bytes: file.blob.size, mime: file.mime };
    const tries = new Tries(this.parts, signal);
    for (;;) {
      signal.throwIfAborted();
      let isReserved = false;
      try {
        let found = checkedUpload(await this.parts.api.request("POST", "v1/blobs", body), file);
        isReserved = true;
        tries.reached(found.receivedBytes);
        if (found.state === "PENDING") found = await this.#put(file, found, onProgress, signal);
        onProgress(body.bytes, body.bytes);
        return new Upload(found.blobId, found.mime, found.bytes, file.name);
      } catch (error) {
        await tries.failed(error, isReserved);
      }
    }
  }

  /** See `ChatClient.download`.
   * @param {Message | string} what @param {{onProgress?: OnProgress}} options @param {AbortSignal} signal @returns {Promise<Blob>} */
  async download(what, { onProgress = ignore }, signal) {
    checkedFunction(onProgress);
    const blobId = blobIdOf(what);
    const received = new Received();
    const tries = new Tries(this.parts, signal);
    for (;;) {
      signal.throwIfAborted();
      let isLinked = false;
      try {
        const found = await this.#linked(blobId);
        isLinked = true;
        await this.#get(found, received, onProgress, signal);
        return await this.#compared(received, found);
      } catch (error) {
        tries.reached(received.size);
        await tries.failed(error, isLinked);
      }
    }
  }

  /** See `ChatClient.fileLink`. @param {Message | string} what */
  async link(what) {
    const { url, mime, bytes, expiresTs } = await this.#linked(blobIdOf(what));
    return { url: this.parts.transfers.urlOf(url), mime, size: bytes, expiresTs };
  }

  /** @param {string} blobId */
  async #linked(blobId) {
    const found = await this.parts.api.request("GET", `v1/blobs/${blobId}`);
    checkedLink(found?.url);
    if (!Number.isSafeInteger(found.bytes) || typeof found.mime !== "string") throw unreadable();
    return found;
  }

  /** @param {Opened} file @param {any} found @param {OnProgress} onProgress @param {AbortSignal} signal */
  async #put(file, found, onProgress, signal) {
    const { size } = file.blob;
    const start = found.receivedBytes;
    const rest = file.blob.slice(start);
    await bytesOf(rest.slice(0, 1)); // a file that has changed says so here, in other words than a lost connection
    /** @param {number} done */
    const onBytes = (done) => onProgress(Math.min(start + done, size), size);
    return checkedUpload(await this.parts.transfers.put(checkedLink(found.url), rest, start, onBytes, signal), file, "READY");
  }

  /** @param {any} found @param {Received} received @param {OnProgress} onProgress @param {AbortSignal} signal */
  async #get(found, received, onProgress, signal) {
    /** @param {boolean} isWhole */
    const begin = (isWhole) => isWhole && received.clear();
    /** @param {Uint8Array<ArrayBuffer>} chunk */
    const take = (chunk) => {
      if (received.size + chunk.length > found.bytes) throw new ChatError("PROTOCOL_ERROR", "The file is larger than the server said.");
      received.add(chunk);
      onProgress(received.size, found.bytes);
    };
    if (received.size < found.bytes) await this.parts.transfers.get(found.url, received.size, begin, take, signal);
    if (received.size < found.bytes) throw new ChatError("OFFLINE", "The file ends too early; it was cut off.", { retryable: true });
  }

  /** All of it, if it is what the server has; else nothing of it is kept. Without hash functions nobody can tell.
   * @param {Received} received @param {any} found */
  async #compared(received, { mime, digest }) {
    const blob = received.blob(mime);
    const { subtle } = globalThis.crypto;
    if (!subtle || typeof digest !== "string") return blob;
    if (hex(await subtle.digest("SHA-256", await new Blob(await blockDigests(blob, subtle)).arrayBuffer())) === digest) return blob;
    received.clear();
    throw new ChatError("OFFLINE", "What came is not what the server has: it was damaged on the way.", { retryable: true });
  }
}

/** How often in a row a transfer was tried without getting any further. */
class Tries {
  #farthest = -1;
  #futile = 0;

  /** @param {import("./types.js").Ports} ports @param {AbortSignal} signal */
  constructor(ports, signal) {
    this.ports = ports;
    this.signal = signal;
  }

  /** So much is through. @param {number} bytes */
  reached(bytes) {
    if (bytes <= this.#farthest) return;
    this.#farthest = bytes;
    this.#futile = 0;
  }

  /** Wait for the next try; throws the error if another one cannot help, or as many got no further.
   * @param {unknown} error @param {boolean} hadLink a link that has ended, or bytes that are not there, are asked about again */
  async failed(error, hadLink) {
    this.#futile += 1;
    if (!(error instanceof ChatError) || this.signal.aborted) throw error;
    const mayHelp = error.retryable || (hadLink && (error.code === "CONFLICT" || error.reason === "LINK"));
    if (!mayHelp || this.#futile >= FUTILE_MAX) throw error;
    await this.#wait(nextDelay(this.#futile, this.ports.random(), error.retryAfterMs));
  }

  /** @param {number} delayMs @returns {Promise<void>} */
  #wait(delayMs) {
    return new Promise((resolve) => {
      const done = () => {
        this.ports.clearTimeout(timer);
        this.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = this.ports.setTimeout(done, delayMs);
      this.signal.addEventListener("abort", done);
    });
  }
}

/** What of a download is here. */
class Received {
  size = 0;
  /** @type {Blob[]} */
  #folded = [];
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #chunks = [];
  #unfolded = 0;

  /** @param {Uint8Array<ArrayBuffer>} chunk */
  add(chunk) {
    this.#chunks.push(chunk);
    this.size += chunk.length;
    this.#unfolded += chunk.length;
    if (this.#unfolded >= FOLDED_BYTES) this.#fold();
  }

  clear() {
    this.size = this.#unfolded = 0;
    this.#folded = [];
    this.#chunks = [];
  }

  /** All of it; what a browser might run has no type of its own. @param {string} mime */
  blob(mime) {
    this.#fold();
    return new Blob(this.#folded, { type: SHOWN.has(mime) ? mime : "application/octet-stream" });
  }

  #fold() {
    this.#folded.push(new Blob(this.#chunks));
    this.#chunks = [];
    this.#unfolded = 0;
  }
}

/** @typedef {{blob: Blob, mime: string, name: string | null}} Opened */

/** @param {Source} source @param {string | undefined} mime @param {string | undefined} name @returns {Promise<Opened>} */
async function opened(source, mime, name) {
  const isBytes = source instanceof ArrayBuffer || ArrayBuffer.isView(source);
  if (!isBytes && !(source instanceof Blob)) throw bad("what is uploaded is a Blob, a File or bytes");
  if (mime !== undefined && typeof mime !== "string") throw bad("mime is a text");
  if (name !== undefined && typeof name !== "string") throw bad("name is a text");
  const blob = isBytes ? new Blob([/** @type {BlobPart} */ (source)]) : source;
  if (blob.size === 0) throw bad("an empty file cannot be uploaded");
  const head = new Uint8Array(await bytesOf(blob.slice(0, HEAD_BYTES)));
  const type = plain(mime ?? likely(head, plain(blob.type) || null));
  if (!mayBe(type, head)) throw new ChatError("BAD_REQUEST", `The content is not of type ${type}.`, { reason: "TYPE" });
  const called = name ?? /** @type {{name?: string}} */ (blob).name ?? null;
  return { blob, mime: type, name: called && called.toWellFormed() };
}

/** Without parameters, in lower case. @param {string} mime */
function plain(mime) {
  return (mime.split(";")[0] ?? "").trim().toLowerCase();
}

/** A name that only these bytes with this type have, so that the same upload finds itself again, after a reload too; a random
 * one where the page has no hash functions (plain http of another machine). @param {Opened} file */
async function keyOf({ blob, mime }) {
  const subtle = globalThis.crypto.subtle;
  if (!subtle) return randomId("u-");
  const whole = await new Blob([...(await blockDigests(blob, subtle)), `\0${blob.size}\0${mime}`]).arrayBuffer();
  return hex(await subtle.digest("SHA-256", whole));
}

/** The SHA-256 of each MiB. @param {Blob} blob @param {SubtleCrypto} subtle */
async function blockDigests(blob, subtle) {
  const digests = [];
  for (let start = 0; start < blob.size; start += BLOCK_BYTES) {
    digests.push(await subtle.digest("SHA-256", await bytesOf(blob.slice(start, start + BLOCK_BYTES))));
  }
  return digests;
}

/** @param {ArrayBuffer} bytes */
function hex(bytes) {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Blob} blob @returns {Promise<ArrayBuffer>} */
function bytesOf(blob) {
  return blob.arrayBuffer().catch((cause) => {
    throw new ChatError("CONFIGURATION", "The file cannot be read, or has changed; choose it again.", { cause });
  });
}

/** @param {Message | string} what */
function blobIdOf(what) {
  const blobId = typeof what === "string" ? what : what?.payload && contentOf(what).blobId;
  if (typeof blobId === "string" && BLOB_ID.test(blobId)) return blobId;
  throw bad(typeof what === "string" ? "this is no name of a file" : "this message names no uploaded file");
}

/** What the server says of an upload. @param {any} found @param {Opened} file @param {string} [state] */
function checkedUpload(found, { blob }, state = found?.state) {
  const isSound = BLOB_ID.test(found?.blobId) && typeof found.mime === "string" && found.bytes === blob.size && found.state === state;
  const isReady = found?.state === "READY";
  const canGoOn = found?.state === "PENDING" && Number.isSafeInteger(found.receivedBytes) && found.receivedBytes >= 0 && found.receivedBytes < blob.size;
  if (!isSound || !(isReady || canGoOn)) throw unreadable();
  return found;
}

/** A link of the server's own: nothing goes elsewhere, whoever says so. @param {unknown} url @returns {string} */
function checkedLink(url) {
  if (typeof url === "string" && url.startsWith(LINK)) return url;
  throw new ChatError("PROTOCOL_ERROR", "The server gave a link that is not its own.");
}

/** @param {unknown} value */
function checkedFunction(value) {
  if (typeof value !== "function") throw bad("onProgress is a function");
}

function ignore() {}

function unreadable() {
  return new ChatError("PROTOCOL_ERROR", "The server's answer about the file cannot be read.");
}

/** @param {string} message */
const bad = (message) => new ChatError("BAD_REQUEST", message);
