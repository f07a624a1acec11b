export type Message = import("./types.js").Message;
/** @typedef {import("./types.js").Message} Message */
import { Api } from "./api.js";
import { ChatEventTarget } from "./events.js";
import { Media } from "./media.js";
import { Timers } from "./timers.js";
import { TokenSource } from "./tokens.js";
export declare class HttpClient extends ChatEventTarget {
    #private;
    /** The parts. @protected */
    protected http: {
        timers: Timers | null;
        ports: import("./types.js").Ports;
        base: URL;
        tokens: TokenSource;
        api: Api;
        media: Media;
        ended: AbortController;
    };
    /** @param {import("./client.js").Options} options */
    constructor({ url, token, fetch: given, ports: own }: import("./client.js").Options);
    /**
     * Upload a file; resolves once the server has all of it, durably. A message that names it is sent by `send`, with `upload.payload()`.
     *
     * A file without such a message is removed after a day or so. The same content finds its former upload: nothing is sent twice,
     * and what was cut off goes on, after a reload too. A try that gets no further is repeated a few times; there is no deadline for
     * the whole. Before any of it is sent it is read once, for the name of its content.
     *
     * @param {import("./media.js").Source} source a file that was chosen, a Blob, or bytes
     * @param {{mime?: string, name?: string, onProgress?: import("./media.js").OnProgress, signal?: AbortSignal}} [options] `mime`: left out,
     *   by its content and name; `name`: left out, the file's; `onProgress(doneBytes, wholeBytes)`; `signal` ends it
     * @returns {Promise<import("./media.js").Upload>}
     * @throws {ChatError} BAD_REQUEST: empty, or (reason TYPE) its content contradicts `mime`; TOO_LARGE, QUOTA: more than the server
     *   takes, or than the user may have; NOT_FOUND: the server keeps no files; CONFIGURATION: it cannot be read, or changed
     *   meanwhile; OFFLINE, UNAVAILABLE: not now, the same call goes on; CLOSED
     */
    upload(source: import("./media.js").Source, { signal, ...options }?: {
        mime?: string;
        name?: string;
        onProgress?: import("./media.js").OnProgress;
        signal?: AbortSignal;
    }): Promise<import("./media.js").Upload>;
    /**
     * The file that a message names, as a Blob: of its own type if it is a picture, a sound or a film, else of one that no browser
     * runs. What was cut off goes on.
     *
     * @param {Message | string} message a message with a `blobId`, or that id
     * @param {{onProgress?: import("./media.js").OnProgress, signal?: AbortSignal}} [options] `onProgress(doneBytes, wholeBytes)`
     * @returns {Promise<Blob>}
     * @throws {ChatError} NOT_FOUND: recalled, expired, or not this user's to see; BAD_REQUEST: it names no file; OFFLINE, UNAVAILABLE:
     *   not now, call again; CLOSED
     */
    download(message: Message | string, { signal, ...options }?: {
        onProgress?: import("./media.js").OnProgress;
        signal?: AbortSignal;
    }): Promise<Blob>;
    /**
     * A link to the file that a message names, for `<img src>` or `<video src>`: it holds for some minutes, for whoever has it.
     *
     * @param {Message | string} message as of `download`
     * @returns {Promise<{url: string, mime: string, size: number, expiresTs: number}>}
     * @throws {ChatError} as `download`, OFFLINE at once
     */
    fileLink(message: Message | string): Promise<{
        url: string;
        mime: string;
        size: number;
        expiresTs: number;
    }>;
    /**
     * Messages at the server that the user may read and that match, the newest first.
     *
     * @param {string} query words, all of which must be found; "in quotes" they follow each other, `wor*` finds all that begin so
     * @param {import("./search.js").SearchOptions} [options] only of one conversation or sender, sent `after` (then or later) or
     *   `before`; `cursor`: `nextCursor` of the page before; `limit`: 20 by default, 50 at most
     * @returns {Promise<import("./search.js").SearchPage>}
     * @throws {ChatError} BAD_REQUEST: nothing to search for; FORBIDDEN: search is off; NOT_FOUND: no member there; OFFLINE
     */
    search(query: string, options?: import("./search.js").SearchOptions): Promise<import("./search.js").SearchPage>;
    /** One page of the members, by user id; `nextCursor` leads to the next.
     * @param {string} conversationId @param {{cursor?: string | null, limit?: number}} [options] `limit`: 50 by default
     * @returns {Promise<import("./api.js").MemberPage>} @throws {ChatError} NOT_FOUND, OFFLINE */
    members(conversationId: string, options?: {
        cursor?: string | null;
        limit?: number;
    }): Promise<import("./api.js").MemberPage>;
    /** What is pinned of what the user may see, pinned last first; at most 50. @param {string} conversationId
     * @returns {Promise<import("./api.js").Pin[]>} @throws {ChatError} NOT_FOUND, OFFLINE */
    pins(conversationId: string): Promise<import("./api.js").Pin[]>;
    /** Call a group something else, at most 256 characters; the log tells of it. @param {string} conversationId @param {string} title
     * @returns {Promise<void>} @throws {ChatError} FORBIDDEN (reason ROLE): the user's role does not allow it; NOT_FOUND, OFFLINE */
    setTitle(conversationId: string, title: string): Promise<void>;
    /** Say what a group is for, at most 1,024 characters; as `setTitle`. @param {string} conversationId @param {string} description
     * @returns {Promise<void>} */
    setDescription(conversationId: string, description: string): Promise<void>;
    /** Who of these is online now; the event `presence` says what changes later. Left out are those whom the user may not know of.
     * @param {string[]} userIds 1 to 100 @returns {Promise<import("./api.js").UserPresence[]>}
     * @throws {ChatError} FORBIDDEN: presence is off at this server; BAD_REQUEST, OFFLINE */
    presence(userIds: string[]): Promise<import("./api.js").UserPresence[]>;
    /**
     * Any HTTP request of the protocol, with this login: roles, blocks, push and so on.
     *
     * @param {string} method
     * @param {string} path such as `/v1/blocks`; nothing outside of `/v1/` gets the login
     * @param {object} [body]
     * @returns {Promise<any>} the answer; null where there is none
     * @throws {ChatError}
     */
    request(method: string, path: string, body?: object): Promise<any>;
}
