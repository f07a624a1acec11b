// What the page says of itself: the banner of the connection, and words that go by themselves. Called by the ui modules.

import { byId, el, setAttribute, setText } from "./dom.js";

const TOAST_MS = 6_000;
const TOASTS_MAX = 4;

/** Say something for a few seconds; the oldest goes where there are too many. */
export function toast(text) {
  const box = byId("toasts");
  while (box.childElementCount >= TOASTS_MAX) box.firstElementChild.remove();
  const element = el("p", { class: "toast", dir: "auto" }, text);
  box.append(element);
  setTimeout(() => element.remove(), TOAST_MS);
}

/** Say how the connection is, where it is not as it should be; `actions` are what the button of the banner may do, by name. */
export class Banner {
  #client;

  constructor(client, actions) {
    this.#client = client;
    byId("banner-action").addEventListener("click", ({ currentTarget }) => actions[currentTarget.dataset.action]?.()); // it may be hidden since
  }

  draw() {
    const { state } = this.#client.status;
    const [text, action, label] = bannerOf(this.#client);
    byId("banner").hidden = text === null;
    setAttribute(byId("banner"), "data-state", state);
    setText(byId("banner-text"), text ?? "");
    byId("banner-action").hidden = action === null;
    setAttribute(byId("banner-action"), "data-action", action);
    setText(byId("banner-action"), label ?? "");
    setAttribute(byId("app"), "data-connection", state);
  }
}

/** [text or null, action or null, its label] */
function bannerOf({ status, ready, unreached }) {
  switch (status.state) {
    case "stopped":
    case "checking":
    case "connecting":
      return [ready || unreached ? "Connecting again…" : "Connecting…", null, null];
    case "waiting": {
      const seconds = Math.max(1, Math.ceil((status.untilMs - Date.now()) / 1000));
      const problem = unreached ? "Cannot reach the server." : "Offline.";
      return [`${problem} Next try in ${seconds} s. Messages are kept and sent later.`, "hurry", "Try now"];
    }
    case "replaced":
      return ["This chat is open in another tab or window of this device.", "reopen", "Use here"];
    case "loggedOut":
      return ["The sign-in has ended. Open a new link, or sign in again.", "signOut", "Sign in"];
    case "refused":
      return [`The server refused this page (${status.code} ${status.reason}).`, "reopen", "Try again"];
    default:
      return [null, null, null];
  }
}
