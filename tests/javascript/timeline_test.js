import { OthersCursors } from "../../src/chatkit/web/client/receipts.js";
import { HELD_MAX, Timeline } from "../../src/chatkit/web/client/timeline.js";
import { equal } from "./check.js";

const text = (seq, senderId = "ben") => ({ seq, senderId, payload: { type: "TEXT", text: `m${seq}` } });
const recall = (seq, target) => ({ seq, senderId: "ben", payload: { type: "RECALL", seq: target } });
const page = (headSeq, upToSeq, ...messages) => ({ headSeq, upToSeq, messages, more: upToSeq < headSeq });
const seqs = (timeline, own) => timeline.shown(own).map((entry) => entry.seq);

export const tests = {
  "entries in order are shown once"() {
    const timeline = new Timeline("e", 0);
    equal([timeline.accept(text(1)), timeline.accept(text(1)), timeline.accept(text(2))], [true, false, true]);
    equal(seqs(timeline), [1, 2]);
    equal(timeline.missingAfter(), null);
  },

  "entries above a hole wait until it is closed by a push"() {
    const timeline = new Timeline("e", 0);
    for (const seq of [1, 4, 3]) timeline.accept(text(seq));
    equal([seqs(timeline), timeline.missingAfter()], [[1], 1]);
    timeline.accept(text(2));
    equal([seqs(timeline), timeline.missingAfter()], [[1, 2, 3, 4], null]);
  },

  "a page closes a hole, and what it does not list is no hole"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(7));
    timeline.page(0, page(7, 6, text(2), text(5)));
    equal([seqs(timeline), timeline.upTo], [[2, 5, 7], 7]);
  },

  "a page that overlaps pushes changes nothing twice"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(1));
    timeline.accept(text(2));
    timeline.page(0, page(3, 3, text(1), text(2), text(3)));
    equal(seqs(timeline), [1, 2, 3]);
  },

  "whom many edits mention is counted by one look at each entry"() {
    const timeline = new Timeline("e", 0);
    let looks = 0;
    const mentioning = { type: "TEXT", get mentions() {
      looks += 1;
      return ["ann"];
    } };
    for (let seq = 1; seq <= 10; seq += 1) timeline.accept(text(seq));
    for (let seq = 11; seq <= 2_000; seq += 1) timeline.accept({ seq, senderId: "ben", payload: { type: "EDIT", seq: (seq % 10) + 1, payload: mentioning } });
    equal([timeline.mentions(0, "ann"), timeline.mentions(15, "ann"), timeline.mentions(0, "ben")], [10, 5, 0]);
    equal(looks <= 3 * 2_000, true, `${looks} looks`);
  },

  "one's own entries above a hole are shown already"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(1));
    timeline.accept(text(5, "ann"));
    equal([seqs(timeline, "ann"), seqs(timeline)], [[1, 5], [1]]);
  },

  "a head raises what is missing and never falls"() {
    const timeline = new Timeline("e", 10);
    timeline.reach(12);
    timeline.reach(11);
    equal([timeline.missingAfter(), timeline.headSeq], [10, 12]);
  },

  "a recall empties a held entry, and one that comes later"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(1));
    timeline.accept(recall(3, 1));
    timeline.accept(recall(4, 2));
    timeline.accept(text(2));
    equal(timeline.shown().map((entry) => entry.payload.type), ["RECALLED", "RECALLED", "RECALL", "RECALL"]);
    equal(JSON.stringify(timeline.shown()).includes("m1"), false);
  },

  "a recall that names a later seq, its own or none changes nothing"() {
    const timeline = new Timeline("e", 0);
    for (const entry of [recall(1, 3), text(2), text(3), recall(4, 4), recall(5, 0), recall(6, "2")]) timeline.accept(entry);
    const kinds = timeline.shown().map((entry) => entry.payload.type);
    equal(kinds, ["RECALL", "TEXT", "TEXT", "RECALL", "RECALL", "RECALL"]);
  },

  "entries above a hole are bounded; what is beyond comes by a page, and its recall counts at once"() {
    const timeline = new Timeline("e", 0);
    const accepted = Array.from({ length: HELD_MAX }, (_, index) => timeline.accept(text(index + 2)));
    equal(accepted.every(Boolean), true);
    const end = HELD_MAX + 2;
    equal([timeline.accept(recall(end, 2)), timeline.held.size, timeline.headSeq], [false, HELD_MAX, end]);
    equal([timeline.accept(text(1)), timeline.upTo, timeline.missingAfter()], [true, end - 1, end - 1]);
    equal(timeline.shown()[1].payload.type, "RECALLED");
    timeline.page(end - 1, page(end, end, recall(end, 2)));
    equal(timeline.missingAfter(), null);
  },

  "early recalls are bounded, and one that was forgotten still wins in the end"() {
    const timeline = new Timeline("e", 0);
    const first = 2 * HELD_MAX;
    for (let target = 2; target <= HELD_MAX + 2; target += 1) timeline.accept(recall(first + target, target));
    equal([timeline.recalls.size, timeline.recalls.has(2), timeline.recalls.has(3)], [HELD_MAX, false, true]);
    const texts = Array.from({ length: first + 1 }, (_, index) => text(index + 1));
    timeline.page(0, page(first + HELD_MAX + 2, first + 1, ...texts));
    const shown = timeline.shown().slice(0, HELD_MAX + 3);
    equal(shown.filter((entry) => entry.payload.type !== "RECALLED").map((entry) => entry.seq), [1, HELD_MAX + 3]);
  },

  "a page's word wins over an entry held above a hole"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(3));
    timeline.page(0, page(4, 3, text(1), { seq: 3, senderId: "ben", payload: { type: "RECALLED" } }));
    equal(timeline.shown().map((entry) => entry.payload.type), ["TEXT", "RECALLED"]);
  },

  "what is trimmed is a past to be loaded again"() {
    const timeline = new Timeline("e", 0);
    for (let seq = 1; seq <= 6; seq += 1) timeline.accept(text(seq));
    timeline.accept(text(9));
    timeline.trim(6);
    equal(seqs(timeline), [1, 2, 3, 4, 5, 6]);
    timeline.trim(2);
    equal([seqs(timeline), timeline.entries.size, timeline.upTo], [[5, 6], 2, 6]);
    equal([timeline.hasOlder, timeline.olderAfter(3)], [true, 1]);
    timeline.page(1, page(9, 4, text(2), text(3), text(4)));
    equal([seqs(timeline), timeline.missingAfter()], [[2, 3, 4, 5, 6], 6]);
  },

  "a page of the past that was asked before a trim is passed over"() {
    const timeline = new Timeline("e", 4);
    for (const seq of [5, 6, 7]) timeline.accept(text(seq));
    equal(timeline.olderAfter(2), 2);
    timeline.trim(1);
    timeline.page(2, page(7, 4, text(3), text(4)));
    equal([seqs(timeline), timeline.olderAfter(10)], [[7], 0]);
  },

  "another epoch forgets everything"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(1));
    timeline.reset("f");
    equal([seqs(timeline), timeline.epoch, timeline.missingAfter()], [[], "f", null]);
  },

  "the past is shown once its pages reach what is held, short pages too"() {
    const timeline = new Timeline("e", 10);
    timeline.page(10, page(12, 12, text(11), text(12)));
    equal([timeline.hasOlder, timeline.olderAfter(6)], [true, 4]);
    timeline.page(4, page(12, 8, text(6)));
    equal([seqs(timeline), timeline.olderAfter(6)], [[11, 12], 8]);
    timeline.page(8, page(12, 10, text(9), text(10)));
    equal([seqs(timeline), timeline.floor, timeline.hasOlder], [[6, 9, 10, 11, 12], 4, true]);
  },

  "nothing is asked for below the first visible entry"() {
    const timeline = new Timeline("e", 60, 50);
    equal(timeline.olderAfter(200), 49);
    timeline.page(49, page(60, 60, text(50), text(60)));
    equal([seqs(timeline), timeline.hasOlder, timeline.olderAfter(200)], [[50, 60], false, null]);
  },

  "rebase moves the start near the end, but never over what is held"() {
    const timeline = new Timeline("e", 0);
    timeline.accept(text(301));
    timeline.rebase(300, 1);
    equal([seqs(timeline), timeline.floor], [[301], 300]);
    timeline.rebase(200, 1);
    equal(timeline.floor, 300);
  },

  "unread counts others' messages that are not recalled"() {
    const timeline = new Timeline("e", 0);
    for (const entry of [text(1), text(2, "ann"), text(3), text(4), recall(5, 4)]) timeline.accept(entry);
    equal([timeline.unread(0, "ann"), timeline.unread(1, "ann"), timeline.unread(5, "ann")], [2, 1, 0]);
  },

  "ticks follow the slowest member and never go back"() {
    const others = new OthersCursors();
    others.setLeast(3, 1);
    equal([1, 2, 3, 4].map((seq) => others.state(seq)), ["READ", "DELIVERED", "DELIVERED", "SENT"]);
    others.setMembers([{ userId: "ben", deliveredSeq: 9, readSeq: 9 }, { userId: "cleo", deliveredSeq: 5, readSeq: 0 }]);
    equal([others.delivered, others.read], [5, 1]);
    others.advance("cleo", 9, 7, false);
    equal([others.delivered, others.read], [9, 7]);
    others.setMembers([{ userId: "ben", deliveredSeq: 2, readSeq: 2 }, { userId: "dora", deliveredSeq: 0, readSeq: 0 }]);
    equal([others.delivered, others.read], [9, 7]);
  },

  "a new member does not hold back what was before him"() {
    const others = new OthersCursors();
    others.setMembers([{ userId: "ben", deliveredSeq: 1, readSeq: 1 }]);
    others.joined("cleo", 5);
    others.advance("ben", 4, 4, false);
    equal([others.state(4), others.state(5)], ["READ", "SENT"]);
  },

  "one receipt counts alone only between two people"() {
    const [group, single] = [new OthersCursors(), new OthersCursors()];
    group.advance("ben", 4, 4, false);
    single.advance("ben", 4, 2, true);
    equal([group.state(1), single.state(2), single.state(4)], ["SENT", "READ", "DELIVERED"]);
  },

  "a large group's counts say when all have it"() {
    const others = new OthersCursors();
    others.counts(7, 119, 20, 120);
    equal(others.state(7), "SENT");
    others.counts(7, 120, 20, 120);
    equal(others.state(7), "DELIVERED");
  },

  "another log is compared from its end down, and nothing of it is shown before it is known what both have"() {
    const timeline = new Timeline("e", 0);
    const withId = (seq, id) => ({ ...text(seq), messageId: id });
    for (let seq = 1; seq <= 60; seq += 1) timeline.accept(withId(seq, `e-${seq}`));
    equal([timeline.renew("f", 60), timeline.renew("g", 60), timeline.missingAfter()], [true, true, 10]);
    timeline.accept(withId(61, "g-61"));
    timeline.page(5, page(60, 12, withId(12, "g-12")));
    equal([timeline.missingAfter(), timeline.shown().some((entry) => entry.messageId.startsWith("g"))], [10, false]);
    timeline.page(10, page(61, 60, withId(11, "g-11")));
    equal([timeline.missingAfter(), timeline.shown().length], [0, 60], "nothing in common there: it is looked for below");
    timeline.page(0, page(61, 10, withId(3, "e-3"), withId(4, "g-4")));
    equal([timeline.commonSeq, timeline.shown().map((entry) => entry.messageId)], [3, ["e-1", "e-2", "e-3", "g-4"]]);
    equal([timeline.missingAfter(), timeline.takeChanges(200).forgetAbove], [10, 3]);
  },

  "a store is told each entry of the past once its window reaches that, however many pages it came in"() {
    const timeline = new Timeline("e", 4);
    const told = () => {
      const { floor, put } = timeline.takeChanges(5);
      return [floor, put.map(({ seq }) => seq)];
    };
    timeline.page(4, page(6, 6, text(5), text(6)));
    equal(told(), [4, [5, 6]]);
    equal(timeline.olderAfter(4), 0);
    timeline.page(0, page(6, 2, text(1), text(2)));
    equal(told(), [4, []], "these are not shown yet");
    timeline.page(2, page(6, 4, text(3), text(4)));
    equal(told(), [1, [2, 3, 4]]);
    timeline.changeAll();
    equal(told(), [1, [2, 3, 4, 5, 6]]);
  },

  "a store is told again what it let go, where another log ends lower and its window goes down"() {
    const timeline = new Timeline("e", 0);
    const withId = (seq) => ({ ...text(seq), messageId: `m-${seq}` });
    for (let seq = 1; seq <= 9; seq += 1) timeline.accept(withId(seq));
    equal(timeline.takeChanges(3).floor, 6);
    timeline.renew("f", 7);
    timeline.page(0, page(7, 7, ...[1, 2, 3, 4, 5, 6, 7].map(withId)));
    const { floor, put, forgetAbove } = timeline.takeChanges(3);
    equal([floor, put.map(({ seq }) => seq), forgetAbove], [4, [5, 6], 7]);
  },
};
