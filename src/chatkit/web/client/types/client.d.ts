export type Message = import("./types.js").Message;
export type Payload = import("./types.js").Payload;
export type Sent = import("./types.js").Sent;
export type Pending = import("./types.js").Pending;
export type Conversation = import("./conversation.js").Conversation;
export type ChatEvent = import("./events.js").ChatEvent;
export type Named = {
    messageId: string;
    seq: number;
};
import { HttpClient } from "./http_client.js";
export type Options = {
    /**
     * where the server is: below it lies `/v1`. Left out: where this module came from
     */
    url?: string | URL;
    /**
     * a token, or a function that makes a fresh one, asked when one is needed; left
     * out or null: the browser's cookies are the login
     */
    token?: import("./tokens.js").Token;
    /**
     * who the token is for; needed to keep anything where it is no JWT with a `sub`
     */
    userId?: string;
    /**
     * left out: the token's, else one for this tab that outlives it
     */
    deviceId?: string;
    /**
     * left out: IndexedDB where the browser lets, else memory; not used where nobody
     * says who the user is
     */
    store?: import("./types.js").LocalStore;
    /**
     * for tests and other hosts
     */
    WebSocket?: typeof WebSocket;
    /**
     * likewise; uploads go by it too then, and tell of no progress on the way
     */
    fetch?: typeof fetch;
    /**
     * clock, chance and timers, likewise
     */
    ports?: import("./types.js").Ports;
};
/**
 * @typedef {object} Options
 * @property {string | URL} [url] where the server is: below it lies `/v1`. Left out: where this module came from
 * @property {import("./tokens.js").Token} [token] a token, or a function that makes a fresh one, asked when one is needed; left
 *   out or null: the browser's cookies are the login
 * @property {string} [userId] who the token is for; needed to keep anything where it is no JWT with a `sub`
 * @property {string} [deviceId] left out: the token's, else one for this tab that outlives it
 * @property {import("./types.js").LocalStore} [store] left out: IndexedDB where the browser lets, else memory; not used where nobody
 *   says who the user is
 * @property {typeof WebSocket} [WebSocket] for tests and other hosts
 * @property {typeof fetch} [fetch] likewise; uploads go by it too then, and tell of no progress on the way
 * @property {import("./types.js").Ports} [ports] clock, chance and timers, likewise
 */
/**
 * A user's conversations on this device, kept up to date over one connection that comes back by itself.
 *
 * Nothing that was sent is lost: a message is in the local store before it leaves, and goes out again under the same key until
 * the server has it. Everything that is shown here is shown offline too.
 */
