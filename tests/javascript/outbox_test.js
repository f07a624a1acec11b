import { Outbox } from "../../src/chatkit/web/client/outbox.js";
import { keyOf } from "../../src/chatkit/web/client/resend.js";
import { checkedPayload } from "../../src/chatkit/web/client/validate.js";
import { clock, equal, refusal, rejects } from "./check.js";

const sentAt = (seq) => ({ messageId: `m-${seq}`, seq, serverTs: seq });

/** An outbox on a fake line and a store whose writes end when told (`written`), or at once. */
function world({ slow = false } = {}) {
  const made = { ...clock(), sent: [], kept: new Map(), writes: [], failures: [], restarts: 0 };
  made.line = { online: true, send: (event) => made.sent.push(event) > 0, restart: () => (made.restarts += 1) };
  const write = (action) => (slow ? new Promise((resolve, reject) => made.writes.push({ resolve: () => resolve(action()), reject })) : action());
  made.outbox = new Outbox({
    ...made.ports,
    line: made.line,
    store: {
      addPending: (send) => write(() => void made.kept.set(keyOf(send), send)),
      removePending: (sends) => void sends.forEach((send) => made.kept.delete(keyOf(send))),
    },
    changed: () => {},
    storeFailed: (error) => made.failures.push(error),
  });
  made.submit = (clientMsgId, text = clientMsgId, conversationId = "c") =>
    made.outbox.submit({ conversationId, clientMsgId, ...checkedPayload(text), atMs: 1 });
  made.keys = () => made.sent.map((event) => event.clientMsgId);
  made.list = () => made.outbox.list().map(({ clientMsgId, state }) => `${clientMsgId} ${state}`);
  return made;
}

