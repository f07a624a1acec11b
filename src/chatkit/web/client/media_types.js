// What a file is, by how it begins: whether a declared type may be true, and which one to declare. Pure. The rules are those of
// core/media_types.py; spec/media_types.json holds both to them.

/** How much of the beginning is looked at. */
export const HEAD_BYTES = 4_096;

/** The type of anything at all. */
export const ANY = "application/octet-stream";

const MPEG = ["audio/mpeg", "audio/mp3"];
const AAC = ["audio/aac", "audio/aacp", "audio/x-aac"];
const MP4 = ["video/mp4", "audio/mp4", "audio/x-m4a", "audio/m4a", "video/quicktime", "video/3gpp", "audio/3gpp"];
const HEIF = ["image/heic", "image/heif", "image/avif"];

/** Types by their mark, as one character for each byte; the usual type first. @type {[string, string[]][]} */
const STARTS = [
  ["\x89PNG\r\n\x1a\n", ["image/png", "image/apng"]],
  ["\xff\xd8\xff", ["image/jpeg"]],
  ["GIF87a", ["image/gif"]],
  ["GIF89a", ["image/gif"]],
  ["OggS", ["audio/ogg", "audio/opus", "video/ogg", "application/ogg"]],
  ["fLaC", ["audio/flac"]],
  ["ID3", [...MPEG, ...AAC]],
  ["\x1a\x45\xdf\xa3", ["video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"]],
  ["#!AMR", ["audio/amr"]],
  ["%PDF-", ["application/pdf"]],
  ["II*\0", ["image/tiff"]],
  ["MM\0*", ["image/tiff"]],
];
/** By the form, behind the length. @type {Map<string, string[]>} */
const RIFF = new Map([
  ["WEBP", ["image/webp"]],
  ["WAVE", ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"]],
  ["AVI ", ["video/x-msvideo", "video/avi"]],
]);
/** By the major brand of a file type box; any other brand is MP4. @type {Map<string, string[]>} */
const BRANDS = new Map([
  ["avif", ["image/avif"]],
  ["avis", ["image/avif"]],
  ["heic", HEIF.slice(0, 2)],
  ["heix", HEIF.slice(0, 2)],
  ["mif1", HEIF],
  ["msf1", HEIF],
  ["M4A ", ["audio/mp4", "audio/x-m4a", "audio/m4a", "video/mp4"]],
  ["qt  ", ["video/quicktime"]],
]);
/** By the layer of a frame of MPEG audio. @type {Map<number, string[]>} */
const LAYERS = new Map([[0, AAC], [1, MPEG], [2, MPEG]]);
const MARKED = new Set([...STARTS.flatMap(([, types]) => types), ...[RIFF, BRANDS, LAYERS].flatMap((all) => [...all.values()].flat()), ...MP4]);
const PICTURES = ["image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif"];

/** What a browser may show in its place: types whose content was looked at, and that run no scripts. */
export const SHOWN = new Set([...PICTURES, ...[...MARKED].filter((type) => /^(audio|video)\//.test(type))]);

/** The types that a beginning is the mark of, the usual one first; empty for one that has none.
 * @param {Uint8Array} head the first HEAD_BYTES, or all there are @returns {string[]} */
export function typesOf(head) {
  const text = String.fromCharCode(...head.subarray(0, 12));
  for (const [start, types] of STARTS) if (text.startsWith(start)) return types;
  if (text.startsWith("RIFF")) return RIFF.get(text.slice(8, 12)) ?? [];
  if (text.slice(4, 8) === "ftyp") return BRANDS.get(text.slice(8, 12)) ?? MP4;
  const [first, second] = head;
  const isFrame = first === 0xff && second !== undefined && (second & 0xe0) === 0xe0 && ((second >> 3) & 3) !== 1;
  return (isFrame && LAYERS.get((second >> 1) & 3)) || [];
}

/** Whether a file that begins so may be of the declared type. Of pictures, sounds and films only those may be whose mark is
 * known; SVG is text, and is never shown. @param {string} declared in lower case, without parameters @param {Uint8Array} head */
export function mayBe(declared, head) {
  if (declared === ANY) return true;
  const found = typesOf(head);
  const isMedium = /^(image|audio|video)\//.test(declared) && declared !== "image/svg+xml";
  return isMedium || MARKED.has(declared) ? found.includes(declared) : found.length === 0;
}

/** The type to declare of a file: the guess if the content agrees, else what the content is, else ANY.
 * @param {Uint8Array} head @param {string | null} guess what its name says, if it says anything */
export function likely(head, guess) {
  if (guess !== null && mayBe(guess, head)) return guess;
  return typesOf(head)[0] ?? ANY;
}
