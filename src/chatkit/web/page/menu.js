// The one menu of the page, beside whatever opened it: arrows move in it, Escape and a press elsewhere close it, and the focus
// goes back to where it came from. Called by pane.js and settings.js.

import { byId, el, setAttribute } from "./dom.js";

const EDGE_PX = 8;
const STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

/** @typedef {{label: string, name?: string, checked?: boolean, kind?: "radio" | "checkbox", confirm?: string, run: () => void}} Item
 *    `name`: for who cannot see the label. `confirm`: the first press asks this, the second one acts */
/** @typedef {{name: string, isRow?: boolean, items: Item[]}} Group */

export class Menu {
  #element = byId("menu");
  #opener = null;

  constructor() {
    this.#element.addEventListener("keydown", (event) => this.#pressed(event));
    this.#element.addEventListener("toggle", ({ newState }) => newState === "closed" && this.#closed());
  }

  /** Show these groups of items below `opener`, or above it where there is no room; focus the first. @param {Group[]} groups */
  open(opener, name, groups) {
    this.close();
    this.#opener = opener;
    setAttribute(opener, "aria-expanded", "true");
    setAttribute(this.#element, "aria-label", name);
    this.#element.replaceChildren(...groups.filter(({ items }) => items.length > 0).map((group) => this.#group(group)));
    this.#element.showPopover();
    this.#place(opener.getBoundingClientRect());
    this.#items()[0].focus();
  }

  close() {
    if (this.#element.matches(":popover-open")) this.#element.hidePopover();
  }

  #group({ name, isRow, items }) {
    return el("div", { role: "group", "aria-label": name, class: isRow ? "row" : null }, ...items.map((item) => this.#item(item)));
  }

  #item({ label, name, checked, kind, confirm, run }) {
    const role = kind === undefined ? "menuitem" : `menuitem${kind}`;
    const button = el("button", { type: "button", role, tabindex: -1, "aria-label": name, "aria-checked": checked }, label);
    button.addEventListener("click", () => {
      if (confirm !== undefined && button.textContent !== confirm) return button.replaceChildren(confirm);
      this.close();
      run();
    });
    return button;
  }

  #items() {
    return [...this.#element.querySelectorAll("button")];
  }

  #pressed(event) {
    const items = this.#items();
    const at = items.indexOf(document.activeElement);
    const next = { Home: 0, End: items.length - 1 }[event.key] ?? (event.key in STEPS ? (at + STEPS[event.key] + items.length) % items.length : null);
    if (event.key === "Tab") this.close();
    if (next === null) return;
    event.preventDefault();
    items[next].focus();
  }

  #place({ top, bottom, left, right }) {
    const { offsetWidth, offsetHeight, style } = this.#element;
    const isRtl = getComputedStyle(this.#element).direction === "rtl";
    const x = isRtl ? left : right - offsetWidth;
    const y = bottom + offsetHeight + EDGE_PX > innerHeight ? top - offsetHeight : bottom;
    style.left = `${Math.max(EDGE_PX, Math.min(x, innerWidth - offsetWidth - EDGE_PX))}px`;
    style.top = `${Math.max(EDGE_PX, Math.min(y, innerHeight - offsetHeight - EDGE_PX))}px`;
  }

  #closed() {
    const wasInside = this.#element.contains(document.activeElement) || document.activeElement === document.body;
    setAttribute(this.#opener, "aria-expanded", "false");
    if (wasInside && this.#opener.isConnected) this.#opener.focus();
  }
}
