// Timers that fire in hidden tabs too: browsers wake a hidden page's own timers once a minute, which is too late for the
// heartbeat, but not those of a worker. Made by http_client.js; timer_worker.js is its other half.

/** Fire ids after a wait: takes `{id, delayMs}` to begin and `{id}` to give up, and calls `fire(id)` when one is over.
 * @param {(id: number) => void} fire @returns {(message: {id: number, delayMs?: number}) => void} */
export function countdowns(fire) {
  /** @type {Map<number, any>} */
  const running = new Map();
  return ({ id, delayMs }) => {
    clearTimeout(running.get(id));
    running.delete(id);
    if (delayMs !== undefined) running.set(id, setTimeout(() => void (running.delete(id) && fire(id)), delayMs));
  };
}

/** `setTimeout` and `clearTimeout` that count in a worker, and in the page itself where the browser allows no worker. */
export class Timers {
  /** @type {Map<number, {action: () => void, delayMs: number}>} by id */
  #pending = new Map();
  #count = 0;
  /** @type {(message: {id: number, delayMs?: number}) => void} */
  #send = () => {};
  /** @type {Worker | null} */
  #worker = null;

  /** @param {() => Worker} makeWorker makes the worker of timer_worker.js; may throw */
  constructor(makeWorker) {
    try {
      const worker = makeWorker();
      this.#worker = worker;
      worker.addEventListener("message", (event) => this.#fire(event.data));
      worker.addEventListener("error", () => this.#countHere());
      this.#send = (message) => worker.postMessage(message);
    } catch {
      this.#countHere(); // hidden tabs may lose their connection; they get it back when they are looked at
    }
  }

  /** @param {() => void} action @param {number} delayMs */
  setTimeout(action, delayMs) {
    const id = (this.#count += 1);
    this.#pending.set(id, { action, delayMs });
    this.#send({ id, delayMs });
    return id;
  }

  /** @param {any} id */
  clearTimeout(id) {
    if (this.#pending.delete(id)) this.#send({ id });
  }

  /** Nothing fires any more. */
  close() {
    for (const id of [...this.#pending.keys()]) this.clearTimeout(id);
    this.#worker?.terminate();
    this.#send = () => {};
  }

  /** @param {number} id */
  #fire(id) {
    const timer = this.#pending.get(id);
    this.#pending.delete(id);
    timer?.action();
  }

  /** The worker did not start: what it was to count begins anew. */
  #countHere() {
    this.#send = countdowns((id) => this.#fire(id));
    for (const [id, { delayMs }] of this.#pending) this.#send({ id, delayMs });
  }
}
