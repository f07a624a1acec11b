// Who this page is: the token, the user it names, the device, and where the server is. The token comes behind `#` only,
// leaves the address bar at once and lives in this tab's sessionStorage. Called by main.js.

/** Where the page is served: everything it asks for lies below this, whatever the prefix. Ends with a slash. */
export function baseUrl(location) {
  return new URL(".", location.origin + location.pathname);
}

/** The WebSocket's address beside the page. */
export function socketUrl(base) {
  const url = new URL("v1/ws", base);
  url.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** What `#token=...&conversation=...` in the address bar says, either of them or both; null if it says nothing. */
export function fragmentOf(location) {
  const fields = new URLSearchParams(location.hash.slice(1));
  if (!fields.has("token") && !fields.has("conversation")) return null;
  return { token: fields.get("token"), conversationId: fields.get("conversation") };
}

/** Take it out of the address bar; returns what it said. */
export function takeFragment(location, history) {
  const fragment = fragmentOf(location);
  if (fragment !== null) history.replaceState(null, "", location.pathname + location.search);
  return fragment;
}

/** What a token says of itself. Not checked here: the server does that; this is for display and the device's name. */
export function claimsOf(token) {
  const part = token.split(".")[1];
  if (!part) return {};
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === "object" ? claims : {};
  } catch {
    return {}; // a host's own kind of token: the server names the user in WELCOME
  }
}

/** A random id of letters and digits, unguessable enough for keys that must be unique. */
export function randomId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The login of this tab, kept in sessionStorage so that a reload goes on.
 *
 * Every tab is a device of its own unless the token names one.
 */
export class Login {
  constructor(storage, base) {
    this.storage = storage;
    this.prefix = `chatkit:${base.pathname}:`;
  }

  get token() {
    return this.storage.getItem(`${this.prefix}token`);
  }

  set token(value) {
    this.storage.setItem(`${this.prefix}token`, value);
  }

  get claims() {
    return this.token === null ? {} : claimsOf(this.token);
  }

  /** Whether the token names the device, so that it outlives this tab. */
  get deviceIsNamed() {
    return typeof this.claims.dev === "string" && this.claims.dev !== "";
  }

  get deviceId() {
    if (this.deviceIsNamed) return this.claims.dev;
    const key = `${this.prefix}device`;
    const known = this.storage.getItem(key) ?? randomId("web-");
    this.storage.setItem(key, known);
    return known;
  }

  get openConversation() {
    return this.storage.getItem(`${this.prefix}open`);
  }

  set openConversation(value) {
    if (value === null) this.storage.removeItem(`${this.prefix}open`);
    else this.storage.setItem(`${this.prefix}open`, value);
  }

  /** Forget the token and what was open; the device's name stays. */
  end() {
    this.storage.removeItem(`${this.prefix}token`);
    this.storage.removeItem(`${this.prefix}open`);
  }
}
