import { Api } from "../../src/chatkit/web/client/api.js";
import { Conversation } from "../../src/chatkit/web/client/conversation.js";
import { Directory } from "../../src/chatkit/web/client/directory.js";
import { equal } from "./check.js";

/** A directory whose server gives these answers, one after the other; timers run when told. */
function world(...answers) {
  const made = { timers: [], conversations: new Map([["c", new Conversation("c", { me: "ann", shown: (it) => it })]]) };
  made.left = () => answers.length;
  const fetch = async () => new Response(...answers.shift());
  made.directory = new Directory(
    {
      api: new Api(new URL("http://h/"), { get: () => "t", refused: () => {}, renewable: false }, fetch),
      random: () => 0.5,
      setTimeout: (action, delayMs) => made.timers.push({ action, delayMs }),
      clearTimeout: () => {},
    },
    { conversations: made.conversations, me: () => "ann", changed: () => {} },
  );
  return made;
}

const json = (body, status = 200) => [JSON.stringify(body), { status }];
const LIST = json({ conversations: [{ conversationId: "c", type: "GROUP", title: "Trip", lastActivityTs: 5, memberRole: "ADMIN" }], nextCursor: null });
const MEMBERS = json({ title: "Trip", memberIds: ["ann", "ben"], memberCount: 2 });
const LIMITED = json({ code: "RATE_LIMITED", detail: "too many requests", retryable: true, retryAfterMs: 2_000 }, 429);

export const tests = {
  async "names refused for now are asked for after the wait that the server asked for"() {
    const w = world(LIST, LIMITED, LIST, MEMBERS);
    await w.directory.refresh();
    const { title, memberIds, role } = w.conversations.get("c");
    equal(role, "ADMIN");
    equal([title, memberIds, w.timers.map((timer) => timer.delayMs)], ["Trip", null, [2_500]]);
    await w.timers[0].action();
    equal([w.conversations.get("c").memberIds, w.timers.length], [["ann", "ben"], 1]);
  },

  async "who is a member is called so in a group, and between two there are no roles"() {
    for (const [row, role] of [[{ type: "GROUP" }, "MEMBER"], [{ type: "GROUP", memberRole: "OWNER" }, "OWNER"], [{ type: "GROUP", memberRole: "NEW" }, "MEMBER"], [{ type: "SINGLE" }, null]]) {
      const w = world(json({ conversations: [{ conversationId: "c", title: "", ...row }], nextCursor: null }), MEMBERS);
      equal([w.conversations.get("c").role, await w.directory.refresh(), w.conversations.get("c").role], [null, undefined, role]);
    }
  },

  async "of one conversation, pages are read until it is found"() {
    const other = { conversationId: "d", title: "Other" };
    const page = (rows, nextCursor) => json({ conversations: rows, nextCursor });
    const w = world(page([other], "1"), page([{ conversationId: "c", title: "Trip", notify: "MENTIONS", mutedUntil: 9 }], "2"), MEMBERS, page([other], "1"), page([other], null));
    await w.directory.refresh("c");
    const { title, notify, mutedUntil, memberIds } = w.conversations.get("c");
    equal([title, notify, mutedUntil, memberIds.length, w.left()], ["Trip", "MENTIONS", 9, 2, 2]);
    await w.directory.refresh("gone");
    equal(w.left(), 0);
  },

  async "any other failure waits for the next connection"() {
    const said = [];
    const { warn } = console;
    console.warn = (text) => said.push(text);
    const w = world(json({ code: "UNAUTHENTICATED", detail: "no", retryable: false }, 401));
    await w.directory.refresh();
    console.warn = warn;
    equal([said.length, w.timers], [1, []]);
  },
};
