/** How much of the beginning is looked at. */
export declare const HEAD_BYTES = 4096;
/** The type of anything at all. */
export declare const ANY = "application/octet-stream";
/** What a browser may show in its place: types whose content was looked at, and that run no scripts. */
export declare const SHOWN: Set<string>;
/** The types that a beginning is the mark of, the usual one first; empty for one that has none.
 * @param {Uint8Array} head the first HEAD_BYTES, or all there are @returns {string[]} */
export declare function typesOf(head: Uint8Array): string[];
/** Whether a file that begins so may be of the declared type. Of pictures, sounds and films only those may be whose mark is
 * known; SVG is text, and is never shown. @param {string} declared in lower case, without parameters @param {Uint8Array} head */
export declare function mayBe(declared: string, head: Uint8Array): boolean;
/** The type to declare of a file: the guess if the content agrees, else what the content is, else ANY.
 * @param {Uint8Array} head @param {string | null} guess what its name says, if it says anything */
export declare function likely(head: Uint8Array, guess: string | null): string;
