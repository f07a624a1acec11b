export type Payload = {
    type: string;
    [field: string]: any;
};
export type Reaction = {
    reaction: string;
    count: number;
    userIds: string[];
};
export type Edit = {
    seq: number;
    serverTs: number;
    payload: Payload | null;
    ends?: "WHOLE" | "CUT_OFF";
};
export type Marks = {
    asOfSeq: number;
    edit: Edit | null;
    reactions: Reaction[];
    stream?: {
        parts: number;
        text: string;
    };
};
export type Message = {
    conversationId: string;
    epoch: string;
    messageId: string;
    seq: number;
    senderId: string;
    serverTs: number;
    payload: Payload;
    clientMsgId?: string;
    marks?: Marks;
};
export type Head = {
    conversationId: string;
    type: string;
    epoch: string;
    headSeq: number;
    firstSeq: number;
    deliveredSeq: number;
    readSeq: number;
    othersDeliveredSeq: number;
    othersReadSeq: number;
    title?: string;
    lastActivityTs?: number;
    mutedUntil?: number;
    notify?: "MENTIONS" | "NONE";
};
export type Page = {
    conversationId: string;
    epoch: string;
    headSeq: number;
    messages: Message[];
    upToSeq: number;
    more: boolean;
    floorSeq?: number;
    ref?: string;
};
export type WireEvent = {
    event: string;
    [field: string]: any;
};
export type Sent = {
    conversationId: string;
    clientMsgId: string;
    messageId: string;
    seq: number;
    serverTs: number;
    payload?: Payload;
};
export type PendingSend = {
    conversationId: string;
    clientMsgId: string;
    payload: Payload;
    sizeBytes: number;
    order: number;
    atMs: number;
};
export type Pending = PendingSend & {
    state: "SENDING" | "HELD" | "FAILED";
    error: import("./errors.js").ChatError | null;
};
export type Ports = {
    now: () => number;
    random: () => number;
    setTimeout: (action: () => void, delayMs: number) => any;
    clearTimeout: (id: any) => void;
};
export type Line = {
    readonly online: boolean;
    send: (event: WireEvent) => boolean;
    restart: () => void;
};
export type Status = {
    state: "connecting" | "online" | "checking" | "waiting" | "replaced" | "loggedOut" | "refused" | "stopped";
    welcome?: WireEvent;
    untilMs?: number;
    code?: number;
    reason?: string;
    error?: import("./errors.js").ChatError;
};
export type ConversationRecord = {
    id: string;
    type: string | null;
    title: string;
    description?: string;
    memberIds: string[] | null;
    memberCount: number | null;
    lastActivityTs: number;
    mutedUntil: number;
    notify?: "ALL" | "MENTIONS" | "NONE";
    epoch: string;
    floor: number;
    upTo: number;
    headSeq: number;
    firstSeq: number;
    readSeq: number;
    wantedReadSeq: number;
    toldSeq: number;
    othersDelivered: number;
    othersRead: number;
    left: boolean;
};
export type ConversationChange = {
    record: ConversationRecord;
    put: Message[];
    forgetAbove: number | null;
};
export type Loaded = {
    pending: PendingSend[];
    conversations: {
        record: ConversationRecord;
        messages: Message[];
    }[];
};
export type LocalStore = {
    open: (scope: string) => Loaded | Promise<Loaded>;
    addPending: (send: PendingSend) => void | Promise<void>;
    removePending: (sends: PendingSend[]) => void | Promise<void>;
    save: (changes: ConversationChange[]) => void | Promise<void>;
    forget: () => void | Promise<void>;
    close: () => void;
};
/** What a message says: `TEXT {text}`, `CUSTOM {schema, data, fallbackText}` or another type of the contract. One that this
 * client does not know keeps its place in the log and shows its `fallbackText`.
 * @typedef {{type: string, [field: string]: any}} Payload */
/** How many react to a message in one way; `userIds` are the first 50 of them.
 * @typedef {{reaction: string, count: number, userIds: string[]}} Reaction */
/** What a message says now; `payload` is null where only the server's archive has it. `ends`: it is the end of a streamed message, all
 * of it or as far as its author came; without, it is a correction.
 * @typedef {{seq: number, serverTs: number, payload: Payload | null, ends?: "WHOLE" | "CUT_OFF"}} Edit */
