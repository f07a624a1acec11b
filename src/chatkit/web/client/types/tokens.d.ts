export type Token = string | (() => string | Promise<string>) | null;
export declare class TokenSource {
    #private;
    ports: Pick<import("./types.js").Ports, "clearTimeout" | "now" | "setTimeout">;
    /** @param {Token} token @param {Pick<import("./types.js").Ports, "now" | "setTimeout" | "clearTimeout">} ports */
    constructor(token: Token, ports: Pick<import("./types.js").Ports, "now" | "setTimeout" | "clearTimeout">);
    /** Whether asking again can give another token. */
    get renewable(): boolean;
    /** The token in hand, be it old; null where there is none, and where the browser's cookies are the login. */
    get held(): string | null;
    /** A new fixed token, in place of whatever there was. @param {string} token */
    replace(token: string): void;
    /** A token for now; null where the browser's cookies are the login. A promise only if it must be asked for. */
    get(): string | Promise<string> | null;
    /** Another token than the one held. @returns {string | null | Promise<string>} */
    fresh(): string | null | Promise<string>;
    /** The server took this token for no login: the next one is made anew. @param {string | null} token */
    refused(token: string | null): void;
}
/**
 * What a token says of itself, for display and for names of what is kept; `{}` for a host's own kind. The server checks it.
 *
 * @param {string | null} token
 * @returns {{sub?: string, dev?: string, exp?: number, iat?: number}}
 */
export declare function claimsOf(token: string | null): {
    sub?: string;
    dev?: string;
    exp?: number;
    iat?: number;
};
