// Who is mentioned: found in what is written, and marked in what is shown. Pure apart from the elements. Called by composer.js
// and messages.js.

import { el } from "./dom.js";

const MENTION = /(?<![\p{L}\p{N}_@])@([A-Za-z0-9._:@-]+)/gu;
const MENTIONS_MAX = 50;
const ID_MAX = 128;
const LAST_SIGNS = ".:-";

/** The members among `memberIds` whom a text names as `@id`, a sentence's last sign left out; at most 50. @returns {string[]} */
export function mentionsOf(text, memberIds) {
  const members = new Set(memberIds);
  const named = [...text.matchAll(MENTION)].map(([, id]) => memberOf(id, members)).filter((id) => id !== null);
  return [...new Set(named)].slice(0, MENTIONS_MAX);
}

/** A text as parts to append, with those of `ids` marked where it names them. @returns {(string | Element)[]} */
export function withMentions(text, ids, me) {
  const mentioned = new Set(ids);
  const parts = [];
  let at = 0;
  for (const { 1: named, index } of text.matchAll(MENTION)) {
    const id = memberOf(named, mentioned);
    if (id === null) continue;
    parts.push(text.slice(at, index), el("b", { class: id === me ? "mention me" : "mention" }, `@${id}`));
    at = index + 1 + id.length;
  }
  return [...parts, text.slice(at)];
}

/** Whether a payload mentions this user, or everybody. */
export function mentionsMe({ mentions }, me) {
  return Array.isArray(mentions) && (mentions.includes(me) || mentions.includes("*"));
}

function memberOf(named, members) {
  let bare = named.length;
  while (bare > 0 && LAST_SIGNS.includes(named[bare - 1])) bare -= 1;
  for (let length = Math.min(named.length, ID_MAX); length >= Math.max(bare, 1); length -= 1) {
    const id = named.slice(0, length);
    if (members.has(id)) return id;
  }
  return null;
}
