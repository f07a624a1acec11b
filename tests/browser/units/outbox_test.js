import { Outbox, OutboxFullError, textProblem } from "/static/outbox.js";
import { equal, throws } from "./check.js";

const PREFIX = "unit:outbox:";
const payload = (text) => ({ type: "TEXT", text });

function empty() {
  sessionStorage.clear();
  return new Outbox(sessionStorage, PREFIX, 3);
}

export const tests = {
  "what is added is there after a reload, in order, with its key"() {
    const outbox = empty();
    for (const key of ["z", "a", "m"]) outbox.add("c", payload(key), key, 1);
    const again = new Outbox(sessionStorage, PREFIX);
    equal(again.pending().map((item) => [item.clientMsgId, item.payload.text]), [["z", "z"], ["a", "a"], ["m", "m"]]);
  },

  "what is resolved is gone, at once and after a reload; resolving twice is harmless"() {
    const outbox = empty();
    outbox.add("c", payload("x"), "x", 1);
    equal([outbox.resolve("x").clientMsgId, outbox.resolve("x")], ["x", undefined]);
    equal([outbox.of().length, new Outbox(sessionStorage, PREFIX).of().length, sessionStorage.length], [0, 0, 0]);
  },

  "order goes on after a reload"() {
    empty().add("c", payload("x"), "b", 1);
    const again = new Outbox(sessionStorage, PREFIX);
    equal(again.add("c", payload("y"), "a", 1).order, 2);
    equal(new Outbox(sessionStorage, PREFIX).of().map((item) => item.clientMsgId), ["b", "a"]);
  },

  "order rises although nothing waits meanwhile, so that a later message is never before an earlier one"() {
    const outbox = empty();
    const first = outbox.add("c", payload("x"), "x", 1);
    outbox.resolve("x");
    equal(outbox.add("c", payload("y"), "y", 1).order > first.order, true);
  },

  "a damaged row costs the others nothing and stays where it is"() {
    empty().add("c", payload("x"), "x", 1);
    for (const [key, text] of [["1", "{"], ["2", "null"], ["3", "{}"], ["4", '{"order":1,"payload":{}}']]) sessionStorage.setItem(PREFIX + key, text);
    const said = [];
    const { warn } = console;
    console.warn = (text) => said.push(text);
    const again = new Outbox(sessionStorage, PREFIX);
    console.warn = warn;
    equal([again.of().map((item) => item.clientMsgId), said.length, sessionStorage.length], [["x"], 4, 5]);
  },

  "a full outbox refuses and keeps nothing"() {
    const outbox = empty();
    for (const key of ["a", "b", "c"]) outbox.add("c", payload(key), key, 1);
    throws(() => outbox.add("c", payload("d"), "d", 1), OutboxFullError);
    equal([outbox.of().length, sessionStorage.length], [3, 3]);
  },

  "a storage that refuses is an error before anything is queued"() {
    const refusing = { length: 0, setItem: () => { throw new DOMException("full", "QuotaExceededError"); } };
    const outbox = new Outbox(refusing, PREFIX);
    throws(() => outbox.add("c", payload("x"), "x", 1), OutboxFullError);
    equal(outbox.of(), []);
  },

  "refused messages are shown but not sent again; conversations are apart; other users' keys are left alone"() {
    sessionStorage.clear();
    sessionStorage.setItem("other:key", "no JSON");
    const outbox = new Outbox(sessionStorage, PREFIX);
    outbox.add("c", payload("x"), "x", 1);
    outbox.add("d", payload("y"), "y", 1);
    outbox.fail("x", "no");
    equal([outbox.pending("c").length, outbox.of("c").length, outbox.pending("d").length], [0, 1, 1]);
  },

  "what the server must refuse is named"() {
    equal(textProblem("到了吗？ 👋🏽"), null);
    equal(["a\0b", "\ud800", "x".repeat(70000)].map((text) => textProblem(text) !== null), [true, true, true]);
    equal(textProblem("é".repeat(10), 20) !== null, true);
  },
};
