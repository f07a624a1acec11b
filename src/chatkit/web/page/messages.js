// The message pane: entries of the open conversation and what waits in the outbox, as bubbles with ticks. Called by ui.js.

import { byId, el, icon, reconcile, setAttribute, setLine, setText } from "./dom.js";
import { dayKey, dayName, hueOf, initials, noticeLine, textOf, timeOf } from "./format.js";
import { mediaOf } from "./media.js";
import { withMentions } from "./mentions.js";
import { contentOf, isCutOff, isOpen, isUserMessage } from "../v1/client/chatkit.js";

const RECALL_WINDOW_MS = 120_000;
const EDIT_WINDOW_MS = 900_000;
const LIKE = "👍";
const RUN_MS = 300_000;

const STATES = {
  SENDING: ["clock", "Sending"],
  HELD: ["clock", "Held for review"],
  SENT: ["tick", "Sent"],
  DELIVERED: ["ticks", "Delivered"],
  READ: ["ticks", "Read"],
  FAILED: ["warn", "Not sent"],
};

/** Whether one's own message may still be recalled, as far as this page knows; the server decides. */
export function isRecallable(entry, me, nowMs) {
  const isOwn = entry.senderId === me && isUserMessage(entry) && entry.payload.type !== "RECALLED";
  const { edit } = entry.marks ?? {};
  const writtenMs = edit?.ends ? edit.serverTs : entry.serverTs;
  return isOwn && (isOpen(entry) || nowMs - writtenMs < RECALL_WINDOW_MS);
}

/** Whether one's own message may still be said in other words, likewise. */
function isEditable(entry, me, nowMs) {
  return entry.senderId === me && contentOf(entry).type === "TEXT" && nowMs - entry.serverTs < EDIT_WINDOW_MS;
}

/** What the pane shows, in order: day lines, notices, bubbles. */
export function itemsOf(conversation, client) {
  const sent = conversation.messages.map((entry) => sentItem(entry, conversation, client));
  const waiting = client.pending(conversation.id).filter(isUserMessage).map((item) => waitingItem(item));
  return withDays([...sent, ...waiting], client.serverNow);
}

function sentItem(entry, conversation, client) {
  const key = entry.senderId === client.me && entry.clientMsgId !== undefined ? `c:${entry.clientMsgId}` : `s:${entry.seq}`;
  const base = { key, ts: entry.serverTs, seq: entry.seq };
  if (!isUserMessage(entry)) {
    return { ...base, kind: "notice", text: noticeLine(entry, client.me, conversation.type === "SINGLE") };
  }
  const isOwn = entry.senderId === client.me;
  const content = contentOf(entry);
  const isRecalled = content.type === "RECALLED";
  const media = mediaOf(entry, content);
  return {
    ...base,
    kind: "message",
    entry,
    isOwn,
    sender: entry.senderId,
    showsSender: !isOwn && conversation.type === "GROUP",
    isRecalled,
    isPlain: ["TEXT", "STREAM"].includes(content.type),
    text: media === null ? textOf(content) : "",
    mentions: content.type === "TEXT" && Array.isArray(content.mentions) ? content.mentions : [],
    me: client.me,
    media,
    quote: quoteOf(entry.payload.replyTo, conversation),
    isGrowing: isOpen(entry),
    note: isRecalled ? "" : noteOf(entry),
    reactions: isRecalled ? [] : (entry.marks?.reactions ?? []).map((one) => ({ ...one, isMine: one.userIds.includes(client.me) })),
    isEditable: isEditable(entry, client.me, client.serverNow),
    state: isOwn ? conversation.stateOf(entry.seq) : null,
    isRecallable: isRecallable(entry, client.me, client.serverNow),
  };
}

/** How it came to say what it says: a message that grows is no other one for it. */
function noteOf(entry) {
  if (isOpen(entry)) return "writing…";
  if (isCutOff(entry)) return "not finished";
  return entry.marks?.edit && entry.marks.edit.ends === undefined ? "edited" : "";
}

/** What of the message that is answered is to be shown; null for one that answers none. */
function quoteOf(replyTo, conversation) {
  if (!Number.isSafeInteger(replyTo?.seq)) return null;
  const named = conversation.messages.find(({ seq, messageId }) => seq === replyTo.seq && messageId === replyTo.messageId);
  return named ? { seq: replyTo.seq, by: named.senderId, text: textOf(contentOf(named)) } : { seq: replyTo.seq, by: "", text: "An earlier message" };
}

function waitingItem(item) {
  const shared = { mentions: [], me: "", note: "", isGrowing: false, kind: "message", isOwn: true, sender: "", showsSender: false, isRecalled: false, isPlain: true, media: null, quote: null, reactions: [] };
  return { ...shared, key: `c:${item.clientMsgId}`, ts: item.atMs, text: textOf(item.payload), state: item.state, item };
}

function withDays(items, nowMs) {
  const result = [];
  const days = new Set();
  let previous = null;
  for (const item of items) {
    const day = dayKey(item.ts);
    const isNewDay = previous === null || dayKey(previous.ts) !== day;
    const key = days.has(day) ? `d:${day}:${item.key}` : `d:${day}`; // where clocks differ a day may come twice
    if (isNewDay) result.push({ key, kind: "day", text: dayName(item.ts, nowMs) });
    days.add(day);
    result.push({ ...item, startsRun: isNewDay || !isSameRun(previous, item) });
    previous = item;
  }
  return result;
}

