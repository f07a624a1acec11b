export type WireEvent = import("./types.js").WireEvent;
export type Payload = import("./types.js").Payload;
export type Sent = import("./types.js").Sent;
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Payload} Payload */
/** @typedef {import("./types.js").Sent} Sent */
import { Answers } from "./answers.js";
import { Conversation } from "./conversation.js";
import { Cursors } from "./cursors.js";
import { Directory } from "./directory.js";
import { Keeper } from "./keeper.js";
import { Logs } from "./logs.js";
import { Outbox } from "./outbox.js";
import { Requests } from "./requests.js";
export declare class Session {
    #private;
    parts: import("./types.js").Ports & {
        connection: import("./types.js").Line;
        api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts" | "createConversation">;
        store: Pick<import("./types.js").LocalStore, "save" | "addPending" | "removePending">;
        emit: (type: string, detail: any) => void;
        changed: () => void;
        tokenExpiring: (expiresTs: number) => void;
    };
    directory: Directory;
    outbox: Outbox;
    cursors: Cursors;
    keeper: Keeper;
    requests: Requests;
    answers: Answers;
    logs: Logs;
    me: string;
    limits: {
        payloadBytes: number;
    };
    serverAheadMs: number;
    /** @type {import("./types.js").Status} */
    status: import("./types.js").Status;
    /** Whether the server has told of all conversations. */
    ready: boolean;
    /** Whether the server could not be reached since the start. */
    unreached: boolean;
    /** @type {Map<string, Conversation>} */
    conversations: Map<string, Conversation>;
    /** @type {string | null} the one that goes before all others */
    focusId: string | null;
    /** @type {"ONLINE" | "AWAY"} what the app says of the user; each connection begins as ONLINE */
    presence: "ONLINE" | "AWAY";
    readsPast: boolean;
    hasStoreFailed: boolean;
    /** @type {Map<string, number>} by conversation */
    typedAtMs: Map<string, number>;
    /**
     * @param {import("./types.js").Ports & {connection: import("./types.js").Line,
     *   api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts" | "createConversation">,
     *   store: Pick<import("./types.js").LocalStore, "save" | "addPending" | "removePending">,
     *   emit: (type: string, detail: any) => void, changed: () => void,
     *   tokenExpiring: (expiresTs: number) => void}} parts `emit` tells the app; `changed()` after any change of state
     */
    constructor(parts: import("./types.js").Ports & {
        connection: import("./types.js").Line;
        api: Pick<import("./api.js").Api, "conversations" | "conversation" | "receipts" | "createConversation">;
        store: Pick<import("./types.js").LocalStore, "save" | "addPending" | "removePending">;
        emit: (type: string, detail: any) => void;
        changed: () => void;
        tokenExpiring: (expiresTs: number) => void;
    });
    /** The conversation that goes before all others, or null. */
    get focus(): Conversation | null;
    get serverNow(): number;
    /** Messages with what is known of the streams among them. @param {import("./types.js").Message[]} messages
     * @returns {import("./types.js").Message[]} */
    shown(messages: import("./types.js").Message[]): import("./types.js").Message[];
    /** Go on with what the store kept. @param {string} userId @param {import("./types.js").Loaded} loaded */
    restore(userId: string, { pending, conversations }: import("./types.js").Loaded): void;
    /** @param {import("./types.js").Status} status */
    onState(status: import("./types.js").Status): void;
    /** @param {WireEvent} event */
    onEvent(event: WireEvent): void;
    /**
     * Keep a message durably, then send it. Throws if it is none that the server takes, or if too many wait.
     *
     * @param {string} conversationId
     * @param {string | Payload} message
     * @param {string} clientMsgId
     * @returns {Promise<Sent>}
     */
    send(conversationId: string, message: string | Payload, clientMsgId: string): Promise<Sent>;
    /** @param {string} messageId @returns {Promise<Sent>} */
    recall(messageId: string): Promise<Sent>;
    /** @param {string} conversationId @param {string} clientMsgId */
    cancel(conversationId: string, clientMsgId: string): "CANCELLED" | "MAY_BE_SENT" | "UNKNOWN";
    /** @param {string} conversationId */
    typing(conversationId: string): void;
    /** One conversation (or none) goes before all others, and the past that fills a pane is fetched. @param {string | null} conversationId */
    select(conversationId: string | null): void;
    /** Whether the newest message is in view. While the user reads the past of the first conversation, more of it is kept. @param {boolean} atEnd */
    viewing(atEnd: boolean): void;
    /** The user has read up to here, or all that is loaded. Said now or once there is a connection. @param {string} conversationId @param {number} [upToSeq] */
    markRead(conversationId: string, upToSeq?: number): void;
    /** Ask the server for a conversation. @param {object} fields @returns {Promise<Conversation>} */
    create(fields: object): Promise<Conversation>;
    /** The user's devices are not woken for a conversation until then. @param {string} conversationId @param {number} untilMs 0: they are
     * @param {"ALL" | "MENTIONS" | "NONE"} notify what wakes them all the same */
    muted(conversationId: string, untilMs: number, notify: "ALL" | "MENTIONS" | "NONE"): void;
    /** Whether the user is at this device; it holds for later connections too. @param {"ONLINE" | "AWAY"} state */
    setPresence(state: "ONLINE" | "AWAY"): void;
    /** @param {WireEvent} ack */
    acknowledged(ack: WireEvent): void;
    /** @param {WireEvent} event */
    refused(event: WireEvent): void;
    /** @param {WireEvent} event */
    receipt(event: WireEvent): void;
    /** @param {WireEvent} event */
    typedBy({ conversationId, userId }: WireEvent): void;
    /** The conversation with this id, made where it is new. @param {string} conversationId @returns {Conversation} */
    known(conversationId: string): Conversation;
}
