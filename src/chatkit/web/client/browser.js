// What the client asks of the browser: addresses, a worker that counts, what may be kept, and word of sleep and lost networks.

const SLEPT_MS = 5_000;
const TICK_MS = 1_000;

/** The worker that counts; of another origin it is reached through a module that only imports it, where the page's policy lets. */
export function makeWorker() {
  const url = new URL("timer_worker.js", import.meta.url);
  if (url.origin === globalThis.location?.origin) return new Worker(url, { type: "module" });
  const source = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(source), { type: "module" });
}

/** The browser's clock and chance, with timers that fire in hidden tabs. @param {import("./timers.js").Timers} timers
 * @returns {import("./types.js").Ports} */
export function portsOf(timers) {
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (action, delayMs) => timers.setTimeout(action, delayMs),
    clearTimeout: (id) => timers.clearTimeout(id),
  };
}

/** @param {string | URL} url */
export function directoryOf(url) {
  const base = new URL(url, globalThis.location?.href ?? import.meta.url);
  base.hash = base.search = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}

/** @param {URL} base */
export function socketUrl(base) {
  const url = new URL("v1/ws", base);
  url.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** What the browser has, or null where it denies it: then even naming it may throw. @template T @param {() => T} get */
export function allowed(get) {
  try {
    return get() ?? null;
  } catch {
    return null;
  }
}

/**
 * Networks change, pages come out of the browser's cache, and machines sleep: then the line is looked at, at once. Returns what
 * ends the watching.
 *
 * @param {{networkChanged: () => void, wake: () => void}} connection
 * @returns {() => void}
 */
export function watchBrowser(connection) {
  if (typeof document === "undefined") return () => {};
  const ended = new AbortController();
  const isVisible = () => document.visibilityState === "visible";
  /** @param {EventTarget} target @param {string} type @param {(event: any) => void} action */
  const on = (target, type, action) => target.addEventListener(type, action, { signal: ended.signal });
  on(globalThis, "online", () => connection.networkChanged());
  on(globalThis, "offline", () => connection.networkChanged());
  on(globalThis, "pageshow", ({ persisted }) => persisted && connection.networkChanged());
  on(document, "resume", () => connection.wake()); // the browser had frozen the page
  on(document, "visibilitychange", () => isVisible() && connection.wake());
  let lastMs = Date.now();
  const ticking = setInterval(() => {
    const slept = Date.now() - lastMs > SLEPT_MS; // more time went by than the page was awake for
    lastMs = Date.now();
    if (slept && isVisible()) connection.wake();
  }, TICK_MS);
  ended.signal.addEventListener("abort", () => clearInterval(ticking));
  return () => ended.abort();
}
