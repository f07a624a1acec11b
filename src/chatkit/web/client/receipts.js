// How far the other members of a conversation got, so that one's own messages can show ticks. Pure. Owned by conversation.js.

/**
 * How far the other members got, so that one's own messages can show ticks. Every value only rises.
 *
 * `least` comes from HEADS; single members' cursors from RECEIPT and GET receipts once `setMembers` was called.
 */
export class OthersCursors {
  delivered = 0;
  read = 0;
  /** @type {Map<string, {delivered: number, read: number}> | null} */
  members = null;

  /** The server's own sum over the others. @param {number} deliveredSeq @param {number} readSeq */
  setLeast(deliveredSeq, readSeq) {
    this.delivered = Math.max(this.delivered, deliveredSeq, readSeq);
    this.read = Math.max(this.read, readSeq);
  }

  /** Every other member's cursors: `[{userId, deliveredSeq, readSeq}]`; who is not listed has left.
   * @param {{userId: string, deliveredSeq: number, readSeq: number}[]} rows */
  setMembers(rows) {
    const known = this.members ?? new Map();
    this.members = new Map(rows.map((row) => [row.userId, merged(known.get(row.userId), row.deliveredSeq, row.readSeq)]));
    this.#sum();
  }

  /** A member was added by the entry at `seq`: what lies before was never for them.
   * @param {string} userId @param {number} seq */
  joined(userId, seq) {
    this.members?.set(userId, merged(this.members.get(userId), seq - 1, seq - 1));
  }

  /** One member got further. Without the list of members it counts only when `single` says
   * that they are the only one. @param {string} userId @param {number} deliveredSeq @param {number} readSeq @param {boolean} single */
  advance(userId, deliveredSeq, readSeq, single) {
    if (this.members === null) {
      if (single) this.setLeast(deliveredSeq, readSeq);
      return;
    }
    this.members.set(userId, merged(this.members.get(userId), deliveredSeq, readSeq));
    this.#sum();
  }

  /** A large group's counts for one seq.
   * @param {number} seq @param {number} deliveredCount @param {number} readCount @param {number} memberCount */
  counts(seq, deliveredCount, readCount, memberCount) {
    this.setLeast(deliveredCount >= memberCount ? seq : 0, readCount >= memberCount ? seq : 0);
  }

  /** @param {number} seq of one's own entry @returns {"SENT" | "DELIVERED" | "READ"} */
  state(seq) {
    if (this.read >= seq) return "READ";
    return this.delivered >= seq ? "DELIVERED" : "SENT";
  }

  #sum() {
    const rows = [...(this.members?.values() ?? [])];
    if (rows.length === 0) return;
    /** @param {(row: {delivered: number, read: number}) => number} pick */
    const least = (pick) => rows.reduce((lowest, row) => Math.min(lowest, pick(row)), Infinity);
    this.setLeast(least((row) => row.delivered), least((row) => row.read));
  }
}

/** @param {{delivered: number, read: number} | undefined} row @param {number} deliveredSeq @param {number} readSeq */
function merged(row, deliveredSeq, readSeq) {
  const read = Math.max(row?.read ?? 0, readSeq);
  return { delivered: Math.max(row?.delivered ?? 0, deliveredSeq, read), read };
}
