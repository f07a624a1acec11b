import { el, reconcile } from "/static/dom.js";
import { itemsOf } from "/static/messages.js";
import { equal } from "/tests/javascript/check.js";

const DAY_MS = 86_400_000;

/** A list on the page: draws rows by their keys, and says which it inserted. */
function listOf(test) {
  const list = el("ul");
  document.body.append(list);
  const observer = new MutationObserver(() => {});
  observer.observe(list, { childList: true });
  const draw = (...keys) => {
    reconcile(list, keys.map((key) => ({ key })), ({ key }) => el("li", { tabindex: -1 }, key), () => {});
    const inserted = observer.takeRecords().flatMap(({ addedNodes }) => [...addedNodes]).map((row) => row.textContent);
    return [list.innerText.replaceAll("\n", ""), inserted.join("")];
  };
  test(draw, list);
  list.remove();
}

export const tests = {
  "only what is new or has another place is inserted"() {
    listOf((draw) => {
      equal(draw("a", "b", "c"), ["abc", "abc"]);
      equal(draw("x", "b", "c"), ["xbc", "x"]);
      equal(draw("b", "c"), ["bc", ""]);
      equal(draw("c", "b"), ["cb", "c"]);
    });
  },

  "the focus goes with its row"() {
    listOf((draw, list) => {
      draw("a", "b", "c");
      list.lastElementChild.focus();
      draw("c", "a", "b");
      equal([document.activeElement === list.firstElementChild, list.firstElementChild.textContent], [true, "c"]);
    });
  },

  "a day's line stays the same while the day has more"() {
    const client = { me: "ann", serverNow: 5 * DAY_MS, pending: () => [] };
    const entry = (seq, serverTs) => ({ seq, serverTs, senderId: "ben", payload: { type: "TEXT", text: `${seq}` } });
    const linesOf = (...messages) => itemsOf({ id: "c", type: "SINGLE", messages }, client).filter(({ kind }) => kind === "day").map(({ key }) => key);
    const [second, first] = [linesOf(entry(2, DAY_MS)), linesOf(entry(1, DAY_MS), entry(2, DAY_MS))];
    equal([first, first.length], [second, 1]);
    equal(new Set(linesOf(entry(1, DAY_MS), entry(2, 3 * DAY_MS), entry(3, DAY_MS))).size, 3); // by clocks that differ
  },
};
