// Small helpers for building pages out of text nodes and attributes; nothing here parses markup. Called by the ui modules.

import { hueOf, initials } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id; it exists in index.html. */
export const byId = (id) => document.getElementById(id);

/** Make an element with attributes; children are elements or strings (as text, whatever they hold). */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set, or with null or undefined remove, an attribute; touches nothing when it is so already. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Show "who: what", each in its own direction; without `by` only what. */
export function setLine(element, by, text) {
  if (element.by === by && element.said === text) return;
  Object.assign(element, { by, said: text });
  element.replaceChildren(...(by === "" ? [] : [el("bdi", {}, by), ": "]), el("bdi", {}, text));
}

/** A circle with the letters and the colour that stand for a name. */
export function drawAvatar(element, name, isGroup) {
  setText(element, name === "" ? "" : initials(name));
  setAttribute(element, "data-hue", hueOf(name));
  element.classList.toggle("group", isGroup);
}

/** One of the symbols of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * Make the children of `parent` follow `items`: `[{key, ...}]`, keys unique. Elements with a known key stay the same
 * node (so focus, selection and announcements survive); `make(item)` builds new ones, `update(element, item)` fills all.
 */
export function reconcile(parent, items, make, update) {
  const known = parent.keyed ?? new Map();
  const keys = new Set(items.map(({ key }) => key));
  for (const [key, element] of known) if (!keys.has(key)) element.remove(); // before all else: whatever is behind it need not move
  parent.keyed = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const element = known.get(item.key) ?? make(item);
    parent.keyed.set(item.key, element);
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else insert(parent, element, place);
  }
}

/** An element that moves takes the focus along. */
function insert(parent, element, place) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(element, place);
  focused?.focus({ preventScroll: true });
}
