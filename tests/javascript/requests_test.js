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
    for (const until of [new Date(5_000), 6_000, undefined]) {
      await w.client.mute("c-1", until);
      seen.push(conversation.mutedUntil);
    }
    await w.client.unmute("c-1");
    equal([...seen, conversation.mutedUntil], [5_000, 6_000, Number.MAX_SAFE_INTEGER, 0]);
    equal(w.requests("/mute"), [...[5_000, 6_000, null].map((until) => ["PUT", "/v1/conversations/c-1/mute", { until }]), ["DELETE", "/v1/conversations/c-1/mute"]]);
    equal((await rejects(w.client.mute("c-1", "tomorrow"))).code, "BAD_REQUEST");
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
    const lists = [row({ unread: 1, lastMessage: entry(40, "secret") }), row({ unread: 1, lastMessage: entry(40, "secret") }), row({ headSeq: 121, unread: 0 })];
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
    await eventually(() => conversation.preview.headSeq === 121);
    equal([conversation.preview.headSeq, w.requests("/v1/conversations?").length], [121, 3], "asked anew");
  },

  async "what the heads say of a list is shown before it is asked for"() {
    const w = await asked({ "/v1/conversations?": () => new Promise(() => {}) });
    await w.connect({ event: "HEADS", more: false, conversations: [{ ...heads(0).conversations[0], title: "Trip", lastActivityTs: 77, mutedUntil: 88 }] });
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
    const w = await asked({ "/v1/blocks": () => new Response("<html>a captive portal</html>") });
    equal((await rejects(w.client.request("GET", "/v1/blocks"))).code, "PROTOCOL_ERROR");
    equal(WELCOME.userId, w.client.me);
  },
};
