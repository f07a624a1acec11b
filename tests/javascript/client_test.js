// The whole client on a fake socket and a fake clock: against the vectors of spec/client.json, which hold the Python client
// too, and what an app sees of it.

import vectors from "../../spec/client.json" with { type: "json" };
import { ChatClient, contentOf, MemoryStore } from "../../src/chatkit/web/client/chatkit.js";
import { clock, equal, refusal, rejects, sorted } from "./check.js";
import { aWhile, entry, eventually, heads, KeepingStore, push, shortly, WELCOME, world } from "./client_world.js";

function pick(fields, ...names) {
  return Object.fromEntries(names.filter((name) => fields[name] !== undefined).map((name) => [name, fields[name]]));
}

/** In the words of spec/README.md. */
const says = (event) => pick(event, "event", "conversationId", "clientMsgId", "payload", "upToSeq", "lastSeq", "part", "text");
const TELLS = {
  message: ({ message }) => ({ type: "message", seq: message.seq }),
  sent: (event) => pick(event, "type", "clientMsgId", "seq"),
  held: (event) => pick(event, "type", "clientMsgId"),
  failed: ({ clientMsgId, error }) => ({ type: "failed", clientMsgId, code: error.code }),
  recalled: (event) => pick(event, "type", "seq"),
  edited: ({ seq, by, edit }) => ({ type: "edited", seq, by, text: edit.payload.text }),
  reaction: ({ seq, userId, reaction, removed }) => ({ type: "reaction", seq, by: userId, reaction, removed }),
  epoch: (event) => pick(event, "type", "keptSeq"),
};

async function follow(steps) {
  const w = await world();
  const refs = {};
  let stream;
  let isConnected = false;
  const filled = (events) => events.map((event) => ("ref" in event ? { ...event, ref: refs[event.ref] } : event));
  const actions = {
    connect: async ({ events }) => {
      isConnected = true;
      await w.connect(...events);
    },
    server: ({ events }) => w.socket().says(...filled(events)),
    break: () => {
      isConnected = false;
      w.socket().breaks(1006);
    },
    advance: ({ ms }) => w.advance(ms),
    send: ({ conversationId, text, clientMsgId }) => void w.client.send(conversationId, text, { clientMsgId }).catch(() => {}),
    markRead: ({ conversationId, upToSeq }) => w.client.markRead(conversationId, upToSeq),
    stream: ({ conversationId, clientMsgId }) => void w.client.stream(conversationId, "", { clientMsgId }).then((it) => (stream = it)),
    write: ({ text }) => stream.write(text),
    end: () => void stream.end().catch(() => {}),
    list: () => {},
  };
  const last = (message) => message && [message.seq, contentOf(message).text ?? contentOf(message).type];
  const list = () => w.client.conversations().map(({ unread, unreadMentions, lastMessage }) => ({ unread: unread.count, mentions: unreadMentions, last: last(lastMessage) }));
  for (const [number, step] of steps.entries()) {
    await actions[step.do](step);
    await shortly();
    w.advance(1);
    const said = isConnected ? w.said() : [];
    for (const { event, ref } of said) refs[`of the newest ${event}`] = ref;
    const told = w.told.splice(0).flatMap((event) => TELLS[event.type]?.(event) ?? []);
    const listed = step.do === "list" ? { list: list() } : {};
    const then = { ...listed, says: said.map(says).sort((a, b) => (a.event < b.event ? -1 : a.event > b.event ? 1 : 0)), told };
    equal(sorted(then), sorted(step.then), `at step ${number}: ${step.do}`);
  }
  w.client.close();
}

/** Answer each SYNC of the next turns, with no more than `most` entries. Returns how many there were. */
async function serve(w, headSeq, { most = 200, turns = 10, epoch = "e" } = {}) {
  let count = 0;
  for (let turn = 0; turn < turns; turn += 1) {
    for (const { event, lastSeq, limit = 200, ref } of w.said()) {
      if (event !== "SYNC") continue;
      count += 1;
      const upToSeq = Math.min(headSeq, lastSeq + Math.min(limit, most));
      const messages = Array.from({ length: upToSeq - lastSeq }, (_, index) => ({ ...entry(lastSeq + index + 1), epoch }));
      w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch, headSeq, messages, upToSeq, more: upToSeq < headSeq, ref });
    }
    await shortly();
  }
  return count;
}

