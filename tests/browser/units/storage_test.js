import { Login } from "/static/identity.js";
import { Outbox } from "/static/outbox.js";
import { MemoryStorage, storageOf } from "/static/storage.js";
import { equal } from "./check.js";

export const tests = {
  "a storage that may not be named, or used, is one in memory"() {
    const refuse = () => {
      throw new DOMException("denied", "SecurityError");
    };
    for (const get of [refuse, () => null, () => ({ getItem: refuse })]) {
      equal(storageOf(get) instanceof MemoryStorage, true);
    }
    equal(storageOf(() => sessionStorage) === sessionStorage, true);
  },

  "login and outbox work in memory as in the browser's storage"() {
    const storage = new MemoryStorage();
    const login = new Login(storage, new URL("http://h/p/"));
    equal(login.token, null);
    login.token = "t";
    login.openConversation = "c";
    equal([login.token, login.deviceId, login.openConversation], ["t", login.deviceId, "c"]);
    const outbox = new Outbox(storage, "outbox:");
    for (const key of ["a", "b"]) outbox.add("c", { type: "TEXT", text: key }, key, 1);
    outbox.resolve("a");
    equal(new Outbox(storage, "outbox:").of().map((item) => item.clientMsgId), ["b"]);
    login.end();
    equal([login.token, storage.key(99)], [null, null]);
  },
};
