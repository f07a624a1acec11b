export type Payload = import("./types.js").Payload;
export type Sent = import("./types.js").Sent;
export type StreamEnd = "WHOLE" | "CUT_OFF";
export type Named = {
    messageId: string;
    seq: number;
};
export type Parts = import("./types.js").Ports & {
    ended: AbortSignal;
    online: () => Promise<unknown>;
    ask: (event: import("./types.js").WireEvent) => Promise<any>;
    grew: (part: number, text: string) => void;
    end: (content: string | Payload, ends: StreamEnd) => Promise<Sent>;
};
/**
 * Begin a streamed message; resolves once its beginning is durable. See `ChatClient.stream`.
 *
 * @param {string} conversationId
 * @param {string} text
 * @param {{fallbackText?: string, clientMsgId?: string, replyTo?: Named, signal?: AbortSignal}} options
 * @param {import("./types.js").Ports & Pick<Parts, "ended" | "online" | "ask"> & {
 *   send: (payload: Payload, options: {clientMsgId: string, replyTo?: Named, signal?: AbortSignal}) => Promise<Sent>,
 *   cancel: (clientMsgId: string) => unknown, streams: import("./open_streams.js").OpenStreams, changed: () => void}} parts
 */
export declare function beginStream(conversationId: string, text: string, { fallbackText, clientMsgId, ...options }: {
    fallbackText?: string;
    clientMsgId?: string;
    replyTo?: Named;
    signal?: AbortSignal;
}, parts: import("./types.js").Ports & Pick<Parts, "ended" | "online" | "ask"> & {
    send: (payload: Payload, options: {
        clientMsgId: string;
        replyTo?: Named;
        signal?: AbortSignal;
    }) => Promise<Sent>;
    cancel: (clientMsgId: string) => unknown;
    streams: import("./open_streams.js").OpenStreams;
    changed: () => void;
}): Promise<MessageStream>;
export declare class MessageStream {
    #private;
    /** The answer to its beginning: its id and its place. */
    sent: import("./types.js").Sent;
    parts: Parts;
    /** How many parts are durable at the server. */
    ackedParts: number;
    /**
     * @param {Sent} sent the answer to its beginning
     * @param {string} text what it begins with
     * @param {Parts} parts
     * @param {boolean} isKnown whether an earlier try may have begun it, and have written something else
     */
    constructor(sent: Sent, text: string, parts: Parts, isKnown: boolean);
    /** All that was written so far. */
    get text(): string;
    /**
     * Add to the message. Resolves at once, or once there is room: at most 8 KiB are not acknowledged yet. What was given is part of the
     * message when this returns, in the order of the calls. Without a connection it waits for one.
     *
     * @param {string} text
     * @throws {ChatError} BAD_REQUEST: what no payload may hold, or it has ended; TOO_LARGE: all of it would be above 60 KiB; then nothing
     *   was added. STREAM_ENDED: the message was recalled; CLOSED
     */
    write(text: string): Promise<void>;
    /**
     * End it as finished; resolves once that is durable. A second call has the answer of the first.
     *
     * @param {string | Payload} [content] what the message says in the end; left out, what was written
     * @returns {Promise<Sent>}
     * @throws {ChatError} as `ChatClient.send`; STREAM_ENDED: it was recalled. With BAD_REQUEST, TOO_LARGE, STORAGE and QUEUE_FULL it goes
     *   on as if this had not been called
     */
    end(content?: string | Payload): Promise<Sent>;
    /** End it as it is, for it will not be finished; resolves once that is durable, with null where the message was recalled: then
     * nothing is left to end. @returns {Promise<Sent | null>} @throws {ChatError} as `end`, without STREAM_ENDED */
    cutOff(): Promise<Sent | null>;
}
