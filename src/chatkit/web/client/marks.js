// How a message reads now: its own payload, and what later entries said of it. Pure: an entry as it is held, and the EDIT and
// REACTION entries that name it, to what an app shows. A page of the server says how an entry stood at the head of that time;
// entries above that are put on top. The rules are those of core/marks.py; spec/marks.json holds both to them.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Reaction} Reaction */
/** @typedef {import("./types.js").Marks} Marks */

/** Users that are named of a reaction; the others are counted. */
const USERS_MAX = 50;

/** The seq that an EDIT or REACTION entry names; null for any other entry, and where it is not an earlier one.
 * @param {Message} entry @returns {number | null} */
export function namedSeq({ seq, payload }) {
  if (payload.type !== "EDIT" && payload.type !== "REACTION") return null;
  return Number.isSafeInteger(payload.seq) && payload.seq > 0 && payload.seq < seq ? payload.seq : null;
}

/** What a message says: by its newest edit where there is one, and of a stream that is open with its text so far.
 * @param {{payload: import("./types.js").Payload, marks?: Marks}} message */
export function contentOf({ payload, marks }) {
  if (marks?.edit?.payload) return marks.edit.payload;
  return marks?.stream ? { ...payload, text: marks.stream.text } : payload;
}

/** Whether it is a streamed message that grows still, as far as is known here.
 * @param {{payload: import("./types.js").Payload, marks?: Marks}} message */
export function isOpen({ payload, marks }) {
  return payload.type === "STREAM" && !marks?.edit && (marks === undefined || marks.stream !== undefined);
}

/** Whether it is a streamed message that ended before it was finished. @param {{marks?: Marks}} message */
export function isCutOff({ marks }) {
  return marks?.edit?.ends === "CUT_OFF";
}

/** An entry of a page or of another answer, with what it says beside the entry. @param {any} entry
 * @param {number} headSeq up to where that counts @returns {Message} */
export function messageOf({ edit, reactions, stream, ...entry }, headSeq) {
  const isStream = entry.payload.type === "STREAM"; // one that is not shown to be open is not
  if (edit === undefined && reactions === undefined && !isStream) return entry;
  const shown = edit ? editOf(edit.seq, edit.serverTs, edit.payload ?? null, edit.ends) : null;
  const marks = { asOfSeq: headSeq, edit: shown, reactions: reactions ?? [] };
  return { ...entry, marks: stream ? { ...marks, stream: { parts: stream.parts, text: stream.text } } : marks };
}

/** @param {number} seq @param {number} serverTs @param {import("./types.js").Payload | null} payload @param {unknown} ends
 * @returns {import("./types.js").Edit} */
export function editOf(seq, serverTs, payload, ends) {
  return { seq, serverTs, payload, ...((ends === "WHOLE" || ends === "CUT_OFF") && { ends }) };
}

/**
 * The messages as they read now.
 *
 * @param {Message[]} messages as they are held
 * @param {Message[]} naming EDIT and REACTION entries, in any order, each maybe more than once; what they name may be missing
 */
export function marked(messages, naming) {
  /** @type {Map<number, Map<number, Message>>} */
  const byTarget = new Map();
  for (const entry of naming) {
    const target = namedSeq(entry);
    if (target === null) continue;
    const known = byTarget.get(target) ?? new Map();
    byTarget.set(target, known.set(entry.seq, entry));
  }
  return messages.map((message) => withMarks(message, byTarget.get(message.seq)));
}

/** @param {Message} message @param {Map<number, Message> | undefined} naming @returns {Message} */
function withMarks(message, naming) {
  if (naming === undefined || message.payload.type === "RECALLED") return message;
  let marks = message.marks ?? unmarked(message);
  const news = [...naming.values()].filter(({ seq }) => seq > marks.asOfSeq).sort((a, b) => a.seq - b.seq);
  for (const entry of news) marks = after(message, marks, entry);
  return news.length > 0 ? { ...message, marks } : message;
}

/** What is known of an entry that came as it was written: a stream is open from there on. @param {Message} message @returns {Marks} */
function unmarked({ payload }) {
  const marks = { asOfSeq: 0, edit: null, reactions: [] };
  return payload.type === "STREAM" ? { ...marks, stream: { parts: 0, text: String(payload.text ?? "") } } : marks;
}

/** The marks after one more entry; one that no server lets through changes nothing but the place.
 * @param {Message} message @param {Marks} marks @param {Message} entry @returns {Marks} */
function after(message, marks, { seq, serverTs, senderId, payload }) {
  if (payload.type === "EDIT") {
    const isSound = senderId === message.senderId && typeof payload.payload?.type === "string";
    if (!isSound) return { ...marks, asOfSeq: seq };
    return { asOfSeq: seq, edit: editOf(seq, serverTs, payload.payload, payload.ends), reactions: marks.reactions };
  }
  if (typeof payload.reaction !== "string") return { ...marks, asOfSeq: seq };
  return { ...marks, asOfSeq: seq, reactions: reacted(marks.reactions, payload.reaction, senderId, payload.removed === true) };
}

/** Where more users react than are named, whether one of the others did is not known: it is taken to be news.
 * @param {Reaction[]} reactions @param {string} reaction @param {string} userId @param {boolean} removed @returns {Reaction[]} */
function reacted(reactions, reaction, userId, removed) {
  const former = reactions.find((one) => one.reaction === reaction) ?? { reaction, count: 0, userIds: [] };
  const isNamed = former.userIds.includes(userId);
  if (isNamed !== removed && (isNamed || (removed && former.count === former.userIds.length))) return reactions;
  const others = former.userIds.filter((one) => one !== userId);
  const userIds = removed || others.length >= USERS_MAX ? others : [...others, userId];
  const now = { reaction, count: former.count + (removed ? -1 : 1), userIds };
  if (former.count === 0) return [...reactions, now];
  return reactions.map((one) => (one.reaction === reaction ? now : one)).filter((one) => one.reaction !== reaction || now.count > 0);
}
