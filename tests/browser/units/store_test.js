import { IndexedDbStore } from "/v1/client/chatkit.js";
import { equal, rejects } from "/tests/javascript/check.js";

const send = (order) => ({ conversationId: "c", clientMsgId: `k-${order}`, payload: { type: "TEXT", text: "x" }, sizeBytes: 20, order, atMs: 1 });
const entry = (seq) => ({ conversationId: "c", epoch: "e", messageId: `m-${seq}`, seq, senderId: "ben", serverTs: 1, payload: { type: "TEXT", text: `${seq}` } });
const change = (put, fields = {}, forgetAbove = null) => ({ record: { id: "c", epoch: "e", floor: 0, upTo: 3, ...fields }, put: put.map(entry), forgetAbove });
let count = 0;

/** A database of its own, and what is in it. */
async function world() {
  const name = `unit-${(count += 1)}`;
  await new Promise((done) => (indexedDB.deleteDatabase(name).onsuccess = done));
  const store = new IndexedDbStore(name);
  await store.open("ann");
  const read = async (scope = "ann") => {
    const other = new IndexedDbStore(name);
    const { pending, conversations } = await other.open(scope);
    other.close();
    return [pending.map((one) => one.order).sort(), ...conversations.map((one) => one.messages.map(({ seq }) => seq))];
  };
  return { store, read };
}

export const tests = {
  async "what was kept is there for the next page, apart by scope"() {
    const { store, read } = await world();
    await Promise.all([store.addPending(send(1)), store.addPending(send(2)), store.save([change([1, 2, 3])])]);
    equal([await read(), await read("ben"), await read("anna")], [[[1, 2], [1, 2, 3]], [[]], [[]]]);
    await store.removePending([send(1), send(1)]);
    equal(await read(), [[2], [1, 2, 3]]);
  },

  async "what is above a replaced log's end goes, what is below the floor too, then the new comes"() {
    const { store, read } = await world();
    await store.save([change([1, 2, 3, 4, 5])]);
    await store.save([change([4], { floor: 1 }, 3)]);
    equal(await read(), [[], [2, 3, 4]]);
  },

  async "forgetting leaves what is pending, and other scopes"() {
    const { store, read } = await world();
    await store.addPending(send(1));
    await store.save([change([1])]);
    await store.forget();
    equal(await read(), [[1]]);
  },

  async "a store that is closed, or that refuses a value, rejects and keeps nothing"() {
    const { store, read } = await world();
    equal((await rejects(store.save([change([1]), change([], { id: () => {} })]))).name, "DataCloneError");
    store.close();
    equal([(await rejects(store.addPending(send(1)))).message, await read()], ["the store is closed", [[]]]);
  },
};
