export type WireEvent = import("./types.js").WireEvent;
export type Status = import("./types.js").Status;
/** What to do after a close code of the contract. @param {number} code @returns {"replaced" | "refused" | "login" | "again"} */
export declare function afterClose(code: number): "replaced" | "refused" | "login" | "again";
/**
 * States, told to `onState({state, ...})`: connecting, online {welcome after a login}, checking (logged in, but perhaps the
 * line is dead), waiting {untilMs, code, reason}, replaced, loggedOut, refused {code, reason}, stopped. Every event after WELCOME goes to
 * `onEvent`; one frame's events in order.
 */
export declare class Connection {
    #private;
    /**
     * @param {import("./types.js").Ports & {url: string, deviceId: string, tokens: Pick<import("./tokens.js").TokenSource,
     *   "get" | "held" | "refused" | "renewable">, onEvent: (event: WireEvent) => void, onState: (status: Status) => void,
     *   WebSocket: typeof WebSocket}} parts
     */
    constructor(parts: import("./types.js").Ports & {
        url: string;
        deviceId: string;
        tokens: Pick<import("./tokens.js").TokenSource, "get" | "held" | "refused" | "renewable">;
        onEvent: (event: WireEvent) => void;
        onState: (status: Status) => void;
        WebSocket: typeof WebSocket;
    });
    /** Whether it is logged in. */
    get online(): boolean;
    /** Connect now, whatever was going on: at the start, with a new login, or after "use here". */
    open(): void;
    /** Give up the connection for good, until `open`. */
    stop(): void;
    /** Connect at once if the page is only waiting: the user asked for it. */
    hurry(): void;
    /** The network is another one, or the page comes out of the browser's cache: connect, or look whether the line lives. */
    networkChanged(): void;
    /** Somebody looks at the page again, or the machine slept: the same, unless the line gave signs of life meanwhile. */
    wake(): void;
    /** Send one event if online; returns whether it was handed to the socket. @param {WireEvent} event */
    send(event: WireEvent): boolean;
    /** The app has a new token: show it, or connect with it where that was waited for. One that was replaced, refused or stopped is not
     * opened by it. @param {string} token */
    renew(token: string): void;
    /** Show a new token to the open connection; one that opens later shows the token that is held then. @param {string} token */
    present(token: string): void;
    /** Break the connection and come back: for answers that never arrive. */
    restart(): void;
}
