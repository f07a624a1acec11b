// The composition root of the page: takes the token, makes the parts, joins them, starts. Nothing else runs on load.

import { Api } from "./api.js";
import { byId } from "./dom.js";
import { baseUrl, Login, socketUrl, takeFragment } from "./identity.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import { Ui } from "./ui.js";
import { Connection } from "./wire.js";

const TICK_MS = 1_000;

const base = baseUrl(location);
const login = new Login(sessionStorage, base);
const time = {
  now: () => Date.now(),
  random: () => Math.random(),
  setTimeout: (action, delayMs) => setTimeout(action, delayMs),
  clearTimeout: (id) => clearTimeout(id),
};

function takeLogin() {
  const fragment = takeFragment(location, history);
  if (fragment === null) return false;
  login.token = fragment.token;
  if (fragment.conversationId) login.openConversation = fragment.conversationId;
  return true;
}

function signOut() {
  login.end();
  location.reload();
}

/** A named device finds its waiting messages in any later tab; a tab that is its own device only in itself. */
function openOutbox() {
  const storage = login.deviceIsNamed ? localStorage : sessionStorage;
  return new Outbox(storage, `${login.prefix}outbox:${login.claims.sub ?? ""}:${login.deviceId}:`);
}

function start() {
  let ui = null;
  const connection = new Connection({
    url: socketUrl(base),
    login,
    WebSocket,
    ...time,
    onState: (status) => session.onState(status),
    onEvent: (event) => session.onEvent(event),
  });
  const session = new Session({
    connection,
    api: new Api(base, login, fetch.bind(window)),
    outbox: openOutbox(),
    ...time,
    changed: () => ui?.changed(),
    notice: (text) => ui?.toast(text),
  });
  ui = new Ui(session, login, { hurry: () => connection.hurry(), reopen: () => connection.open(), signOut });
  if (login.openConversation !== null) session.openId = login.openConversation;
  keepGoing(connection, ui);
  connection.open();
}

function keepGoing(connection, ui) {
  setInterval(() => ui.needsTick && ui.changed(), TICK_MS);
  addEventListener("online", () => connection.hurry());
  addEventListener("pageshow", (event) => event.persisted && connection.hurry());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && connection.hurry());
  addEventListener("hashchange", () => {
    const before = login.claims.sub;
    if (!takeLogin()) return;
    const isSameUser = before !== undefined && login.claims.sub === before;
    if (isSameUser) connection.renew(login.token);
    else location.reload();
  });
}

function askForToken() {
  byId("sign-in").hidden = false;
  byId("token").focus();
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    login.token = byId("token").value.trim();
    byId("token").value = "";
    byId("sign-in").hidden = true;
    start();
  });
  addEventListener("hashchange", () => takeLogin() && location.reload());
}

takeLogin();
if (login.token === null) askForToken();
else start();
