// Reads of the past: what is here, completed by pages below it. What follows on what is here is kept with it while there is room;
// what lies further back is fetched for one answer alone. Called by client.js.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./conversation.js").Conversation} Conversation */
/** @typedef {import("./puller.js").Puller} Puller */

import { messageOf } from "./marks.js";

const PAGE = 200;

/**
 * The newest `wanted` messages below `beforeSeq`, ascending; fewer where no more exist, or where the connection is lost.
 *
 * @param {Conversation} conversation
 * @param {number} beforeSeq
 * @param {number} wanted
 * @param {{session: import("./session.js").Session, nextChange: () => Promise<unknown>}} parts
 */
export async function messagesBefore(conversation, beforeSeq, wanted, { session, nextChange }) {
  const { id, timeline } = conversation;
  const { puller } = session.logs;
  const here = () => conversation.messages.filter(({ seq }) => seq < beforeSeq);
  while (session.parts.connection.online && !conversation.left && here().length < wanted) {
    const isUnclear = !conversation.loaded || conversation.isBeingCompared;
    if (!isUnclear && !conversation.hasOlder) break;
    if (isUnclear) puller.wantTail(id);
    else if (timeline.floor < beforeSeq && session.logs.hasRoom(conversation)) puller.wantOlder(id, Math.max(wanted, PAGE));
    else {
      const messages = await withFetched(conversation, beforeSeq, wanted, puller);
      if (messages !== null) return messages;
      continue;
    }
    await nextChange();
  }
  return here().slice(-wanted);
}

/** Likewise, with entries that are not kept; null if the connection is lost, or the log is another one now.
 * @param {Conversation} conversation @param {number} beforeSeq @param {number} wanted @param {Puller} puller */
async function withFetched(conversation, beforeSeq, wanted, puller) {
  const { timeline, owner } = conversation;
  let entries = timeline.shown(owner.me).filter(({ seq }) => seq < beforeSeq);
  let endSeq = Math.min(timeline.floor, beforeSeq - 1);
  let span = Math.max(wanted, PAGE);
  const messages = () => owner.shown(timeline.readableAmong(entries)).slice(-wanted);
  while (endSeq >= timeline.firstSeq && messages().length < wanted) {
    const startSeq = Math.max(timeline.firstSeq - 1, endSeq - span);
    const older = await fetched(conversation, startSeq, endSeq, puller);
    if (older === null) return null;
    entries = [...older, ...entries];
    endSeq = startSeq;
    if (older.length === 0) span *= 2; // long parts may not be visible at all
  }
  return messages();
}

/** The entries of (startSeq, endSeq]; null likewise.
 * @param {Conversation} conversation @param {number} startSeq @param {number} endSeq @param {Puller} puller */
async function fetched({ id, timeline }, startSeq, endSeq, puller) {
  const { epoch } = timeline;
  /** @type {Message[]} */
  const entries = [];
  for (let lastSeq = startSeq; lastSeq < endSeq; ) {
    const page = await puller.fetch(id, lastSeq, endSeq - lastSeq);
    if (page !== null && page.epoch !== timeline.epoch) puller.wantEpoch(id);
    if (page?.epoch !== epoch || timeline.epoch !== epoch || timeline.renewal !== null) return null;
    for (const entry of page.messages) if (entry.seq <= endSeq) entries.push(messageOf(entry, page.headSeq));
    lastSeq = page.upToSeq > lastSeq ? page.upToSeq : endSeq;
  }
  return entries;
}
