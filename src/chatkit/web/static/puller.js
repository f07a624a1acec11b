// Pulling what is missing: which conversation is asked for next, one SYNC at a time, and what its page means. No DOM.
// Owned by session.js, which tells it what to want and hears what came.

import { nextDelay } from "./wire.js";

const GAP_WAIT_MS = 200;
const ANSWER_WAIT_MS = 60_000; // on a slow line a page takes most of that

export class Puller {
  #wantsTail = new Set();
  #wantsOlder = new Map();
  #running = null;
  #count = 0;

  /**
   * @param {{connection, random: Function, setTimeout: Function, clearTimeout: Function}} parts
   * @param {{find: Function, first: Function, arrived: Function, refused: Function}} owner `find(id)` is the
   *   conversation, `first()` the id that goes before all others, `arrived(conversation, messages, isWhole)` hears of a
   *   page, `refused(conversation, error)` of a refusal that stays
   */
  constructor(parts, owner) {
    Object.assign(this, parts, owner);
  }

  /** The connection is gone: nothing runs, and what was wanted is found out anew from HEADS. */
  reset() {
    this.#finish();
    this.#wantsTail.clear();
  }

  /** Pull up to the head, now or as soon as it is this one's turn. */
  wantTail(conversationId) {
    const isRunning = this.#running?.conversationId === conversationId && this.#running.limit === undefined;
    if (isRunning) return; // its page's end looks again
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

  /** Ask for the next page, if none is on its way. */
  pump() {
    if (this.#running !== null || !this.connection.online) return;
    const request = this.#nextTail() ?? this.#nextOlder();
    if (!request) return;
    this.#count += 1;
    const ref = `sync:${this.#count}`;
    const { conversationId, lastSeq, limit } = request;
    const timer = this.setTimeout(() => this.connection.restart(), ANSWER_WAIT_MS);
    this.#running = { ref, timer, ...request };
    this.connection.send({ event: "SYNC", conversationId, lastSeq, ref, ...(limit && { limit }) });
  }

  /** Take a SYNC_PAGE; one that nobody waits for any more is ignored. */
  page(event) {
    if (event.ref !== this.#running?.ref) return;
    const { lastSeq, limit } = this.#finish();
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
    if (this.#running === null || event.ref !== this.#running.ref) return false;
    const { conversationId, limit } = this.#finish();
    if (event.retryable) {
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
    const [oldest] = this.#wantsTail;
    if (oldest === undefined) return null;
    const first = this.first();
    const conversationId = this.#wantsTail.has(first) ? first : oldest;
    this.#wantsTail.delete(conversationId);
    return { conversationId, lastSeq: this.find(conversationId).timeline.upTo };
  }

  #nextOlder() {
    for (const [conversationId, count] of this.#wantsOlder) {
      const { timeline } = this.find(conversationId);
      const lastSeq = timeline.olderAfter(count);
      if (lastSeq !== null) return { conversationId, lastSeq, limit: timeline.floor - lastSeq };
      this.#wantsOlder.delete(conversationId);
    }
    return null;
  }

  #finish() {
    const request = this.#running;
    this.#running = null;
    if (request) this.clearTimeout(request.timer);
    return request;
  }
}
