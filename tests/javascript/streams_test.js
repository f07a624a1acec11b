// Streamed messages: watched as they grow, over holes and cuts, and written over bad lines.

import { contentOf, isCutOff, isOpen } from "../../src/chatkit/web/client/chatkit.js";
import { OPEN_MAX, OpenStreams } from "../../src/chatkit/web/client/open_streams.js";
import { equal, rejects } from "./check.js";
import { entry, heads, push, shortly, world } from "./client_world.js";

const place = { conversationId: "c-1", epoch: "e", messageId: "m-1", seq: 1 };
const begin = (text = "") => ({ ...push(1), payload: { type: "STREAM", text } });
const part = (number, text) => ({ event: "STREAM_PART", ...place, part: number, text });
const ending = (seq, ends, text) => ({ ...push(seq), payload: { type: "EDIT", messageId: "m-1", seq: 1, ends, payload: { type: "TEXT", text } } });

/** A reader with one open stream. */
async function reading(text) {
  const w = await world();
  w.client.addEventListener("streamgrew", ({ detail }) => w.told.push(detail));
  w.grown = () => w.told.splice(0).filter(({ type }) => type === "streamgrew").map(({ seq, parts, text: whole }) => [seq, parts, whole]);
  w.message = () => w.client.conversation("c-1").messages[0];
  w.asked = () => w.said().filter(({ event }) => event === "SYNC").map(({ lastSeq, limit, history, ref }) => ({ lastSeq, limit, history, ref }));
  w.page = (ref, fields) => w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 1, upToSeq: 1, more: false, ref, messages: [{ ...entry(1), payload: begin(text).payload, ...fields }] });
  await w.connect(heads(0));
  w.socket().says(begin(text));
  w.said();
  return w;
}

/** A writer whose stream has begun, and what it said since. */
async function writing(options = {}) {
  const w = await world();
  await w.connect(heads(0));
  const starting = w.client.stream("c-1", "To", options);
  await shortly();
  const [{ clientMsgId, payload }] = w.said().filter(({ event }) => event === "SEND_MSG");
  w.begun = { clientMsgId, payload };
  w.socket().says({ event: "MSG_ACK", ...place, clientMsgId, serverTs: 1, status: "SENT" });
  w.stream = await starting;
  await shortly();
  w.parts = async () => {
    await shortly();
    return (w.asked = w.said().filter(({ event }) => event === "STREAM_PART")).map(({ part: number, text }) => [number, text]);
  };
  w.ack = (number) => w.socket().says({ event: "STREAM_ACK", conversationId: "c-1", messageId: "m-1", seq: 1, part: number, ref: w.asked.at(-1).ref });
  w.refuse = (code, fields = {}) => w.socket().says({ event: "ERROR", code, message: "no", retryable: false, ref: w.asked.at(-1).ref, ...fields });
  w.ends = async () => {
    await shortly();
    return w.said().filter(({ event }) => event === "SEND_MSG").map(({ clientMsgId: key, payload: end }) => [key, end.ends, end.payload.text]);
  };
  return w;
}