/** A client that has the newest 200 of 5,000 messages. */
async function longWorld() {
  const w = await world();
  await w.connect(heads(5_000));
  await serve(w, 5_000);
  return w;
}

/** The first and last seq that is here, and how many there are. */
const extent = (messages) => [messages[0]?.seq, messages.at(-1)?.seq, messages.length];

export const tests = {
  ...Object.fromEntries(vectors.map(({ name, steps }) => [`vector: ${name}`, () => follow(steps)])),

  async "edits, reactions and replies are sent as messages are, and show on the message they name"() {
    const w = await world();
    await w.connect(heads(0));
    w.socket().says(push(1));
    const [theirs] = w.client.conversation("c-1").messages;
    equal(w.client.conversation("c-1").lastMessage.seq, 1);
    w.client.send("c-1", "yes", { replyTo: theirs }).catch(() => {});
    w.client.react(theirs, "👍").catch(() => {});
    w.client.edit({ ...theirs, seq: 2 }, "no").catch(() => {});
    equal(w.said().filter(({ event }) => event === "SEND_MSG").map(({ payload }) => payload), [
      { type: "TEXT", text: "yes", replyTo: { messageId: "m-1", seq: 1 } },
      { type: "REACTION", messageId: "m-1", seq: 1, reaction: "👍" },
      { type: "EDIT", messageId: "m-1", seq: 2, payload: { type: "TEXT", text: "no" } },
    ]);
    const named = { messageId: "m-1", seq: 1 };
    w.socket().says(
      { ...push(2), payload: { type: "EDIT", ...named, payload: { type: "TEXT", text: "better" } } },
      { ...push(3), payload: { type: "REACTION", ...named, reaction: "👍" } },
    );
    const conversation = w.client.conversation("c-1");
    equal(conversation.messages.map((message) => [message.seq, message.payload.text, contentOf(message).text, message.marks?.reactions]), [
      [1, "t1", "better", [{ reaction: "👍", count: 1, userIds: ["u-2"] }]],
    ]);
    equal([conversation.lastMessage.seq, conversation.unread.count], [1, 1]);
    w.socket().says({ ...push(4), payload: { type: "TITLE", title: "Tea" } });
    equal([conversation.lastMessage.seq, conversation.messages.at(-1).seq, conversation.title], [1, 4, "Tea"], "a new title is no message");
    w.socket().says({ ...push(5), payload: { type: "RECALL", ...named, by: "u-2", edits: [2] } });
    equal(JSON.stringify([...conversation.timeline.entries.values()]).includes("better"), false, "nothing of the words is left");
    equal(conversation.messages.map(({ payload, marks }) => [payload.type, marks]), [["RECALLED", undefined], ["TITLE", undefined]]);
  },

  async "an own message is a promise, an event, and in the list"() {
    const w = await world();
    const sent = w.client.send("c-1", "hello");
    equal(w.client.pending().map(({ payload, state }) => [payload.text, state]), [["hello", "SENDING"]]);
    await w.connect(heads(0));
    const [{ clientMsgId }] = w.said();
    w.socket().says({ event: "MSG_ACK", conversationId: "c-1", epoch: "e", clientMsgId, messageId: "m-1", seq: 1, serverTs: 9, status: "SENT" });
    equal(await sent, { conversationId: "c-1", clientMsgId, messageId: "m-1", seq: 1, serverTs: 9 });
    const [conversation] = w.client.conversations();
    equal([conversation.lastMessage.payload.text, conversation.activityTs, conversation.stateOf(1)], ["hello", 9, "SENT"]);
    equal([w.client.pending(), w.told.map(({ type }) => type)], [[], ["caughtup", "sent"]]);
  },

  async "the list is by activity, with the last message and what is unread"() {
    const w = await world();
    const other = { ...heads(0).conversations[0], conversationId: "c-2" };
    await w.connect({ event: "HEADS", conversations: [...heads(0).conversations, other], more: false });
    w.socket().says(push(1), { ...push(1), conversationId: "c-2", serverTs: 5 });
    equal(w.client.conversations().map(({ id, lastMessage, unread }) => [id, lastMessage.payload.text, unread.count]), [["c-2", "t1", 1], ["c-1", "t1", 1]]);
    w.client.markRead("c-2");
    equal(w.client.conversation("c-2").unread, { count: 0, more: false });
  },

  async "events can be iterated over, by several, and end with the client"() {
    const w = await world();
    const read = async () => {
      const seen = [];
      for await (const event of w.client.events()) if (event.type === "message") seen.push(event.message.seq);
      return seen;
    };
    const readers = [read(), read()];
    const left = w.client.events();
    await w.connect(heads(0));
    w.socket().says(push(1), push(2));
    equal([(await left.next()).value.type, (await left.return()).done, (await left.next()).done], ["status", true, true]);
    w.client.close();
    equal([await Promise.all(readers), (await w.client.events().next()).done], [[[1, 2], [1, 2]], true]);
  },

  async "a stream that nobody reads drops its events and says so"() {
    const w = await world();
    const stream = w.client.events();
    await w.connect(heads(0));
    for (let seq = 1; seq <= 10_001; seq += 1) w.socket().says(push(seq));
    equal((await stream.next()).value, { type: "overflow" });
    equal((await stream.next()).value.message.seq > 9_990, true);
  },

  async "of a streamed message the newest text waits for a slow reader, and crowds out nothing"() {
    const w = await world();
    const stream = w.client.events();
    await w.connect(heads(0));
    w.socket().says({ ...push(1), payload: { type: "STREAM", text: "" } });
    const part = { event: "STREAM_PART", conversationId: "c-1", epoch: "e", messageId: "m-1", seq: 1, text: "a" };
    for (let number = 1; number <= 10_001; number += 1) w.socket().says({ ...part, part: number });
    w.socket().says(push(2));
    w.client.close();
    const told = [];
    for await (const event of stream) if (event.type !== "status") told.push([event.type, event.parts ?? event.message?.seq]);
    equal(told, [["caughtup", undefined], ["message", 1], ["streamgrew", 10_001], ["message", 2]]);
  },

  async "`change` comes once a turn"() {
    const w = await world();
    await w.connect(heads(0));
    let count = 0;
    w.client.addEventListener("change", () => (count += 1));
    w.socket().says(push(1), push(2), push(3));
    await Promise.resolve(); // names may come later, and are a change of their own
    equal(count, 1);
  },

  async "waiting can be given up, the message is sent all the same"() {
    const w = await world();
    const giveUp = new AbortController();
    const sent = w.client.send("c-1", "hello", { signal: giveUp.signal });
    giveUp.abort(new Error("enough"));
    equal((await rejects(sent)).message, "enough");
    await w.connect(heads(0));
    equal(w.said().map(({ event }) => event), ["SEND_MSG"]);
  },

  async "history fetches what is not here, and gives what is here while offline"() {
    const w = await world();
    await w.connect({ ...heads(0), conversations: [{ ...heads(120).conversations[0], deliveredSeq: 120 }] });
    const answer = (from, to, more) => {
      const { ref } = w.said().findLast(({ event }) => event === "SYNC");
      const messages = Array.from({ length: to - from + 1 }, (_, index) => entry(from + index));
      w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 120, messages, upToSeq: to, more, ref });
    };
    answer(71, 120, false);
    equal((await w.client.history("c-1", { limit: 2 })).map(({ seq }) => seq), [119, 120]);
    const older = w.client.history("c-1", { beforeSeq: 71, limit: 3 });
    await shortly();
    answer(1, 70, true);
    equal((await older).map(({ seq }) => seq), [68, 69, 70]);
    equal((await rejects(w.client.history("c-none"))).code, "NOT_FOUND");
    w.socket().breaks(1006);
    equal((await w.client.history("c-1", { limit: 1_000 })).length, 120);
  },

  async "a token function is asked when a token is needed, and again after one was refused"() {
    const tokens = [];
    const w = await world({ token: async () => tokens[tokens.push(`t-${tokens.length}`) - 1] });
    w.socket().opens();
    equal(w.socket().sent[0].token, "t-0");
    w.socket().breaks(4101);
    equal(w.client.status.state, "waiting");
    w.advance(1_000);
    await shortly();
    w.socket().opens();
    equal(w.socket().sent[0].token, "t-1");
    w.socket().says(WELCOME, { event: "TOKEN_EXPIRING", expiresTs: 1 });
    await shortly();
    equal(w.socket().sent.at(-1), { event: "AUTH_REFRESH", token: "t-2" });
  },

  async "what is no token is said at once, and a function that fails is asked again"() {
    for (const token of [5, "", undefined, {}]) {
      if (token === undefined) new ChatClient({ token, ports: clock().ports }); // cookies
      else equal(refusal(() => new ChatClient({ token, ports: clock().ports })).code, "CONFIGURATION");
    }
    let count = 0;
    const w = await world({ token: () => ((count += 1) <= 2 ? Promise.reject(new Error("no network")) : "t-3") });
    await shortly();
    equal([w.client.status.state, w.client.status.reason], ["waiting", "no token: The token function failed: no network"]);
    w.advance(1_000);
    await shortly();
    w.socket().opens();
    equal(w.socket().sent[0].token, "t-3");
  },

  async "a token function that gives nothing is asked again, at the start and later, and the app is told"() {
    const given = ["", null, undefined, 5, " \n", '"quoted"', {}];
    const asked = [...given];
    const { ports, advance, waits } = clock();
    const told = [];
    const client = new ChatClient({ url: "http://chat.test/", token: () => asked.shift() ?? (asked.length > 0 ? null : " t-1\n"), store: new MemoryStore(), ports, WebSocket: class extends EventTarget {} });
    client.addEventListener("error", ({ detail }) => told.push([detail.error.code, detail.error.retryable, client.status.state, client.status.error === detail.error]));
    let isStarted = false;
    const starting = client.start().then(() => (isStarted = true));
    while (!isStarted) {
      await shortly();
      if (waits().length > 0 && client.status.state === "waiting") advance(20_000);
    }
    await starting;
    equal(told, given.map(() => ["NO_TOKEN", true, "waiting", true]));
    equal(client.status.state, "connecting");
    equal((await rejects(new ChatClient({ token: () => "", ports }).request("GET", "/v1/blocks"))).message, "The token function gave an empty text, and must give a text");
  },

  async "a token function that gives nothing later costs a wait, and nothing else"() {
    const tokens = ["t-1", "", "t-2"];
    const w = await world({ token: () => tokens.shift() });
    await w.connect(heads(0));
    w.socket().breaks(4101);
    w.advance(1_000);
    await shortly();
    equal([w.client.status.state, w.client.status.error?.code, w.told.at(-1).error.code], ["waiting", "NO_TOKEN", "NO_TOKEN"]);
    w.advance(2_000);
    await shortly();
    w.socket().opens();
    equal(w.socket().sent[0].token, "t-2");
  },

  async "requests stay below /v1 with their login"() {
    const w = await world();
    for (const path of ["https://elsewhere.example/v1/", "//elsewhere.example/v1/x", "/healthz"]) {
      equal((await rejects(w.client.request("GET", path))).code, "BAD_REQUEST");
    }
    equal(await w.client.request("GET", "/v1/conversations/c-1"), { memberIds: ["u-1", "u-2"] });
  },

  async "a fixed token that is refused is the end until there is another one"() {
    const w = await world();
    w.socket().opens();
    w.socket().breaks(4101);
    equal(w.client.status.state, "loggedOut");
    w.client.renew("t-2");
    w.socket().opens();
    equal(w.socket().sent[0].token, "t-2");
  },

  async "a server that calls the user otherwise is not believed"() {
    const w = await world();
    w.client.send("c-1", "for u-1 only").catch(() => {});
    w.socket().opens();
    w.socket().says({ ...WELCOME, userId: "u-9" });
    equal([w.client.status.state, w.client.me, w.said()], ["refused", "u-1", []]);
  },

  async "where nobody says who this is, the first one who is welcomed is, and nobody else gets what they wrote"() {
    const w = await world({ token: null, userId: undefined });
    await w.connect(heads(0));
    w.socket().breaks(1006);
    w.client.send("c-1", "for u-1 only").catch(() => {});
    await shortly();
    w.advance(1_000);
    w.socket().opens();
    w.socket().says({ ...WELCOME, userId: "u-9" }, heads(0));
    equal([w.client.status.state, w.client.me, w.said()], ["refused", "u-1", []]);
  },

  async "where nobody says who this is, a store is left alone: what it has may be somebody else's"() {
    const store = Object.assign(new MemoryStore(), { open: () => Promise.reject(new Error("it was opened")) });
    const w = await world({ token: null, userId: undefined, store });
    equal([w.told, w.client.keeps, w.client.status.state], [[], false, "connecting"]);
  },

  async "what is sent before the start is over is answered by the end, and kept nowhere"() {
    const kept = [];
    const store = Object.assign(new MemoryStore(), { addPending: (send) => kept.push(send) });
    for (const token of ["t", () => new Promise(() => {})]) {
      const client = new ChatClient({ url: "http://chat.test/", token, deviceId: "phone", store, ports: clock().ports });
      const message = { conversationId: "c-1", messageId: "m-1", seq: 1 };
      const asked = [client.send("c-1", "hello"), client.stream("c-1"), client.edit(message, "better"), client.react(message, "👍")].map(rejects);
      client.close();
      equal((await Promise.all(asked)).map(({ code }) => code), ["CLOSED", "CLOSED", "CLOSED", "CLOSED"]);
      await shortly();
      equal([kept, client.pending()], [[], []]);
    }
  },

  async "who is refused or closes while the connection tells how it is stays so, and nothing runs on"() {
    const w = await world();
    w.socket().opens();
    w.socket().says({ ...WELCOME, userId: "u-9" });
    equal([w.client.status.state, w.waits()], ["refused", []]);
    w.advance(600_000);
    equal([w.client.status.state, w.sockets.length], ["refused", 1]);

    for (const state of ["connecting", "online", "waiting"]) {
      const w = await world();
      if (state === "connecting") w.socket().breaks(1006);
      w.client.addEventListener("status", ({ detail }) => detail.status.state === state && w.client.close());
      if (state === "connecting") w.client.reconnect();
      else await w.connect(heads(0));
      w.socket().breaks(1006);
      equal([w.client.status.state, w.waits()], ["stopped", []], `closed while ${state}`);
      const { length } = w.socket().sent;
      w.socket().opens();
      equal(w.socket().sent.length, length, `closed while ${state}`);
    }
  },

  async "reconnecting while the connection tells that it waits makes one"() {
    const w = await world();
    w.client.addEventListener("status", ({ detail }) => detail.status.state === "waiting" && w.client.reconnect());
    w.socket().breaks(1006);
    await w.connect(heads(0));
    w.advance(10_000);
    equal([w.client.status.state, w.sockets.length], ["online", 2]);
  },

  async "a new token given while it connects is what counts, however far that has come"() {
    const early = await world();
    early.client.renew("t-2");
    early.socket().opens();
    equal(early.socket().sent.map(({ token }) => token), ["t-2"]);

    const refused = await world();
    refused.socket().opens();
    refused.client.renew("t-2");
    refused.socket().breaks(4101);
    equal(refused.client.status.state, "waiting");
    refused.advance(1_000);
    refused.socket().opens();
    equal(refused.socket().sent.map(({ token }) => token), ["t-2"]);
    refused.socket().breaks(4101);
    equal(refused.client.status.state, "loggedOut", "this one was shown");

    const taken = await world();
    taken.socket().opens();
    taken.client.renew("t-2");
    taken.socket().says(WELCOME);
    equal(taken.socket().sent.map(({ event, token }) => [event, token]), [["HELLO", "t"], ["AUTH_REFRESH", "t-2"]]);
  },

  async "a token that comes late opens nothing that was closed, or that another tab took over"() {
    for (const end of [(w) => w.client.close(), (w) => w.socket().breaks(4201)]) {
      const given = ["t-1"];
      let give;
      const w = await world({ token: () => given.pop() ?? new Promise((resolve) => (give = resolve)) });
      await w.connect(heads(0), { event: "TOKEN_EXPIRING", expiresTs: 1 });
      end(w);
      const { state } = w.client.status;
      give("t-2");
      await shortly();
      equal([w.client.status.state, w.sockets.length], [state, 1]);
    }
  },

  async "a token that comes while there is no connection is shown to the next one"() {
    const given = ["t-1"];
    let give;
    const w = await world({ token: () => given.pop() ?? new Promise((resolve) => (give = resolve)) });
    await w.connect(heads(0), { event: "TOKEN_EXPIRING", expiresTs: 1 });
    w.socket().breaks(1006);
    give("t-2");
    await shortly();
    equal([w.client.status.state, w.sockets.length], ["waiting", 1]);
    await w.connect(heads(0));
    equal(w.socket().sent.map(({ event, resumeToken, token }) => [event, resumeToken ?? token]), [["HELLO", "r-1"], ["AUTH_REFRESH", "t-2"]]);
  },

  async "a new token takes nothing back from another tab, and a closed client stays closed whatever is asked"() {
    const w = await world();
    await w.connect(heads(0));
    w.socket().breaks(4201);
    w.client.renew("t-2");
    equal([w.client.status.state, w.sockets.length], ["replaced", 1]);
    w.client.close();
    w.client.renew("t-3");
    w.client.reconnect();
    equal([w.client.status.state, w.sockets.length], ["stopped", 1]);
  },

  async "closing when the beginning tells what is wrong ends it"() {
    const store = Object.assign(new MemoryStore(), { open: () => Promise.reject(new Error("denied")) });
    const WebSocket = class extends EventTarget {
      close() {}
    };
    for (const [token, userId] of [["t", "u-1"], [() => "", undefined]]) {
      const client = new ChatClient({ url: "http://chat.test/", token, userId, deviceId: "phone", store, ports: clock().ports, WebSocket });
      client.addEventListener("error", () => client.close());
      await client.start();
      equal(client.status.state === "connecting", false);
    }
  },

  async "a closed client answers whoever waits, and takes nothing more"() {
    const w = await world();
    const sent = w.client.send("c-1", "hello");
    w.client.close();
    w.client.close();
    equal([(await rejects(sent)).code, (await rejects(w.client.send("c-1", "more"))).code], ["CLOSED", "CLOSED"]);
  },

  async "a store that does not open is said, and all works in memory"() {
    const broken = { open: () => Promise.reject(new Error("denied")), close: () => {} };
    const w = await world({ store: broken });
    equal([w.told.map(({ error }) => error.code), w.client.keeps], [["STORAGE"], false]);
    await w.connect(heads(0));
    w.socket().says(push(1));
    equal(w.client.conversation("c-1").messages.length, 1);
  },

  async "what a store kept is shown before the server answers, and what it refused is kept with the next"() {
    const store = { open: () => ({ pending: [], conversations: [] }), saved: [], isFull: false };
    Object.assign(store, { addPending() {}, removePending() {}, forget() {}, close() {} });
    store.save = async (changes) => {
      if (store.isFull) throw new Error("full");
      store.saved.push(...structuredClone(changes));
    };
    const w = await world({ store });
    await w.connect(heads(0));
    store.isFull = true;
    w.socket().says(push(1));
    await shortly();
    store.isFull = false;
    w.socket().says(push(2));
    await shortly();
    const { record, put, forgetAbove } = store.saved.findLast((change) => change.put.length > 0); // names may come later
    equal([put.map(({ seq }) => seq), forgetAbove, record.upTo, w.told.filter(({ type }) => type === "error").length], [[1, 2], 0, 2, 1]);
    const next = await world({ store: { ...store, open: () => ({ pending: [], conversations: [{ record, messages: put }] }) } });
    equal([next.client.conversation("c-1").messages.map(({ seq }) => seq), next.client.conversations().length], [[1, 2], 1]);
    await next.connect(heads(3));
    equal(next.said().map(({ lastSeq }) => lastSeq).filter((seq) => seq !== undefined), [2]);
  },

  async "a past that came in several pages is all there after a reload"() {
    const store = new KeepingStore();
    const w = await world({ store });
    await w.connect({ ...heads(0), conversations: [{ ...heads(300).conversations[0], deliveredSeq: 300 }] });
    await serve(w, 300);
    w.client.focus("c-1");
    await serve(w, 300, { most: 60 });
    equal(extent(w.client.conversation("c-1").messages), [101, 300, 200]);
    w.client.close();
    const next = await world({ store });
    equal(extent(next.client.conversation("c-1").messages), [101, 300, 200]);
  },

  async "nothing is kept after `forget`, though a save was under way, another was due, and the app closes the client too"() {
    for (const alsoCloses of [false, true]) {
      const store = new KeepingStore();
      const w = await world({ store });
      await w.connect(heads(0));
      w.socket().says(push(1)); // the save of HEADS is under way
      const forgotten = w.client.forget();
      if (alsoCloses) w.client.close();
      await forgotten;
      await aWhile();
      equal(store.open().conversations, []);
      equal(refusal(() => w.client.start()).code, "CLOSED");
    }
  },

  async "nothing is kept after `forget`, though names arrived that were to be saved together with others"() {
    let answerFirst;
    const first = new Promise((resolve) => (answerFirst = resolve));
    const answers = { "c-1": first, "c-2": new Promise(() => {}) };
    const fetch = async (url) => answers[`${url}`.slice(-3)] ?? Response.json({ conversations: [], nextCursor: null });
    const store = new KeepingStore();
    const w = await world({ store, fetch });
    const [row] = heads(0).conversations;
    await w.connect({ event: "HEADS", conversations: [row, { ...row, conversationId: "c-2" }], more: false });
    await aWhile();
    answerFirst(Response.json({ memberIds: ["u-1", "u-2"] }));
    await eventually(() => w.client.conversation("c-1").memberIds !== null);
    await w.client.forget();
    await aWhile();
    equal(store.open().conversations, []);
  },

  async "a client whose store cannot forget says so, and is closed"() {
    const store = Object.assign(new KeepingStore(), { forget: () => Promise.reject(new Error("denied")) });
    const w = await world({ store });
    equal((await rejects(w.client.forget())).message, "denied");
    equal(refusal(() => w.client.start()).code, "CLOSED");
  },

  async "history goes back to the beginning of a log that does not fit into memory, and asks for each part once"() {
    const w = await longWorld();
    const sizes = [];
    let beforeSeq;
    do {
      let page = null;
      w.client.history("c-1", { beforeSeq, limit: 1_000 }).then((messages) => (page = messages));
      const count = await serve(w, 5_000);
      equal(extent(page), [beforeSeq ? beforeSeq - 1_000 : 4_001, beforeSeq ? beforeSeq - 1 : 5_000, 1_000]);
      sizes.push([count, w.client.conversation("c-1").messages.length]);
      beforeSeq = page[0].seq;
    } while (beforeSeq > 1);
    equal(sizes, [[5, 1_200], [5, 2_000], [5, 2_000], [5, 2_000], [5, 2_000]]);
    equal(await w.client.history("c-1", { beforeSeq: 1 }), []);
  },

  async "history far back is read without what is between, as it reads now"() {
    const w = await longWorld();
    let page = null;
    w.client.history("c-1", { beforeSeq: 101, limit: 3 }).then((messages) => (page = messages));
    await shortly();
    const named = { messageId: "m-99", seq: 99 };
    w.socket().says(
      { ...push(5_001), payload: { type: "REACTION", ...named, reaction: "👍" } },
      { ...push(5_002), payload: { type: "RECALL", messageId: "m-98", seq: 98, by: "u-2" } },
    );
    equal(await serve(w, 5_000), 1);
    equal(page.map(({ seq, payload, marks }) => [seq, payload.type, marks?.reactions.length]), [[98, "RECALLED", undefined], [99, "TEXT", 1], [100, "TEXT", undefined]]);
    equal(extent(w.client.conversation("c-1").messages), [4_801, 5_000, 200]);
  },

  async "history far back ends with the connection, and with a refusal"() {
    const w = await longWorld();
    const refused = w.client.history("c-1", { beforeSeq: 101 });
    await shortly();
    w.socket().says({ event: "ERROR", code: "FORBIDDEN", message: "no", retryable: false, ref: w.said().find(({ event }) => event === "SYNC").ref });
    equal((await rejects(refused)).code, "FORBIDDEN");
    const cut = w.client.history("c-1", { beforeSeq: 101 });
    await shortly();
    w.socket().breaks(1006);
    equal(await cut, []);
  },

  async "history far back begins anew where the log is another one"() {
    const w = await longWorld();
    let page = null;
    w.client.history("c-1", { beforeSeq: 101, limit: 2 }).then((messages) => (page = messages));
    await serve(w, 5_000, { epoch: "f" });
    equal(page.map(({ seq, epoch }) => [seq, epoch]), [[99, "f"], [100, "f"]]);
    equal(w.client.conversation("c-1").timeline.epoch, "f");
  },
};
