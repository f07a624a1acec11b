export type WireEvent = import("./types.js").WireEvent;
export type Asked = {
    event: WireEvent;
    resolve: (answer: any) => void;
    reject: (error: ChatError) => void;
    timer: any;
};
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {{event: WireEvent, resolve: (answer: any) => void, reject: (error: ChatError) => void, timer: any}} Asked */
import { ChatError } from "./errors.js";
export declare class Requests {
    #private;
    parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    };
    /** @param {import("./types.js").Ports & {line: import("./types.js").Line}} parts */
    constructor(parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
    });
    /**
     * Send an event, and wait for what `answered` is told. An answer that does not come breaks the connection.
     *
     * @param {WireEvent} event
     * @returns {Promise<any>}
     * @throws {ChatError} the server's refusal; OFFLINE: there is no connection; NO_ANSWER: it broke before the answer; QUEUE_FULL
     */
    ask(event: WireEvent): Promise<any>;
    /** What an answer or ERROR is for, which waits no more; null if nobody asked. @param {WireEvent} answer @returns {Asked | null} */
    take({ ref }: WireEvent): Asked | null;
    /** The connection is gone, and with it whatever was to answer. */
    disconnected(): void;
}
