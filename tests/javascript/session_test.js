import { Session } from "../../src/chatkit/web/client/session.js";
import { clock, equal, refusal as refused, rejects } from "./check.js";

const WELCOME = { userId: "ann", serverTs: 5_000, limits: { payloadBytes: 65536 } };

/** A session on a fake connection and a fake clock: what it sent is in `sent`, what it told the app in `told`. */
function world() {
  const made = { ...clock(), sent: [], told: [], restarts: 0, stored: [] };
  made.connection = {
    online: false,
    send(event) {
      if (this.online) made.sent.push(event);
      return this.online;
    },
    restart: () => (made.restarts += 1),
  };
  made.session = new Session({
    ...made.ports,
    connection: made.connection,
    api: {
      conversations: async () => [],
      conversation: async () => ({ memberIds: ["ann", "ben"] }),
      receipts: async () => [],
      createConversation: async () => ({ conversationId: "c", type: "SINGLE", epoch: "e", headSeq: 1, memberIds: ["ann", "ben"] }),
    },
    store: { save: (changes) => void made.stored.push(...changes), addPending: () => {}, removePending: () => {} },
    emit: (type, detail) => made.told.push({ type, ...detail }),
    changed: () => {},
    tokenExpiring: () => {},
  });
  made.events = (name) => made.sent.filter((event) => event.event === name);
  made.tells = (...types) => made.told.filter(({ type }) => types.includes(type));
  made.take = (...events) => events.forEach((event) => made.session.onEvent(event));
  made.online = (...rows) => {
    made.connection.online = true;
    made.session.onState({ state: "online", welcome: WELCOME });
    made.take({ event: "HEADS", conversations: rows, more: false });
  };
  made.offline = () => {
    made.connection.online = false;
    made.session.onState({ state: "waiting", untilMs: 0 });
  };
  made.page = (upToSeq, messages, fields = {}) => {
    const { ref, conversationId } = made.events("SYNC").at(-1);
    made.take({ event: "SYNC_PAGE", ref, conversationId, epoch: "e", headSeq: upToSeq, messages, upToSeq, more: false, ...fields });
  };
  made.send = (conversationId, text) => made.session.send(conversationId, text, `k-${(made.count = (made.count ?? 0) + 1)}`).catch(() => {});
  made.sent_texts = () => made.events("SEND_MSG").map((event) => event.payload.text);
  made.texts = (id = "c") => made.session.conversations.get(id).timeline.shown("ann").map((entry) => entry.payload.text);
  return made;
}

const row = (headSeq, fields = {}) => ({
  conversationId: "c", type: "SINGLE", epoch: "e", headSeq, firstSeq: 1, deliveredSeq: 0, readSeq: 0,
  othersDeliveredSeq: 0, othersReadSeq: 0, ...fields,
});
const entry = (seq, fields = {}) => ({
  conversationId: "c", epoch: "e", messageId: `m-${seq}`, seq, senderId: "ben", serverTs: seq, payload: { type: "TEXT", text: `t${seq}` }, ...fields,
});
const push = (seq, fields) => ({ event: "NEW_MSG", ...entry(seq, fields) });
const ack = (clientMsgId, seq) => ({ event: "MSG_ACK", conversationId: "c", epoch: "e", messageId: `m-${seq}`, seq, serverTs: seq, clientMsgId });
const refusal = (clientMsgId, fields) => ({ event: "ERROR", code: "OVERLOADED", message: "full", retryable: true, conversationId: "c", clientMsgId, ...fields });

/** A page that sent "a" and "b" and had both refused for now. */
function twoRefused() {
  const w = world();
  w.online(row(0));
  for (const text of ["a", "b"]) w.send("c", text);
  const [a, b] = w.events("SEND_MSG");
  w.take(refusal(a.clientMsgId, { retryAfterMs: 400 }), refusal(b.clientMsgId, { retryAfterMs: 400 }));
  return { w, a, b };
}