export declare class ChatClient extends HttpClient {
    #private;
    /** @param {Options} [options] */
    constructor(options?: Options);
    /**
     * Read what is kept and connect. Once it resolves, `conversations()` shows what was there and `send` queues; the connection
     * may come later, and comes back by itself until `close`. Calling it again is nothing.
     *
     * A token function that fails, or gives nothing, is asked again after growing waits, and each time there is an `error` NO_TOKEN.
     * Without `userId` that is waited for: only the first token says whose messages to show.
     */
    start(): Promise<void>;
    /** Give up the connection. What is pending stays in the store, for the next client of this user on this device. */
    close(): void;
    /** Close, and delete the messages that this browser keeps, as for signing out; what is pending stays until it is sent. */
    forget(): Promise<void>;
    /** A new token in place of the former one, for the connection that is open or the next one; after `loggedOut` it connects.
     * @param {string} token */
    renew(token: string): void;
    /** Connect now instead of later; also after `replaced`, `loggedOut` and `refused`. After `close` it is nothing. */
    reconnect(): void;
    /** The user's id; "" before it is known. */
    get me(): string;
    /** The id of this device; "" before `start` has resolved. */
    get deviceId(): string;
    /** How the connection is. */
    get status(): import("./types.js").Status;
    /** Whether it is logged in. */
    get online(): boolean;
    /** Whether the server has told of all conversations since the start; before that only what was kept is there. */
    get ready(): boolean;
    /** Whether the server could not be reached since the start. */
    get unreached(): boolean;
    /** The server's time now, as far as known, in Unix milliseconds. */
    get serverNow(): number;
    /** Whether messages outlive this page. */
    get keeps(): boolean;
    /** The user's conversations, newest activity first, live: `change` says when they are other ones. Those that were left are not
     * among them. @returns {Conversation[]} */
    conversations(): Conversation[];
    /** One conversation, live, be it left; undefined if it is not known here. @param {string} conversationId */
    conversation(conversationId: string): import("./conversation.js").Conversation | undefined;
    /** Own messages without an answer, and those refused for good, oldest first. @param {string} [conversationId] @returns {Pending[]} */
    pending(conversationId?: string): Pending[];
    /**
     * All events from now on, for `for await`; several readers may read. See events.js for what there is.
     *
     * @returns {AsyncIterable<ChatEvent> & AsyncIterator<ChatEvent, undefined>}
     */
    events(): AsyncIterable<ChatEvent> & AsyncIterator<ChatEvent, undefined>;
    /**
     * Send a message. It is kept and queued when this returns, or once `start` is over, in the order of the calls; the promise is for its
     * answer.
     *
     * @param {string} conversationId
     * @param {string | Payload} message a text, or a payload such as `{ type: "CUSTOM", schema, data, fallbackText }`
     * @param {{replyTo?: Named, mentions?: string[], clientMsgId?: string, signal?: AbortSignal}} [options] `replyTo`: an earlier message
     *   that it answers. `mentions`: up to 50 users whom it mentions, by id, `*` for everybody. `clientMsgId`: the message's key for ever; sending it again gives the same answer. `signal` ends the waiting, not
     *   the sending
     * @returns {Promise<Sent>} stored on the server
     * @throws {ChatError} refused for good; HELD: a moderator looks at it first; STORAGE, QUEUE_FULL, BAD_REQUEST, TOO_LARGE: not
     *   queued; CLOSED: the client was closed, and it stays queued, unless that was before `start` was over
     */
    send(conversationId: string, message: string | Payload, { replyTo, mentions, clientMsgId, signal }?: {
        replyTo?: Named;
        mentions?: string[];
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<Sent>;
    /**
     * Say one's own message in other words. It is sent as a message is, with the same promises and errors.
     *
     * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
     * @param {string | Payload} content what it says now
     * @param {{clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
     */
    edit(message: Named & {
        conversationId: string;
    }, content: string | Payload, options?: {
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<import("./types.js").Sent>;
    /**
     * Begin a message that grows while it is written, such as the answer of a language model: `await stream.write(...)`, and in the end
     * `await stream.end()`, or `cutOff()` where it will not be finished.
     *
     * Members see it grow (the event `streamgrew`), and who comes later gets the whole. It begins and ends by what `send` does. What is
     * written in between goes out as soon as it can, and is joined where the line is slow. After a cut it goes on where it was. Where
     * nothing is heard of this page for a minute, the server ends it as cut off; `end` still brings all of it, within the time for edits.
     *
     * @param {string} conversationId
     * @param {string} [text] what it begins with
     * @param {{replyTo?: Named, fallbackText?: string, clientMsgId?: string, signal?: AbortSignal}} [options] `fallbackText`: shown by
     *   clients that do not know of streams, until its end; `clientMsgId`: its key for ever, at most 124 characters; its end has the
     *   key with `-end` after it, or `-cut`. A stream that an earlier try began under it goes on without parts: its end is what counts. `signal`
     *   ends the waiting, and takes back a beginning that never left; one that may have left comes as an empty message, which is cut off
     * @returns {Promise<import("./message_stream.js").MessageStream>} once its beginning is durable
     * @throws {ChatError} as `send`
     */
    stream(conversationId: string, text?: string, options?: {
        replyTo?: Named;
        fallbackText?: string;
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<import("./message_stream.js").MessageStream>;
    /**
     * React to a message, or (`removed`) do so no more. It is sent as a message is, with the same promises and errors.
     *
     * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
     * @param {string} reaction an emoji, or any other text of 1 to 64 characters
     * @param {{removed?: boolean, clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
     */
    react(message: Named & {
        conversationId: string;
    }, reaction: string, { removed, ...options }?: {
        removed?: boolean;
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<import("./types.js").Sent>;
    /**
     * Pin a message, or (`pinned: false`) unpin it. It is sent as a message is, with the same promises and errors; `pins` says what is
     * pinned, 50 at most.
     *
     * @param {Named & {conversationId: string}} message as `messages`, `history` or `send` gave it
     * @param {{pinned?: boolean, clientMsgId?: string, signal?: AbortSignal}} [options] as of `send`
     */
    pin(message: Named & {
        conversationId: string;
    }, { pinned, ...options }?: {
        pinned?: boolean;
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<import("./types.js").Sent>;
    /**
     * Take a message back that surely never left, or that was refused for good.
     *
     * @param {string} conversationId
     * @param {string} clientMsgId
     * @returns {"CANCELLED" | "MAY_BE_SENT" | "UNKNOWN"} MAY_BE_SENT: it may be stored on the server; UNKNOWN: nothing has this key
     */
    cancel(conversationId: string, clientMsgId: string): "CANCELLED" | "MAY_BE_SENT" | "UNKNOWN";
    /**
     * Messages of the past, ascending: the newest `limit` below `beforeSeq`, or of all. Fetches what is not here, and keeps of it what
     * fits beside the conversation's `messages`; offline it gives what is here, which may be fewer.
     *
     * @param {string} conversationId
     * @param {{beforeSeq?: number, limit?: number}} [options] `limit`: 1 to 1,000, 50 by default
     * @returns {Promise<Message[]>}
     * @throws {ChatError} NOT_FOUND, or what the server refused it with
     */
    history(conversationId: string, { beforeSeq, limit }?: {
        beforeSeq?: number;
        limit?: number;
    }): Promise<Message[]>;
    /** The user has read up to here, or everything that is loaded. Kept until the server knows. @param {string} conversationId @param {number} [upToSeq] */
    markRead(conversationId: string, upToSeq?: number): void;
    /** The user is writing; call it as often as keys are pressed. @param {string} conversationId */
    typing(conversationId: string): void;
    /** Withdraw a message for everybody. @param {string} messageId @returns {Promise<Sent>} of the entry that says so
     * @throws {ChatError} RECALL_WINDOW_PASSED, FORBIDDEN, OFFLINE, NO_ANSWER */
    recall(messageId: string): Promise<Sent>;
    /** Begin a conversation; one of the same two people that exists is given instead.
     * @param {{type: "SINGLE" | "GROUP", memberIds: string[], conversationId?: string, title?: string}} fields
     * @returns {Promise<Conversation>} */
    create(fields: {
        type: "SINGLE" | "GROUP";
        memberIds: string[];
        conversationId?: string;
        title?: string;
    }): Promise<Conversation>;
    /** Say that somebody looks at this conversation, or with null at none: it is fetched before all others. @param {string | null} conversationId */
    focus(conversationId: string | null): void;
    /** Say whether the newest message of the conversation in focus is in view; while it is not, more of the past is kept. @param {boolean} atEnd */
    viewing(atEnd: boolean): void;
    /**
     * Upload a file and send a message that shows it: IMAGE, VOICE, or FILE for all else. Called again with the same `clientMsgId`
     * after it failed, it goes on with the upload where that was cut off, and sends the message once.
     *
     * @param {string} conversationId
     * @param {import("./media.js").Source} source as of `upload`, like `mime`, `name`, `onProgress`
     * @param {{mime?: string, name?: string, onProgress?: import("./media.js").OnProgress, replyTo?: Named, clientMsgId?: string,
     *   signal?: AbortSignal}} [options] the others as of `send`
     * @returns {Promise<Sent>}
     * @throws {ChatError} as `upload` and `send`
     */
    sendFile(conversationId: string, source: import("./media.js").Source, { replyTo, clientMsgId, ...options }?: {
        mime?: string;
        name?: string;
        onProgress?: import("./media.js").OnProgress;
        replyTo?: Named;
        clientMsgId?: string;
        signal?: AbortSignal;
    }): Promise<Sent>;
    /** The user's devices are not woken for a conversation. What is unread counts all the same.
     * @param {string} conversationId @param {Date | number | null} [until] when that ends, a Date or Unix milliseconds; left out: never
     * @param {{level?: "MENTIONS" | "NONE"}} [options] `level`: what wakes them all the same, what mentions the user or nothing
     * @returns {Promise<void>} @throws {ChatError} NOT_FOUND, OFFLINE */
    mute(conversationId: string, until?: Date | number | null, { level }?: {
        level?: "MENTIONS" | "NONE";
    }): Promise<void>;
    /** The user's devices are woken for a conversation again. @param {string} conversationId
     * @returns {Promise<void>} @throws {ChatError} NOT_FOUND, OFFLINE */
    unmute(conversationId: string): Promise<void>;
    /** Say whether the user is at this device or away from it; it holds for later connections too. A device that says nothing is
     * ONLINE while it is connected. @param {"ONLINE" | "AWAY"} state */
    setPresence(state: "ONLINE" | "AWAY"): void;
}
