export type Message = import("./types.js").Message;
export type Payload = import("./types.js").Payload;
export type WireEvent = import("./types.js").WireEvent;
/** The event that an entry is for the app; an EDIT or REACTION that says nothing readable comes as it is.
 * @param {Message} message @param {boolean} live @returns {[string, object]} */
export declare function toldOf(message: Message, live: boolean): [string, object];
/** @param {WireEvent | Message} event */
export declare function entryOf(event: WireEvent | Message): {
    conversationId: any;
    epoch: any;
    messageId: any;
    seq: any;
    serverTs: any;
};
/** @param {any} event @returns {{messageId: string, seq: number, serverTs: number, payload?: Payload}} */
export declare function sentOf({ event, messageId, seq, serverTs, payload }: any): {
    messageId: string;
    seq: number;
    serverTs: number;
    payload?: Payload;
};
