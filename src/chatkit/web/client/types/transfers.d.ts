export type OnBytes = (doneBytes: number) => void;
/** @typedef {(doneBytes: number) => void} OnBytes */
export declare class Transfers {
    #private;
    parts: import("./types.js").Ports & {
        base: URL;
        fetch: typeof globalThis.fetch;
        XMLHttpRequest: typeof globalThis.XMLHttpRequest | undefined;
    };
    /**
     * @param {import("./types.js").Ports & {base: URL, fetch: typeof globalThis.fetch,
     *   XMLHttpRequest: typeof globalThis.XMLHttpRequest | undefined}} parts
     */
    constructor(parts: import("./types.js").Ports & {
        base: URL;
        fetch: typeof globalThis.fetch;
        XMLHttpRequest: typeof globalThis.XMLHttpRequest | undefined;
    });
    /** Where a link leads: it is relative to the address of the API, under whatever path that is. @param {string} link */
    urlOf(link: string): string;
    /**
     * Put bytes to a link, once.
     *
     * @param {string} link
     * @param {Blob} body
     * @param {number} offset where in the file they begin
     * @param {OnBytes} onBytes told how many of them have left, as far as that is known
     * @param {AbortSignal} signal
     * @returns {Promise<any>} the answer
     * @throws {ChatError} what the server says, or (OFFLINE, to be repeated) it was cut off
     */
    put(link: string, body: Blob, offset: number, onBytes: OnBytes, signal: AbortSignal): Promise<any>;
    /**
     * Get the bytes behind a link from `offset` on, once.
     *
     * @param {string} link
     * @param {number} offset
     * @param {(isWhole: boolean) => void} begin told whether all of the file comes, whatever was asked for
     * @param {(chunk: Uint8Array<ArrayBuffer>) => void} take gets the bytes as they come
     * @param {AbortSignal} signal
     * @throws {ChatError} as `put` does
     */
    get(link: string, offset: number, begin: (isWhole: boolean) => void, take: (chunk: Uint8Array<ArrayBuffer>) => void, signal: AbortSignal): Promise<void>;
}
