/** Fire ids after a wait: takes `{id, delayMs}` to begin and `{id}` to give up, and calls `fire(id)` when one is over.
 * @param {(id: number) => void} fire @returns {(message: {id: number, delayMs?: number}) => void} */
export declare function countdowns(fire: (id: number) => void): (message: {
    id: number;
    delayMs?: number;
}) => void;
/** `setTimeout` and `clearTimeout` that count in a worker, and in the page itself where the browser allows no worker. */
export declare class Timers {
    #private;
    /** @param {() => Worker} makeWorker makes the worker of timer_worker.js; may throw */
    constructor(makeWorker: () => Worker);
    /** @param {() => void} action @param {number} delayMs */
    setTimeout(action: () => void, delayMs: number): number;
    /** @param {any} id */
    clearTimeout(id: any): void;
    /** Nothing fires any more. */
    close(): void;
}
