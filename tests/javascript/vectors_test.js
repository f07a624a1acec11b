// The machines of the client against the vectors of spec/, which hold the Python client too.

import backoff from "../../spec/backoff.json" with { type: "json" };
import marks from "../../spec/marks.json" with { type: "json" };
import mediaTypes from "../../spec/media_types.json" with { type: "json" };
import renewal from "../../spec/renewal.json" with { type: "json" };
import resend from "../../spec/resend.json" with { type: "json" };
import streams from "../../spec/streams.json" with { type: "json" };
import timeline from "../../spec/timeline.json" with { type: "json" };
import { nextDelay } from "../../src/chatkit/web/client/backoff.js";
import { contentOf, isCutOff, isOpen, marked, messageOf } from "../../src/chatkit/web/client/marks.js";
import { likely, mayBe, SHOWN, typesOf } from "../../src/chatkit/web/client/media_types.js";
import { OpenStreams } from "../../src/chatkit/web/client/open_streams.js";
import { Renewal } from "../../src/chatkit/web/client/renewal.js";
import { keyOf, ResendQueue } from "../../src/chatkit/web/client/resend.js";
import { Timeline } from "../../src/chatkit/web/client/timeline.js";
import { equal, sorted } from "./check.js";

const rounded = (ms) => (ms === null ? null : Math.round(ms * 1e6) / 1e6);
const byId = (entries) => new Map(Object.entries(entries).map(([seq, id]) => [Number(seq), id]));

function backoffMachine() {
  return ({ attempt, random, retryAfterMs, baseMs, maxMs }) => ({ ms: rounded(nextDelay(attempt, random, retryAfterMs, { baseMs, maxMs })) });
}

function timelineMachine() {
  const log = new Timeline("e", 0);
  const entryOf = ({ seq, type, target, edits }) => ({
    conversationId: "c", epoch: "e", messageId: `m-${seq}`, seq, senderId: "ben", serverTs: 0,
    payload: { type, ...(target !== undefined && { seq: target }), ...(edits && { edits }) },
  });
  return (step) => {
    if (step.do === "push") log.accept(entryOf(step.entry));
    else if (step.do === "head") log.reach(step.seq);
    else log.page(step.lastSeq, { upToSeq: step.upToSeq, headSeq: step.headSeq, messages: step.entries.map(entryOf) });
    const held = [...log.held.keys()].sort((a, b) => a - b);
    return { prefix: log.upTo, head: log.headSeq, held, shown: log.shown().map(({ seq, payload }) => [seq, payload.type]) };
  };
}

function resendMachine() {
  const queue = new ResendQueue(1_000, 4);
  const steps = {
    add({ key, bytes }) {
      const [conversationId, clientMsgId] = key.split(" ");
      queue.add({ conversationId, clientMsgId, payload: {}, sizeBytes: bytes, order: queue.lastOrder + 1, atMs: 0 });
    },
    take: ({ nowMs }) => ({ sent: queue.take(nowMs).map(keyOf) }),
    putBack: ({ key, readyAtMs, tooFastMs }) => ({ was: queue.putBack(key, readyAtMs, tooFastMs) }),
    resolve: ({ key, answered }) => ({ was: queue.resolve(key, answered) !== undefined }),
    hold: ({ key, askAtMs }) => ({ isNews: queue.hold(key, askAtMs) }),
    pause: ({ conversation, readyAtMs }) => queue.pause(conversation, readyAtMs),
    suspectAll: () => queue.suspectAll(),
    disconnected: () => queue.disconnected(),
  };
  return (step) => {
    const then = steps[step.do](step);
    const alone = queue.aloneUnderWay;
    return { ...then, size: queue.size, waitMs: rounded(queue.waitMs(step.nowMs)), alone: alone && keyOf(alone) };
  };
}

function renewalMachine() {
  let search;
  return (step) => {
    let over = false;
    if (step.do === "begin") search = new Renewal(step.upToSeq, step.floor, step.deliveredSeq);
    else over = search.compare(step.lastSeq, step.upToSeq, byId(step.held), byId(step.listed));
    return { lastSeq: search.lastSeq, keptSeq: search.keptSeq, over };
  };
}

function marksMachine() {
  return ({ type, page, naming }) => {
    const said = page.headSeq > 0 ? { marks: { asOfSeq: page.headSeq, edit: null, reactions: page.reactions } } : {};
    const message = { seq: 1, senderId: "u-1", payload: { type }, ...said };
    const [now] = marked([message], naming.map((entry) => ({ ...entry, serverTs: entry.seq })));
    return { edit: now.marks?.edit?.payload ?? null, reactions: now.marks?.reactions ?? [] };
  };
}

function mediaTypesMachine() {
  return ({ head: hex, mimes, ...step }) => {
    if (step.do === "show") return { shown: mimes.filter((mime) => SHOWN.has(mime)) };
    const head = Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
    const guessed = mimes.filter((mime) => likely(head, mime) === mime);
    return { types: typesOf(head), mayBe: mimes.filter((mime) => mayBe(mime, head)), guessed, alone: likely(head, null) };
  };
}

function streamsMachine() {
  let asks = [];
  const open = new OpenStreams((_, seq) => asks.push(seq));
  const held = new Map();
  const naming = [];
  const entry = (seq, payload) => ({ conversationId: "c", epoch: "e", messageId: `m-${seq}`, seq, senderId: "u-1", serverTs: 0, payload });
  const begun = (seq) => entry(seq, { type: "STREAM", text: "" });
  const hold = (message) => void (held.has(message.seq) || held.set(message.seq, message));
  const say = ({ seq, at }, payload) => naming[naming.push(entry(at, { ...payload, messageId: `m-${seq}`, seq })) - 1];
  const steps = {
    begin: ({ seq }) => void (hold(begun(seq)), open.note(held.get(seq))),
    part: ({ seq, part, text }) => open.part({ conversationId: "c", seq, part, text }),
    page({ seq, headSeq, stream }) {
      const message = messageOf({ ...begun(seq), ...(stream && { stream }) }, headSeq);
      hold(message);
      return open.see(message);
    },
    reaction: (step) => void say(step, { type: "REACTION", reaction: "+" }),
    end: (step) => void open.note(say(step, { type: "EDIT", payload: { type: "TEXT", text: `all of ${step.seq}` }, ends: step.ends })),
    connected: () => open.connected(),
    dropped: () => open.dropped("c"),
  };
  return (step) => {
    asks = [];
    const grew = steps[step.do](step);
    const shown = open.shown(marked([...held.values()], naming));
    return { grew: grew ? [grew.seq, grew.parts, grew.text] : null, asks: [...new Set(asks)], shown: shown.map((it) => [it.seq, contentOf(it).text, isOpen(it), isCutOff(it)]) };
  };
}

const machines = { backoff: [backoff, backoffMachine], marks: [marks, marksMachine], media_types: [mediaTypes, mediaTypesMachine], renewal: [renewal, renewalMachine], resend: [resend, resendMachine], streams: [streams, streamsMachine], timeline: [timeline, timelineMachine] };

export const tests = Object.fromEntries(
  Object.entries(machines).flatMap(([machine, [vectors, make]]) =>
    vectors.map(({ name, steps }) => [
      `${machine}: ${name}`,
      () => {
        const run = make();
        steps.forEach((step, number) => equal(sorted(run(step)), sorted(step.then), `at step ${number}: ${JSON.stringify({ ...step, then: undefined })}`));
      },
    ]),
  ),
);
