// Where the login comes from: a fixed token, a function that makes fresh ones, or none (the browser's cookies). A token that
// was made is used until it nears its end or the server refuses it. Never logged.

import { ChatError } from "./errors.js";

/** @typedef {string | (() => string | Promise<string>) | null} Token */

const MARGIN_MS = 30_000;
const TIMEOUT_MS = 10_000;

export class TokenSource {
  /** @type {Token} */
  #token;
  /** @type {string | null} */
  #held = null;
  #renewAtMs = Infinity;
  /** @type {Promise<string> | null} */
  #asking = null;

  /** @param {Token} token @param {Pick<import("./types.js").Ports, "now" | "setTimeout" | "clearTimeout">} ports */
  constructor(token, ports) {
    this.#token = checked(token);
    this.ports = ports;
  }

  /** Whether asking again can give another token. */
  get renewable() {
    return typeof this.#token === "function";
  }

  /** The token in hand, be it old; null where there is none, and where the browser's cookies are the login. */
  get held() {
    return typeof this.#token === "function" ? this.#held : this.#token;
  }

  /** A new fixed token, in place of whatever there was. @param {string} token */
  replace(token) {
    this.#token = checked(token);
    this.#held = null;
  }

  /** A token for now; null where the browser's cookies are the login. A promise only if it must be asked for. */
  get() {
    if (typeof this.#token !== "function") return this.#token;
    if (this.#held !== null && this.ports.now() < this.#renewAtMs) return this.#held;
    return this.fresh();
  }

  /** Another token than the one held. @returns {string | null | Promise<string>} */
  fresh() {
    if (typeof this.#token !== "function") return this.#token;
    this.#asking ??= this.#ask(this.#token).finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** The server took this token for no login: the next one is made anew. @param {string | null} token */
  refused(token) {
    if (token === this.#held) this.#held = null;
  }

  /** @param {() => string | Promise<string>} make */
  async #ask(make) {
    const given = await this.#inTime(Promise.resolve().then(make)).catch((cause) => {
      throw cause instanceof ChatError ? cause : noToken(`failed: ${cause?.message ?? cause}`, cause);
    });
    const token = textOf(given);
    const nowMs = this.ports.now();
    const leftMs = lifetimeMs(token, nowMs);
    this.#renewAtMs = nowMs + Math.max(leftMs - MARGIN_MS, leftMs / 2);
    this.#held = token;
    return token;
  }

  /** @template T @param {Promise<T>} asked @returns {Promise<T>} */
  #inTime(asked) {
    return new Promise((resolve, reject) => {
      const late = () => reject(noToken("took too long"));
      const timer = this.ports.setTimeout(late, TIMEOUT_MS);
      asked.then(resolve, reject).finally(() => this.ports.clearTimeout(timer));
    });
  }
}

/** What a token function gave, without spaces around it. @param {unknown} given */
function textOf(given) {
  const token = typeof given === "string" ? given.trim() : "";
  if (token === "") throw noToken(`gave ${typeof given === "string" ? "an empty text" : given === null ? "null" : typeof given}, and must give a text`);
  if (token.startsWith('"')) throw noToken("gave a text in quotation marks; of a JSON answer take `await response.json()`");
  return token;
}

/** @param {string} what it did @param {unknown} [cause] */
function noToken(what, cause) {
  return new ChatError("NO_TOKEN", `The token function ${what}`, { retryable: true, cause });
}

/** @param {Token} token @returns {Token} */
function checked(token) {
  if (token === null || typeof token === "function" || (typeof token === "string" && token !== "")) return token;
  throw new ChatError("CONFIGURATION", "A token is a text, or a function that makes one.");
}

/**
 * What a token says of itself, for display and for names of what is kept; `{}` for a host's own kind. The server checks it.
 *
 * @param {string | null} token
 * @returns {{sub?: string, dev?: string, exp?: number, iat?: number}}
 */
export function claimsOf(token) {
  const part = token?.split(".")[1];
  if (!part) return {};
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : {};
  } catch {
    return {}; // the server names the user in WELCOME
  }
}

/** How long a token lasts from now on, as far as it says so; where this machine's clock makes no sense of that, its whole time.
 * @param {string} token @param {number} nowMs */
function lifetimeMs(token, nowMs) {
  const { exp, iat } = claimsOf(token);
  if (typeof exp !== "number") return Infinity;
  const leftMs = exp * 1000 - nowMs;
  const wholeMs = typeof iat === "number" ? (exp - iat) * 1000 : Infinity;
  if (leftMs > 0 && leftMs <= wholeMs) return leftMs;
  return wholeMs > 0 ? wholeMs : Infinity;
}