function isSameRun(previous, item) {
  const isSame = previous.kind === "message" && previous.isOwn === item.isOwn;
  return isSame && (item.isOwn || previous.sender === item.sender) && item.ts - previous.ts < RUN_MS;
}

/** Bring the log's elements in line with the items. */
export function showItems(items, mediaView) {
  reconcile(byId("log"), items, make, (element, item) => update(element, item, mediaView));
}

function make(item) {
  if (item.kind !== "message") return el("li", { class: item.kind });
  const bubble = el(
    "div",
    { class: "bubble" },
    el("span", { class: "sender", dir: "auto" }),
    el("button", { type: "button", class: "quote", "data-action": "jump", title: "Show it" }),
    el("div", { class: "media" }),
    el("div", { class: "content", dir: "auto" }, el("p", { class: "body" }), metaOf()),
    el("div", { class: "reactions" }),
  );
  const avatar = el("span", { class: "avatar tiny", "aria-hidden": "true" });
  return el("li", { class: "message", tabindex: -1 }, avatar, bubble, el("span", { class: "tools" }));
}

function metaOf() {
  return el("span", { class: "meta" }, el("span", { class: "note" }), el("time", { dir: "auto" }), el("span", { class: "ticks" }));
}

function update(element, item, mediaView) {
  element.item = item;
  const signature = JSON.stringify([item.text, item.state, item.startsRun, item.isRecalled, item.isRecallable, item.isEditable, item.note, item.quote, item.reactions, item.ts, item.seq, item.media?.key, item.mentions]);
  if (element.signature === signature) return;
  element.signature = signature;
  if (item.kind !== "message") setText(element, item.text);
  else updateMessage(element, item, mediaView);
}

function updateMessage(element, item, mediaView) {
  const [avatar, bubble, tools] = element.children;
  const [sender, quote, media, content, reactions] = bubble.children;
  const [body, meta] = content.children;
  element.classList.toggle("own", item.isOwn);
  element.classList.toggle("run-start", item.startsRun);
  element.classList.toggle("recalled", item.isRecalled);
  element.classList.toggle("growing", item.isGrowing);
  element.classList.toggle("chip", !item.isPlain && !item.isRecalled && item.media === null);
  setAttribute(element, "data-state", item.state);
  setAttribute(element, "data-seq", item.seq);
  setAttribute(element, "data-hue", item.isOwn ? null : hueOf(item.sender));
  sender.hidden = !(item.showsSender && item.startsRun);
  avatar.hidden = !item.showsSender;
  setText(avatar, item.showsSender && item.startsRun ? initials(item.sender) : "");
  setText(sender, item.sender);
  if (item.mentions.length === 0) setText(body, item.text);
  else body.replaceChildren(...withMentions(item.text, item.mentions, item.me));
  mediaView.update(media, item.media);
  quote.hidden = item.quote === null;
  setLine(quote, item.quote?.by ?? "", item.quote?.text ?? "");
  reconcile(reactions, item.reactions.map((one) => ({ key: one.reaction, ...one })), makeReaction, drawReaction);
  updateMeta(meta, item);
  updateTools(tools, item);
}

function makeReaction({ reaction }) {
  return el("button", { type: "button", class: "reaction", "data-action": "react", "data-reaction": reaction });
}

function drawReaction(chip, { reaction, count, userIds, isMine }) {
  setText(chip, `${reaction} ${count}`);
  setAttribute(chip, "aria-pressed", isMine);
  setAttribute(chip, "title", `${userIds.join(", ")}${count > userIds.length ? ` and ${count - userIds.length} more` : ""}`);
}

function updateMeta(meta, item) {
  const [note, time, ticks] = meta.children;
  setText(note, item.note);
  setAttribute(time, "datetime", new Date(item.ts).toISOString());
  setText(time, timeOf(item.ts));
  const showsTicks = item.isOwn && !item.isRecalled;
  ticks.hidden = !showsTicks;
  if (!showsTicks) return;
  const [name, label] = STATES[item.state];
  setAttribute(ticks, "role", "img");
  setAttribute(ticks, "aria-label", label);
  setAttribute(ticks, "title", label);
  ticks.replaceChildren(icon(name));
}

function updateTools(tools, item) {
  reconcile(tools, actionsOf(item).map(([key, label, more]) => ({ key, label, more })), makeTool, () => {});
}

function makeTool({ key, label, more }) {
  return el("button", { type: "button", class: "tool", "data-action": key, ...more }, label);
}

/** The few that are at hand; the menu has them all. */
function actionsOf(item) {
  if (item.state === "FAILED") return [["drop", "Remove"]];
  if (item.entry === undefined || item.isRecalled) return [];
  const menu = { "aria-label": "More", "aria-haspopup": "menu" };
  return [["react", LIKE, { "data-reaction": LIKE, "aria-label": "Like" }], ["reply", "Reply"], ["menu", "⋯", menu]];
}
