// What a client asks of the server over HTTP: search, members, mutes, presence, and what a list shows of what is not held here.

import { SearchHit } from "../../src/chatkit/web/client/chatkit.js";
import { equal, rejects } from "./check.js";
import { entry, eventually, heads, push, WELCOME, world } from "./client_world.js";

const NO_LIST = { conversations: [], nextCursor: null };

/** A client whose server answers by path: with a value, or with what a function of the request gives. */
async function asked(answers, options = {}) {
  const requests = [];
  const fetch = async (url, { method, body }) => {
    const path = `${url}`.slice("http://chat.test".length);
    requests.push([method, path, ...(body === undefined ? [] : [JSON.parse(body)])]);
    const [, answer] = Object.entries(answers).find(([start]) => path.startsWith(start)) ?? [null, path.startsWith("/v1/conversations?") ? NO_LIST : { memberIds: [] }];
    const given = typeof answer === "function" ? await answer({ path, method }) : answer;
    return given === null ? new Response(null, { status: 204 }) : given instanceof Response ? given : Response.json(given);
  };
  const w = await world({ fetch, ...options });
  w.requests = (part) => requests.filter(([, path]) => path.includes(part));
  return w;
}

const row = (fields = {}) => ({ ...heads(120).conversations[0], title: "", unread: 0, lastActivityTs: 120, ...fields });
const listed = (...rows) => ({ "/v1/conversations?": { conversations: rows, nextCursor: null } });

