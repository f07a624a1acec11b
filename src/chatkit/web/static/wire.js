// One lasting connection: HELLO and WELCOME, heartbeat, close codes, reconnect with full jitter, resume token, GOAWAY.
// What the events mean is session.js's business. Time, randomness and the socket class are passed in.

const SUBPROTOCOL = "chatkit.v1.json";
const CLIENT = { name: "chatkit-web", version: "1" };
const BACKOFF_BASE_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const RETRY_AFTER_MAX_MS = 300_000;
const STABLE_AFTER_MS = 10_000;
const WELCOME_WAIT_MS = 10_000;
const PONG_WAIT_MS = 10_000;

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
 * States, told to `onState({state, ...})`: connecting, online {welcome}, waiting {untilMs}, replaced, loggedOut, refused
 * {code, reason}, stopped. Every event after WELCOME goes to `onEvent`; one frame's events in order.
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

  /**
   * @param {{url: string, login: {token: string, deviceId: string}, onEvent: Function, onState: Function,
   *   WebSocket: Function, random: Function, now: Function, setTimeout: Function, clearTimeout: Function}} parts
   */
  constructor(parts) {
    this.#parts = parts;
  }

  get online() {
    return this.#state === "online";
  }

  /** Connect now, whatever was going on: at the start, on "try now", with a new login, or after "use here". */
  open() {
    if (this.#state === "connecting" || this.#state === "online") return;
    this.#attempt = 0;
    this.#resumeToken = null;
    this.#connect();
  }

  /** Give up the connection for good, until `open`. */
  stop() {
    this.#drop();
    this.#become("stopped");
  }

  /** Connect at once if the page is only waiting: the network came back or the tab was opened. */
  hurry() {
    if (this.#state === "waiting") this.#connect();
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
    this.#write({ event: "HELLO", ...proof, deviceId, client: CLIENT });
  }

  #received(data) {
    const frame = JSON.parse(data);
    for (const event of Array.isArray(frame) ? frame : [frame]) this.#handle(event);
  }

  #handle(event) {
    if (event.event === "WELCOME") this.#welcomed(event);
    else if (event.event === "PONG") this.#cancel("pong");
    else if (event.event === "GOAWAY") this.#retryAfterMs = event.reconnectAfterMs;
    else {
      if (event.event === "ERROR" && !this.online) this.#retryAfterMs = event.retryAfterMs ?? null; // turned away
      this.#parts.onEvent(event);
    }
  }

  #welcomed(welcome) {
    this.#cancel("welcome");
    this.#onlineSinceMs = this.#parts.now();
    this.#retryAfterMs = null;
    this.#resumeToken = welcome.resumeToken;
    this.#heartbeatMs = welcome.heartbeatMs;
    this.#become("online", { welcome });
    this.#beatLater();
  }

  #beatLater() {
    this.#after("beat", this.#heartbeatMs / 2, () => {
      this.#write({ event: "PING" });
      this.#after("pong", PONG_WAIT_MS, () => this.#lost(1006, "no pong"));
      this.#beatLater();
    });
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
