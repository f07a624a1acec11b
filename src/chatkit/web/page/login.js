// Who this page is: the token, the user it names, and where the server is. The token comes behind `#` only, leaves the address
// bar at once and lives in this tab's sessionStorage; in the browser's localStorage only where the user wants to stay signed in.
// Called by main.js.

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

/** The login of this tab, so that a reload goes on; and of later tabs and the installed app, if the user stays signed in. */
export class Login {
  #tab;
  #browser;

  /** @param {Storage} tab @param {Storage} browser @param {URL} base */
  constructor(tab, browser, base) {
    this.#tab = tab;
    this.#browser = browser;
    this.prefix = `chatkit:${base.pathname}:`;
    if (this.#read(tab, "token") === null) this.#take();
  }

  get token() {
    return this.#read(this.#tab, "token");
  }

  set token(value) {
    const stays = this.stays && this.#isSameUser(value); // not somebody else's, opened by a link
    if (value !== this.token) this.#write(this.#tab, "user", null);
    this.#write(this.#tab, "token", value);
    if (stays) this.#keep();
  }

  get claims() {
    return this.token === null ? {} : claimsOf(this.token);
  }

  /** Whose token it is: it says so itself, or the server did. */
  get userId() {
    return this.claims.sub ?? this.#read(this.#tab, "user") ?? undefined;
  }

  set userId(value) {
    this.#write(this.#tab, "user", value);
    if (this.stays) this.#keep();
  }

  get openConversation() {
    return this.#read(this.#tab, "open");
  }

  set openConversation(value) {
    this.#write(this.#tab, "open", value);
  }

  /** Whether it is this login that later tabs of the browser begin with. */
  get stays() {
    return this.token !== null && this.#read(this.#browser, "token") === this.token;
  }

  set stays(value) {
    if (value) this.#keep();
    else for (const name of ["token", "user"]) this.#write(this.#browser, name, null);
  }

  /** Forget the token and what was open, and what later tabs would begin with if it is this user's. */
  end() {
    const kept = this.#read(this.#browser, "token");
    if (kept !== null && this.#isSameUser(kept)) this.stays = false; // also a newer one, which another tab kept
    for (const name of ["token", "user", "open"]) this.#write(this.#tab, name, null);
  }

  #isSameUser(token) {
    const { sub } = this.claims;
    return token === this.token || (sub !== undefined && claimsOf(token).sub === sub);
  }

  #keep() {
    for (const name of ["token", "user"]) this.#write(this.#browser, name, this.#read(this.#tab, name));
  }

  #take() {
    for (const name of ["token", "user"]) this.#write(this.#tab, name, this.#read(this.#browser, name));
  }

  #read(storage, name) {
    return storage.getItem(this.prefix + name);
  }

  #write(storage, name, value) {
    if (value === null) storage.removeItem(this.prefix + name);
    else storage.setItem(this.prefix + name, value);
  }
}
