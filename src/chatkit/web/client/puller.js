// Pulling what is missing: which conversation is asked for next, several side by side, of each one page at a time, and
// what its page means. The window is four times as large after each round of quick pages, as in the Python client. No DOM.
// Owned by logs.js, which tells it what to want and hears what came.

/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Page} Page */
/** @typedef {{conversationId: string, lastSeq: number, limit?: number, history?: boolean, looks?: boolean, answer?: Answer}} Request `looks`: only at
 *   what the page says of one message; `answer`: the page is for who asked alone */
/** @typedef {{resolve: (page: WireEvent | null) => void, reject: (error: unknown) => void}} Answer */

import { nextDelay } from "./backoff.js";
import { errorOf } from "./errors.js";

const GAP_WAIT_MS = 200;
const ANSWER_WAIT_MS = 60_000; // on a slow line a page takes most of that
const WINDOW_MAX = 48; // a server lets 256 SYNCs of a connection wait
const QUICK_MS = 2_000; // a page that came within this time leaves room for more of them under way
const GROWTH = 3;

export class Puller {
  /** @type {Set<string>} */
  #wantsTail = new Set();
  /** @type {Map<string, number>} */
  #wantsOlder = new Map();
  /** @type {Map<string, {conversationId: string, seq: number}>} */
  #wantsOne = new Map();
  /** @type {Map<Answer, Request>} */
  #fetches = new Map();
  /** @type {Map<string, Request & {timer: any, askedMs: number}>} by ref */
  #running = new Map();
  #window = 1;
  #count = 0;

  /**
   * @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts
   * @param {{find: (id: string) => Conversation, first: () => string | null,
   *   arrived: (conversation: Conversation, page: WireEvent, isWhole: boolean) => void, looked: (page: WireEvent) => void,
   *   gone: (id: string, seq: number) => void, refused: (conversation: Conversation, error: WireEvent) => void}} owner `find(id)` is
   *   the conversation, `first()` the id that goes before all others, `arrived` hears of a page, `looked` of one of `wantOne` or else
   *   `gone`, `refused` of a refusal that stays
   */
  constructor(parts, owner) {
    this.parts = parts;
    this.owner = owner;
  }