export const tests = {
  "what HEADS says is missing is pulled, confirmed once held, and read only when told"() {
    const w = world();
    w.online(row(2));
    equal(w.events("SYNC").map((event) => event.lastSeq), [0]);
    w.advance(50);
    equal(w.events("DELIVERED_ACK"), []);
    w.page(2, [entry(1), entry(2)]);
    w.advance(50);
    equal(w.events("DELIVERED_ACK").map((event) => event.upToSeq), [2]);
    equal([w.texts(), w.events("READ")], [["t1", "t2"], []]);
    w.session.select("c");
    w.session.markRead("c");
    w.session.markRead("c");
    equal(w.events("READ").map((event) => event.upToSeq), [2]);
  },

  "SYNCs go side by side, four times as many with each round of quick pages, the open conversation first"() {
    const w = world();
    w.session.focusId = "z";
    w.online(...["x", "y", "z"].map((conversationId) => row(1, { conversationId })));
    equal(w.events("SYNC").length, 1);
    w.page(1, [entry(1, { conversationId: "x" })]);
    equal(w.events("SYNC").map((event) => event.conversationId), ["x", "z", "y"]);
  },

  "no more than 48 are under way, of each conversation one, in the order of the heads"() {
    const w = world();
    const ids = Array.from({ length: 200 }, (_, number) => `c-${number}`);
    w.online(...ids.map((conversationId) => row(1, { conversationId })));
    const sizes = [];
    for (let answered = 0; answered < ids.length; ) {
      const asked = w.events("SYNC").slice(answered);
      sizes.push(asked.length);
      answered += asked.length;
      for (const { ref, conversationId } of asked) {
        w.take({ event: "SYNC_PAGE", ref, conversationId, epoch: "e", headSeq: 1, messages: [entry(1, { conversationId })], upToSeq: 1, more: false });
      }
    }
    equal(sizes, [1, 4, 16, 48, 48, 48, 35]);
    equal(w.events("SYNC").map((event) => event.conversationId), ids);
  },

  "a page that took long halves what is under way, and a refusal leaves one"() {
    const w = world();
    const ids = Array.from({ length: 60 }, (_, number) => `c-${number}`);
    w.online(...ids.map((conversationId) => row(1, { conversationId })));
    const answer = ({ ref, conversationId }) =>
      w.take({ event: "SYNC_PAGE", ref, conversationId, epoch: "e", headSeq: 1, messages: [entry(1, { conversationId })], upToSeq: 1, more: false });
    answer(w.events("SYNC")[0]);
    equal(w.events("SYNC").length, 5);
    w.advance(3_000);
    for (const event of w.events("SYNC").slice(1)) answer(event);
    equal(w.events("SYNC").length, 6);
    answer(w.events("SYNC")[5]);
    equal(w.events("SYNC").length, 10);
    w.take({ event: "ERROR", code: "OVERLOADED", message: "busy", retryable: true, ref: w.events("SYNC")[6].ref });
    for (const event of w.events("SYNC").slice(7, 9)) w.take({ event: "ERROR", code: "OVERLOADED", message: "busy", retryable: true, ref: event.ref });
    equal(w.events("SYNC").length, 10);
  },

  "a SYNC without an answer breaks the connection"() {
    const w = world();
    w.online(row(1));
    w.advance(60_000);
    equal(w.restarts, 1);
  },

  "a hole waits a little, then is pulled; a push in time spares that"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1)]);
    w.take(push(3), push(2));
    w.advance(200);
    equal([w.events("SYNC").length, w.texts()], [1, ["t1", "t2", "t3"]]);
    w.take(push(6));
    w.advance(200);
    equal([w.events("SYNC").at(-1).lastSeq, w.texts().length], [3, 3]);
    w.page(6, [entry(4), entry(5), entry(6)]);
    equal(w.texts(), ["t1", "t2", "t3", "t4", "t5", "t6"]);
  },

  "pages go on until nothing is missing"() {
    const w = world();
    w.online(row(150, { deliveredSeq: 0 }));
    w.page(90, [], { headSeq: 150, more: true });
    equal(w.events("SYNC").at(-1).lastSeq, 90);
    w.page(150, []);
    w.advance(50);
    equal(w.events("DELIVERED_ACK").map((event) => event.upToSeq), [150]);
  },

  "a push of an unknown conversation means joined: everything is pulled"() {
    const w = world();
    w.online();
    w.take(push(4));
    equal(w.events("SYNC").map((event) => [event.conversationId, event.lastSeq]), [["c", 0]]);
  },

  "a push before HEADS does not make the whole log be pulled"() {
    const w = world();
    w.connection.online = true;
    w.session.onState({ state: "online", welcome: WELCOME });
    w.take(push(1_000));
    equal(w.events("SYNC"), []);
    w.take({ event: "HEADS", conversations: [row(1_000, { deliveredSeq: 990 })], more: false });
    equal(w.events("SYNC").map((event) => event.lastSeq), [950]);
  },

  "BEHIND is pulled at once"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1)]);
    w.take({ event: "BEHIND", conversationId: "c", epoch: "e", headSeq: 9 });
    equal(w.events("SYNC").at(-1).lastSeq, 1);
  },

  "a live event of another epoch asks first; the page says which log it is"() {
    const w = world();
    w.online(row(2));
    w.page(2, [entry(1), entry(2)]);
    const stale = push(9, { epoch: "d", payload: { type: "TEXT", text: "old" } });
    w.take(stale, { event: "BEHIND", conversationId: "c", epoch: "d", headSeq: 9 });
    equal([w.events("SYNC").length, w.events("SYNC").at(-1).lastSeq, w.texts()], [2, 2, ["t1", "t2"]]);
    w.page(2, []);
    w.page(2, []);
    equal([w.events("SYNC").length, w.texts()], [3, ["t1", "t2"]]);
    w.take(push(1, { epoch: "f" }));
    w.page(1, [], { epoch: "f" });
    equal([w.events("SYNC").at(-1).lastSeq, w.texts()], [0, ["t1", "t2"]]);
    w.page(1, [entry(1, { epoch: "f", messageId: "f-1", payload: { type: "TEXT", text: "new" } })], { epoch: "f" });
    equal(w.texts(), ["new"]);
  },

  "a log put back from a backup: what both have stays, what it lacks goes, what is new comes"() {
    const w = world();
    w.session.focusId = "c";
    w.online(row(4));
    w.page(4, [entry(1), entry(2), entry(3), entry(4)]);
    w.session.markRead("c");
    w.offline();
    w.online(row(3, { epoch: "g" }));
    equal([w.events("SYNC").at(-1).lastSeq, w.texts()], [0, ["t1", "t2", "t3", "t4"]]);
    const [t1, t2] = [entry(1, { epoch: "g" }), entry(2, { epoch: "g" })];
    w.page(3, [t1, t2, entry(3, { epoch: "g", messageId: "g-3", payload: { type: "TEXT", text: "new" } })], { epoch: "g" });
    equal([w.texts(), w.events("READ").map((event) => event.upToSeq)], [["t1", "t2", "new"], [4, 2]]);
    equal(w.session.conversations.get("c").unread.count, 1);
    w.advance(50);
    equal(w.events("DELIVERED_ACK").at(-1).upToSeq, 3);
  },

  "a log that ends below what is held was put back, whatever its epoch says"() {
    const w = world();
    w.online(row(3));
    w.page(3, [entry(1), entry(2), entry(3)]);
    w.offline();
    w.online(row(2));
    w.page(2, [entry(1), entry(2)]);
    equal(w.texts(), ["t1", "t2"]);
    w.take(push(3, { messageId: "other", payload: { type: "TEXT", text: "other" } }));
    equal(w.texts(), ["t1", "t2", "other"]);
  },

  "a long log is compared from its end down; where nothing is the same, all of it goes"() {
    const w = world();
    w.online(row(90));
    const entries = (from, to, fields) => Array.from({ length: to - from + 1 }, (_, index) => entry(from + index, fields));
    const { timeline } = w.session.conversations.get("c");
    w.page(90, entries(41, 90));
    for (let seq = 91; seq <= 120; seq += 1) w.take(push(seq));
    for (const fields of [{}, { messageId: "of another log" }]) {
      w.offline();
      w.online(row(120, { epoch: fields.messageId ?? "g" }));
      equal(w.events("SYNC").at(-1).lastSeq, 70);
      for (const lastSeq of fields.messageId ? [20, 0, 70] : []) {
        w.page(120, entries(71, 120, fields), { epoch: fields.messageId });
        equal(w.events("SYNC").at(-1).lastSeq, lastSeq);
      }
      w.page(120, entries(71, 120, fields), { epoch: fields.messageId ?? "g" });
      const [first] = timeline.shown();
      equal([first.seq, timeline.shown().at(-1).seq], [fields.messageId ? 71 : 41, 120]);
    }
  },

  "a log that ends far below what is held is compared at its end"() {
    const w = world();
    w.online(row(90, { deliveredSeq: 90 }));
    w.page(90, Array.from({ length: 50 }, (_, index) => entry(41 + index)));
    for (let seq = 91; seq <= 120; seq += 1) w.take(push(seq));
    w.offline();
    w.online(row(60, { epoch: "g" }));
    equal(w.events("SYNC").at(-1).lastSeq, 10);
    w.page(60, Array.from({ length: 20 }, (_, index) => entry(41 + index)), { epoch: "g" });
    equal([w.texts().length, w.texts().at(-1)], [20, "t60"]);
  },

  "nothing that was known of the log before counts above what both have"() {
    const w = world();
    w.online(row(4));
    w.page(4, [1, 2, 3, 4].map((seq) => entry(seq)));
    w.take(push(6, { payload: { type: "RECALL", seq: 5 } }));
    w.offline();
    w.online(row(4, { epoch: "g" }));
    w.page(4, [1, 2, 3, 4].map((seq) => entry(seq, { epoch: "g" })), { epoch: "g" });
    w.take(push(5, { epoch: "g", messageId: "g-5", payload: { type: "TEXT", text: "fresh" } }));
    equal(w.texts(), ["t1", "t2", "t3", "t4", "fresh"]);
  },

  "a third log that comes before the second was compared is compared with what is held of the first"() {
    const w = world();
    w.online(row(2));
    w.page(2, [entry(1), entry(2)]);
    for (const epoch of ["g", "h"]) {
      w.offline();
      w.online(row(2, { epoch }));
    }
    equal(w.texts(), ["t1", "t2"]);
    w.page(2, [entry(1), entry(2, { messageId: "h-2", payload: { type: "TEXT", text: "new" } })], { epoch: "h" });
    equal([w.texts(), w.tells("epoch")], [["t1", "new"], [{ type: "epoch", conversationId: "c", epoch: "h", keptSeq: 1 }]]);
    equal(w.tells("message").map(({ message }) => message.messageId), ["m-1", "m-2", "h-2"], "what both have is not told again");
  },

  "a page that ends below where it was asked to begin shows that the log was put back"() {
    const w = world();
    w.online(row(3));
    w.page(3, [entry(1), entry(2), entry(3)]);
    w.take({ event: "BEHIND", conversationId: "c", epoch: "e", headSeq: 5 });
    w.page(3, [], { headSeq: 2 });
    equal(w.events("SYNC").at(-1).lastSeq, 0);
    w.page(2, [entry(1), entry(2)]);
    equal(w.texts(), ["t1", "t2"]);
  },

  "a log that is shorter than anything held starts afresh near its end"() {
    const w = world();
    w.online(row(200, { deliveredSeq: 200 }));
    w.page(200, [entry(160)]);
    w.offline();
    w.online(row(100, { epoch: "g" }));
    equal([w.events("SYNC").at(-1).lastSeq, w.texts()], [50, []]);
  },

  "a text waits while offline and leaves in order under its own key"() {
    const w = world();
    w.online(row(0));
    w.offline();
    for (const text of ["a", "b"]) w.send("c", text);
    w.online(row(0));
    const [a, b] = w.events("SEND_MSG");
    equal([a.payload.text, b.payload.text], ["a", "b"]);
    w.take(ack(a.clientMsgId, 1), ack(b.clientMsgId, 2), ack(a.clientMsgId, 1));
    equal([w.texts(), w.session.outbox.list().length], [["a", "b"], 0]);
  },

  "an entry in a page resolves what a cut left open"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const { clientMsgId, payload } = w.events("SEND_MSG")[0];
    w.offline();
    w.online(row(1));
    w.page(1, [entry(1, { senderId: "ann", clientMsgId, payload })]);
    equal([w.texts(), w.session.outbox.list().length], [["a"], 0]);
  },

  "after a retryable refusal the refused one goes first and the rest follow"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a, b] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a, { retryAfterMs: 400 }), refusal(b, { retryAfterMs: 400 }));
    w.send("c", "late");
    equal(w.events("SEND_MSG").length, 2);
    w.advance(500);
    equal(w.events("SEND_MSG").slice(2).map((event) => event.payload.text), ["a", "b", "late"]);
    w.take(ack(a, 1));
    w.send("c", "after");
    equal(w.events("SEND_MSG").at(-1).payload.text, "after");
  },

  "a message written between the repetition and its answer is sent"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const [{ clientMsgId }] = w.events("SEND_MSG");
    w.take(refusal(clientMsgId, { retryAfterMs: 400 }));
    w.advance(500);
    w.send("c", "b");
    w.take(ack(clientMsgId, 1));
    w.send("c", "c");
    equal(w.events("SEND_MSG").map((event) => event.payload.text), ["a", "a", "b", "c"]);
  },

  "a final refusal after one for now lets the rest go"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a, b] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a, { retryAfterMs: 400 }), refusal(b, { retryAfterMs: 400 }));
    w.advance(500);
    w.take(refusal(a, { code: "FORBIDDEN", message: "no", retryable: false }));
    w.send("c", "late");
    w.take(ack(b, 1));
    w.send("c", "later");
    equal(w.events("SEND_MSG").map((event) => event.payload.text), ["a", "b", "a", "b", "late", "later"]);
  },

  "a paused conversation waits for every answer under way, and other conversations do not wait for it"() {
    const w = world();
    w.online(row(0), row(0, { conversationId: "d" }));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a, b] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a, { retryAfterMs: 400 }));
    w.advance(500);
    w.send("d", "elsewhere");
    equal(w.events("SEND_MSG").map((event) => event.payload.text), ["a", "b", "elsewhere"]);
    w.take(refusal(b, { retryAfterMs: 800 }));
    w.advance(1_000);
    equal(w.events("SEND_MSG").slice(3).map((event) => event.payload.text), ["a", "b"]);
  },

  "the longest wait asked for counts, and refusals in a row make it longer"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a, b] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a, { retryAfterMs: 800 }), refusal(b, { retryAfterMs: 400 }));
    const waits = () => w.waits().filter((delayMs) => delayMs > 0 && delayMs < 20_000);
    equal(waits(), [1_000]);
    w.advance(1_000);
    w.take(refusal(a), refusal(b));
    equal(waits(), [500]);
    w.advance(500);
    w.take(refusal(a, { retryAfterMs: 0 }), refusal(b));
    equal(waits(), [1_000]);
  },

  "what was refused for now and then shown by the log is sent once more, for the server refuses the rest until then"() {
    const { w, a, b } = twoRefused();
    w.take(push(1, { senderId: "ann", clientMsgId: a.clientMsgId, payload: a.payload }));
    equal(w.session.outbox.list("c").map((item) => item.payload.text), ["b"]);
    w.send("c", "late");
    w.advance(500);
    equal(w.sent_texts().slice(2), ["a", "b", "late"]);
    w.take(ack(a.clientMsgId, 1), ack(b.clientMsgId, 2));
    w.send("c", "after");
    equal([w.sent_texts().slice(5), w.texts(), w.restarts], [["after"], ["a", "b"], 0]);
  },

  "the log may show a message before its refusal comes; it is sent again, in its old place"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const [a] = w.events("SEND_MSG");
    w.take(push(1, { senderId: "ann", clientMsgId: a.clientMsgId, payload: a.payload }));
    w.take(refusal(a.clientMsgId, { retryAfterMs: 400 }));
    w.send("c", "b");
    equal(w.sent_texts(), ["a"]);
    w.advance(500);
    equal(w.sent_texts(), ["a", "a", "b"]);
    w.take(refusal(a.clientMsgId, { code: "INTERNAL", retryable: false }), ack(w.events("SEND_MSG")[2].clientMsgId, 2));
    equal([w.tells("error"), w.session.outbox.list().length, w.texts()], [[], 0, ["a", "b"]]);
  },

  "what the log has shown is not sent to the next connection, whose server awaits nothing"() {
    const { w, a, b } = twoRefused();
    w.take(push(1, { senderId: "ann", clientMsgId: a.clientMsgId, payload: a.payload }));
    w.offline();
    w.online(row(1));
    w.advance(500);
    equal(w.sent_texts(), ["a", "b", "b"]);
  },

  "what the log shows that this connection neither sent nor was refused is not sent at all"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const [a] = w.events("SEND_MSG");
    w.take(refusal(a.clientMsgId, { retryAfterMs: 400 }));
    w.send("c", "from an earlier connection");
    const { clientMsgId, payload } = w.session.outbox.list("c")[1];
    w.take(push(1, { senderId: "ann", clientMsgId, payload }));
    w.advance(500);
    equal(w.sent_texts(), ["a", "a"]);
  },

  "what was refused, and shown by the log when nothing else waits, is sent once more all the same"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const [a] = w.events("SEND_MSG");
    w.take(refusal(a.clientMsgId, { retryAfterMs: 400 }));
    w.take(push(1, { senderId: "ann", clientMsgId: a.clientMsgId, payload: a.payload }));
    w.advance(500);
    w.send("c", "b");
    equal(w.sent_texts(), ["a", "a", "b"]);
  },

  "what was refused by the connection before is not awaited by this one"() {
    const { w, a, b } = twoRefused();
    w.offline();
    w.online(row(1));
    w.page(1, [entry(1, { senderId: "ann", clientMsgId: a.clientMsgId, payload: a.payload })]);
    w.advance(500);
    equal(w.sent_texts(), ["a", "b", "b"]);
  },

  "the log may show the later of two that were refused; they go again in order, and the last one alone too"() {
    const { w, a, b } = twoRefused();
    w.take(push(2, { senderId: "ann", clientMsgId: b.clientMsgId, payload: b.payload }));
    w.advance(500);
    equal(w.sent_texts().slice(2), ["a", "b"]);
    w.take(ack(a.clientMsgId, 1), refusal(b.clientMsgId, { retryAfterMs: 400 }));
    w.advance(500);
    equal(w.sent_texts().slice(4), ["b"]);
  },

  "an answer for good starts the count of refusals anew"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a, b] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a), refusal(b));
    w.advance(250);
    w.take(ack(a, 1), refusal(b));
    w.advance(250);
    equal(w.sent_texts(), ["a", "b", "a", "b", "b"]);
  },

  "while the line is looked at nothing is taken for lost"() {
    const w = world();
    w.online(row(1));
    w.send("c", "a");
    w.session.onState({ state: "checking" });
    w.send("c", "b");
    w.session.onState({ state: "online" });
    w.page(1, [entry(1)]);
    equal([w.sent_texts(), w.texts(), w.session.status.state], [["a", "b"], ["t1"], "online"]);
  },

  "no more than a window of messages is under way"() {
    const w = world();
    w.online(row(0));
    for (let count = 0; count < 300; count += 1) w.send("c", `${count}`);
    equal(w.sent_texts().length, 256);
    w.take(ack(w.events("SEND_MSG")[0].clientMsgId, 1));
    equal(w.sent_texts().at(-1), "256");
  },

  "who was too fast goes on one by one, at the pace that the server asked for"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b", "c"]) w.send("c", text);
    const tooFast = (id) => refusal(id, { code: "RATE_LIMITED", retryAfterMs: 1_600 });
    const id = (place) => w.events("SEND_MSG")[place].clientMsgId;
    w.take(tooFast(id(0)), tooFast(id(1)), tooFast(id(2)));
    w.advance(2_000);
    equal(w.sent_texts().slice(3), ["a"]);
    w.take(ack(id(3), 1));
    equal(w.sent_texts().slice(4), []);
    w.advance(1_600);
    equal(w.sent_texts().slice(4), ["b"]);
    w.take(tooFast(id(4)));
    w.advance(2_000);
    equal(w.sent_texts().slice(5), ["b"]);
    w.advance(3_200);
    equal(w.sent_texts().slice(6), ["c"]);
    w.take(ack(id(5), 2));
    for (const text of ["d", "e"]) w.send("c", text);
    w.advance(3_200);
    equal(w.sent_texts().slice(7), ["d"]);
    w.advance(2_880);
    equal(w.sent_texts().slice(8), ["e"]);
    w.take(ack(id(6), 3), ack(id(7), 4), ack(id(8), 5));
    for (const text of ["f", "g"]) w.send("c", text);
    equal(w.sent_texts().slice(9), ["f", "g"]);
    w.take(refusal(id(9), { code: "RATE_LIMITED", retryAfterMs: 60_000 }), tooFast(id(10)));
    w.advance(75_000);
    w.advance(10_000);
    equal(w.sent_texts().slice(11), ["f", "g"]);
  },

  "a pause outlives a reconnect; then all goes in order"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    const [a] = w.events("SEND_MSG").map((event) => event.clientMsgId);
    w.take(refusal(a, { retryAfterMs: 400 }));
    w.offline();
    w.online(row(0));
    equal(w.events("SEND_MSG").length, 2);
    w.advance(500);
    equal(w.events("SEND_MSG").slice(2).map((event) => event.payload.text), ["a", "b"]);
  },

  "a message without any answer breaks the connection; an answered one does not"() {
    const w = world();
    w.online(row(0));
    for (const text of ["a", "b"]) w.send("c", text);
    w.take(ack(w.events("SEND_MSG")[0].clientMsgId, 1));
    w.advance(60_000);
    equal(w.restarts, 1);
  },

  "refused cursors are said again later, without a word to the user"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1)]);
    w.session.select("c");
    w.advance(50);
    w.session.markRead("c");
    const shed = { event: "ERROR", code: "OVERLOADED", message: "shed", retryable: true, retryAfterMs: 1_000, conversationId: "c" };
    for (const name of ["DELIVERED_ACK", "READ"]) {
      const { ref } = w.events(name)[0];
      w.take({ ...shed, ref }, { ...shed, ref });
    }
    w.take(push(2));
    w.advance(50);
    w.advance(1_250);
    equal(w.events("DELIVERED_ACK").map((event) => event.upToSeq), [1, 2, 2]);
    equal([w.events("READ").map((event) => event.upToSeq), w.tells("error")], [[1, 1], []]);
    w.take({ ...shed, ref: w.events("READ")[0].ref, retryable: false, code: "NOT_FOUND" });
    w.advance(1_250);
    equal([w.events("READ").length, w.tells("error")], [2, []]);
  },

  "a refused cursor is not said again on the next connection, which has HEADS for that"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1)]);
    w.advance(50);
    const [{ ref }] = w.events("DELIVERED_ACK");
    w.take({ event: "ERROR", code: "OVERLOADED", message: "shed", retryable: true, retryAfterMs: 1_000, conversationId: "c", ref });
    w.offline();
    w.online(row(1, { deliveredSeq: 1 }));
    w.advance(50);
    w.advance(1_250);
    equal(w.events("DELIVERED_ACK").length, 1);
  },

  "a push of a conversation that was left means joined again; an old acknowledgement does not"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1)]);
    w.take({ event: "CONVERSATION", conversationId: "c", type: "GROUP", change: "LEFT" }, ack("gone", 1));
    const conversation = w.session.conversations.get("c");
    equal([conversation.left, w.events("SYNC").length], [true, 1]);
    w.take(push(5));
    equal([conversation.left, w.events("SYNC").at(-1).lastSeq, w.events("SYNC").length], [false, 1, 2]);
    w.page(5, [entry(4), entry(5)]);
    equal(w.texts(), ["t1", "t4", "t5"]);
  },

  "the log kept in the tab is bounded; older entries are loaded again"() {
    const w = world();
    w.online(row(0));
    w.session.select("c");
    for (let seq = 1; seq <= 2_100; seq += 1) w.take(push(seq));
    const { timeline } = w.session.conversations.get("c");
    equal([timeline.entries.size, timeline.floor, timeline.hasOlder], [2_000, 100, true]);
    w.session.viewing(false);
    w.session.logs.puller.wantOlder("c", 200);
    equal(w.events("SYNC").at(-1), { ...w.events("SYNC").at(-1), lastSeq: 0, limit: 100 });
    w.page(100, Array.from({ length: 100 }, (_, index) => entry(index + 1)), { headSeq: 2_100, more: true });
    w.take(push(2_101));
    equal([timeline.entries.size, timeline.floor], [2_101, 0]);
    w.session.viewing(true);
    equal([timeline.entries.size, timeline.floor], [2_000, 101]);
  },

  "what waits is shown before the server ever answered"() {
    const w = world();
    const kept = { conversationId: "d", clientMsgId: "k", payload: { type: "TEXT", text: "kept" }, sizeBytes: 20, order: 1, atMs: 1 };
    w.session.restore("ann", { pending: [kept], conversations: [] });
    w.session.focusId = "c";
    w.offline();
    equal([w.session.unreached, [...w.session.conversations.keys()]], [true, ["c", "d"]]);
    w.send("c", "more");
    w.online(row(0));
    equal([w.session.unreached, w.session.conversations.get("d").left], [false, true]);
    equal(w.events("SEND_MSG").map((event) => event.payload.text), ["kept", "more"]);
  },

  "a final refusal is said, kept for the user, and not repeated"() {
    const w = world();
    w.online(row(0));
    w.send("c", "a");
    const [{ clientMsgId }] = w.events("SEND_MSG");
    w.take(refusal(clientMsgId, { code: "FORBIDDEN", message: "no", retryable: false }));
    w.offline();
    w.online(row(0));
    equal([w.events("SEND_MSG").length, w.tells("failed").map(({ error }) => error.message), w.session.outbox.list("c").length], [1, ["no"], 1]);
    w.session.cancel("c", clientMsgId);
    equal(w.session.outbox.list().length, 0);
  },

  "what the server must refuse is neither kept nor sent"() {
    const w = world();
    w.online(row(0));
    equal(refused(() => w.session.send("c", "a\0", "k")).code, "BAD_REQUEST");
    equal([w.events("SEND_MSG"), w.session.outbox.list()], [[], []]);
  },

  async "a recall is matched by its ref; its refusal is said"() {
    const w = world();
    w.online(row(1));
    w.page(1, [entry(1, { senderId: "ann" })]);
    const [target] = w.session.conversations.get("c").timeline.shown();
    const recalled = w.session.recall(target.messageId);
    const { ref } = w.events("RECALL")[0];
    w.take({ ...ack(undefined, 2), ref });
    equal(w.session.conversations.get("c").timeline.shown().map((one) => one.payload.type), ["RECALLED", "RECALL"]);
    equal([(await recalled).seq, w.tells("recalled").map(({ seq }) => seq)], [2, [1]]);
    const late = w.session.recall(target.messageId);
    w.take({ event: "ERROR", code: "RECALL_WINDOW_PASSED", message: "x", retryable: false, ref: w.events("RECALL")[1].ref });
    equal((await rejects(late)).code, "RECALL_WINDOW_PASSED");
  },

  "a conversation absent from HEADS was left; a READ lost in a cut is said again"() {
    const w = world();
    w.session.focusId = "c";
    w.online(row(1), row(1, { conversationId: "d" }));
    w.page(1, [entry(1)]);
    w.session.markRead("c");
    w.offline();
    w.online(row(1));
    equal(w.session.conversations.get("d").left, true);
    equal(w.events("READ").map((event) => event.upToSeq), [1, 1]);
  },

  "receipts move ticks and, from one's other devices, what is unread"() {
    const w = world();
    w.online(row(2));
    w.page(2, [entry(1), entry(2)]);
    const conversation = w.session.conversations.get("c");
    equal(conversation.unread.count, 2);
    w.take({ event: "RECEIPT", conversationId: "c", userId: "ann", deliveredSeq: 2, readSeq: 1 });
    w.take({ event: "RECEIPT", conversationId: "c", userId: "ben", deliveredSeq: 2, readSeq: 1 });
    equal([conversation.unread.count, conversation.stateOf(1), conversation.stateOf(2)], [1, "READ", "DELIVERED"]);
  },

  "what was deleted for good goes, by the word of a page or of HEADS"() {
    const w = world();
    w.online(row(6));
    w.page(6, [1, 2, 3, 4, 5, 6].map((seq) => entry(seq)));
    w.take({ event: "BEHIND", conversationId: "c", epoch: "e", headSeq: 7 });
    w.page(7, [entry(7)], { floorSeq: 2 });
    equal(w.texts(), ["t3", "t4", "t5", "t6", "t7"]);
    w.offline();
    w.online(row(7, { firstSeq: 5 }));
    equal([w.texts(), w.session.conversations.get("c").hasOlder], [["t5", "t6", "t7"], false]);
    equal([w.stored.at(-1).record.floor, w.stored.at(-1).record.firstSeq], [4, 5]);
  },

  "events of a newer server are ignored"() {
    const w = world();
    w.online(row(0));
    w.take({ event: "PRESENCE", userId: "ben", online: true }, { event: "REACTION_OF_TOMORROW" });
    equal(w.tells("error"), []);
  },

  async "a conversation made over HTTP is pulled"() {
    const w = world();
    w.online();
    const { id } = await w.session.create({ type: "SINGLE", memberIds: ["ben"] });
    equal([id, w.events("SYNC").map((event) => event.lastSeq)], ["c", [0]]);
  },
};
