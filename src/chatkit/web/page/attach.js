// Sending files: chosen, pasted or dropped, looked at and described in a dialog, then uploaded with a bar that can be stopped.
// An upload lives as long as the page; what the message needs is queued once it is there. Made by ui.js.

import { byId, el, reconcile, setAttribute, setText } from "./dom.js";
import { sizeOf } from "./format.js";
import { toast } from "./notices.js";

const UPLOADS_MAX = 4;
const PROBLEMS = { NOT_FOUND: "This server takes no files.", TOO_LARGE: "The file is larger than this server takes.", QUOTA: "Your files take all the room that you have." };
const NOT_QUEUED = ["QUEUE_FULL", "STORAGE"];
const PREVIEWED = /^image\/(png|apng|jpeg|gif|webp|avif)$/;

export class Attachments {
  #client;
  #answered;
  #sent;
  #openId = null;
  #offered = null; // {file, conversationId, url: of the preview or null}: what the dialog is about
  #uploads = new Map(); // by number
  #count = 0;

  /** @param {{client, answered: () => object | undefined, sent: () => void}} parts `answered`: the message that is being answered, which then no longer is */
  constructor({ client, answered, sent }) {
    this.#client = client;
    this.#answered = answered;
    this.#sent = sent;
    byId("attach").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", ({ target }) => this.#chosen(target));
    byId("text").addEventListener("paste", (event) => this.#given(event, event.clipboardData));
    byId("app").addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
    byId("app").addEventListener("drop", (event) => this.#given(event, event.dataTransfer));
    byId("attachment-cancel").addEventListener("click", () => byId("attachment").close());
    byId("attachment").addEventListener("close", () => this.#forget());
    byId("attachment-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#accepted(new FormData(event.target).get("alt").trim());
    });
    byId("uploads").addEventListener("click", ({ target }) => this.#pressed(target.closest("[data-action]")));
    addEventListener("beforeunload", (event) => this.#isBusy && event.preventDefault());
  }

  /** Another conversation is open, or none. */
  opened(conversationId) {
    this.#openId = conversationId;
    this.#draw();
  }

  get #isBusy() {
    return [...this.#uploads.values()].some(({ problem }) => problem === null);
  }

  // --- before it is sent ---

  #chosen(input) {
    const [file] = input.files;
    input.value = "";
    if (file) this.#offer(file);
  }

  #given(event, data) {
    const [file] = data.files;
    if (!file || data.types.includes("text/plain")) return; // text is the field's own business, also with a picture of it
    event.preventDefault(); // or the browser leaves the page for the file
    if (this.#openId !== null && !byId("attach").disabled) this.#offer(file);
  }

  #offer(file) {
    if (this.#uploads.size >= UPLOADS_MAX) return toast(`${UPLOADS_MAX} files are under way. Wait for one of them, or stop one.`);
    const url = PREVIEWED.test(file.type) ? URL.createObjectURL(file) : null;
    this.#offered = { file, conversationId: this.#openId, url };
    byId("attachment-form").reset();
    byId("attachment-picture").hidden = byId("attachment-words").hidden = url === null;
    setAttribute(byId("attachment-picture"), "src", url);
    setText(byId("attachment-name"), `${file.name} · ${sizeOf(file.size)}`);
    byId("attachment").showModal();
    byId(url === null ? "attachment-send" : "alt").focus();
  }

  #forget() {
    if (this.#offered?.url) URL.revokeObjectURL(this.#offered.url);
    byId("attachment-picture").removeAttribute("src");
    this.#offered = null;
  }

  #accepted(alt) {
    const { file, conversationId, url } = this.#offered;
    const { naturalWidth: width, naturalHeight: height } = byId("attachment-picture");
    const more = url === null ? {} : { ...(alt && { alt }), ...(width > 0 && { width, height }) };
    byId("attachment").close();
    this.#count += 1;
    const upload = { number: this.#count, conversationId, file, more, replyTo: this.#answered(), done: 0, problem: null };
    this.#uploads.set(upload.number, upload);
    this.#run(upload);
    byId("text").focus();
  }

  // --- on the way ---

  /** Upload, then queue the message; what fails stays in the list with the reason, to be tried again or removed. */
  async #run(upload) {
    upload.problem = null;
    upload.stop = new AbortController();
    this.#draw();
    try {
      const onProgress = (done) => {
        upload.done = done;
        this.#draw();
      };
      const uploaded = await this.#client.upload(upload.file, { onProgress, signal: upload.stop.signal });
      this.#send(upload, { ...uploaded.payload(), ...upload.more });
      this.#uploads.delete(upload.number);
    } catch (error) {
      if (upload.stop.signal.aborted) this.#uploads.delete(upload.number);
      else this.#failed(upload, PROBLEMS[error.code] ?? error.message);
    }
    this.#draw();
  }

  #send(upload, payload) {
    const { conversationId, replyTo } = upload;
    this.#client.send(conversationId, payload, { replyTo }).catch((error) => {
      if (NOT_QUEUED.includes(error.code)) this.#failed(upload, error.message);
      else if (error.code !== "CLOSED") toast(error.message);
    });
    if (conversationId === this.#openId) this.#sent();
  }

  #failed(upload, problem) {
    upload.problem = problem;
    this.#uploads.set(upload.number, upload);
    if (upload.conversationId !== this.#openId) toast(`A file for another conversation was not sent: ${problem}`);
    this.#draw();
  }

  #pressed(button) {
    if (button === null) return;
    const upload = this.#uploads.get(Number(button.closest("li").dataset.number));
    if (button.dataset.action === "again") this.#run(upload);
    else if (upload.problem === null) upload.stop.abort();
    else this.#uploads.delete(upload.number);
    this.#draw();
    byId("text").focus();
  }

  #draw() {
    const shown = [...this.#uploads.values()].filter(({ conversationId }) => conversationId === this.#openId);
    reconcile(byId("uploads"), shown.map((upload) => ({ key: upload.number, upload })), makeUpload, drawUpload);
  }
}

function makeUpload({ upload }) {
  return el(
    "li",
    { "data-number": upload.number },
    el("bdi", {}, upload.file.name),
    el("progress", { max: Math.max(1, upload.file.size), "aria-label": `Upload of ${upload.file.name}` }),
    el("span", { class: "problem", role: "alert" }),
    el("button", { type: "button", class: "tool", "data-action": "again" }, "Try again"),
    el("button", { type: "button", class: "tool", "data-action": "stop" }),
  );
}

function drawUpload(row, { upload: { file, done, problem } }) {
  const [, bar, words, again, stop] = row.children;
  bar.value = done;
  bar.hidden = problem !== null;
  setText(words, problem ?? "");
  again.hidden = problem === null;
  setText(stop, problem === null ? "Cancel" : "Remove");
  setAttribute(stop, "aria-label", `${stop.textContent} ${file.name}`);
}
