import { baseUrl, Login, takeFragment } from "/static/login.js";
import { MemoryStorage, storageOf } from "/static/storage.js";
import { equal } from "/tests/javascript/check.js";

const tokenOf = (sub, number) => `x.${btoa(JSON.stringify({ sub, number }))}.x`;

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

  "a login works in memory as in the browser's storage, and its user goes with its token"() {
    const login = new Login(new MemoryStorage(), new MemoryStorage(), new URL("http://h/p/"));
    equal([login.token, login.userId], [null, undefined]);
    login.token = "t";
    login.userId = "ann";
    login.openConversation = "c";
    equal([login.token, login.userId, login.openConversation], ["t", "ann", "c"]);
    login.token = "u";
    equal(login.userId, undefined);
    login.end();
    equal([login.token, login.openConversation], [null, null]);
  },

  "who stays signed in is so in later tabs until they sign out, and nobody takes their place"() {
    const browser = new MemoryStorage();
    const tab = () => new Login(new MemoryStorage(), browser, new URL("http://h/p/"));
    const first = tab();
    first.token = tokenOf("ann", 1);
    equal([first.stays, tab().token], [false, null]);
    first.stays = true;
    equal([first.stays, tab().userId], [true, "ann"]);
    first.token = tokenOf("ann", 2); // renewed
    equal([first.stays, tab().token], [true, tokenOf("ann", 2)]);
    const other = tab();
    other.token = tokenOf("ben", 1); // opened by a link of somebody else's
    equal([other.stays, tab().userId], [false, "ann"]);
    other.end();
    equal(tab().userId, "ann");
    first.end();
    equal([browser.length, tab().token], [0, null]);

    first.token = tokenOf("ann", 1);
    first.stays = true;
    const second = tab();
    first.token = tokenOf("ann", 2); // renewed here, and the other tab knows nothing of it
    second.end();
    equal([browser.length, tab().token], [0, null]);

    const opaque = tab();
    opaque.token = "nobody's name in it";
    opaque.stays = true;
    opaque.userId = "cleo"; // the server said so
    equal(tab().userId, "cleo");
  },

  "addresses follow the page's own"() {
    equal(baseUrl(new URL("http://h:1/a/b/?x=1#t")).href, "http://h:1/a/b/");
  },

  "the token leaves the address bar"() {
    const location = new URL("http://h/p/?q=1#token=a.b.c&conversation=c-1");
    const calls = [];
    const taken = takeFragment(location, { replaceState: (...call) => calls.push(call) });
    equal([taken, calls], [{ token: "a.b.c", conversationId: "c-1" }, [[null, "", "/p/?q=1"]]]);
    equal(takeFragment(new URL("http://h/#other"), {}), null);
  },
};
