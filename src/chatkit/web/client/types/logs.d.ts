export type Message = import("./types.js").Message;
export type WireEvent = import("./types.js").WireEvent;
export type Conversation = import("./conversation.js").Conversation;
import { OpenStreams } from "./open_streams.js";
import { Puller } from "./puller.js";
export declare class Logs {
    #private;
    parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
        emit: (type: string, detail: any) => void;
        keeper: import("./keeper.js").Keeper;
        cursors: import("./cursors.js").Cursors;
        directory: import("./directory.js").Directory;
        answers: import("./answers.js").Answers;
    };
    owner: {
        conversations: Map<string, Conversation>;
        known: (id: string) => Conversation;
        focusId: () => string | null;
        readsPast: () => boolean;
        complete: () => void;
    };
    streams: OpenStreams;
    puller: Puller;
    /**
     * @param {import("./types.js").Ports & {line: import("./types.js").Line, emit: (type: string, detail: any) => void,
     *   keeper: import("./keeper.js").Keeper, cursors: import("./cursors.js").Cursors,
     *   directory: import("./directory.js").Directory, answers: import("./answers.js").Answers}} parts
     * @param {{conversations: Map<string, Conversation>, known: (id: string) => Conversation, focusId: () => string | null,
     *   readsPast: () => boolean, complete: () => void}} owner `complete()`: all heads of this connection are here
     */
    constructor(parts: import("./types.js").Ports & {
        line: import("./types.js").Line;
        emit: (type: string, detail: any) => void;
        keeper: import("./keeper.js").Keeper;
        cursors: import("./cursors.js").Cursors;
        directory: import("./directory.js").Directory;
        answers: import("./answers.js").Answers;
    }, owner: {
        conversations: Map<string, Conversation>;
        known: (id: string) => Conversation;
        focusId: () => string | null;
        readsPast: () => boolean;
        complete: () => void;
    });
    /** A new connection: its heads begin from nothing. */
    connected(): void;
    /** @param {WireEvent} event */
    heads(event: WireEvent): void;
    /** @param {WireEvent} event */
    pushed(event: WireEvent): void;
    /** @param {Message} entry */
    accept(entry: Message): void;
    /** BEHIND: the log is longer than what is here. @param {WireEvent} event */
    behind({ conversationId, epoch, headSeq }: WireEvent): void;
    /** @param {string} conversationId @param {string} epoch @param {number} seq */
    reach(conversationId: string, epoch: string, seq: number): void;
    /** @param {WireEvent} event */
    changed({ conversationId, type, change }: WireEvent): void;
    /** @param {Conversation} conversation */
    fill(conversation: Conversation): void;
    /** Keep the newest entries; older ones are there to be loaded again. @param {Conversation} conversation */
    trim(conversation: Conversation): void;
    /** Whether more of the past would be kept. @param {Conversation} conversation */
    hasRoom(conversation: Conversation): boolean;
    /** An open stream grew. @param {WireEvent} event */
    grew(event: WireEvent): void;
}
