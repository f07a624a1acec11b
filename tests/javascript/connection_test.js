import { claimsOf } from "../../src/chatkit/web/client/tokens.js";
import { nextDelay } from "../../src/chatkit/web/client/backoff.js";
import { afterClose, Connection } from "../../src/chatkit/web/client/connection.js";
import { equal } from "./check.js";

class FakeSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static made = [];

  constructor(url, subprotocol) {
    super();
    Object.assign(this, { url, subprotocol, sent: [], closed: false, readyState: 0 });
    FakeSocket.made.push(this);
  }

  send(data) {
    this.sent.push(JSON.parse(data));
  }

  close() {
    this.closed = true;
  }

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

const WELCOME = { event: "WELCOME", resumeToken: "r1", heartbeatMs: 20_000 };

function connected(token = "t") {
  FakeSocket.made = [];
  const world = { states: [], events: [], refused: [], timers: new Map(), nowMs: 1_000 };
  const connection = new Connection({
    url: "ws://host/v1/ws",
    deviceId: "d",
    tokens: { get: () => token, held: token, refused: (token) => world.refused.push(token), renewable: false },
    WebSocket: FakeSocket,
    random: () => 0.5,
    now: () => world.nowMs,
    setTimeout: (action, delayMs) => {
      const id = Symbol();
      world.timers.set(id, { action, delayMs });
      return id;
    },
    clearTimeout: (id) => world.timers.delete(id),
    onState: (status) => world.states.push(status),
    onEvent: (event) => world.events.push(event),
  });
  connection.open();
  const socket = () => FakeSocket.made.at(-1);
  const waits = () => [...world.timers.values()].map((timer) => timer.delayMs).sort((a, b) => a - b);
  const fire = (delayMs) => {
    const [id, timer] = [...world.timers].find(([, one]) => one.delayMs === delayMs);
    world.timers.delete(id);
    timer.action();
  };
  const welcome = () => {
    socket().opens();
    socket().says(WELCOME);
  };
  return { connection, world, socket, waits, fire, welcome, state: () => world.states.at(-1).state };
}

