export type Payload = import("./types.js").Payload;
export declare const PAYLOAD_BYTES_MAX = 65536;
/** @param {unknown} value @param {string} name @returns {string} */
export declare function checkedId(value: unknown, name: string): string;
/** @param {unknown} value @returns {string} */
export declare function checkedClientMsgId(value: unknown): string;
/** @param {unknown} value @returns {string[]} */
export declare function checkedMentions(value: unknown): string[];
/** @param {unknown} value @returns {number} */
export declare function checkedSeq(value: unknown): number;
/** A text is a TEXT. @param {string | Payload} message @returns {Payload} */
export declare function payloadOf(message: string | Payload): Payload;
/**
 * The payload as it is kept and sent, and its size as JSON in UTF-8. Raises BAD_REQUEST or TOO_LARGE.
 *
 * @param {string | Payload} message a text, or a payload of the contract
 * @returns {{payload: Payload, sizeBytes: number}}
 */
export declare function checkedPayload(message: string | Payload, bytesMax?: number): {
    payload: Payload;
    sizeBytes: number;
};
/** What a text takes of the bounds of a stream: bytes as JSON in UTF-8, without the quotes. Raises BAD_REQUEST. @param {unknown} text */
export declare function textBytes(text: unknown): number;
