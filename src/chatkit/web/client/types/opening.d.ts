export type LocalStore = import("./types.js").LocalStore;
import { ChatError } from "./errors.js";
import { MemoryStore } from "./store_memory.js";
/**
 * The token that says whose messages to show: asked for until there is one, with growing waits, of which the app is told. Null if
 * the app has said who it is, and at the end.
 *
 * @param {import("./tokens.js").TokenSource} tokens
 * @param {import("./types.js").Ports} ports
 * @param {{userId: string | undefined, waits: (status: import("./types.js").Status) => void, ended: AbortSignal}} client
 */
export declare function firstToken(tokens: import("./tokens.js").TokenSource, ports: import("./types.js").Ports, { userId, waits, ended }: {
    userId: string | undefined;
    waits: (status: import("./types.js").Status) => void;
    ended: AbortSignal;
}): Promise<string | null>;
/**
 * The user, "" where nobody says, and the device: as the app says, as the token does, or one for this tab until `release`.
 *
 * @param {string | null} token
 * @param {URL} base
 * @param {{userId?: string, deviceId?: string}} options
 */
export declare function whoIs(token: string | null, base: URL, { userId: saidUser, deviceId: saidDevice }: {
    userId?: string;
    deviceId?: string;
}): Promise<{
    userId: string;
    deviceId: string;
    release: () => void;
}>;
/**
 * The store of this user on this device and what it has; one in memory where nobody says who the user is, for what is kept then may
 * be somebody else's, and, with the `error`, where the browser keeps nothing.
 *
 * @param {LocalStore | undefined} wished
 * @param {URL} base
 * @param {string} userId
 * @param {string} deviceId
 */
export declare function openedStore(wished: LocalStore | undefined, base: URL, userId: string, deviceId: string): Promise<{
    store: import("./types.js").LocalStore;
    loaded: import("./types.js").Loaded;
    error?: undefined;
} | {
    store: MemoryStore;
    loaded: {
        pending: never[];
        conversations: never[];
    };
    error: ChatError;
}>;