export const tests = {
  "HELLO comes first, with the token, and events follow WELCOME"() {
    const { socket, welcome, world, state } = connected();
    equal(socket().subprotocol, "chatkit.v1.json");
    welcome();
    socket().says({ event: "HEADS" }, { event: "PONG" });
    const [hello] = socket().sent;
    equal([hello.event, hello.token, hello.deviceId, state()], ["HELLO", "t", "d", "online"]);
    equal(world.events.map((event) => event.event), ["HEADS"]);
  },

  "a broken connection comes back with full jitter and the resume token, once"() {
    const { socket, welcome, waits, fire, state } = connected();
    welcome();
    socket().breaks(1006);
    equal([state(), waits()], ["waiting", [250]]);
    fire(250);
    socket().opens();
    equal([socket().sent[0].resumeToken, socket().sent[0].token], ["r1", undefined]);
    socket().breaks(4101);
    equal([state(), waits()], ["waiting", [500]]);
    fire(500);
    socket().opens();
    equal(socket().sent[0].token, "t");
    socket().breaks(4101);
    equal([state(), waits()], ["loggedOut", []]);
  },

  "who is logged in by a cookie comes back where a login was ended, and not where the cookie is refused"() {
    const { socket, welcome, waits, fire, state } = connected(null);
    welcome();
    socket().breaks(4101);
    equal([state(), waits()], ["waiting", [250]]);
    fire(250);
    socket().opens();
    equal([socket().sent[0].resumeToken, socket().sent[0].token], [undefined, undefined]);
    socket().breaks(4101);
    equal([state(), waits()], ["loggedOut", []]);
  },

  "GOAWAY's wait is obeyed and spread"() {
    const { socket, welcome, waits } = connected();
    welcome();
    socket().says({ event: "GOAWAY", reason: "drain", reconnectAfterMs: 4_000 });
    socket().breaks(1001);
    equal(waits(), [5_000]);
  },

  "who is turned away before WELCOME comes back when the server said"() {
    const { socket, waits } = connected();
    socket().opens();
    socket().says({ event: "ERROR", code: "OVERLOADED", message: "full", retryable: true, retryAfterMs: 4_000 });
    socket().breaks(4002);
    equal(waits(), [5_000]);
  },

  "close codes of 4200 and up end it"() {
    const { connection, socket, welcome, waits, state } = connected();
    welcome();
    socket().breaks(4201);
    equal([state(), waits()], ["replaced", []]);
    connection.open();
    socket().breaks(4203);
    equal(state(), "refused");
  },

  "PING goes out twice in each heartbeat, and a line that stays silent for two is given up"() {
    const { socket, welcome, fire, state } = connected();
    welcome();
    const old = socket();
    for (let beat = 1; beat <= 4; beat += 1) {
      fire(10_000);
      equal([old.sent.length, old.sent.at(-1), state()], [1 + beat, { event: "PING" }, "online"]);
    }
    fire(10_000);
    equal([state(), old.closed, old.sent.length], ["waiting", true, 5]);
  },

  "whatever arrives is a sign of life: on a slow line PONG stands behind a page"() {
    const { socket, welcome, fire, waits, state } = connected();
    welcome();
    for (let page = 0; page < 3; page += 1) {
      for (let beat = 0; beat < 4; beat += 1) fire(10_000);
      socket().says({ event: "SYNC_PAGE" });
    }
    equal([state(), waits(), socket().sent.length], ["online", [10_000], 13]);
  },

  "no server makes the heartbeat run hot"() {
    const { socket, waits } = connected();
    socket().opens();
    socket().says({ ...WELCOME, heartbeatMs: 0 });
    equal(waits(), [500]);
  },

  "after a sleep the line is looked at once, and online only after a sign of life"() {
    const { connection, socket, welcome, fire, state, world, waits } = connected();
    welcome();
    world.nowMs += 20_001;
    connection.wake();
    equal([state(), connection.online, socket().sent.at(-1)], ["checking", true, { event: "PING" }]);
    socket().says({ event: "PONG" });
    equal([state(), waits(), world.states.filter((status) => status.welcome).length], ["online", [10_000], 1]);
    world.nowMs += 20_001;
    connection.wake();
    fire(5_000);
    equal([state(), socket().closed], ["waiting", true]);
  },

  "a line that gave signs of life is not looked at when somebody comes back; when the network changed it is"() {
    const { connection, socket, welcome, state, world } = connected();
    welcome();
    world.nowMs += 20_000;
    connection.wake();
    equal([state(), socket().sent.length], ["online", 1]);
    connection.networkChanged();
    connection.networkChanged();
    equal([state(), socket().sent.length], ["checking", 2]);
  },

  "a line that the browser closed unnoticed, as in its back-forward cache, is not waited for"() {
    const { connection, socket, welcome, state } = connected();
    welcome();
    socket().readyState = 3;
    connection.networkChanged();
    equal([state(), socket().sent.length], ["waiting", 1]);
  },

  "who is looked at, or has a network again, connects at once, unless the server asked to wait"() {
    for (const act of ["wake", "networkChanged", "hurry"]) {
      const { connection, socket, welcome, state } = connected();
      welcome();
      socket().breaks(1006);
      connection[act]();
      equal([state(), FakeSocket.made.length], ["connecting", 2]);
    }
    const { connection, socket, welcome, state } = connected();
    welcome();
    socket().says({ event: "GOAWAY", reason: "drain", reconnectAfterMs: 4_000 });
    socket().breaks(1001);
    connection.wake();
    connection.networkChanged();
    equal(state(), "waiting");
    connection.hurry();
    equal(state(), "connecting");
  },

  "a connection that hangs is begun anew with the new network; one that is open already goes on"() {
    const { connection, socket, state } = connected();
    const old = socket();
    connection.wake();
    equal(FakeSocket.made.length, 1);
    connection.networkChanged();
    equal([FakeSocket.made.length, old.closed, state()], [2, true, "connecting"]);
    socket().opens();
    connection.networkChanged();
    equal([FakeSocket.made.length, socket().sent.length], [2, 1]);
  },

  "how far the server's log had got is said back in the next HELLO"() {
    const { connection, socket, welcome } = connected();
    const hello = () => {
      socket().breaks(1006);
      connection.hurry();
      socket().opens();
      return socket().sent[0].logToken;
    };
    welcome();
    equal([socket().sent[0].logToken, hello()], [undefined, undefined]);
    socket().says(WELCOME, { event: "PONG", logToken: "one" }, { event: "PONG", logToken: "two" }, { event: "PONG" });
    equal(hello(), "two");
    socket().says(WELCOME, { event: "PONG", logToken: 7 }, { event: "PONG", logToken: "x".repeat(65) });
    equal(hello(), "two");
  },

  "no WELCOME in time, and a late word of a dropped socket, are handled"() {
    const { socket, fire, state, world } = connected();
    const old = socket();
    old.opens();
    fire(20_000);
    equal(state(), "waiting");
    old.says(WELCOME);
    equal([state(), world.events], ["waiting", []]);
  },

  "delays double, are capped, and ranges of close codes are told apart"() {
    equal([1, 2, 3, 40].map((attempt) => nextDelay(attempt, 1)), [500, 1_000, 2_000, 20_000]);
    equal(nextDelay(1, 0.5, 1_000), 1_250);
    const codes = [1001, 1006, 4000, 4099, 4100, 4199, 4200, 4201, 4299];
    const words = ["again", "again", "again", "again", "login", "login", "refused", "replaced", "refused"];
    equal(codes.map(afterClose), words);
  },

  "what a server asks for is the least wait, never shortens the backoff, and is believed up to a bound"() {
    equal([0, 1_000, -5, "soon", undefined].map((retryAfterMs) => nextDelay(20, 0.9, retryAfterMs)), [18_000, 18_000, 18_000, 18_000, 18_000]);
    equal([300_000, 86_400_000].map((retryAfterMs) => nextDelay(1, 0.5, retryAfterMs)), [375_000, 375_000]);
  },

  "waits start over only after a connection that was stable"() {
    const { socket, welcome, waits, fire, world } = connected();
    for (const delayMs of [250, 500, 1_000]) {
      welcome();
      world.nowMs += 9_999;
      socket().breaks(1006);
      equal(waits(), [delayMs]);
      fire(delayMs);
    }
    welcome();
    world.nowMs += 10_000;
    socket().breaks(1006);
    equal(waits(), [250]);
  },

  "a token that is no JWT has no claims"() {
    equal([claimsOf("abc"), claimsOf("a.!.c"), claimsOf(`a.${btoa("null")}.c`)], [{}, {}, {}]);
    equal(claimsOf(`a.${btoa('{"sub":"ann","dev":"phone"}')}.c`), { sub: "ann", dev: "phone" });
  },
};
