// One lasting connection: HELLO and WELCOME, heartbeat, close codes, reconnect with full jitter, resume token, GOAWAY.
// Whatever arrives is a sign of life: on a slow line PONG stands behind a page. What the events mean is session.js's
// business. Time, randomness and the socket class are passed in.

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Status} Status */

import { nextDelay } from "./backoff.js";

const SUBPROTOCOL = "chatkit.v1.json";
const CLIENT = { name: "chatkit-js", version: "0.1.0" };
const STABLE_AFTER_MS = 10_000;
const WELCOME_WAIT_MS = 20_000;
const CHECK_WAIT_MS = 5_000;
const HEARTBEAT_MIN_MS = 1_000;
const LOG_TOKEN_MAX = 64;

/** PINGs, two in each heartbeat, that nothing at all came back after: one frame may take two heartbeats. */
const SILENT_BEATS_MAX = 4;

/** What to do after a close code of the contract. @param {number} code @returns {"replaced" | "refused" | "login" | "again"} */
export function afterClose(code) {
  if (code === 4201) return "replaced";
  if (code >= 4200 && code <= 4299) return "refused";
  if (code >= 4100 && code <= 4199) return "login";
  return "again";
}

/**
 * States, told to `onState({state, ...})`: connecting, online {welcome after a login}, checking (logged in, but perhaps the
 * line is dead), waiting {untilMs, code, reason}, replaced, loggedOut, refused {code, reason}, stopped. Every event after WELCOME goes to
 * `onEvent`; one frame's events in order.
 */
export class Connection {
  #parts;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, any>} */
  #timers = new Map();
  #attempt = 0;
  /** @type {number | null} */
  #retryAfterMs = null;
  /** @type {string | null} */
  #resumeToken = null;
  #triedResume = false;
  /** @type {string | null} the one that the last HELLO showed */
  #presented = null;
  #dialing = 0;
  /** @type {Status["state"]} */
  #state = "stopped";
  #heartbeatMs = 30_000;
  #onlineSinceMs = 0;
  #heardAtMs = 0;
  #silentBeats = 0;
  /** @type {string | null} */
  #logToken = null;
  #isAskedToWait = false;

  /**
   * @param {import("./types.js").Ports & {url: string, deviceId: string, tokens: Pick<import("./tokens.js").TokenSource,
   *   "get" | "held" | "refused" | "renewable">, onEvent: (event: WireEvent) => void, onState: (status: Status) => void,
   *   WebSocket: typeof WebSocket}} parts
   */
  constructor(parts) {
    this.#parts = parts;
  }

  /** Whether it is logged in. */
  get online() {
    return this.#state === "online" || this.#state === "checking";
  }