export const tests = {
  async "search gives messages as they read now, with ranges as JavaScript counts"() {
    const found = { ...entry(7, "old"), edit: { seq: 9, serverTs: 9, payload: { type: "TEXT", text: "🎉 the 📦 parcel" } } };
    const w = await asked({ "/v1/search": { results: [{ message: found, field: "text", highlights: [[2, 5], [8, 14]], snippet: [2, 14] }], nextCursor: "c", upToDate: false } });
    const { hits, nextCursor, upToDate } = await w.client.search('"the" par*', { conversationId: "c-1", senderId: "u-2", after: new Date(5), before: 9, cursor: "b", limit: 1 });
    const [hit] = hits;
    equal([nextCursor, upToDate, hits.length, hit instanceof SearchHit], ["c", false, 1, true]);
    equal([hit.text, hit.message.seq, hit.message.marks.asOfSeq], ["🎉 the 📦 parcel", 7, 9]);
    equal(hit.highlights.map(([start, end]) => hit.text.slice(start, end)), ["the", "parcel"]);
    equal(hit.text.slice(...hit.snippet), "the 📦 parcel");
    const [[, path]] = w.requests("/v1/search");
    equal([...new URL(path, "http://x").searchParams], [["q", '"the" par*'], ["limit", "1"], ["conversationId", "c-1"], ["senderId", "u-2"], ["after", "5"], ["before", "9"], ["cursor", "b"]]);
    for (const call of [[5], [undefined], ["x", { conversationId: "../x" }], ["x", { after: "today" }], ["x", { before: new Date(NaN) }]]) {
      equal((await rejects(w.client.search(...call))).code, "BAD_REQUEST");
    }
  },

  async "members come in pages, with roles that this client knows"() {
    const members = [{ userId: "u-1", role: "CREATOR", memberRole: "OWNER", joinedSeq: 1 }, { userId: "u-2", role: "MEMBER", joinedSeq: 2, silencedUntil: 9 }, { userId: "u-3", memberRole: "KING", joinedSeq: 3 }];
    const w = await asked({ "/v1/conversations/c-1/members": { members, nextCursor: "u-3" } });
    const page = await w.client.members("c-1", { cursor: "u-0", limit: 3 });
    equal(page.members.map(({ userId, role, silencedUntil }) => [userId, role, silencedUntil]), [["u-1", "OWNER", 0], ["u-2", "MEMBER", 9], ["u-3", "MEMBER", 0]]);
    equal([page.nextCursor, w.requests("/members")[0][1]], ["u-3", "/v1/conversations/c-1/members?cursor=u-0&limit=3"]);
    equal((await rejects(w.client.members("../../devices"))).code, "BAD_REQUEST");
  },

  async "a mute shows at once, until when it ends"() {
    const w = await asked({ "/v1/conversations/c-1/mute": null });
    await w.connect(heads(0));
    const conversation = w.client.conversation("c-1");
    const seen = [];
    for (const [until, level] of [[new Date(5_000)], [6_000, "MENTIONS"], [undefined]]) {
      await w.client.mute("c-1", until, { level });
      seen.push(conversation.mutedUntil, conversation.notify);
    }
    await w.client.unmute("c-1");
    equal([...seen, conversation.mutedUntil, conversation.notify], [5_000, "NONE", 6_000, "MENTIONS", Number.MAX_SAFE_INTEGER, "NONE", 0, "ALL"]);
    const bodies = [[5_000, "NONE"], [6_000, "MENTIONS"], [null, "NONE"]].map(([until, level]) => ({ until, level }));
    equal(w.requests("/mute"), [...bodies.map((body) => ["PUT", "/v1/conversations/c-1/mute", body]), ["DELETE", "/v1/conversations/c-1/mute"]]);
    for (const wrong of [["tomorrow"], [5, { level: "ALL" }]]) equal((await rejects(w.client.mute("c-1", ...wrong))).code, "BAD_REQUEST");
  },

  async "who is online is asked, and whether oneself is away holds for later connections"() {
    const presence = [{ userId: "u-2", state: "OFFLINE", lastSeenTs: 5 }];
    const w = await asked({ "/v1/presence": { presence } });
    equal(await w.client.presence(["u-2", "u-3"]), presence);
    equal(w.requests("/v1/presence")[0][1], "/v1/presence?users=u-2,u-3");
    for (const wrong of [["u,2"], "u-2", undefined]) equal((await rejects(w.client.presence(wrong))).code, "BAD_REQUEST");
    w.client.setPresence("AWAY"); // not connected yet
    const states = () => w.said().filter(({ event }) => event === "PRESENCE").map(({ state }) => state);
    await w.connect(heads(0));
    w.client.setPresence("AWAY");
    equal(states(), ["AWAY"]);
    w.socket().says({ event: "ERROR", code: "FORBIDDEN", message: "off", retryable: false, ref: "presence" });
    w.client.setPresence("ONLINE");
    equal([states(), w.told.filter(({ type }) => type === "error")], [["ONLINE"], []]);
    w.socket().breaks(1006);
    await w.connect(heads(0));
    equal(states(), []);
  },

  async "a list shows what the server says of what is not held here, and what came since"() {
    const w = await asked(listed(row({ title: "Trip", unread: 60, lastMessage: { ...entry(40), senderId: "u-9" }, mutedUntil: 7 })));
    await w.connect({ event: "HEADS", more: false, conversations: [{ ...heads(120).conversations[0], deliveredSeq: 120 }] });
    const conversation = w.client.conversation("c-1");
    await eventually(() => conversation.preview);
    equal([conversation.title, conversation.lastMessage.seq, conversation.unread, conversation.mutedUntil], ["Trip", 40, { count: 60, more: false }, 7]);
    w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 120, upToSeq: 120, more: false, ref: w.said().find(({ event }) => event === "SYNC").ref, messages: [] });
    w.socket().says(push(121));
    equal([conversation.lastMessage.seq, conversation.unread], [121, { count: 61, more: false }]);
    w.client.markRead("c-1", 121);
    equal(conversation.unread, { count: 0, more: false });
  },

  async "more may be unread than is known: the list's own bound, or another device read a part"() {
    const w = await asked(listed(row({ unread: 999 })));
    await w.connect(heads(120));
    await eventually(() => w.client.conversation("c-1").preview);
    const { unread } = w.client.conversation("c-1");
    equal(unread, { count: 120, more: true }, "no more than there are entries");
    w.socket().says({ event: "RECEIPT", conversationId: "c-1", userId: "u-1", deliveredSeq: 0, readSeq: 20 });
    equal(w.client.conversation("c-1").unread, { count: 100, more: true });
  },

  async "a recalled message of the list is gone from it, also from an answer that is older than the recall"() {
    const lists = [row({ unread: 1, lastMessage: entry(40, "secret") }), row({ headSeq: 121, unread: 0 })];
    const w = await asked({ "/v1/conversations?": () => ({ conversations: [lists.length > 1 ? lists.shift() : lists[0]], nextCursor: null }) });
    await w.connect(heads(120));
    await eventually(() => lists.length === 1 && w.client.conversation("c-1").preview);
    const [{ ref }] = w.said().filter(({ event }) => event === "SYNC");
    w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 120, upToSeq: 120, more: false, ref, messages: [entry(110)] });
    const conversation = w.client.conversation("c-1");
    equal(conversation.preview.lastMessage.payload.text, "secret");
    w.socket().says({ ...push(121), payload: { type: "RECALL", messageId: "m-40", seq: 40, by: "u-2" } });
    equal(conversation.preview, null);
    conversation.previewed(row({ unread: 1, lastMessage: entry(40, "secret") }));
    equal([conversation.preview.lastMessage, conversation.lastMessage.seq], [null, 110]);
    conversation.previewed(row({ unread: 1, lastMessage: entry(110) }));
    equal([conversation.recalled(110), conversation.preview], [false, null], "it is held, so nobody need be asked");
    conversation.previewed(row({ unread: 1 }));
    await eventually(() => conversation.preview.headSeq === 121);
    equal([conversation.preview.headSeq, w.requests("/v1/conversations?").length], [121, 2], "asked anew");
  },

  async "mentions are counted apart, with the edits that add them"() {
    const w = await asked(listed(row({ unread: 60, unreadMentions: 3, readSeq: 0, description: "Tea at four" })));
    await w.connect({ event: "HEADS", more: false, conversations: [{ ...heads(120).conversations[0], deliveredSeq: 120, title: "Trip", mutedUntil: 5, notify: "MENTIONS" }] });
    const conversation = w.client.conversation("c-1");
    await eventually(() => conversation.preview);
    equal([conversation.unreadMentions, conversation.unread.count, conversation.description], [3, 60, "Tea at four"]);
    const { ref } = w.said().find(({ event }) => event === "SYNC");
    w.socket().says({ event: "SYNC_PAGE", conversationId: "c-1", epoch: "e", headSeq: 120, upToSeq: 120, more: false, ref, messages: [] });
    const says = (seq, fields) => w.socket().says({ ...push(seq), payload: { type: "TEXT", text: "t", ...fields } });
    const edits = (seq, target, mentions) => w.socket().says({ ...push(seq), payload: { type: "EDIT", messageId: `m-${target}`, seq: target, payload: { type: "TEXT", text: "e", mentions } } });
    says(121, { mentions: ["u-1", "u-3"] });
    says(122, { mentions: ["u-3"] });
    says(123, { mentions: ["*"] });
    edits(124, 121, ["u-1"]); // mentioned already
    edits(125, 122, ["u-1"]);
    edits(126, 122, ["u-1"]); // likewise
    w.socket().says({ ...push(127), senderId: "u-1", payload: { type: "TEXT", text: "own", mentions: ["u-1"] } });
    equal(conversation.unreadMentions, 6);
    w.socket().says({ ...push(128), payload: { type: "RECALL", messageId: "m-121", seq: 121, by: "u-2", edits: [124] } });
    equal(conversation.unreadMentions, 5);
    w.client.markRead("c-1", 125);
    equal(conversation.unreadMentions, 0);
    w.client.send("c-1", "hi", { mentions: ["u-2", "*"] }).catch(() => {});
    equal(w.said().find(({ event }) => event === "SEND_MSG").payload, { type: "TEXT", text: "hi", mentions: ["u-2", "*"] });
    for (const mentions of [["no id"], "u-2", Array(51).fill("u-2")]) equal((await rejects(w.client.send("c-1", "hi", { mentions }))).code, "BAD_REQUEST");
  },

  async "a pin is sent as a message is, and what is pinned is asked"() {
    const pins = [{ seq: 5, pinnedBy: "u-2", pinnedTs: 9, pinnedBySeq: 8, message: { ...entry(5), reactions: [{ reaction: "+", count: 1, userIds: ["u-2"] }] } }, { seq: 3, pinnedBy: "u-1", pinnedTs: 8, pinnedBySeq: 7 }];
    const w = await asked({ "/v1/conversations/c-1/pins": { pins } });
    await w.connect(heads(0));
    w.socket().says(push(1), { ...push(2), payload: { type: "PINNED", messageId: "m-1", seq: 1, pinned: true } });
    const conversation = w.client.conversation("c-1");
    equal([conversation.messages.map(({ seq }) => seq), conversation.unread.count, conversation.lastMessage.seq], [[1], 1, 1]);
    w.client.pin(conversation.messages[0]).catch(() => {});
    w.client.pin(conversation.messages[0], { pinned: false }).catch(() => {});
    equal(w.said().filter(({ event }) => event === "SEND_MSG").map(({ payload }) => payload), [true, false].map((pinned) => ({ type: "PINNED", messageId: "m-1", seq: 1, pinned })));
    equal((await w.client.pins("c-1")).map(({ seq, by, pinnedTs, message }) => [seq, by, pinnedTs, message?.marks.asOfSeq ?? null]), [[5, "u-2", 9, 8], [3, "u-1", 8, null]]);
  },

  async "a group's name and what it is for are changed, and shown as soon as the log tells of it"() {
    const w = await asked({ "/v1/conversations/c-1": {} });
    await w.connect(heads(0));
    await w.client.setTitle("c-1", "Sunday");
    await w.client.setDescription("c-1", "Tea");
    equal(w.requests("/c-1").filter(([method]) => method === "PATCH").map(([, , body]) => body), [{ title: "Sunday" }, { description: "Tea" }]);
    w.socket().says({ ...push(1), payload: { type: "TITLE", title: "Sunday" } }, { ...push(2), payload: { type: "TITLE", description: "Tea" } });
    const { title, description, messages, unread } = w.client.conversation("c-1");
    equal([title, description, messages.length, unread.count], ["Sunday", "Tea", 2, 0]);
  },

  async "what the heads say of a list is shown before it is asked for"() {
    const w = await asked({ "/v1/conversations?": () => new Promise(() => {}) });
    await w.connect({ event: "HEADS", more: false, conversations: [{ ...heads(0).conversations[0], type: "GROUP", title: "Trip", lastActivityTs: 77, mutedUntil: 88 }] });
    const { name, activityTs, mutedUntil } = w.client.conversation("c-1");
    equal([name, activityTs, mutedUntil], ["Trip", 77, 88]);
  },

  async "a file ends with its client, and there is none where the server keeps none"() {
    const w = await asked({ "/v1/blobs": () => Response.json({ code: "NOT_FOUND", detail: "no files here", retryable: false }, { status: 404 }) });
    equal((await rejects(w.client.upload(new Uint8Array(5)))).code, "NOT_FOUND");
    equal((await rejects(w.client.sendFile("no id", new Uint8Array(5)))).code, "BAD_REQUEST");
    w.client.close();
    for (const call of [w.client.upload(new Uint8Array(5)), w.client.download("f".repeat(32)), w.client.sendFile("c-1", new Uint8Array(5))]) {
      equal((await rejects(call)).code, "CLOSED");
    }
  },

  async "an answer that is none of the protocol is a typed error"() {
    const odd = { results: [{ message: {} }], members: 5, pins: [null], presence: {} };
    const w = await asked({ "/v1/blocks": () => new Response("<html>a captive portal</html>"), "/v1/": odd });
    const calls = [w.client.search("x"), w.client.members("c-1"), w.client.pins("c-1"), w.client.presence(["u-2"]), w.client.request("GET", "/v1/blocks")];
    for (const call of calls) equal((await rejects(call)).code, "PROTOCOL_ERROR");
    equal(WELCOME.userId, w.client.me);
  },
};
