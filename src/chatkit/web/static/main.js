// The composition root of the page: takes the token, makes the parts, joins them, starts. Nothing else runs on load.

import { Api } from "./api.js";
import { byId } from "./dom.js";
import { textOf } from "./format.js";
import { baseUrl, claimsOf, fragmentOf, Login, socketUrl, takeFragment } from "./identity.js";
import { Notifier } from "./notifier.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import { MemoryStorage, storageOf } from "./storage.js";
import { Timers } from "./timers.js";
import { Ui } from "./ui.js";
import { Connection } from "./wire.js";

const TICK_MS = 1_000;
const SLEPT_MS = 5_000;

const fragment = takeFragment(location, history); // first of all: a token is not left in the address bar
const base = baseUrl(location);
const tabStorage = storageOf(() => sessionStorage);
const login = new Login(tabStorage, base);
const timers = new Timers(() => new Worker(new URL("timer_worker.js", import.meta.url), { type: "module" }));
const time = {
  now: () => Date.now(),
  random: () => Math.random(),
  setTimeout: (action, delayMs) => timers.setTimeout(action, delayMs),
  clearTimeout: (id) => timers.clearTimeout(id),
};

function logIn({ token, conversationId }) {
  if (token !== null) login.token = token;
  if (conversationId) login.openConversation = conversationId;
}

async function signOut(notifier) {
  await notifier.signOut();
  login.end();
  location.reload();
}

/** A named device finds its waiting messages in any later tab; a tab that is its own device only in itself. */
function openOutbox() {
  const storage = login.deviceIsNamed ? storageOf(() => localStorage) : tabStorage;
  return new Outbox(storage, `${login.prefix}outbox:${login.claims.sub ?? ""}:${login.deviceId}:`);
}

/** One browser has one subscription, whoever uses it, so all tabs of the page share it. */
function makeNotifier(api, session, ui) {
  return new Notifier({
    api,
    base,
    storage: storageOf(() => localStorage),
    key: `${login.prefix}notify`,
    serviceWorkers: navigator.serviceWorker,
    permissions: globalThis.Notification,
    deviceId: () => login.deviceId,
    userId: () => session.me,
    setTimeout: time.setTimeout,
    changed: () => ui()?.changed(),
    notice: (text) => ui()?.toast(text),
  });
}

function start() {
  let ui = null;
  const api = new Api(base, login, fetch.bind(window));
  const connection = new Connection({
    url: socketUrl(base),
    login,
    WebSocket,
    ...time,
    onState: (status) => {
      session.onState(status);
      if (status.welcome) notifier.begin();
    },
    onEvent: (event) => session.onEvent(event),
  });
  const session = new Session({
    connection,
    api,
    outbox: openOutbox(),
    ...time,
    changed: () => ui?.changed(),
    notice: (text) => ui?.toast(text),
    heard: (conversation, entry) => notifier.heard(pushOf(conversation, entry, session.me)),
  });
  const notifier = makeNotifier(api, session, () => ui);
  ui = new Ui(session, login, notifier, {
    hurry: () => connection.hurry(),
    reopen: () => connection.open(),
    signOut: () => signOut(notifier),
  });
  notifier.listen({ shown: () => session.openId, open: (conversationId) => ui.show(conversationId) });
  if (login.openConversation !== null) session.openId = login.openConversation;
  keepGoing(connection, ui);
  connection.open();
  if (tabStorage instanceof MemoryStorage) ui.toast("The browser keeps nothing for this page: closing or reloading it signs you out.");
}

function keepGoing(connection, ui) {
  tick(connection, ui);
  for (const type of ["online", "offline"]) addEventListener(type, () => connection.networkChanged());
  addEventListener("pageshow", (event) => event.persisted && connection.networkChanged());
  document.addEventListener("resume", () => connection.wake()); // the browser had frozen the page
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && connection.wake());
  addEventListener("storage", () => ui.changed()); // another tab turned notifications on or off
  addEventListener("hashchange", () => {
    const next = fragmentOf(location);
    if (next === null) return;
    if (next.token === null) return ui.show(takeFragment(location, history).conversationId);
    const { sub } = login.claims;
    if (sub === undefined || claimsOf(next.token).sub !== sub) return location.reload();
    logIn(takeFragment(location, history));
    connection.renew(login.token);
  });
}

/** What changes with time alone. If more time went by than the page was awake for, the machine slept. */
function tick(connection, ui) {
  let lastMs = time.now();
  setInterval(() => {
    const slept = time.now() - lastMs > SLEPT_MS;
    lastMs = time.now();
    if (slept && document.visibilityState === "visible") connection.wake();
    if (ui.needsTick) ui.changed();
  }, TICK_MS);
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
  addEventListener("hashchange", () => fragmentOf(location) && location.reload());
}

/** What a message that came to a hidden page is shown as, in the form of a push. */
function pushOf(conversation, { messageId, senderId, payload }, me) {
  const words = textOf(payload);
  return {
    title: conversation.name(me),
    body: conversation.type === "GROUP" ? `${senderId}: ${words}` : words,
    collapseId: conversation.id,
    conversationId: conversation.id,
    messageId,
  };
}

if (fragment !== null) logIn(fragment);
if (login.token === null) askForToken();
else start();