  /** The connection is gone: nothing runs, and what was wanted is found out anew from HEADS. */
  reset() {
    for (const ref of [...this.#running.keys()]) this.#finish(ref);
    this.#wantsTail.clear();
    this.#wantsOne.clear();
    for (const answer of this.#fetches.keys()) answer.resolve(null);
    this.#fetches.clear();
    this.#window = 1;
  }

  /** Pull up to the head, now or as soon as it is this one's turn. @param {string} conversationId */
  wantTail(conversationId) {
    const running = this.#runningFor(conversationId);
    if (running && running.limit === undefined) return; // its page's end looks again
    this.#wantsTail.add(conversationId);
    this.pump();
  }

  /** Ask which log it is now; also while a page is on its way, for that one may be from before. @param {string} conversationId */
  wantEpoch(conversationId) {
    this.#wantsTail.add(conversationId);
    this.pump();
  }

  /** Pull `count` entries more of the past. @param {string} conversationId @param {number} count */
  wantOlder(conversationId, count) {
    if (!this.#wantsOlder.has(conversationId)) this.#wantsOlder.set(conversationId, count);
    this.pump();
  }

  /** Look at one message as it is now. @param {string} conversationId @param {number} seq */
  wantOne(conversationId, seq) {
    this.#wantsOne.set(`${conversationId} ${seq}`, { conversationId, seq });
    this.pump();
  }

  /** A page of the past for the caller alone; null if the connection is lost before it comes. Needs a connection.
   * @param {string} conversationId @param {number} lastSeq @param {number} limit @returns {Promise<WireEvent | null>} */
  fetch(conversationId, lastSeq, limit) {
    return new Promise((resolve, reject) => {
      const answer = { resolve, reject };
      this.#fetches.set(answer, { conversationId, lastSeq, limit, history: true, answer });
      this.pump();
    });
  }

  /** After a push: pull if a hole is still there in a moment, for pushes may be on their way. @param {Conversation} conversation */
  watchGap({ id, timeline }) {
    const look = () => void (timeline.missingAfter() !== null && this.wantTail(id));
    if (timeline.missingAfter() !== null) this.parts.setTimeout(look, GAP_WAIT_MS);
  }

  /** Ask for the next pages, as far as the window lets. */
  pump() {
    while (this.parts.line.online && this.#running.size < this.#window) {
      const request = this.#nextTail() ?? this.#nextOne() ?? this.#nextFetch() ?? this.#nextOlder();
      if (!request) return;
      this.#ask(request);
    }
  }

  /** @param {Request} request */
  #ask(request) {
    this.#count += 1;
    const ref = `sync:${this.#count}`;
    const { conversationId, lastSeq, limit, history } = request;
    const timer = this.parts.setTimeout(() => this.parts.line.restart(), ANSWER_WAIT_MS);
    this.#running.set(ref, { timer, askedMs: this.parts.now(), ...request });
    this.parts.line.send({ event: "SYNC", conversationId, lastSeq, ref, ...(limit && { limit }), ...(history && { history }) });
  }

  /** Take a SYNC_PAGE; one that nobody waits for any more is ignored. @param {WireEvent} event */
  page(event) {
    const request = this.#finish(event.ref);
    if (!request) return;
    const { lastSeq, limit, askedMs, answer } = request;
    const isQuick = this.parts.now() - askedMs <= QUICK_MS;
    this.#window = isQuick ? Math.min(WINDOW_MAX, this.#window + GROWTH) : Math.max(1, this.#window >> 1);
    if (request.looks) {
      this.owner.looked(event);
      return this.pump();
    }
    if (answer) {
      this.#fetches.delete(answer);
      answer.resolve(event);
      return this.pump();
    }
    const conversation = this.owner.find(event.conversationId);
    conversation.ofLog(event.epoch, event.headSeq, lastSeq);
    conversation.timeline.page(lastSeq, /** @type {any} */ (event));
    if (typeof event.floorSeq === "number") conversation.timeline.expire(event.floorSeq);
    const isTail = limit === undefined || !conversation.loaded;
    if (!isTail && conversation.timeline.olderUpTo === null) this.#wantsOlder.delete(conversation.id);
    this.owner.arrived(conversation, event, isTail && this.#isWhole(conversation, event, lastSeq));
    this.pump();
  }

  /** Take an ERROR; returns whether it was the answer to a SYNC. @param {WireEvent} event */
  error(event) {
    const request = this.#finish(event.ref);
    if (!request) return false;
    const { conversationId, limit, lastSeq, looks, answer } = request;
    if (event.retryable) {
      this.#window = 1;
      const again = looks ? () => this.wantOne(conversationId, lastSeq + 1) : limit === undefined ? () => this.wantTail(conversationId) : () => this.pump();
      this.parts.setTimeout(again, nextDelay(2, this.parts.random(), event.retryAfterMs ?? null));
      return true;
    }
    if (looks) {
      this.owner.gone(conversationId, lastSeq + 1);
      this.pump();
      return true;
    }
    if (answer) {
      this.#fetches.delete(answer);
      answer.reject(errorOf(event));
      this.pump();
      return true;
    }
    this.#wantsOlder.delete(conversationId);
    this.owner.refused(this.owner.find(conversationId), event);
    this.pump();
    return true;
  }

  /** @param {Conversation} conversation @param {WireEvent} page @param {number} lastSeq */
  #isWhole({ id, timeline }, page, lastSeq) {
    const isOfOldLog = timeline.renewal !== null || timeline.upTo < lastSeq;
    const goesOn = timeline.missingAfter() !== null && page.upToSeq > lastSeq;
    if (goesOn || isOfOldLog) this.#wantsTail.add(id);
    return !page.more && !isOfOldLog;
  }

  /** The first pages of a conversation show, too, what may be read of the time before the user joined. @returns {Request | null} */
  #nextTail() {
    const first = this.owner.first();
    const conversationId = first !== null && this.#mayAsk(first) ? first : this.#oldestToAsk();
    if (conversationId === null) return null;
    this.#wantsTail.delete(conversationId);
    const { timeline, loaded } = this.owner.find(conversationId);
    return { conversationId, lastSeq: timeline.syncAfter, history: !loaded && timeline.firstSeq > 1 };
  }

  /** @param {string} conversationId */
  #mayAsk(conversationId) {
    return this.#wantsTail.has(conversationId) && !this.#runningFor(conversationId);
  }

  #oldestToAsk() {
    for (const id of this.#wantsTail) if (this.#mayAsk(id)) return id;
    return null;
  }

  /** @returns {Request | null} */
  #nextOne() {
    for (const [key, { conversationId, seq }] of this.#wantsOne) {
      if (this.#runningFor(conversationId)) continue;
      this.#wantsOne.delete(key);
      return { conversationId, lastSeq: seq - 1, limit: 1, history: true, looks: true };
    }
    return null;
  }

  /** @returns {Request | null} */
  #nextFetch() {
    for (const request of this.#fetches.values()) if (!this.#runningFor(request.conversationId)) return request;
    return null;
  }

  /** @returns {Request | null} */
  #nextOlder() {
    for (const [conversationId, count] of this.#wantsOlder) {
      if (this.#runningFor(conversationId)) continue;
      const { timeline } = this.owner.find(conversationId);
      const lastSeq = timeline.olderAfter(count);
      if (lastSeq !== null) return { conversationId, lastSeq, limit: timeline.floor - lastSeq, history: true };
      this.#wantsOlder.delete(conversationId);
    }
    return null;
  }

  /** What is asked of a conversation now: of each one page at a time. @param {string} conversationId */
  #runningFor(conversationId) {
    for (const request of this.#running.values()) if (request.conversationId === conversationId) return request;
    return null;
  }

  /** @param {string} ref */
  #finish(ref) {
    const request = this.#running.get(ref) ?? null;
    this.#running.delete(ref);
    if (request) this.parts.clearTimeout(request.timer);
    return request;
  }
}
