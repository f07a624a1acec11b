// Search in all conversations, or in the open one: what is asked, and what was found. Made by ui.js.

import { byId, el, reconcile, setText } from "./dom.js";
import { stampOf } from "./format.js";

const PAUSE_MS = 250;
const HITS_MAX = 200; // shown at once; who wants more says more words
const BEGINNING = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Arabic}\p{Script=Hebrew}\p{N}]{2,}$/u;
const PROBLEMS = { FORBIDDEN: "Search is switched off on this server.", OFFLINE: "Cannot reach the server: search needs it." };

export class Search {
  #client;
  #choose;
  #openId = null;
  #timer;
  #asked = null; // the last search: {query, options}, compared by identity
  #hits = [];
  #nextCursor = null;
  #isBusy = false;

  /** @param {{client, choose: (conversationId: string, seq: number) => void}} parts */
  constructor({ client, choose }) {
    this.#client = client;
    this.#choose = choose;
    byId("query").addEventListener("input", () => this.#typed());
    byId("here").addEventListener("change", () => this.#ask());
    byId("more-hits").addEventListener("click", () => this.#more());
    byId("hits").addEventListener("click", ({ target }) => this.#chosen(target.closest("li")));
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    byId("search").addEventListener("keydown", (event) => event.key === "Escape" && this.#end(event));
  }

  /** Another conversation is open, or none. */
  opened(conversationId) {
    this.#openId = conversationId;
    byId("here-choice").hidden = conversationId === null;
  }

  #typed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), PAUSE_MS);
  }

  #end(event) {
    if (byId("query").value === "") return;
    event.preventDefault();
    byId("query").value = "";
    this.#ask();
  }

  #ask() {
    clearTimeout(this.#timer);
    const words = byId("query").value.trim();
    const isOver = words === "";
    byId("results").hidden = isOver;
    byId("list").hidden = !isOver;
    this.#hits = [];
    this.#nextCursor = null;
    this.#asked = isOver ? null : { query: queryOf(words), conversationId: this.#place() };
    this.#draw(isOver ? "" : "Searching…");
    if (!isOver) this.#fetch(this.#asked);
  }

  #place() {
    return byId("here").checked && this.#openId !== null ? this.#openId : undefined;
  }

  #more() {
    if (!this.#isBusy) this.#fetch(this.#asked);
  }


  /** Show what comes next, or why nothing does. What another search has overtaken is dropped. */
  async #fetch(asked) {
    this.#isBusy = true;
    const words = await this.#next(asked).catch((error) => PROBLEMS[error.code] ?? error.message);
    if (this.#asked !== asked) return;
    this.#isBusy = false;
    this.#draw(words);
  }

  /** The next page with a hit in it, or the end. */
  async #next(asked) {
    const { query, conversationId } = asked;
    let found = [];
    do {
      const page = await this.#client.search(query, { conversationId, cursor: this.#nextCursor });
      if (this.#asked !== asked) return "";
      found = page.hits;
      this.#nextCursor = page.nextCursor;
      this.#hits.push(...found);
    } while (found.length === 0 && this.#nextCursor !== null);
    return this.#hits.length === 0 ? "Nothing was found." : `${this.#hits.length}${this.#nextCursor === null ? "" : " or more"} found, the newest first`;
  }

  #draw(words) {
    setText(byId("found"), words);
    byId("more-hits").hidden = this.#nextCursor === null || this.#hits.length >= HITS_MAX;
    const items = this.#hits.map((hit) => ({ key: hit.message.messageId, hit, name: this.#client.conversation(hit.message.conversationId)?.name ?? "" }));
    reconcile(byId("hits"), items, (item) => makeHit(item, this.#client.serverNow), () => {});
  }

  #chosen(row) {
    if (row) this.#choose(row.dataset.conversation, Number(row.dataset.seq));
  }
}

/** What is typed finds words that begin so, until it ends in something else. */
function queryOf(words) {
  const isQuoted = words.split('"').length % 2 === 0;
  return !isQuoted && BEGINNING.test(words) ? `${words}*` : words;
}

function makeHit({ hit, name }, nowMs) {
  const { conversationId, seq, senderId, serverTs } = hit.message;
  const button = el(
    "button",
    { type: "button" },
    el("strong", { dir: "auto" }, name),
    el("small", { class: "stamp" }, stampOf(serverTs, nowMs)),
    el("span", { class: "preview" }, el("bdi", {}, senderId), ": ", el("bdi", {}, ...marked(hit))),
  );
  return el("li", { "data-conversation": conversationId, "data-seq": seq }, button);
}

/** The part to show, with the words that were found in it marked. */
function marked({ text, snippet: [start, end], highlights }) {
  const parts = start > 0 ? ["…"] : [];
  let at = start;
  for (const [from, to] of highlights) {
    if (from < at || to > end) continue;
    parts.push(text.slice(at, from), el("mark", {}, text.slice(from, to)));
    at = to;
  }
  return [...parts, text.slice(at, end), end < text.length ? "…" : ""];
}