export const tests = {
  async "a message is sent once it is kept, and is shown before"() {
    const w = world({ slow: true });
    const sent = w.submit("a");
    w.submit("b");
    equal([w.keys(), w.list()], [[], ["a SENDING", "b SENDING"]]);
    w.writes[0].resolve();
    w.writes[1].resolve();
    await Promise.resolve().then().then();
    equal([w.keys(), [...w.kept.keys()]], [["a", "b"], ["c a", "c b"]]);
    w.outbox.resolve("c a", sentAt(1));
    equal([await sent, [...w.kept.keys()]], [{ conversationId: "c", clientMsgId: "a", ...sentAt(1) }, ["c b"]]);
  },

  async "what could not be kept is not sent, and whoever sent it hears so"() {
    const w = world({ slow: true });
    const sent = w.submit("a");
    w.writes[0].reject(new DOMException("full", "QuotaExceededError"));
    equal((await rejects(sent)).code, "STORAGE");
    equal([w.keys(), w.list()], [[], []]);
  },

  "what was kept goes out after a reload, in order, and the order goes on"() {
    const w = world();
    w.line.online = false;
    for (const key of ["z", "a", "m"]) w.submit(key);
    const again = world();
    again.outbox.restore([...w.kept.values()].reverse());
    again.outbox.connected();
    again.submit("late");
    equal(again.keys(), ["z", "a", "m", "late"]);
  },

  "one order that two pages gave is no reason to lose a message"() {
    const rows = ["late", "early"].map((key, number) => ({ conversationId: "c", clientMsgId: key, payload: { type: "TEXT", text: key }, sizeBytes: 20, order: 7, atMs: 9 - number }));
    const w = world();
    w.outbox.restore([...rows, { ...rows[0], clientMsgId: "last", order: 8 }]);
    w.outbox.connected();
    w.submit("new");
    equal([w.keys(), w.list().length], [["early", "late", "last", "new"], 4]);
  },

  "a damaged row costs the others nothing"() {
    const w = world();
    const { warn } = console;
    console.warn = () => {};
    w.outbox.restore([null, {}, { order: 1, payload: {} }, { conversationId: "c", clientMsgId: "x", payload: { type: "TEXT" }, order: 4, sizeBytes: 2 }]);
    console.warn = warn;
    equal(w.list(), ["x SENDING"]);
  },

  "a full outbox refuses and keeps nothing"() {
    const w = world();
    w.line.online = false;
    for (let count = 0; count < 1_000; count += 1) w.submit(`${count}`);
    equal([refusal(() => w.submit("more")).code, w.kept.size], ["QUEUE_FULL", 1_000]);
  },

  async "the same key with the same words is one message, with others a conflict"() {
    const w = world();
    const [first, second] = [w.submit("a"), w.submit("a")];
    equal(refusal(() => w.submit("a", "other")).code, "CONFLICT");
    equal([w.keys(), w.list()], [["a"], ["a SENDING"]]);
    w.outbox.resolve("c a", sentAt(1));
    equal([(await first).seq, (await second).seq], [1, 1]);
  },

  async "refused for good: said, shown until it is taken away, and not sent again"() {
    const w = world();
    const sent = w.submit("a");
    const error = Object.assign(new Error("no"), { code: "FORBIDDEN" });
    w.outbox.fail("c a", error);
    equal((await rejects(sent)).code, "FORBIDDEN");
    w.outbox.disconnected();
    w.outbox.connected();
    equal([w.keys(), w.list(), w.kept.size], [["a"], ["a FAILED"], 1]);
    equal([w.outbox.cancel("c a"), w.outbox.cancel("c a"), w.kept.size], ["CANCELLED", "UNKNOWN", 0]);
  },

  "of those refused for good the hundred newest are kept"() {
    const w = world();
    for (let count = 0; count < 102; count += 1) {
      w.submit(`${count}`);
      w.outbox.fail(`c ${count}`, new Error("no"));
    }
    equal([w.list().length, w.list()[0], w.kept.size], [100, "2 FAILED", 100]);
  },

  "what never left can be taken back, what left may be stored"() {
    const w = world();
    w.submit("a");
    w.line.online = false;
    w.submit("b");
    equal([w.outbox.cancel("c a"), w.outbox.cancel("c b"), w.list()], ["MAY_BE_SENT", "CANCELLED", ["a SENDING"]]);
  },

  async "what is held stays queued, is asked about after the time that the server named, and at each connection"() {
    const w = world();
    const sent = w.submit("a");
    equal(w.outbox.hold("c a", 10_000), true);
    equal([(await rejects(sent)).code, w.list()], ["HELD", ["a HELD"]]);
    w.submit("b");
    w.outbox.resolve("c b", sentAt(1));
    w.advance(12_400);
    equal(w.keys(), ["a", "b"]);
    w.advance(100);
    equal(w.keys(), ["a", "b", "a"]);
    equal(w.outbox.hold("c a", 10_000), false, "it was said before");
    w.outbox.disconnected();
    w.outbox.connected();
    equal(w.keys(), ["a", "b", "a", "a"]);
    w.outbox.resolve("c a", sentAt(2));
    equal([w.list(), w.kept.size], [[], 0]);
  },

  "a message without any answer for a minute breaks the connection; one that is held does not"() {
    const w = world();
    w.submit("a");
    w.submit("b");
    w.outbox.hold("c a", 300_000);
    w.outbox.resolve("c b", sentAt(1));
    w.advance(200_000);
    equal(w.restarts, 0);
    w.submit("d");
    w.advance(59_999);
    equal(w.restarts, 0);
    w.advance(1);
    equal(w.restarts, 1);
  },

  "what ends connection after connection goes alone, and after a while the others go first"() {
    const w = world();
    for (const key of ["a", "b"]) w.submit(key, key, key);
    for (let count = 0; count < 3; count += 1) {
      w.outbox.disconnected();
      w.outbox.connected();
    }
    equal(w.keys().slice(6), ["a"], "both are suspect, so one of them goes alone");
    w.outbox.disconnected();
    w.outbox.connected();
    equal(w.keys().slice(7), ["b"], "the one that was alone lets the others go first");
  },

  async "closing the client answers whoever waits; the message stays kept"() {
    const w = world();
    const sent = w.submit("a");
    w.outbox.release(Object.assign(new Error("closed"), { code: "CLOSED" }));
    equal([(await rejects(sent)).code, w.kept.size], ["CLOSED", 1]);
  },

  "what the server must refuse is named"() {
    const codes = ["a\0b", "\ud800", "x".repeat(70_000), { type: 5 }, { type: "TEXT" }, { type: "CUSTOM", data: 2 ** 60 }, { type: "CUSTOM", data: NaN }]
      .map((message) => refusal(() => checkedPayload(message)).code);
    equal(codes, ["BAD_REQUEST", "BAD_REQUEST", "TOO_LARGE", "BAD_REQUEST", "BAD_REQUEST", "BAD_REQUEST", "BAD_REQUEST"]);
    equal(checkedPayload("到了吗？ 👋🏽").payload, { type: "TEXT", text: "到了吗？ 👋🏽" });
    equal(refusal(() => checkedPayload("é".repeat(10), 20)).code, "TOO_LARGE");
  },
};
