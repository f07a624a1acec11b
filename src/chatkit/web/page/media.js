// Files in messages: pictures in their place, by short-lived links of the server, and all else to download. An address that a
// message gives by itself is never asked for. Called by messages.js and pane.js.

import { byId, el, setAttribute, setText } from "./dom.js";
import { fileName, sizeOf } from "./format.js";
import { toast } from "./notices.js";

const SHOWN = new Set(["image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif"]); // none that may hold scripts
const LINKS_MAX = 500;
const SPARE_MS = 10_000;
const ALT_MAX = 1_000;
const SIDE_MAX = 20_000;

/** What is to be shown of a message's file: `{kind: "picture" or "file", ...}`; null for one without a file of this server. */
export function mediaOf(entry, content) {
  const { type, blobId, mime, bytes, alt, width, height } = content;
  if (!["IMAGE", "VOICE", "FILE"].includes(type) || typeof blobId !== "string") return null;
  const kind = type === "IMAGE" && SHOWN.has(mime) ? "picture" : "file";
  const name = fileName(content);
  const words = typeof alt === "string" ? alt.slice(0, ALT_MAX) : "";
  const key = [kind, blobId, words, name, bytes, width, height].join(" ");
  return { key, kind, blobId, name, label: words || name || "Picture", size: sizeOf(bytes), ratio: ratioOf(width, height), entry };
}

function ratioOf(width, height) {
  const isSound = [width, height].every((side) => Number.isSafeInteger(side) && side > 0 && side <= SIDE_MAX);
  return isSound ? Math.min(Math.max(width / height, 0.4), 3) : null;
}

/** Fills the elements of files, and fetches pictures once they come into view. */
export class MediaView {
  #client;
  #links = new Map(); // by file: a promise of its link
  #observer = new IntersectionObserver((seen) => this.#seen(seen), { root: byId("scroller"), rootMargin: "50% 0px" });

  constructor(client) {
    this.#client = client;
    byId("viewer-close").addEventListener("click", () => byId("viewer").close());
    byId("viewer-save").addEventListener("click", () => this.save(byId("viewer").media));
    byId("viewer").addEventListener("close", () => byId("viewer-picture").removeAttribute("src"));
  }

  /** Make `element` show this file, or nothing. */
  update(element, media) {
    const key = media?.key ?? null;
    if (element.key === key) return;
    element.key = key;
    element.replaceChildren(...(media === null ? [] : [media.kind === "picture" ? this.#picture(media) : fileOf(media)]));
  }

  /** Show a picture as large as the window is. */
  async view(media) {
    const picture = byId("viewer-picture");
    byId("viewer").media = media;
    setText(byId("viewer-name"), media.label);
    setAttribute(picture, "alt", media.label);
    byId("viewer").showModal();
    await this.#doing(async () => setAttribute(picture, "src", (await this.#link(media)).url));
  }

  /** Hand the file to the browser, to keep it. */
  save(media) {
    return this.#doing(async () => {
      const { url } = await this.#link(media);
      el("a", { href: url, download: media.name || "file" }).click();
    });
  }

  #picture(media) {
    const image = el("img", { alt: media.label, decoding: "async" });
    const button = el("button", { type: "button", class: "picture", "data-action": "view", "aria-label": `Picture: ${media.label}` }, image);
    button.media = media;
    if (media.ratio !== null) button.style.aspectRatio = String(media.ratio);
    image.addEventListener("error", () => this.#broken(button, image));
    image.addEventListener("load", () => button.classList.add("loaded"));
    this.#observer.observe(button);
    return button;
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      this.#observer.unobserve(target);
      this.#load(target);
    }
  }

  async #load(button) {
    try {
      setAttribute(button.firstElementChild, "src", (await this.#link(button.media)).url);
    } catch (error) {
      if (error.code === "NOT_FOUND") notShown(button, "This picture is no longer there", null);
      else notShown(button, "Not loaded. Press to try again", "retry");
    }
  }

  /** Try once more what could not be loaded. */
  retry(button) {
    const fresh = this.#picture(button.media);
    button.replaceWith(fresh);
    fresh.focus();
  }

  /** A link may have ended while nobody looked: a second one tells. */
  #broken(button, image) {
    const isFirst = !button.isAgain;
    button.isAgain = true;
    this.#links.delete(button.media.blobId);
    image.removeAttribute("src");
    if (isFirst) this.#load(button);
    else notShown(button, "The browser cannot show this picture. Press to download", "save");
  }

  async #doing(action) {
    try {
      await action();
    } catch (error) {
      toast(error.code === "NOT_FOUND" ? "This file is no longer there." : error.message);
    }
  }

  /** A link that still holds for a while. */
  async #link(media) {
    const known = await this.#links.get(media.blobId)?.catch(() => undefined); // who asked for it was told
    if (known && known.expiresTs - SPARE_MS > this.#client.serverNow) return known;
    const asked = this.#client.fileLink(media.entry);
    this.#links.delete(media.blobId);
    this.#links.set(media.blobId, asked);
    if (this.#links.size > LINKS_MAX) this.#links.delete(this.#links.keys().next().value);
    return asked;
  }
}

function fileOf(media) {
  const words = el("span", {}, el("bdi", {}, media.name || "File"), el("small", {}, media.size));
  const button = el("button", { type: "button", class: "file", "data-action": "save", title: "Download" }, words);
  button.media = media;
  return button;
}

function notShown(button, words, action) {
  button.classList.add("broken");
  button.replaceChildren(words);
  setAttribute(button, "aria-label", `Picture: ${button.media.label}. ${words}`);
  setAttribute(button, "data-action", action);
  button.disabled = action === null;
}
