// Who this page is: the token, the user it names, and where the server is. The token comes behind `#` only, leaves the address
// bar at once and lives in this tab's sessionStorage. Called by main.js.

import { claimsOf } from "../v1/client/chatkit.js";

/** Where the page is served: everything it asks for lies below this, whatever the prefix. Ends with a slash. */
export function baseUrl(location) {
  return new URL(".", location.origin + location.pathname);
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

/** The login of this tab, kept in sessionStorage so that a reload goes on. */
export class Login {
  constructor(storage, base) {
    this.storage = storage;
    this.prefix = `chatkit:${base.pathname}:`;
  }

  get token() {
    return this.storage.getItem(`${this.prefix}token`);
  }

  set token(value) {
    if (value !== this.token) this.storage.removeItem(`${this.prefix}user`);
    this.storage.setItem(`${this.prefix}token`, value);
  }

  get claims() {
    return this.token === null ? {} : claimsOf(this.token);
  }

  /** Whose token it is: it says so itself, or the server did. */
  get userId() {
    return this.claims.sub ?? this.storage.getItem(`${this.prefix}user`) ?? undefined;
  }

  set userId(value) {
    this.storage.setItem(`${this.prefix}user`, value);
  }

  get openConversation() {
    return this.storage.getItem(`${this.prefix}open`);
  }

  set openConversation(value) {
    if (value === null) this.storage.removeItem(`${this.prefix}open`);
    else this.storage.setItem(`${this.prefix}open`, value);
  }

  /** Forget the token and what was open. */
  end() {
    for (const name of ["token", "user", "open"]) this.storage.removeItem(`${this.prefix}${name}`);
  }
}
