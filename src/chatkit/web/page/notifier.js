// Notifications of this browser for one user: subscribes with its push service, registers the subscription at the server,
// and answers push_worker.js, which shows them. Absent where the browser or the server has no Web Push. Made by main.js.

import { startWorker } from "./install.js";

const SIGN_OUT_WAIT_MS = 3_000;

export class Notifier {
  #provider = null; // of the server: {name, key}
  #registration = null;
  #shown = () => null;
  #badge = null;

  /**
   * @param {{client, base: URL, storage, key: string, serviceWorkers, permissions, changed: Function, notice: Function}} parts `storage` at `key` holds whom notifications
   *   are for, in all tabs; `serviceWorkers` is navigator.serviceWorker and `permissions` is Notification, where there are
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.busy = false;
  }

  /** Whether they can be turned on here. */
  get available() {
    return this.#provider !== null;
  }

  /** Whether they are on for this user. */
  get on() {
    const isMine = this.client.me !== "" && this.storage.getItem(this.key) === this.client.me;
    return isMine && this.available && this.permissions.permission === "granted";
  }

  /** Connected: ask the server what it has, once; and if they are on, register again, as this tab's device. */
  async begin() {
    if (this.available || this.busy || !this.serviceWorkers || !this.permissions || !("PushManager" in globalThis)) return;
    try {
      const { webPushProvider, vapidPublicKey } = await this.client.request("GET", "/v1/push");
      if (vapidPublicKey) this.#provider = { name: webPushProvider, key: vapidPublicKey };
    } catch (error) {
      console.warn(`notifications were not looked for; that is done again on the next connection: ${error.message}`);
    }
    if (this.on) await this.#doing("Notifications do not work now", () => this.#register());
    else this.changed();
  }

  /** The user presses the button. */
  async toggle() {
    if (this.on) return this.#doing("Notifications were not turned off at the server", () => this.#turnOff());
    return this.#doing("Notifications were not turned on", () => this.#turnOn());
  }

  /** Turn them off before this user's login is forgotten; does not wait for a server that does not answer. */
  async signOut() {
    if (!this.on) return;
    const off = this.#turnOff().catch((error) => console.warn(`the server still has the subscription: ${error.message}`));
    await Promise.race([off, new Promise((resolve) => setTimeout(resolve, SIGN_OUT_WAIT_MS))]);
  }

  /** Answer the worker: what this window shows, and what it is told. */
  listen({ shown, open }) {
    this.#shown = shown;
    this.serviceWorkers?.addEventListener("message", ({ data, ports }) => {
      if (data.kind === "shows") ports[0].postMessage(this.on ? { conversationId: this.#shown() } : null);
      else if (data.kind === "open") open(data.conversationId);
      else if (data.kind === "subscribed" && this.on) this.#doing("Notifications end", () => this.#register());
    });
  }

  /** A message that this device has confirmed is not pushed to it: if nobody looks, it is shown from here. */
  heard(push) {
    if (this.on && document.visibilityState !== "visible") this.#registration?.active?.postMessage(push);
  }

  /** How much is unread, on the app's icon. */
  async badge(count) {
    if (!this.on || count === this.#badge) return;
    this.#badge = count;
    if (count > 0) await navigator.setAppBadge?.(count);
    else await navigator.clearAppBadge?.();
  }

  /** The user looks at a conversation: what is shown of it goes. */
  async looked(conversationId) {
    if (!this.on || conversationId === null || document.visibilityState !== "visible") return;
    const shown = await this.#registration?.getNotifications({ tag: conversationId });
    for (const notification of shown ?? []) notification.close();
  }

  async #turnOn() {
    if ((await this.permissions.requestPermission()) !== "granted") throw new Error("the browser does not allow them.");
    await this.#register();
    this.storage.setItem(this.key, this.client.me);
  }

  /** What the browser holds goes first: without it a push reaches nobody, whether the server hears of it or not. */
  async #turnOff() {
    this.storage.removeItem(this.key);
    const subscription = await this.#registration?.pushManager.getSubscription();
    await subscription?.unsubscribe();
    for (const notification of (await this.#registration?.getNotifications()) ?? []) notification.close();
    await navigator.clearAppBadge?.();
    await this.client.request("DELETE", `/v1/devices/${encodeURIComponent(this.client.deviceId)}/push`);
  }

  async #register() {
    this.#registration = await this.#worker();
    const subscription = await subscribed(this.#registration.pushManager, this.#provider.key);
    await this.client.request("POST", "/v1/devices", {
      provider: this.#provider.name,
      token: JSON.stringify(subscription),
      deviceId: this.client.deviceId,
    });
  }

  async #worker() {
    const registration = await startWorker(this.serviceWorkers, this.base);
    const starting = registration.active ?? registration.waiting ?? registration.installing;
    await activated(starting);
    return registration;
  }

  async #doing(failure, action) {
    this.busy = true;
    this.changed();
    try {
      await action();
    } catch (error) {
      this.notice(`${failure}: ${error.message}`);
    } finally {
      this.busy = false;
      this.changed();
    }
  }
}

/** The browser's subscription with the server's key; one with another key, as an earlier server had, is given up. */
async function subscribed(pushManager, key) {
  const held = await pushManager.getSubscription();
  if (held !== null && base64Url(held.options.applicationServerKey) !== key) await held.unsubscribe();
  return pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
}

function base64Url(buffer) {
  const text = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function activated(worker) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      else if (worker.state === "redundant") reject(new Error("the browser did not start the page's worker."));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}
