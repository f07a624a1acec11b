import { Composer } from "/static/composer.js";
import { equal } from "/tests/javascript/check.js";

const field = document.getElementById("text");
const context = document.getElementById("context");
const entryOf = (text) => ({ conversationId: "c", messageId: text, seq: 1, senderId: "ben", payload: { type: "TEXT", text } });
const turn = () => new Promise((done) => setTimeout(done));
const refusals = new Map(); // by text: the error's code

/** What is said, and refused if the test wants that. */
const client = {
  said: [],
  async send(conversationId, { text }, { replyTo }) {
    this.said.push([conversationId, text, replyTo?.messageId ?? null]);
    if (refusals.has(text)) throw Object.assign(new Error("refused"), { code: refusals.get(text) });
  },
  edit(entry, message) {
    return this.send("edit", message, { replyTo: entry });
  },
  conversation: () => undefined,
  pending: () => [],
  typing: () => {},
};
const composer = new Composer({ client, sent: () => {} });

function press(key, keyCode = 0) {
  field.dispatchEvent(new KeyboardEvent("keydown", { key, keyCode, bubbles: true, cancelable: true }));
}

function say(text) {
  field.value = text;
  press("Enter");
}

/** What the user sees, and what was said since. */
function state() {
  return [field.value, context.hidden ? "" : context.textContent.replace(/ ✕$/, ""), client.said.splice(0)];
}

/** A composer without anything in it. */
function begin() {
  document.getElementById("app").hidden = document.getElementById("conversation").hidden = false;
  for (const conversation of ["c", "d", "c"]) {
    composer.opened(conversation);
    while (field.value !== "" || !context.hidden) {
      field.value = "";
      if (!context.hidden) press("Escape");
    }
  }
  refusals.clear();
}

export const tests = {
  "what is being written stays with its conversation, and with what it is about"() {
    begin();
    field.value = "half";
    composer.begin("edit", entryOf("helo"));
    field.value = "hello";
    composer.opened("c"); // again
    equal(state(), ["hello", "Editing: helo", []]);
    composer.opened("d");
    equal(state(), ["", "", []]);
    composer.begin("reply", entryOf("q"));
    field.value = "because";
    composer.opened(null);
    composer.opened("c");
    equal(state(), ["hello", "Editing: helo", []]);
    press("Enter");
    equal(state(), ["half", "", [["edit", "hello", "helo"]]]);
    composer.opened("d");
    equal(state(), ["because", "Answering ben: q", []]);
  },

  "an edit that is interrupted goes on afterwards, unless it changed nothing"() {
    begin();
    field.value = "half";
    composer.begin("edit", entryOf("one"));
    composer.begin("edit", entryOf("two"));
    field.value = "two!";
    composer.begin("reply", entryOf("q"));
    equal(state(), ["", "Answering ben: q", []]);
    say("because");
    equal(state(), ["two!", "Editing: two", [["c", "because", "q"]]]);
    composer.begin("edit", entryOf("three"));
    press("Escape");
    equal(state(), ["two!", "Editing: two", []]);
    press("Escape");
    equal(state(), ["half", "", []]);
    composer.begin("reply", entryOf("q"));
    equal(state(), ["half", "Answering ben: q", []]);
    document.getElementById("context-end").click();
    equal([...state(), document.activeElement.id], ["half", "", [], "text"]);
  },

  async "what is refused comes back with what it is about, once nothing else is being written"() {
    begin();
    for (const [text, code] of [["too long", "TOO_LARGE"], ["too late", "EDIT_WINDOW_PASSED"], ["to be looked at", "HELD"]]) refusals.set(text, code);
    composer.begin("reply", entryOf("q"));
    say("too long");
    await turn();
    equal(state(), ["too long", "Answering ben: q", [["c", "too long", "q"]]]);
    press("Escape");
    field.value = "half";
    composer.begin("edit", entryOf("helo"));
    say("too late");
    await turn();
    equal(state(), ["too late", "Editing: helo", [["edit", "too late", "helo"]]]);
    press("Enter");
    field.value = "something else";
    await turn();
    equal(state(), ["something else", "", [["edit", "too late", "helo"]]]);
    press("Enter");
    equal(state(), ["too late", "Editing: helo", [["c", "something else", null]]]);
    press("Enter");
    composer.opened("d");
    await turn();
    equal(state(), ["", "", [["edit", "too late", "helo"]]]);
    composer.opened("c");
    equal(state(), ["too late", "Editing: helo", []]);
    say("to be looked at");
    await turn();
    equal(state(), ["", "", [["edit", "to be looked at", "helo"]]]);
  },

  "a key of an input method neither sends nor gives up"() {
    begin();
    composer.begin("reply", entryOf("q"));
    field.value = "東京";
    press("Enter", 229);
    press("Escape", 229);
    equal(state(), ["東京", "Answering ben: q", []]);
    press("Enter", 13);
    equal(state(), ["", "", [["c", "東京", "q"]]]);
  },
};