  /** Connect now, whatever was going on: at the start, with a new login, or after "use here". */
  open() {
    if (this.#state === "connecting" || this.online) return;
    this.#attempt = 0;
    this.#resumeToken = null;
    this.#connect();
  }

  /** Give up the connection for good, until `open`. */
  stop() {
    this.#drop();
    this.#become("stopped");
  }

  /** Connect at once if the page is only waiting: the user asked for it. */
  hurry() {
    if (this.#state === "waiting") this.#connect();
  }

  /** The network is another one, or the page comes out of the browser's cache: connect, or look whether the line lives. */
  networkChanged() {
    const isStuck = this.#state === "connecting" && this.#socket?.readyState === this.#parts.WebSocket.CONNECTING;
    if (isStuck || (this.#state === "waiting" && !this.#isAskedToWait)) this.#connect();
    else if (this.#state === "online") this.#check();
  }

  /** Somebody looks at the page again, or the machine slept: the same, unless the line gave signs of life meanwhile. */
  wake() {
    const isQuiet = this.online && this.#parts.now() - this.#heardAtMs > this.#heartbeatMs;
    if (this.#state === "waiting" || isQuiet) this.networkChanged();
  }

  /** Send one event if online; returns whether it was handed to the socket. @param {WireEvent} event */
  send(event) {
    if (!this.online) return false;
    this.#write(event);
    return true;
  }

  /** The app has a new token: show it, or connect with it where that was waited for. One that was replaced, refused or stopped is not
   * opened by it. @param {string} token */
  renew(token) {
    if (this.#state === "waiting" || this.#state === "loggedOut") this.open();
    else this.present(token);
  }

  /** Show a new token to the open connection; one that opens later shows the token that is held then. @param {string} token */
  present(token) {
    if (!this.online) return;
    this.#resumeToken = null;
    this.#presented = token;
    this.#write({ event: "AUTH_REFRESH", token });
  }

  /** Break the connection and come back: for answers that never arrive. */
  restart() {
    this.#lost(1006, "no answer");
  }

  #connect() {
    this.#drop();
    const dialing = (this.#dialing += 1);
    const token = this.#resumeToken === null ? this.#parts.tokens.get() : null;
    const still = () => this.#dialing === dialing && this.#state === "connecting" && this.#socket === null;
    if (!(token instanceof Promise)) this.#dial(token);
    else token.then((made) => still() && this.#dial(made), (error) => still() && this.#lost(1006, `no token: ${error.message}`, error));
    this.#become("connecting");
  }

  /** @param {string | null} token */
  #dial(token) {
    const socket = new this.#parts.WebSocket(this.#parts.url, SUBPROTOCOL);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#socket === socket && this.#hello(token));
    socket.addEventListener("message", (event) => this.#socket === socket && this.#received(event.data));
    socket.addEventListener("close", (event) => this.#socket === socket && this.#lost(event.code, event.reason));
    this.#after("welcome", WELCOME_WAIT_MS, () => this.#lost(1006, "no welcome"));
  }

  /** @param {string | null} made the token that it was opened with */
  #hello(made) {
    const token = this.#parts.tokens.held ?? made;
    this.#triedResume = this.#resumeToken !== null;
    if (!this.#triedResume) this.#presented = token;
    const proof = this.#triedResume ? { resumeToken: this.#resumeToken } : token === null ? {} : { token };
    this.#resumeToken = null;
    const logToken = this.#logToken === null ? {} : { logToken: this.#logToken };
    this.#write({ event: "HELLO", ...proof, deviceId: this.#parts.deviceId, client: CLIENT, ...logToken });
  }

  /** @param {string} data */
  #received(data) {
    const socket = this.#socket;
    this.#heard();
    try {
      const frame = JSON.parse(data);
      for (const event of Array.isArray(frame) ? frame : [frame]) if (this.#socket === socket) this.#handle(event);
    } catch (error) {
      console.error("the server's frame makes no sense; the connection begins anew", error);
      this.#lost(1002, "a broken frame");
    }
  }

  #heard() {
    this.#silentBeats = 0;
    this.#heardAtMs = this.#parts.now();
    if (this.#state !== "checking") return;
    this.#cancel("check");
    this.#become("online");
  }

  /** @param {WireEvent} event */
  #handle(event) {
    if (event.event === "WELCOME") this.#welcomed(event);
    else if (event.event === "PONG") this.#ponged(event);
    else if (event.event === "GOAWAY") this.#retryAfterMs = event.reconnectAfterMs;
    else {
      if (event.event === "ERROR" && !this.online) this.#retryAfterMs = event.retryAfterMs ?? null; // turned away
      this.#parts.onEvent(event);
    }
  }

  /** How far the server's log has got is said back with the next HELLO: so a log put back from a backup is noticed.
   * @param {WireEvent} event */
  #ponged({ logToken }) {
    if (typeof logToken === "string" && logToken.length <= LOG_TOKEN_MAX) this.#logToken = logToken;
  }

  /** @param {WireEvent} welcome */
  #welcomed(welcome) {
    this.#cancel("welcome");
    this.#onlineSinceMs = this.#parts.now();
    this.#retryAfterMs = null;
    this.#resumeToken = welcome.resumeToken;
    this.#heartbeatMs = Math.max(HEARTBEAT_MIN_MS, Number(welcome.heartbeatMs) || 0);
    this.#beatLater();
    this.#become("online", { welcome });
    const { held } = this.#parts.tokens;
    if (held !== null && held !== this.#presented) this.present(held);
  }

  #beatLater() {
    this.#after("beat", this.#heartbeatMs / 2, () => this.#beat());
  }

  #beat() {
    if (this.#silentBeats >= SILENT_BEATS_MAX) return this.#lost(1006, "no sign of life");
    this.#silentBeats += 1;
    this.#write({ event: "PING" });
    this.#beatLater();
  }

  /** Find out soon whether the line lives: it is lost unless something comes back. */
  #check() {
    if (this.#socket === null || this.#socket.readyState > this.#parts.WebSocket.OPEN) return this.#lost(1006, "closed unnoticed");
    this.#write({ event: "PING" });
    this.#after("check", CHECK_WAIT_MS, () => this.#lost(1006, "no sign of life"));
    this.#become("checking");
  }

  /** @param {number} code @param {string} reason @param {import("./errors.js").ChatError} [error] */
  #lost(code, reason, error) {
    this.#drop();
    const next = afterClose(code);
    if (next === "replaced") return this.#become("replaced", { code, reason });
    if (next === "refused") return this.#become("refused", { code, reason });
    if (next === "login") this.#resumeToken = null;
    if (next === "login" && (this.online || !this.#triedResume)) this.#parts.tokens.refused(this.#presented);
    if (next === "login" && this.#isSpent()) return this.#become("loggedOut", { code, reason });
    this.#again(code, reason, error);
  }

  /** Whether there is no other login than the one that was refused. A cookie that was good is shown once more: logging out elsewhere ends
   * all connections of a user, and says nothing of this browser's cookie. */
  #isSpent() {
    const { held, renewable } = this.#parts.tokens;
    const mayBeGood = held === null && this.online;
    return !this.#triedResume && !renewable && held === this.#presented && !mayBeGood;
  }

  /** @param {number} code @param {string} reason @param {import("./errors.js").ChatError} [error] */
  #again(code, reason, error) {
    const wasStable = this.online && this.#parts.now() - this.#onlineSinceMs >= STABLE_AFTER_MS;
    this.#attempt = wasStable ? 1 : this.#attempt + 1;
    const delay = nextDelay(this.#attempt, this.#parts.random(), this.#retryAfterMs);
    this.#isAskedToWait = (this.#retryAfterMs ?? 0) > 0;
    this.#retryAfterMs = null;
    this.#after("again", delay, () => this.#connect());
    this.#become("waiting", { untilMs: this.#parts.now() + delay, code, reason, ...(error && { error }) });
  }

  /** @param {WireEvent} event */
  #write(event) {
    this.#socket?.send(JSON.stringify(event));
  }

  #drop() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.close();
  }

  /** Tell of it last: who hears it may stop this, or have it connect. @param {Status["state"]} state @param {Omit<Status, "state">} [details] */
  #become(state, details = {}) {
    this.#state = state;
    this.#parts.onState({ state, ...details });
  }

  /** @param {string} name @param {number} delayMs @param {() => void} action */
  #after(name, delayMs, action) {
    this.#cancel(name);
    this.#timers.set(name, this.#parts.setTimeout(action, delayMs));
  }

  /** @param {string} name */
  #cancel(name) {
    this.#parts.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
