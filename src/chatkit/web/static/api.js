// The few HTTP requests of the page. Refusals are RFC 9457 problem documents; they become `Refusal`. Called by session.js.

/** The server said no; `code` is the contract's word, the message is for people. */
export class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail ?? problem.title ?? `The server answered ${status}.`);
    this.code = problem.code ?? "INTERNAL";
    this.status = status;
    this.retryable = problem.retryable === true;
    this.retryAfterMs = problem.retryAfterMs ?? null;
  }
}

const PAGES_MAX = 20;
const ANSWER_WAIT_MS = 60_000;

export class Api {
  /** @param {URL} base where the page is served @param {{token: string}} login read anew for each request */
  constructor(base, login, fetch) {
    this.base = base;
    this.login = login;
    this.fetch = fetch;
  }

  /** Every conversation of the user with title; at most 20 pages. */
  conversations() {
    return this.#all("v1/conversations", "conversations");
  }

  conversation(conversationId) {
    return this.#request("GET", `v1/conversations/${encodeURIComponent(conversationId)}`);
  }

  /** How far each member got; at most 20 pages. */
  receipts(conversationId) {
    return this.#all(`v1/conversations/${encodeURIComponent(conversationId)}/receipts`, "receipts");
  }

  /** What the server can push with; asked without a login. */
  pushProviders() {
    return this.#request("GET", "v1/push");
  }

  registerPush(fields) {
    return this.#request("POST", "v1/devices", fields);
  }

  unregisterPush(deviceId) {
    return this.#request("DELETE", `v1/devices/${encodeURIComponent(deviceId)}/push`);
  }

  createConversation(fields) {
    return this.#request("POST", "v1/conversations", fields);
  }

  async #all(path, field) {
    const rows = [];
    let cursor = "";
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const query = new URLSearchParams({ limit: "200", ...(cursor && { cursor }) });
      const answer = await this.#request("GET", `${path}?${query}`);
      rows.push(...answer[field]);
      cursor = answer.nextCursor;
      if (!cursor) break;
    }
    return rows;
  }

  async #request(method, path, body = undefined) {
    const headers = { Authorization: `Bearer ${this.login.token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await this.fetch(new URL(path, this.base), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_WAIT_MS),
    }).catch((cause) => {
      throw new Error("Cannot reach the server.", { cause });
    });
    if (!response.ok) throw new Refusal(await response.json().catch(() => ({})), response.status);
    return response.status === 204 ? null : response.json();
  }
}
