// Pulling what is missing: which conversation is asked for next, several side by side, of each one page at a time, and
// what its page means. The window is four times as large after each round of quick pages, as in the Python client. No DOM.
// Owned by session.js, which tells it what to want and hears what came.

import { nextDelay } from "./wire.js";

const GAP_WAIT_MS = 200;
const ANSWER_WAIT_MS = 60_000; // on a slow line a page takes most of that
const WINDOW_MAX = 48; // a server lets 256 SYNCs of a connection wait
const QUICK_MS = 2_000; // a page that came within this time leaves room for more of them under way
const GROWTH = 3;

export class Puller {
  #wantsTail = new Set();
  #wantsOlder = new Map();
  #running = new Map(); // by ref
  #window = 1;
  #count = 0;

  /**
   * @param {{connection, now: Function, random: Function, setTimeout: Function, clearTimeout: Function}} parts
   * @param {{find: Function, first: Function, arrived: Function, refused: Function}} owner `find(id)` is the
   *   conversation, `first()` the id that goes before all others, `arrived(conversation, messages, isWhole)` hears of a
   *   page, `refused(conversation, error)` of a refusal that stays
   */
  constructor(parts, owner) {
    Object.assign(this, parts, owner);
  }

  /** The connection is gone: nothing runs, and what was wanted is found out anew from HEADS. */
  reset() {
    for (const ref of [...this.#running.keys()]) this.#finish(ref);
    this.#wantsTail.clear();
    this.#window = 1;
  }

  /** Pull up to the head, now or as soon as it is this one's turn. */
  wantTail(conversationId) {
    const running = this.#runningFor(conversationId);
    if (running && running.limit === undefined) return; // its page's end looks again
    this.#wantsTail.add(conversationId);
    this.pump();
  }

  /** Ask which log it is now; also while a page is on its way, for that one may be from before. */
  wantEpoch(conversationId) {
    this.#wantsTail.add(conversationId);
    this.pump();
  }

  /** Pull `count` entries more of the past. */
  wantOlder(conversationId, count) {
    if (!this.#wantsOlder.has(conversationId)) this.#wantsOlder.set(conversationId, count);
    this.pump();
  }

  /** After a push: pull if a hole is still there in a moment, for pushes may be on their way. */
  watchGap({ id, timeline }) {
    const look = () => timeline.missingAfter() !== null && this.wantTail(id);
    if (timeline.missingAfter() !== null) this.setTimeout(look, GAP_WAIT_MS);
  }

  /** Ask for the next pages, as far as the window lets. */
  pump() {
    while (this.connection.online && this.#running.size < this.#window) {
      const request = this.#nextTail() ?? this.#nextOlder();
      if (!request) return;
      this.#ask(request);
    }
  }

  #ask(request) {
    this.#count += 1;
    const ref = `sync:${this.#count}`;
    const { conversationId, lastSeq, limit } = request;
    const timer = this.setTimeout(() => this.connection.restart(), ANSWER_WAIT_MS);
    this.#running.set(ref, { timer, askedMs: this.now(), ...request });
    this.connection.send({ event: "SYNC", conversationId, lastSeq, ref, ...(limit && { limit }) });
  }

  /** Take a SYNC_PAGE; one that nobody waits for any more is ignored. */
  page(event) {
    const request = this.#finish(event.ref);
    if (!request) return;
    const { lastSeq, limit, askedMs } = request;
    const isQuick = this.now() - askedMs <= QUICK_MS;
    this.#window = isQuick ? Math.min(WINDOW_MAX, this.#window + GROWTH) : Math.max(1, this.#window >> 1);
    const conversation = this.find(event.conversationId);
    conversation.ofLog(event.epoch, event.headSeq, lastSeq);
    conversation.timeline.page(lastSeq, event);
    const isTail = limit === undefined || !conversation.loaded;
    if (!isTail && conversation.timeline.olderUpTo === null) this.#wantsOlder.delete(conversation.id);
    this.arrived(conversation, event.messages, isTail && this.#isWhole(conversation, event, lastSeq));
    this.pump();
  }

  /** Take an ERROR; returns whether it was the answer to a SYNC. */
  error(event) {
    const request = this.#finish(event.ref);
    if (!request) return false;
    const { conversationId, limit } = request;
    if (event.retryable) {
      this.#window = 1;
      const again = limit === undefined ? () => this.wantTail(conversationId) : () => this.pump();
      this.setTimeout(again, nextDelay(2, this.random(), event.retryAfterMs ?? null));
      return true;
    }
    this.#wantsOlder.delete(conversationId);
    this.refused(this.find(conversationId), event);
    this.pump();
    return true;
  }

  #isWhole({ id, timeline }, page, lastSeq) {
    const isOfOldLog = timeline.upTo < lastSeq;
    const goesOn = timeline.missingAfter() !== null && page.upToSeq > lastSeq;
    if (goesOn || isOfOldLog) this.#wantsTail.add(id);
    return !page.more && !isOfOldLog;
  }

  #nextTail() {
    const first = this.first();
    const conversationId = this.#mayAsk(first) ? first : this.#oldestToAsk();
    if (conversationId === null) return null;
    this.#wantsTail.delete(conversationId);
    return { conversationId, lastSeq: this.find(conversationId).timeline.upTo };
  }

  #mayAsk(conversationId) {
    return this.#wantsTail.has(conversationId) && !this.#runningFor(conversationId);
  }

  #oldestToAsk() {
    for (const id of this.#wantsTail) if (this.#mayAsk(id)) return id;
    return null;
  }

  #nextOlder() {
    for (const [conversationId, count] of this.#wantsOlder) {
      if (this.#runningFor(conversationId)) continue;
      const { timeline } = this.find(conversationId);
      const lastSeq = timeline.olderAfter(count);
      if (lastSeq !== null) return { conversationId, lastSeq, limit: timeline.floor - lastSeq };
      this.#wantsOlder.delete(conversationId);
    }
    return null;
  }

  /** What is asked of a conversation now: of each one page at a time. */
  #runningFor(conversationId) {
    for (const request of this.#running.values()) if (request.conversationId === conversationId) return request;
    return null;
  }

  #finish(ref) {
    const request = this.#running.get(ref) ?? null;
    this.#running.delete(ref);
    if (request) this.clearTimeout(request.timer);
    return request;
  }
}
