// The dialog for a new conversation. Made by ui.js.

import { byId, setText } from "./dom.js";

export class CreateDialog {
  #client;
  #created;
  #asked = null; // the request that is under way, unless the dialog was closed since

  /** @param {{client, created: (conversationId: string) => void}} parts */
  constructor({ client, created }) {
    this.#client = client;
    this.#created = created;
    byId("new-conversation").addEventListener("click", () => this.#open());
    byId("create-cancel").addEventListener("click", () => byId("create").close());
    byId("create-form").addEventListener("change", () => this.#kindChosen());
    byId("create-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#asked === null) this.#ask(new FormData(event.target));
    });
    byId("create").addEventListener("close", () => (this.#asked = null));
  }

  #open() {
    byId("create-form").reset();
    this.#kindChosen();
    byId("create").showModal();
    byId("members").focus();
  }

  #kindChosen() {
    const isGroup = new FormData(byId("create-form")).get("type") === "GROUP";
    byId("group-title").hidden = !isGroup;
    setText(byId("members-label"), isGroup ? "User ids, separated by commas or spaces" : "User id");
    setText(byId("create-problem"), "");
  }

  async #ask(form) {
    const asked = (this.#asked = this.#create(form));
    const [id, problem] = await asked.then(({ id }) => [id, ""], (error) => [null, error.message]);
    if (this.#asked !== asked) return;
    this.#asked = null;
    setText(byId("create-problem"), problem);
    if (id === null) return;
    byId("create").close();
    this.#created(id);
  }

  async #create(form) {
    const type = form.get("type");
    const memberIds = form.get("members").split(/[\s,;]+/).filter(Boolean);
    const title = type === "GROUP" ? form.get("title").trim() : "";
    return this.#client.create({ type, memberIds, ...(title && { title }) });
  }
}