export const tests = {
  async "a reader sees it grow, and then whole"() {
    const w = await reading("To");
    equal([contentOf(w.message()).text, isOpen(w.message())], ["To", true]);
    equal(w.client.conversation("c-1").unread.count, 1);
    w.socket().says(part(1, " be"), part(1, " be"), part(2, " or"));
    equal(w.grown(), [[1, 1, "To be"], [1, 2, "To be or"]]);
    equal([contentOf(w.message()), w.message().payload.text], [{ type: "STREAM", text: "To be or" }, "To"]);
    equal(contentOf(w.client.conversation("c-1").lastMessage).text, "To be or");
    w.socket().says({ ...push(2), payload: { type: "REACTION", messageId: "m-1", seq: 1, reaction: "👍" } });
    equal([isOpen(w.message()), contentOf(w.message()).text, w.message().marks.reactions.length], [true, "To be or", 1]);
    w.told.splice(0);
    w.socket().says(ending(3, "WHOLE", "To be or not"), part(3, " late"));
    equal(w.told.splice(0).map(({ type, edit }) => [type, edit?.ends, edit?.payload.text]), [["edited", "WHOLE", "To be or not"]]);
    equal([isOpen(w.message()), isCutOff(w.message()), contentOf(w.message()).text], [false, false, "To be or not"]);
    w.socket().says(ending(4, "CUT_OFF", "To be"));
    equal(isCutOff(w.message()), true);
  },

  async "after a hole it is asked for, and the page has everything"() {
    const w = await reading("");
    w.socket().says(part(2, "b"), part(3, "c"));
    const [asked, ...more] = w.asked();
    equal([asked.lastSeq, asked.limit, asked.history, more, w.grown()], [0, 1, true, [], []]);
    w.page(asked.ref, { stream: { parts: 3, text: "abc" } });
    equal([w.grown(), contentOf(w.message()).text], [[[1, 3, "abc"]], "abc"]);
    w.socket().says(part(3, "c"), part(4, "d"));
    equal(w.grown(), [[1, 4, "abcd"]]);
  },

  async "a part that comes before its message has a place has it asked for"() {
    const w = await world();
    await w.connect(heads(0));
    w.socket().says({ ...push(2), payload: { type: "STREAM", text: "a" } }, { ...part(1, "b"), messageId: "m-2", seq: 2 });
    w.said();
    w.socket().says(push(1));
    equal(w.said().filter(({ event }) => event === "SYNC").map(({ lastSeq, limit }) => [lastSeq, limit]), [[1, 1]]);
  },

  async "each connection asks for what is open, until it is not, or nobody may see it"() {
    const w = await reading("a");
    const again = async (headSeq = 1) => {
      w.socket().breaks(1006);
      await w.connect(heads(headSeq));
      return w.asked();
    };
    const [asked] = await again();
    w.socket().says({ event: "ERROR", code: "OVERLOADED", message: "no", retryable: true, retryAfterMs: 400, ref: asked.ref });
    equal(w.asked(), []);
    w.advance(700);
    const [once] = w.asked();
    w.page(once.ref, { stream: { parts: 5, text: "abcde" } });
    equal([w.grown(), (await again()).length], [[[1, 5, "abcde"]], 1]);
    const [last] = await again();
    w.page(last.ref, {}); // it ended while nobody looked, and the EDIT is on its way
    equal([(await again()).length, w.grown()], [0, []]);
    w.socket().says({ ...push(2), payload: { type: "STREAM", text: "x" } });
    const [gone] = await again(2);
    w.socket().says({ event: "ERROR", code: "NOT_FOUND", message: "no", retryable: false, ref: gone.ref });
    equal(await again(2), []);
  },

  async "where the server dropped something it is asked for, also if only parts are missing"() {
    const w = await reading("a");
    const ones = () => w.asked().filter(({ limit }) => limit === 1);
    w.socket().says({ event: "BEHIND", conversationId: "c-1", epoch: "e", headSeq: 1 });
    for (const { ref, limit } of w.asked()) if (limit === undefined) w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 1, upToSeq: 1, more: false, ref, messages: [] });
    const [asked] = ones();
    w.page(asked.ref, { stream: { parts: 2, text: "abc" } });
    equal([w.grown(), ones()], [[[1, 2, "abc"]], []]);
    w.socket().says(heads(1));
    equal(ones().length, 1);
  },

  async "a page shows how far it is, and one that shows nothing of it says that it is not open"() {
    const w = await world();
    const grown = [];
    w.client.addEventListener("streamgrew", ({ detail }) => grown.push(detail.text));
    await w.connect(heads(2));
    const { ref } = w.said().find(({ event }) => event === "SYNC");
    const messages = [{ ...entry(1), payload: begin("a").payload, stream: { parts: 2, text: "abc" } }, { ...entry(2), payload: { type: "STREAM", text: "x" } }];
    w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 2, upToSeq: 2, more: false, ref, messages });
    const shown = w.client.conversation("c-1").messages;
    equal(shown.map((message) => [contentOf(message).text, isOpen(message)]), [["abc", true], ["x", false]]);
    w.socket().says(part(3, "d"));
    equal([grown, contentOf(w.client.conversation("c-1").messages[0]).text], [["abcd"], "abcd"]);
  },

  async "of a recalled stream nothing is left, and it takes no parts"() {
    const w = await reading("a");
    w.socket().says(part(1, "secret"));
    w.grown();
    w.socket().says({ ...push(2), payload: { type: "RECALL", messageId: "m-1", seq: 1, by: "u-2" } }, part(2, "more"));
    equal([w.message().payload.type, w.grown(), JSON.stringify(w.message()).includes("secret")], ["RECALLED", [], false]);
  },

  "so many streams are followed, and the oldest is let go"() {
    const asked = [];
    const streams = new OpenStreams((_, seq) => asked.push(seq));
    for (let seq = 1; seq <= OPEN_MAX + 1; seq += 1) streams.grew({ conversationId: "c", messageId: "m", seq, parts: 0, text: "" });
    streams.connected();
    equal([asked.length, asked[0]], [OPEN_MAX, 2]);
    streams.forget("c");
    streams.connected();
    equal(asked.length, OPEN_MAX);
  },

  async "whoever gives up before it begins leaves no empty message, if it never left"() {
    const w = await world();
    const giveUp = new AbortController();
    const starting = w.client.stream("c-1", "", { signal: giveUp.signal });
    await shortly();
    equal(w.client.pending().map(({ payload }) => payload.type), ["STREAM"]);
    giveUp.abort(new Error("enough"));
    equal([(await rejects(starting)).message, w.client.pending()], ["enough", []]);
    await w.connect(heads(0));
    equal(w.said().filter(({ event }) => event === "SEND_MSG"), []);
  },

  async "one part is under way, and what is written meanwhile is joined"() {
    const w = await writing({ fallbackText: "…" });
    equal(w.begun.payload, { type: "STREAM", text: "To", fallbackText: "…" });
    await w.stream.write(" be");
    await w.stream.write(" or");
    equal(await w.parts(), [[1, " be or"]]);
    await w.stream.write(" not");
    await w.stream.write(" to");
    equal(await w.parts().then((it) => it), []);
    w.asked = [{ ref: "ask:1" }];
    w.ack(1);
    equal([await w.parts(), w.stream.ackedParts, contentOf(w.client.conversation("c-1").messages[0]).text], [[[2, " not to"]], 1, "To be or"]);
    w.ack(2);
    const ended = w.stream.end();
    equal(await w.ends(), [[`${w.begun.clientMsgId}-end`, "WHOLE", "To be or not to"]]);
    w.socket().says({ event: "MSG_ACK", ...place, seq: 2, messageId: "m-2", clientMsgId: `${w.begun.clientMsgId}-end`, serverTs: 2, status: "SENT" });
    equal([(await ended).seq, (await w.stream.end()).seq, isOpen(w.client.conversation("c-1").messages[0])], [2, 2, false]);
    equal((await rejects(w.stream.write("more"))).code, "BAD_REQUEST");
  },

  async "what a cut took is sent again, under its number"() {
    const w = await writing();
    await w.stream.write("a");
    equal(await w.parts(), [[1, "a"]]);
    w.socket().breaks(1006);
    await w.stream.write("b");
    await w.connect(heads(1));
    equal(await w.parts(), [[1, "a"]]);
    w.ack(1);
    equal(await w.parts(), [[2, "b"]]);
    w.refuse("RATE_LIMITED", { retryable: true, retryAfterMs: 1_000 });
    equal(await w.parts(), []);
    w.advance(1_500);
    equal(await w.parts(), [[2, "b"]]);
  },

  async "a long text goes in parts that fit, and `write` waits for room"() {
    const w = await writing();
    let hasRoom = false;
    const written = w.stream.write("🎉".repeat(4_000)).then(() => (hasRoom = true));
    const whole = [];
    for (let number = 1; whole.join("").length < 8_000; number += 1) {
      const [[asked, text]] = await w.parts();
      equal([asked, new TextEncoder().encode(text).length <= 8_192, text.isWellFormed()], [number, true, true]);
      whole.push(text);
      if (number === 1) equal(hasRoom, false);
      w.ack(number);
    }
    await written;
    equal(whole.join(""), "🎉".repeat(4_000));
    equal((await rejects(w.stream.write("x".repeat(60_000)))).code, "TOO_LARGE");
    for (const wrong of ["\0", "\ud83d", 5, undefined]) equal((await rejects(w.stream.write(wrong))).code, "BAD_REQUEST");
    equal(w.stream.text, `To${"🎉".repeat(4_000)}`);
  },

  async "at most a part's worth is not acknowledged, also of what is under way"() {
    const w = await writing();
    await w.stream.write("x".repeat(8_000));
    await w.parts();
    let hasRoom = false;
    const written = w.stream.write("y".repeat(8_000)).then(() => (hasRoom = true));
    await shortly();
    equal(hasRoom, false);
    w.ack(1);
    await written;
    equal((await w.parts()).map(([number, text]) => [number, text.length]), [[2, 8_000]]);
  },

  async "what is cut off may be ended as a whole later: each has a key of its own"() {
    const w = await writing({ clientMsgId: "k" });
    w.stream.cutOff().catch(() => {});
    equal(await w.ends(), [["k-cut", "CUT_OFF", "To"]]);
    w.socket().says({ event: "MSG_ACK", ...place, seq: 2, messageId: "m-2", clientMsgId: "k-cut", serverTs: 2, status: "SENT" });
    const again = w.client.stream("c-1", "To", { clientMsgId: "k" });
    await shortly();
    w.said();
    w.socket().says({ event: "MSG_ACK", ...place, clientMsgId: "k", serverTs: 1, status: "SENT" });
    (await again).end("To be").catch(() => {});
    equal(await w.ends(), [["k-end", "WHOLE", "To be"]]);
  },

  async "an author who writes nothing says that they are there"() {
    const w = await writing();
    w.advance(19_000);
    equal(await w.parts(), []);
    w.advance(1_000);
    equal(await w.parts(), [[0, ""]]);
    w.ack(0);
    await shortly();
    w.advance(20_000);
    equal(await w.parts(), [[0, ""]]);
  },

  async "where parts find no way the end has all of it, and after a recall there is none"() {
    for (const code of ["FORBIDDEN", "STREAM_ENDED", "PART_OUT_OF_ORDER", "TOO_LARGE", "NOT_FOUND"]) {
      const w = await writing();
      await w.stream.write(" be");
      await w.parts();
      w.refuse(code);
      await shortly();
      await w.stream.write(" or not");
      w.stream.cutOff().catch(() => {});
      equal(await w.ends(), [[`${w.begun.clientMsgId}-cut`, "CUT_OFF", "To be or not"]], code);
    }
    const w = await writing();
    await w.stream.write(" be");
    await w.parts();
    w.refuse("STREAM_ENDED", { reason: "RECALLED" });
    await shortly();
    for (const call of [w.stream.write("x"), w.stream.end()]) equal((await rejects(call)).code, "STREAM_ENDED");
    equal([await w.stream.cutOff(), w.client.pending("c-1")], [null, []]);
  },

  async "an end that a recall was faster than is told to its caller, and nothing of it stays"() {
    for (const ending of ["end", "cutOff"]) {
      const w = await writing();
      const ended = w.stream[ending]();
      const caught = ending === "end" ? rejects(ended) : null;
      const [[clientMsgId]] = await w.ends();
      w.told.splice(0);
      w.socket().says({ event: "ERROR", code: "STREAM_ENDED", reason: "RECALLED", message: "no", retryable: false, conversationId: "c-1", clientMsgId });
      equal([(await caught)?.code, await w.stream.cutOff()], [caught ? "STREAM_ENDED" : undefined, null], ending);
      equal([w.client.pending("c-1"), w.told, caught ? null : await ended], [[], [], null], ending);
    }
  },

  async "one of an earlier try asks how far that came, and leaves the parts of it alone"() {
    const w = await writing({ clientMsgId: "k" });
    equal(await w.parts(), [[0, ""]]);
    await w.stream.write(" be");
    w.ack(7);
    equal(await w.parts(), []);
    w.stream.end("all of it").catch(() => {});
    equal(await w.ends(), [["k-end", "WHOLE", "all of it"]]);
    equal((await rejects(w.client.stream("c-1", "", { clientMsgId: "k".repeat(125) }))).code, "BAD_REQUEST");
  },

  async "an end that cannot be is not the end, and a client that closes ends the writing"() {
    const w = await writing();
    await w.stream.write(" be");
    equal(await w.parts(), [[1, " be"]]);
    await w.stream.write(" or");
    equal((await rejects(w.stream.end({ type: "TEXT", text: "x".repeat(70_000) }))).code, "TOO_LARGE");
    w.ack(1);
    equal(await w.parts(), [[2, " or"]]);
    await w.stream.write(" still");
    w.ack(2);
    equal(await w.parts(), [[3, " still"]]);
    w.ack(3);
    await shortly();
    w.advance(20_000);
    equal(await w.parts(), [[0, ""]]);
    w.client.close();
    await shortly();
    equal((await rejects(w.stream.write("x"))).code, "CLOSED");
  },
};
