// How much of a log that was replaced by another one is the same in both. A log put back from a backup agrees with the lost one
// up to some seq, and may differ above it: entries keep their ids, and no id is given twice. So the last common entry is looked
// for from the newest one down, a window at a time. Pure. The rules are those of core/renewal.py; spec/renewal.json holds both
// to them.

/** Entries that are compared at a time. */
export const WINDOW = 50;

export class Renewal {
  #bottom; // the window ends here; what is above was compared
  #asked = 0; // how far into the window pages have come
  #hasCommon = false; // the window has an entry that is the same in both

  /**
   * @param {number} upToSeq how far both go: the lesser of what is held of the old log and the head of the new one
   * @param {number} floor nothing of the old log is held up to here
   * @param {number} deliveredSeq what this device has confirmed of the new log; it counts where nothing can be compared
   */
  constructor(upToSeq, floor, deliveredSeq) {
    /** Nothing up to here is known to differ; it only falls. */
    this.keptSeq = upToSeq;
    this.floor = floor;
    this.deliveredSeq = deliveredSeq;
    this.#bottom = upToSeq;
  }

  /** Where the next page to compare begins (not included). */
  get lastSeq() {
    return Math.max(this.#asked, this.#windowStart);
  }

  get #windowStart() {
    return Math.max(0, this.#bottom - WINDOW);
  }

  /**
   * Compare a page (lastSeq, upToSeq] of the new log with what is held of the old one. A seq that only one of the two has says
   * nothing. Returns whether the search is over: `keptSeq` is final.
   *
   * @param {number} lastSeq
   * @param {number} upToSeq
   * @param {Map<number, string>} held message ids of the old log, by seq
   * @param {Map<number, string>} listed message ids of the page, by seq
   */
  compare(lastSeq, upToSeq, held, listed) {
    if (lastSeq !== this.lastSeq) return false; // an answer to an earlier question
    const both = [...held.keys()].filter((seq) => listed.has(seq) && lastSeq < seq && seq <= this.#bottom).sort((a, b) => a - b);
    const differing = both.find((seq) => held.get(seq) !== listed.get(seq));
    this.#hasCommon ||= both.length > 0 && both[0] !== differing;
    if (differing !== undefined) this.keptSeq = this.#hasCommon ? differing - 1 : this.#windowStart;
    else if (lastSeq < upToSeq && upToSeq < this.#bottom) {
      this.#asked = upToSeq;
      return false; // a page may be shorter than the window
    }
    return this.#hasCommon || this.#goDown();
  }

  /** The window has nothing in common; go on below it. Returns whether there is nothing below it. */
  #goDown() {
    this.#bottom = this.#windowStart;
    this.#asked = 0;
    if (this.#bottom > this.floor) return false;
    this.keptSeq = Math.min(this.keptSeq, this.deliveredSeq);
    return true;
  }
}
