// One lasting connection: HELLO and WELCOME, heartbeat, close codes, reconnect with full jitter, resume token, GOAWAY.
// Whatever arrives is a sign of life: on a slow line PONG stands behind a page. What the events mean is session.js's
// business. Time, randomness and the socket class are passed in.

const SUBPROTOCOL = "chatkit.v1.json";
const CLIENT = { name: "chatkit-web", version: "1" };
const BACKOFF_BASE_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const RETRY_AFTER_MAX_MS = 300_000;
const STABLE_AFTER_MS = 10_000;
const WELCOME_WAIT_MS = 20_000;
const CHECK_WAIT_MS = 5_000;
const HEARTBEAT_MIN_MS = 1_000;
const LOG_TOKEN_MAX = 64;

/** PINGs, two in each heartbeat, that nothing at all came back after: one frame may take two heartbeats. */
const SILENT_BEATS_MAX = 4;

/** What to do after a close code of the contract. */
export function afterClose(code) {
  if (code === 4201) return "replaced";
  if (code >= 4200 && code <= 4299) return "refused";
  if (code >= 4100 && code <= 4199) return "login";
  return "again";
}

/**
 * Milliseconds to wait before try number `attempt` (from 1): full jitter, and never less than what the server asked for.
 * That is spread over half of it more, and believed up to five minutes.
 */
export function nextDelay(attempt, random, retryAfterMs = null) {
  const jittered = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt - 1, 32)) * random;
  if (!Number.isFinite(retryAfterMs)) return jittered;
  return Math.max(Math.min(retryAfterMs, RETRY_AFTER_MAX_MS) * (1 + random / 2), jittered);
}

/**
 * States, told to `onState({state, ...})`: connecting, online {welcome after a login}, checking (logged in, but perhaps the
 * line is dead), waiting {untilMs}, replaced, loggedOut, refused {code, reason}, stopped. Every event after WELCOME goes to
 * `onEvent`; one frame's events in order.
 */
export class Connection {
  #parts;
  #socket = null;
  #timers = new Map();
  #attempt = 0;
  #retryAfterMs = null;
  #resumeToken = null;
  #triedResume = false;
  #state = "stopped";
  #heartbeatMs = 30_000;
  #onlineSinceMs = 0;
  #heardAtMs = 0;
  #silentBeats = 0;
  #logToken = null;
  #isAskedToWait = false;

