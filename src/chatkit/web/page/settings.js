// The menu at the top: how the page looks, whether the sign-in stays, installing, signing out. Made by ui.js.

import { byId, setAttribute } from "./dom.js";

const THEMES = { system: "As the system has it", light: "Light", dark: "Dark" };

/** Open it when its button is pressed. @param {{menu, theme: Theme, install: Install, login, signOut: () => void}} parts */
export function offerSettings({ menu, theme, install, login, signOut }) {
  byId("settings").addEventListener("click", ({ currentTarget }) => {
    const themes = Object.entries(THEMES).map(([name, label]) => ({ label, kind: "radio", checked: theme.name === name, run: () => (theme.name = name) }));
    const stay = { label: "Stay signed in here", kind: "checkbox", checked: login.stays, run: () => (login.stays = !login.stays) };
    const offer = { label: "Install as an app", run: () => install.ask() };
    menu.open(currentTarget, "Settings", [
      { name: "Colours", items: themes },
      { name: "This browser", items: install.possible ? [stay, offer] : [stay] },
      { name: "Login", items: [{ label: "Sign out", run: signOut }] },
    ]);
  });
}

/** Light, dark or as the system has it; remembered by this browser, for all tabs. */
export class Theme {
  #storage;
  #key;

  constructor(storage, key) {
    this.#storage = storage;
    this.#key = key;
    this.apply();
  }

  get name() {
    const name = this.#storage.getItem(this.#key);
    return name in THEMES ? name : "system";
  }

  set name(value) {
    if (value === "system") this.#storage.removeItem(this.#key);
    else this.#storage.setItem(this.#key, value);
    this.apply();
  }

  /** What another tab chose holds here too. */
  apply() {
    setAttribute(document.documentElement, "data-theme", this.name === "system" ? null : this.name);
  }
}
