import { Pane } from "/static/pane.js";
import { equal } from "/tests/javascript/check.js";

const HEAD = 3_000;
const KEPT = 2_000;
const byId = (id) => document.getElementById(id);
const entry = (seq) => ({ messageId: `m-${seq}`, seq, senderId: "ben", serverTs: seq, payload: { type: "TEXT", text: `${seq}` } });
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => entry(from + index));
const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

/** A client with one long log; where its end is in view it keeps the newest of it, as the real one. */
const client = {
  me: "ann",
  serverNow: HEAD,
  asked: 0,
  pageMax: 200,
  cancelled: [],
  readsPast: false,
  waiting: [],
  conversation: { id: "c", name: "Long", type: "SINGLE", loaded: true, hasOlder: true, messages: [], typingUsers: () => [] },
  pending() {
    return this.waiting;
  },
  cancel(_, key) {
    this.waiting = this.waiting.filter(({ clientMsgId }) => clientMsgId !== key);
    draw();
  },
  viewing(atEnd) {
    this.readsPast = !atEnd;
    if (atEnd) this.conversation.messages = this.conversation.messages.slice(-KEPT);
  },
  async history(id, { beforeSeq, limit }) {
    this.asked += 1;
    this.conversation.messages = range(beforeSeq - Math.min(limit, this.pageMax), HEAD);
    draw();
    return this.conversation.messages.filter(({ seq }) => seq < beforeSeq);
  },
};
const pane = new Pane({ client, actions: {}, back: () => {}, changed: () => queueMicrotask(draw) });

function draw() {
  pane.draw(client.conversation, "c");
  client.viewing(pane.atEnd);
}

function begin(first) {
  byId("app").hidden = false;
  client.conversation.messages = range(first, HEAD);
  Object.assign(client, { asked: 0, pageMax: 200 });
  pane.opened();
  draw();
  byId("toasts").replaceChildren();
}

const isNowhere = () => byId("toasts").textContent === "That message is not here, or too far back to be shown.";

export const tests = {
  async "a message is found behind more than is kept while the end is in view"() {
    begin(HEAD - KEPT + 100);
    await pane.seek(HEAD - KEPT - 50);
    equal([document.activeElement.dataset.seq, pane.atEnd, client.readsPast, client.asked], [`${HEAD - KEPT - 50}`, false, true, 1]);
  },

  async "one that is too far back, or gone, is said so, and the end stays in view"() {
    begin(HEAD - 199);
    client.pageMax = 1;
    await pane.seek(1);
    equal([isNowhere(), pane.atEnd, client.asked], [true, true, 10]);
    begin(HEAD - 199);
    client.conversation.messages = client.conversation.messages.filter(({ seq }) => seq !== HEAD - 9);
    draw();
    await pane.seek(HEAD - 9);
    equal([isNowhere(), pane.atEnd, client.asked], [true, true, 0]);
  },

  async "a message beside the newest leaves that in view, and nothing else is scrolled to meanwhile"() {
    begin(HEAD - 199);
    await pane.seek(HEAD - 1);
    equal([document.activeElement.dataset.seq, pane.atEnd], [`${HEAD - 1}`, true]);
    const seeking = pane.seek(HEAD - 250);
    byId("to-end").click(); // the user wants something else
    await seeking;
    equal([document.activeElement.id, pane.atEnd, isNowhere()], ["scroller", true, false]);
  },

  async "the focus does not go with its button"() {
    begin(HEAD - 199);
    client.waiting = [{ clientMsgId: "k", conversationId: "c", atMs: HEAD, payload: { type: "TEXT", text: "refused" }, state: "FAILED" }];
    draw();
    const button = document.querySelector("[data-action=drop]");
    button.focus();
    button.click();
    equal([document.activeElement.id, button.isConnected], ["scroller", false]);
    byId("scroller").scrollTop = 0;
    await frame();
    byId("to-end").focus();
    byId("to-end").click();
    await frame();
    equal([document.activeElement.id, byId("to-end").hidden], ["scroller", true]);
  },
};
