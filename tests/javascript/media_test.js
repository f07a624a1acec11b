// Uploads and downloads against a server of a few lines: what is cut off goes on, what is refused says so, and nothing else leaves.

import { Api } from "../../src/chatkit/web/client/api.js";
import { Media } from "../../src/chatkit/web/client/media.js";
import { Transfers } from "../../src/chatkit/web/client/transfers.js";
import { clock, equal, rejects } from "./check.js";

const MIB = 1024 * 1024;
const ID = "0d3f9a1be55c4d7e8f60718293a4b5c6";
const PNG = new TextEncoder().encode("....\r\n\x1a\n the rest of it");
PNG.set([0x89, 0x50, 0x4e, 0x47]);

const problem = (status, code, fields = {}) => Response.json({ code, detail: "no", retryable: false, ...fields }, { status });
const patient = () => ({ never: new AbortController().signal });

/** A server that keeps what it is given, below a path, and answers by `next` first where that is set. */
function world({ base = "http://chat.test/below/", xhr } = {}) {
  const made = { ...clock(), requests: [], next: [], kept: new Uint8Array(), reserved: null, expires: 0, never: patient().never };
  const link = () => `/v1/blobs/${ID}/content?user=u-1&expires=${(made.expires += 1)}&signature=s`;
  made.answer = async (url, { method = "GET", headers = {}, body, signal } = {}) => {
    const path = `${url}`;
    made.requests.push(`${method} ${path.replace(/\?.*/, "")}`);
    const rule = made.next.shift();
    const early = await rule?.({ path, method, body });
    if (early) return early;
    signal?.throwIfAborted();
    if (path.includes("/content") && method === "PUT") {
      const offset = Number(headers["Upload-Offset"]);
      made.kept = new Uint8Array([...made.kept.subarray(0, offset), ...new Uint8Array(await body.arrayBuffer())]);
      return Response.json({ ...made.reserved, state: "READY", receivedBytes: made.kept.length });
    }
    if (path.includes("/content")) {
      const start = Number(headers.Range?.match(/\d+/)[0] ?? 0);
      return new Response(made.kept.subarray(start), { status: start > 0 ? 206 : 200 });
    }
    if (method === "POST") {
      const { mime, bytes, key } = JSON.parse(body);
      if (made.key !== key) made.kept = new Uint8Array();
      made.key = key;
      const isReady = made.kept.length === bytes;
      made.reserved = { blobId: ID, mime, bytes };
      return Response.json({ ...made.reserved, state: isReady ? "READY" : "PENDING", receivedBytes: made.kept.length, url: link(), expiresTs: 1 });
    }
    return Response.json({ ...made.reserved, url: link(), expiresTs: 5, digest: made.digest });
  };
  const tokens = { get: () => "t", refused: () => {}, renewable: false };
  const api = new Api(new URL(base), tokens, made.answer);
  const transfers = new Transfers({ ...made.ports, base: new URL(base), fetch: made.answer, XMLHttpRequest: xhr });
  made.media = new Media({ ...made.ports, api, transfers });
  /** Run it with time going by, for waits between tries. */
  made.run = async (promise) => {
    let isOver = false;
    promise.catch(() => {}).finally(() => (isOver = true));
    while (!isOver) {
      await new Promise((done) => setTimeout(done, 0));
      if (made.waits().some((ms) => ms < 60_000)) made.advance(30_000);
    }
    return promise;
  };
  made.upload = (source, options = {}) => made.run(made.media.upload(source, options, made.never));
  made.download = (what, options = {}) => made.run(made.media.download(what, options, made.never));
  return made;
}

const lost = () => Promise.reject(new TypeError("Failed to fetch"));

