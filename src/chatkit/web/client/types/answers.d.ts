export type Message = import("./types.js").Message;
export type Payload = import("./types.js").Payload;
export type PendingSend = import("./types.js").PendingSend;
export type WireEvent = import("./types.js").WireEvent;
export type Conversation = import("./conversation.js").Conversation;
export declare class Answers {
    #private;
    parts: {
        requests: import("./requests.js").Requests;
        outbox: import("./outbox.js").Outbox;
        emit: (type: string, detail: any) => void;
    };
    owner: {
        me: () => string;
        known: (id: string) => Conversation;
    };
    /**
     * @param {{requests: import("./requests.js").Requests, outbox: import("./outbox.js").Outbox, emit: (type: string, detail: any) => void}} parts
     * @param {{me: () => string, known: (id: string) => Conversation}} owner
     */
    constructor(parts: {
        requests: import("./requests.js").Requests;
        outbox: import("./outbox.js").Outbox;
        emit: (type: string, detail: any) => void;
    }, owner: {
        me: () => string;
        known: (id: string) => Conversation;
    });
    /** The connection is gone; `code` is how it was closed. @param {number} [code] */
    disconnected(code?: number): void;
    /** Take a MSG_ACK. Returns the entry that it tells of, or null where its page brings it. @param {WireEvent} ack @returns {Message | null} */
    acknowledged(ack: WireEvent): Message | null;
    /** An entry of the log may be what a send still waits for. @param {Conversation} conversation @param {Message} entry */
    shown(conversation: Conversation, entry: Message): void;
    /** Take an ERROR; returns whether it was about an own message or request. @param {WireEvent} event */
    refused(event: WireEvent): boolean;
}
