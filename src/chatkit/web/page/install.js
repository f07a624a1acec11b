// The page as an app of its own: its service worker, which starts it offline, and the browser's offer to install it. Made by main.js.

export class Install {
  #offer = null;

  /** @param {{installed: () => void}} parts told once the user has installed it */
  constructor({ installed }) {
    addEventListener("beforeinstallprompt", (event) => {
      event.preventDefault(); // the page asks in its menu instead of the browser at a time of its own
      this.#offer = event;
    });
    addEventListener("appinstalled", () => {
      this.#offer = null;
      installed();
    });
  }

  /** Whether the browser offers it now. */
  get possible() {
    return this.#offer !== null;
  }

  /** Let the browser ask the user; an offer is good for one answer. */
  async ask() {
    const offer = this.#offer;
    this.#offer = null;
    await offer.prompt();
  }
}

/**
 * The page's service worker, for pushes and for starting offline. `renewed` is called when a later one has taken over: what it
 * serves is newer than what this page was loaded from.
 *
 * @returns {Promise<ServiceWorkerRegistration>}
 */
export async function startWorker(serviceWorkers, base, renewed = () => {}) {
  if (serviceWorkers.controller) serviceWorkers.addEventListener("controllerchange", renewed, { once: true });
  return serviceWorkers.register(new URL("worker.js", base), { scope: base.pathname });
}
