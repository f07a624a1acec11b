// Words for people: times, days, names, and what an entry says. Pure apart from the browser's language.

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const HUES = 8;

export const timeOf = (ms) => TIME.format(ms);

/** A key that is equal for times of one local day. */
export function dayKey(ms) {
  return new Date(ms).toDateString();
}

export function dayName(ms, nowMs) {
  if (dayKey(ms) === dayKey(nowMs)) return "Today";
  if (dayKey(ms) === dayKey(nowMs - 86_400_000)) return "Yesterday";
  return DAY.format(ms);
}

/** Short form for a list: the time today, else the date. */
export function stampOf(ms, nowMs) {
  if (ms === 0) return "";
  return dayKey(ms) === dayKey(nowMs) ? timeOf(ms) : DATE.format(ms);
}

/** One or two letters that stand for a name. */
export function initials(name) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]] : [words[0] ?? name];
  return letters.map((word) => [...word][0] ?? "?").join("").toUpperCase();
}

/** A stable colour number for a name. */
export function hueOf(name) {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 9973;
  return sum % HUES;
}

export function listOf(names, maximum = 4) {
  if (names.length <= maximum) return names.join(", ");
  return `${names.slice(0, maximum).join(", ")} and ${names.length - maximum} more`;
}

/** What a membership entry says. */
function memberLine(entry, me, isSingle) {
  const person = (userId) => (userId === me ? "you" : userId);
  const by = entry.senderId === me ? "You" : entry.senderId;
  const whom = listOf(entry.payload.userIds.filter((userId) => userId !== entry.senderId).map(person));
  switch (entry.payload.op) {
    case "CREATED":
      return isSingle ? "This conversation began" : `${by} started the group with ${whom || "nobody else yet"}`;
    case "ADDED":
      return `${by} added ${whom || person(entry.senderId)}`;
    case "REMOVED":
      return `${by} removed ${whom}`;
    case "LEFT":
      return `${by} left`;
    default:
      return "The members changed";
  }
}

/** A number of bytes, for people. */
export const sizeOf = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${Math.round(bytes / 1024)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`);
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g; // characters that show the end of a name as if it were another one

/** What a file is called; "" for one without a name. */
export const fileName = ({ name }) => (typeof name === "string" ? name.replace(TURNING, "") : "");

/** What an entry says that is no message: of members, of a group's name. */
export function noticeLine(entry, me, isSingle) {
  const { type, title } = entry.payload;
  if (type !== "TITLE") return memberLine(entry, me, isSingle);
  const by = entry.senderId === me ? "You" : entry.senderId;
  if (title === undefined) return `${by} changed what the group is for`;
  return title === "" ? `${by} took the group's name away` : `${by} named the group “${title}”`;
}

const MEDIA = { IMAGE: "Picture", VOICE: "Voice message", FILE: "File" };

/** What a person's message says, as plain text. */
export function textOf(payload) {
  if (payload.type === "TEXT") return payload.text;
  if (payload.type === "STREAM") return payload.text || payload.fallbackText || "…";
  if (payload.type === "RECALLED") return "Message recalled";
  if (payload.type === "IMAGE" && typeof payload.alt === "string" && payload.alt) return `${MEDIA.IMAGE}: ${payload.alt}`;
  if (payload.type in MEDIA) return [MEDIA[payload.type], fileName(payload), sizeOf(payload.bytes)].filter(Boolean).join(" · ");
  return typeof payload.fallbackText === "string" && payload.fallbackText ? payload.fallbackText : "A message this page cannot show";
}
