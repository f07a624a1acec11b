/** Entries that are compared at a time. */
export declare const WINDOW = 50;
export declare class Renewal {
    #private;
    /** Nothing up to here is known to differ; it only falls. */
    keptSeq: number;
    floor: number;
    deliveredSeq: number;
    /**
     * @param {number} upToSeq how far both go: the lesser of what is held of the old log and the head of the new one
     * @param {number} floor nothing of the old log is held up to here
     * @param {number} deliveredSeq what this device has confirmed of the new log; it counts where nothing can be compared
     */
    constructor(upToSeq: number, floor: number, deliveredSeq: number);
    /** Where the next page to compare begins (not included). */
    get lastSeq(): number;
    /**
     * Compare a page (lastSeq, upToSeq] of the new log with what is held of the old one. A seq that only one of the two has says
     * nothing. Returns whether the search is over: `keptSeq` is final.
     *
     * @param {number} lastSeq
     * @param {number} upToSeq
     * @param {Map<number, string>} held message ids of the old log, by seq
     * @param {Map<number, string>} listed message ids of the page, by seq
     */
    compare(lastSeq: number, upToSeq: number, held: Map<number, string>, listed: Map<number, string>): boolean;
}
