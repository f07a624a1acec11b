import { Timers } from "/v1/client/timers.js";
import { equal } from "/tests/javascript/check.js";

const makeWorker = () => new Worker("/v1/client/timer_worker.js", { type: "module" });

/** What happens while the page's own timers stand still, as in a hidden tab. */
async function withoutOwnTimers(action) {
  const own = window.setTimeout;
  window.setTimeout = () => 0;
  try {
    return await action();
  } finally {
    window.setTimeout = own;
  }
}

export const tests = {
  async "timers fire in order of time while the page's own stand still"() {
    const fired = await withoutOwnTimers(async () => {
      const timers = new Timers(makeWorker);
      const order = [];
      await new Promise((done) => {
        timers.setTimeout(done, 60);
        timers.setTimeout(() => order.push("second"), 30);
        timers.setTimeout(() => order.push("first"), 0);
      });
      return order;
    });
    equal(fired, ["first", "second"]);
  },

  async "what was taken back does not fire"() {
    const timers = new Timers(makeWorker);
    const fired = [];
    const taken = timers.setTimeout(() => fired.push("taken back"), 0);
    const late = timers.setTimeout(() => timers.clearTimeout(other), 1);
    const other = timers.setTimeout(() => fired.push("too late"), 20);
    timers.clearTimeout(taken);
    timers.clearTimeout(undefined);
    await new Promise((done) => timers.setTimeout(done, 40));
    timers.clearTimeout(late);
    equal(fired, []);
  },

  async "where a worker is not allowed, or does not start, the page counts itself"() {
    const refusing = () => {
      throw new DOMException("no", "SecurityError");
    };
    const target = new EventTarget();
    target.postMessage = () => {};
    const [refused, failing] = [new Timers(refusing), new Timers(() => target)];
    const fired = Promise.all([refused, failing].map((timers) => new Promise((done) => timers.setTimeout(done, 1))));
    target.dispatchEvent(new Event("error"));
    await fired;
  },
};