  /**
   * @param {{url: string, login: {token: string, deviceId: string}, onEvent: Function, onState: Function,
   *   WebSocket: Function, random: Function, now: Function, setTimeout: Function, clearTimeout: Function}} parts
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
    const isStuck = this.#state === "connecting" && this.#socket.readyState === this.#parts.WebSocket.CONNECTING;
    if (isStuck || (this.#state === "waiting" && !this.#isAskedToWait)) this.#connect();
    else if (this.#state === "online") this.#check();
  }

  /** Somebody looks at the page again, or the machine slept: the same, unless the line gave signs of life meanwhile. */
  wake() {
    const isQuiet = this.online && this.#parts.now() - this.#heardAtMs > this.#heartbeatMs;
    if (this.#state === "waiting" || isQuiet) this.networkChanged();
  }

  /** Send one event if online; returns whether it was handed to the socket. */
  send(event) {
    if (!this.online) return false;
    this.#write(event);
    return true;
  }

  /** Show a new token to the open connection, or connect with it. */
  renew(token) {
    this.#resumeToken = null;
    if (!this.send({ event: "AUTH_REFRESH", token })) this.open();
  }

  /** Break the connection and come back: for answers that never arrive. */
  restart() {
    this.#lost(1006, "no answer");
  }

  #connect() {
    this.#drop();
    this.#become("connecting");
    const socket = new this.#parts.WebSocket(this.#parts.url, SUBPROTOCOL);
    this.#socket = socket;
    const mine = (handler) => (event) => this.#socket === socket && handler(event);
    socket.addEventListener("open", mine(() => this.#hello()));
    socket.addEventListener("message", mine((event) => this.#received(event.data)));
    socket.addEventListener("close", mine((event) => this.#lost(event.code, event.reason)));
    this.#after("welcome", WELCOME_WAIT_MS, () => this.#lost(1006, "no welcome"));
  }

  #hello() {
    const { token, deviceId } = this.#parts.login;
    this.#triedResume = this.#resumeToken !== null;
    const proof = this.#triedResume ? { resumeToken: this.#resumeToken } : { token };
    this.#resumeToken = null;
    const logToken = this.#logToken === null ? {} : { logToken: this.#logToken };
    this.#write({ event: "HELLO", ...proof, deviceId, client: CLIENT, ...logToken });
  }

  #received(data) {
    this.#heard();
    const frame = JSON.parse(data);
    for (const event of Array.isArray(frame) ? frame : [frame]) this.#handle(event);
  }

  #heard() {
    this.#silentBeats = 0;
    this.#heardAtMs = this.#parts.now();
    if (this.#state !== "checking") return;
    this.#cancel("check");
    this.#become("online");
  }

  #handle(event) {
    if (event.event === "WELCOME") this.#welcomed(event);
    else if (event.event === "PONG") this.#ponged(event);
    else if (event.event === "GOAWAY") this.#retryAfterMs = event.reconnectAfterMs;
    else {
      if (event.event === "ERROR" && !this.online) this.#retryAfterMs = event.retryAfterMs ?? null; // turned away
      this.#parts.onEvent(event);
    }
  }

  /** How far the server's log has got is said back with the next HELLO: so a log put back from a backup is noticed. */
  #ponged({ logToken }) {
    if (typeof logToken === "string" && logToken.length <= LOG_TOKEN_MAX) this.#logToken = logToken;
  }

  #welcomed(welcome) {
    this.#cancel("welcome");
    this.#onlineSinceMs = this.#parts.now();
    this.#retryAfterMs = null;
    this.#resumeToken = welcome.resumeToken;
    this.#heartbeatMs = Math.max(HEARTBEAT_MIN_MS, Number(welcome.heartbeatMs) || 0);
    this.#become("online", { welcome });
    this.#beatLater();
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
    if (this.#socket.readyState > this.#parts.WebSocket.OPEN) return this.#lost(1006, "closed unnoticed");
    this.#become("checking");
    this.#write({ event: "PING" });
    this.#after("check", CHECK_WAIT_MS, () => this.#lost(1006, "no sign of life"));
  }

  #lost(code, reason) {
    this.#drop();
    const next = afterClose(code);
    if (next === "replaced") return this.#become("replaced");
    if (next === "refused") return this.#become("refused", { code, reason });
    if (next === "login" && !this.#triedResume) return this.#loggedOut();
    this.#again();
  }

  #loggedOut() {
    this.#resumeToken = null;
    this.#become("loggedOut");
  }

  #again() {
    const wasStable = this.online && this.#parts.now() - this.#onlineSinceMs >= STABLE_AFTER_MS;
    this.#attempt = wasStable ? 1 : this.#attempt + 1;
    const delay = nextDelay(this.#attempt, this.#parts.random(), this.#retryAfterMs);
    this.#isAskedToWait = this.#retryAfterMs > 0;
    this.#retryAfterMs = null;
    this.#become("waiting", { untilMs: this.#parts.now() + delay });
    this.#after("again", delay, () => this.#connect());
  }

  #write(event) {
    this.#socket.send(JSON.stringify(event));
  }

  #drop() {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.close();
  }

  #become(state, details = {}) {
    this.#state = state;
    this.#parts.onState({ state, ...details });
  }

  #after(name, delayMs, action) {
    this.#cancel(name);
    this.#timers.set(name, this.#parts.setTimeout(action, delayMs));
  }

  #cancel(name) {
    this.#parts.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
