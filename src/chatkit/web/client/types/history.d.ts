export type Message = import("./types.js").Message;
export type Conversation = import("./conversation.js").Conversation;
export type Puller = import("./puller.js").Puller;
/**
 * The newest `wanted` messages below `beforeSeq`, ascending; fewer where no more exist, or where the connection is lost.
 *
 * @param {Conversation} conversation
 * @param {number} beforeSeq
 * @param {number} wanted
 * @param {{session: import("./session.js").Session, nextChange: () => Promise<unknown>}} parts
 */
export declare function messagesBefore(conversation: Conversation, beforeSeq: number, wanted: number, { session, nextChange }: {
    session: import("./session.js").Session;
    nextChange: () => Promise<unknown>;
}): Promise<import("./types.js").Message[]>;