/** What was said of a message up to `asOfSeq`: its newest edit, and the reactions, the oldest first. `stream` is of a streamed message
 * that is open: how far it has come.
 * @typedef {{asOfSeq: number, edit: Edit | null, reactions: Reaction[], stream?: {parts: number, text: string}}} Marks */
/** One entry of a log. `clientMsgId` is there on the user's own, `marks` where something was said of it; `contentOf(message)` is
 * what it says now.
 * @typedef {{conversationId: string, epoch: string, messageId: string, seq: number, senderId: string, serverTs: number,
 *   payload: Payload, clientMsgId?: string, marks?: Marks}} Message */
/** A row of HEADS.
 * @typedef {{conversationId: string, type: string, epoch: string, headSeq: number, firstSeq: number, deliveredSeq: number,
 *   readSeq: number, othersDeliveredSeq: number, othersReadSeq: number, title?: string, lastActivityTs?: number,
 *   mutedUntil?: number, notify?: "MENTIONS" | "NONE"}} Head */
/** What SYNC_PAGE says of (lastSeq, upToSeq].
 * @typedef {{conversationId: string, epoch: string, headSeq: number, messages: Message[], upToSeq: number, more: boolean,
 *   floorSeq?: number, ref?: string}} Page */
/** Any event of the contract.
 * @typedef {{event: string, [field: string]: any}} WireEvent */
/** That a message is stored. `payload` is there where a moderator had something else stored than was sent.
 * @typedef {{conversationId: string, clientMsgId: string, messageId: string, seq: number, serverTs: number,
 *   payload?: Payload}} Sent */
/** A message without an answer. `order` rises with each send, `sizeBytes` is that of its payload, `atMs` when it was written.
 * @typedef {{conversationId: string, clientMsgId: string, payload: Payload, sizeBytes: number, order: number,
 *   atMs: number}} PendingSend */
/** What the app sees of it: SENDING, HELD (somebody is to look at it first) or FAILED (refused for good, with the `error`).
 * @typedef {PendingSend & {state: "SENDING" | "HELD" | "FAILED", error: import("./errors.js").ChatError | null}} Pending */
/** Clock, chance and timers, so that tests have their own.
 * @typedef {{now: () => number, random: () => number, setTimeout: (action: () => void, delayMs: number) => any,
 *   clearTimeout: (id: any) => void}} Ports */
/** What the parts of a client need of its connection.
 * @typedef {{readonly online: boolean, send: (event: WireEvent) => boolean, restart: () => void}} Line */
/** How the connection is, with what belongs to it: `untilMs` of `waiting` is when it is tried again, `error` that there was no token,
 * `code` and `reason` how the one before was closed.
 * @typedef {{state: "connecting" | "online" | "checking" | "waiting" | "replaced" | "loggedOut" | "refused" | "stopped",
 *   welcome?: WireEvent, untilMs?: number, code?: number, reason?: string,
 *   error?: import("./errors.js").ChatError}} Status */
/** A conversation as a store keeps it.
 * @typedef {{id: string, type: string | null, title: string, description?: string, memberIds: string[] | null,
 *   memberCount: number | null, lastActivityTs: number, mutedUntil: number, notify?: "ALL" | "MENTIONS" | "NONE", epoch: string, floor: number, upTo: number, headSeq: number, firstSeq: number,
 *   readSeq: number, wantedReadSeq: number, toldSeq: number, othersDelivered: number, othersRead: number,
 *   left: boolean}} ConversationRecord */
/** What changed in one conversation: entries above `forgetAbove` (null: none) and up to `record.floor` go, then `put` comes.
 * @typedef {{record: ConversationRecord, put: Message[], forgetAbove: number | null}} ConversationChange */
/** What a store gave back.
 * @typedef {{pending: PendingSend[], conversations: {record: ConversationRecord, messages: Message[]}[]}} Loaded */
/** Where a client keeps what must outlive a page, for one user on one device (`open` says which). Each call is one transaction:
 * all of it is kept, or the promise is rejected and nothing is. A method may answer at once instead of with a promise.
 * @typedef {{
 *   open: (scope: string) => Loaded | Promise<Loaded>,
 *   addPending: (send: PendingSend) => void | Promise<void>,
 *   removePending: (sends: PendingSend[]) => void | Promise<void>,
 *   save: (changes: ConversationChange[]) => void | Promise<void>,
 *   forget: () => void | Promise<void>,
 *   close: () => void,
 * }} LocalStore */
export {};
