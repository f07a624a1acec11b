// What the unit tests here need to compare values; no framework.

export function equal(actual, expected, why = "") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`got ${a}, expected ${b} ${why}`);
}

/** A clock that stands still until told, and timers that run by it: `{ports, advance, waits}`. */
export function clock(nowMs = 1_000) {
  const timers = new Map();
  const ports = {
    now: () => nowMs,
    random: () => 0.5,
    setTimeout: (action, delayMs) => {
      const id = Symbol();
      timers.set(id, { action, atMs: nowMs + delayMs });
      return id;
    },
    clearTimeout: (id) => timers.delete(id),
  };
  /** Let time go by: whatever is due runs, in order of time. */
  const advance = (ms) => {
    const untilMs = nowMs + ms;
    for (;;) {
      const due = [...timers].filter(([, { atMs }]) => atMs <= untilMs).sort(([, a], [, b]) => a.atMs - b.atMs)[0];
      if (!due) break;
      const [id, { action, atMs }] = due;
      timers.delete(id);
      nowMs = Math.max(nowMs, atMs);
      action();
    }
    nowMs = untilMs;
  };
  const waits = () => [...timers.values()].map(({ atMs }) => atMs - nowMs).sort((a, b) => a - b);
  return { ports, advance, waits };
}

/** The error that `action` throws. */
export function refusal(action) {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("expected a refusal");
}

/** The error that a promise is rejected with. */
export async function rejects(promise) {
  return promise.then(
    () => {
      throw new Error("expected a rejection");
    },
    (error) => error,
  );
}

/** The same value with the keys of its objects in order. */
export function sorted(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}
