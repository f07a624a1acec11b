// A whole client on a fake socket and a fake clock, for the tests of what an app sees of it.

import { ChatClient, MemoryStore } from "../../src/chatkit/web/client/chatkit.js";
import { clock } from "./check.js";

export const WELCOME = {
  event: "WELCOME", userId: "u-1", deviceId: "phone", sessionId: "s-1", resumeToken: "r-1", resumed: false, expiresTs: null,
  heartbeatMs: 30_000, serverTs: 0, protocol: "1.0", limits: { frameBytes: 1e6, payloadBytes: 65_536, batch: 256, syncPage: 200 },
};

/** Whatever can happen without time going by has happened then. */
export const shortly = () => new Promise((done) => setTimeout(done, 0));

/** Whatever needs several turns of the loop, such as a save, has happened then. */
export async function aWhile() {
  for (let turn = 0; turn < 10; turn += 1) await shortly();
}

/** Once something that needs several turns of the loop has happened, such as an answer that is read. */
export async function eventually(condition) {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn === 1_000) throw new Error(`it never came: ${condition}`);
    await shortly();
  }
}

/** A store that outlives its clients. What it is told counts a few turns later, except that a `forget` does at once. */
export class KeepingStore extends MemoryStore {
  #kept = new Map();
  #isOpen = true;

  open() {
    this.#isOpen = true;
    return { pending: [], conversations: [...this.#kept.values()] };
  }

  async save(changes) {
    this.#check();
    for (let turn = 0; turn < 3; turn += 1) await shortly();
    for (const { record, put, forgetAbove } of changes) {
      const former = this.#kept.get(record.id)?.messages ?? [];
      const stays = ({ seq }) => seq > record.floor && seq <= (forgetAbove ?? Infinity) && !put.some((one) => one.seq === seq);
      this.#kept.set(record.id, { record, messages: [...former.filter(stays), ...put] });
    }
  }

  async forget() {
    this.#check();
    this.#kept.clear();
  }

  close() {
    this.#isOpen = false;
  }

  #check() {
    if (!this.#isOpen) throw new Error("the store is closed");
  }
}

/** A client that has started, and the server's end of its line. */
export async function world(options = {}) {
  const made = { ...clock(), sockets: [], told: [] };
  class FakeSocket extends EventTarget {
    static CONNECTING = 0;
    static OPEN = 1;
    readyState = 0;
    sent = [];

    constructor() {
      super();
      made.sockets.push(this);
    }

    send(data) {
      this.sent.push(JSON.parse(data));
    }

    close() {}

    opens() {
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
    }

    says(...events) {
      this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(events) }));
    }

    breaks(code) {
      this.dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
    }
  }
  const answer = async (url) => Response.json(`${url}`.includes("/c-1") ? { memberIds: ["u-1", "u-2"] } : { conversations: [], nextCursor: null });
  made.client = new ChatClient({
    url: "http://chat.test/", token: "t", userId: "u-1", deviceId: "phone", store: new MemoryStore(), WebSocket: FakeSocket,
    fetch: answer, ports: made.ports, ...options,
  });
  for (const type of ["message", "sent", "held", "failed", "recalled", "edited", "reaction", "epoch", "error", "caughtup"]) {
    made.client.addEventListener(type, ({ detail }) => made.told.push(detail));
  }
  await made.client.start();
  made.socket = () => made.sockets.at(-1);
  made.connect = async (...events) => {
    while (made.socket().readyState !== 0) made.advance(100); // a broken line comes back after a wait
    made.socket().opens();
    made.socket().says(WELCOME, ...events);
    await shortly();
  };
  /** What was said since the last call, without HELLO and PING. */
  made.said = () => made.socket().sent.splice(0).filter(({ event }) => event !== "HELLO" && event !== "PING");
  return made;
}

export const heads = (headSeq) => ({
  event: "HEADS", more: false, conversations: [{
    conversationId: "c-1", type: "SINGLE", epoch: "e", headSeq, firstSeq: 1, deliveredSeq: 0, readSeq: 0, othersDeliveredSeq: 0, othersReadSeq: 0,
  }],
});
export const entry = (seq, text = `t${seq}`) => ({
  conversationId: "c-1", epoch: "e", messageId: `m-${seq}`, seq, senderId: "u-2", serverTs: seq, payload: { type: "TEXT", text },
});
export const push = (seq, text) => ({ event: "NEW_MSG", ...entry(seq, text) });