export const tests = {
  async "a file goes up by its link, below the path of the API, and makes a payload"() {
    const w = world();
    const seen = [];
    const uploaded = await w.upload(new File([PNG], "cat.png"), { onProgress: (...it) => seen.push(it) });
    equal(uploaded.payload(), { type: "IMAGE", blobId: ID, mime: "image/png", bytes: PNG.length, name: "cat.png" });
    equal(w.requests, ["POST http://chat.test/below/v1/blobs", `PUT http://chat.test/below/v1/blobs/${ID}/content`]);
    equal([[...w.kept], seen.at(-1)], [[...PNG], [PNG.length, PNG.length]]);
  },

  async "the same bytes find themselves again, other ones and another type do not"() {
    const w = world();
    const keys = [];
    for (const [bytes, mime] of [["one", "text/plain"], ["one", "text/plain"], ["one", "text/csv"], ["two", "text/plain"]]) {
      const before = w.requests.length;
      await w.upload(new TextEncoder().encode(bytes), { mime });
      keys.push(`${w.key.length} ${w.requests.length - before}`);
    }
    equal(keys, ["64 2", "64 1", "64 2", "64 2"], "the second was there already");
  },

  async "the type is the one of the content, where nobody says another that may be"() {
    const w = world();
    const mimeOf = async (source, mime) => (await w.upload(source, { mime })).mime;
    equal(await mimeOf(new Blob([PNG], { type: "image/jpeg" })), "image/png", "its name was wrong");
    equal(await mimeOf(new Blob(["a,b"], { type: "Text/CSV; charset=utf-8" })), "text/csv");
    equal(await mimeOf(new TextEncoder().encode("hello").buffer), "application/octet-stream");
    equal(await mimeOf(new Uint16Array([1, 2]), "text/plain"), "text/plain");
    const refused = await rejects(w.upload(PNG, { mime: "image/jpeg" }));
    equal([refused.code, refused.reason], ["BAD_REQUEST", "TYPE"]);
  },

  async "what is no file is refused before anything leaves"() {
    const w = world();
    const wrong = ["text", null, undefined, 5, {}, new Uint8Array(), new Blob([])];
    for (const source of wrong) equal((await rejects(w.upload(source))).code, "BAD_REQUEST", `${source}`);
    for (const options of [{ name: 5 }, { mime: 5 }, { onProgress: 5 }]) equal((await rejects(w.upload(PNG, options))).code, "BAD_REQUEST");
    for (const what of ["../x", "", 5, null, { payload: { type: "TEXT", text: "x" } }]) equal((await rejects(w.download(what))).code, "BAD_REQUEST", `${what}`);
    equal(w.requests, []);
  },

  async "an upload that is cut off goes on where the server has it"() {
    const w = world();
    const bytes = new Uint8Array(3 * MIB).map((_, index) => index >> 12);
    const seen = [];
    w.next = [
      null,
      async ({ body }) => {
        w.kept = new Uint8Array(await body.slice(0, 2 * MIB).arrayBuffer());
        return lost();
      },
      lost, // not even the question arrives
    ];
    await w.upload(bytes, { onProgress: (done) => seen.push(done) });
    equal([w.kept.length, w.kept.every((byte, index) => byte === bytes[index])], [3 * MIB, true]);
    equal(w.requests.map((it) => it.split(" ")[0]), ["POST", "PUT", "POST", "POST", "PUT"]);
  },

  async "five tries in a row that get no further are the end, and the next call goes on"() {
    const w = world();
    w.next = Array(5).fill(lost);
    const error = await rejects(w.upload(PNG));
    equal([error.code, error.retryable, w.requests.length], ["OFFLINE", true, 5]);
    equal((await w.upload(PNG)).size, PNG.length);
  },

  async "a link that has ended, and bytes that are not there, are asked about again; a refusal is not"() {
    const w = world();
    w.next = [null, () => problem(403, "FORBIDDEN", { reason: "LINK" }), null, () => problem(409, "CONFLICT"), null, null];
    await w.upload(PNG);
    equal(w.requests.length, 6);
    for (const [status, code] of [[413, "TOO_LARGE"], [403, "QUOTA"], [409, "CONFLICT"], [404, "NOT_FOUND"]]) {
      const other = world();
      other.next = [() => problem(status, code)];
      equal([(await rejects(other.upload(PNG))).code, other.requests.length], [code, 1]);
    }
  },

  async "a proxy that is in the way for a moment is waited for, and one that answers otherwise is named"() {
    const w = world();
    w.next = [() => new Response("<html>", { status: 502 }), () => new Response("slow down", { status: 429 })];
    await w.upload(PNG);
    equal(w.requests.length, 4);
    const pages = /** @type {const} */ ([[200, "PROTOCOL_ERROR"], [403, "PROTOCOL_ERROR"], [413, "TOO_LARGE"]]);
    for (const [status, code] of pages) {
      w.next = [() => new Response("<html>", { status })];
      equal((await rejects(w.upload(new Uint8Array(5)))).code, code);
    }
  },

  async "no byte goes where a server says but must not, and no answer is believed that does not fit"() {
    const found = { blobId: ID, mime: "image/png", bytes: PNG.length, state: "PENDING", receivedBytes: 0 };
    const wrong = [
      { ...found, url: "https://elsewhere.example/v1/blobs/x" }, { ...found, url: "//elsewhere.example/" }, found,
      { ...found, url: "/v1/blobs/x", receivedBytes: PNG.length }, { ...found, url: "/v1/blobs/x", receivedBytes: -1 },
      { ...found, url: "/v1/blobs/x", bytes: 1 }, { ...found, blobId: "../x" }, { ...found, state: "NEW" }, {}, 5,
    ];
    for (const answer of wrong) {
      const w = world();
      w.next = [() => Response.json(answer)];
      equal([(await rejects(w.upload(PNG))).code, w.requests.length], ["PROTOCOL_ERROR", 1], JSON.stringify(answer));
    }
    const w = world();
    w.next = [() => Response.json({ ...found, url: "https://elsewhere.example/v1/blobs/x" })];
    equal((await rejects(w.download(ID))).code, "PROTOCOL_ERROR");
  },

  async "a download goes on where it was cut off, and tells how far it is"() {
    const w = world();
    await w.upload(PNG, { mime: "image/png" });
    const seen = [];
    const cut = new ReadableStream({
      pull(stream) {
        if (stream.desiredSize === 1 && !this.isCut) stream.enqueue(PNG.slice(0, 10));
        else stream.error(new TypeError("network error"));
        this.isCut = true;
      },
    });
    w.next = [null, () => new Response(cut)];
    const blob = await w.download({ payload: { type: "IMAGE", blobId: ID } }, { onProgress: (...it) => seen.push(it) });
    equal([[...new Uint8Array(await blob.arrayBuffer())], blob.type], [[...PNG], "image/png"]);
    equal(seen, [[10, PNG.length], [PNG.length, PNG.length]]);
  },

  async "a server that gives all again is begun anew with, and one that gives too much is not believed"() {
    const w = world();
    await w.upload(PNG);
    w.next = [null, () => new Response(PNG.slice(0, 10)), null, () => new Response(PNG)];
    equal((await w.download(ID)).size, PNG.length, "the first ended too early");
    w.next = [null, () => new Response(new Uint8Array([...PNG, 1]))];
    equal((await rejects(w.download(ID))).code, "PROTOCOL_ERROR");
  },

  async "what a browser might run has no type of its own"() {
    for (const [text, mime] of [["<html>", "text/html"], ["<svg>", "image/svg+xml"], ["%PDF-1.7", "application/pdf"]]) {
      const w = world();
      await w.upload(new Blob([text], { type: mime }));
      equal([w.reserved.mime, (await w.download(ID)).type], [mime, "application/octet-stream"]);
    }
  },

  async "what was downloaded is compared with the digest of the server, and what does not match is fetched again"() {
    const w = world();
    await w.upload(new Uint8Array(2 * MIB + 5).map((_, index) => index >> 12));
    w.digest = "9bd7ac4000e4a940cb9db2f9922ff05bcebbac1071a7c2fc64bdd19201918c1b"; // as the server says it of these bytes
    const damaged = () => new Response(w.kept.with(MIB, 77));
    w.next = [null, damaged];
    const blob = await w.download(ID);
    equal([blob.size, w.requests.filter((it) => it.includes("GET")).length], [2 * MIB + 5, 4]);
    equal(new Uint8Array(await blob.arrayBuffer())[MIB], 0);
    w.next = Array(5).fill([null, damaged]).flat();
    const error = await rejects(w.download(ID));
    equal([error.code, error.retryable, w.next], ["OFFLINE", true, []]);
  },

  async "an edit's file is the one that is meant"() {
    const w = world();
    await w.upload(PNG);
    const edited = { payload: { type: "IMAGE", blobId: "f".repeat(32) }, marks: { asOfSeq: 2, edit: { seq: 2, serverTs: 0, payload: { type: "IMAGE", blobId: ID } }, reactions: [] } };
    equal((await w.media.link(edited)).url.startsWith(`http://chat.test/below/v1/blobs/${ID}/content?`), true);
  },

  async "whoever gives up ends it, with their reason; so does a progress function that fails"() {
    const w = world();
    const giveUp = new AbortController();
    w.next = [null, () => giveUp.abort(new Error("enough"))];
    equal((await rejects(w.run(w.media.upload(PNG, {}, giveUp.signal)))).message, "enough");
    equal((await rejects(w.media.upload(PNG, {}, giveUp.signal))).message, "enough");
    await w.upload(PNG);
    const broken = () => {
      throw new Error("of the app");
    };
    equal((await rejects(w.download(ID, { onProgress: broken }))).message, "of the app");
  },

  async "a transfer of which nothing moves is cut off and tried again"() {
    const w = world();
    await w.upload(PNG);
    const hang = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    let count = 0;
    const answer = w.answer;
    const stuck = (url, options) => (`${url}`.includes("/content") && (count += 1) === 1 ? hang(options) : answer(url, options));
    const transfers = new Transfers({ ...w.ports, base: new URL("http://chat.test/"), fetch: stuck });
    const media = new Media({ ...w.ports, transfers, api: new Api(new URL("http://chat.test/"), { get: () => "t", refused: () => {}, renewable: false }, answer) });
    const downloading = media.download(ID, {}, w.never);
    while (w.waits().length === 0) await new Promise((done) => setTimeout(done, 0));
    equal(w.waits(), [60_000]);
    w.advance(60_000);
    equal([(await w.run(downloading)).size, count], [PNG.length, 2]);
  },
};
