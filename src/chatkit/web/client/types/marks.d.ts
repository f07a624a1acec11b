export type Message = import("./types.js").Message;
export type Reaction = import("./types.js").Reaction;
export type Marks = import("./types.js").Marks;
/** The seq that an EDIT or REACTION entry names; null for any other entry, and where it is not an earlier one.
 * @param {Message} entry @returns {number | null} */
export declare function namedSeq({ seq, payload }: Message): number | null;
/** What a message says: by its newest edit where there is one, and of a stream that is open with its text so far.
 * @param {{payload: import("./types.js").Payload, marks?: Marks}} message */
export declare function contentOf({ payload, marks }: {
    payload: import("./types.js").Payload;
    marks?: Marks;
}): import("./types.js").Payload;
/** Whether it is a streamed message that grows still, as far as is known here.
 * @param {{payload: import("./types.js").Payload, marks?: Marks}} message */
export declare function isOpen({ payload, marks }: {
    payload: import("./types.js").Payload;
    marks?: Marks;
}): boolean;
/** Whether it is a streamed message that ended before it was finished. @param {{marks?: Marks}} message */
export declare function isCutOff({ marks }: {
    marks?: Marks;
}): boolean;
/** An entry of a page or of another answer, with what it says beside the entry. @param {any} entry
 * @param {number} headSeq up to where that counts @returns {Message} */
export declare function messageOf({ edit, reactions, stream, ...entry }: any, headSeq: number): Message;
/** @param {number} seq @param {number} serverTs @param {import("./types.js").Payload | null} payload @param {unknown} ends
 * @returns {import("./types.js").Edit} */
export declare function editOf(seq: number, serverTs: number, payload: import("./types.js").Payload | null, ends: unknown): import("./types.js").Edit;
/**
 * The messages as they read now.
 *
 * @param {Message[]} messages as they are held
 * @param {Message[]} naming EDIT and REACTION entries, in any order, each maybe more than once; what they name may be missing
 */
export declare function marked(messages: Message[], naming: Message[]): import("./types.js").Message[];
