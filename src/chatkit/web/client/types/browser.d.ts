/** The worker that counts; of another origin it is reached through a module that only imports it, where the page's policy lets. */
export declare function makeWorker(): Worker;
/** The browser's clock and chance, with timers that fire in hidden tabs. @param {import("./timers.js").Timers} timers
 * @returns {import("./types.js").Ports} */
export declare function portsOf(timers: import("./timers.js").Timers): import("./types.js").Ports;
/** @param {string | URL} url */
export declare function directoryOf(url: string | URL): URL;
/** @param {URL} base */
export declare function socketUrl(base: URL): string;
/** What the browser has, or null where it denies it: then even naming it may throw. @template T @param {() => T} get */
export declare function allowed<T>(get: () => T): NonNullable<T> | null;
/**
 * Networks change, pages come out of the browser's cache, and machines sleep: then the line is looked at, at once. Returns what
 * ends the watching.
 *
 * @param {{networkChanged: () => void, wake: () => void}} connection
 * @returns {() => void}
 */
export declare function watchBrowser(connection: {
    networkChanged: () => void;
    wake: () => void;
}): () => void;
