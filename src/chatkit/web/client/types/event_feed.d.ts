export type ChatEvent = import("./events.js").ChatEvent;
/** @typedef {import("./events.js").ChatEvent} ChatEvent */
import { EventStream } from "./events.js";
export declare class EventFeed {
    #private;
    target: EventTarget;
    /** @param {EventTarget} target whose listeners are told */
    constructor(target: EventTarget);
    /** All events from now on, for one reader. */
    stream(): EventStream;
    /** @param {ChatEvent} event */
    emit(event: ChatEvent): void;
    /** Something changed; told once a turn. */
    changed(): void;
    /** Resolves at the next change; rejected if something of this conversation was refused meanwhile. @param {string} [conversationId] */
    nextChange(conversationId?: string): Promise<any>;
    /** Nothing more is told; streams end once what waits in them is read. */
    close(): void;
}
