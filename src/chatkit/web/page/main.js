// The composition root of the page: takes the token, makes the parts, joins them, starts. Nothing else runs on load.

import { ChatClient, claimsOf, isUserMessage } from "../v1/client/chatkit.js";
import { byId } from "./dom.js";
import { textOf } from "./format.js";
import { Install, startWorker } from "./install.js";
import { baseUrl, fragmentOf, Login, takeFragment } from "./login.js";
import { mentionsMe } from "./mentions.js";
import { toast } from "./notices.js";
import { Notifier } from "./notifier.js";
import { Theme } from "./settings.js";
import { MemoryStorage, storageOf } from "./storage.js";
import { Ui } from "./ui.js";

const TICK_MS = 1_000;

const fragment = takeFragment(location, history); // first of all: a token is not left in the address bar
const base = baseUrl(location);
const tabStorage = storageOf(() => sessionStorage);
const browserStorage = storageOf(() => localStorage);
const login = new Login(tabStorage, browserStorage, base);
const theme = new Theme(browserStorage, `${login.prefix}theme`);
const install = new Install({ installed: () => (login.stays = login.token !== null) }); // an app that asks for a token at each start is none

function logIn({ token, conversationId }) {
  if (token !== null) login.token = token;
  if (conversationId) login.openConversation = conversationId;
}

async function signOut(client, notifier) {
  await notifier.signOut();
  login.end();
  await client.forget().catch((error) => console.warn(`the browser still keeps messages: ${error.message}`));
  location.reload();
}

/** One browser has one subscription, whoever uses it, so all tabs of the page share it. */
function makeNotifier(client, ui) {
  return new Notifier({
    client,
    base,
    storage: browserStorage,
    key: `${login.prefix}notify`,
    serviceWorkers: navigator.serviceWorker,
    permissions: globalThis.Notification,
    changed: () => ui()?.changed(),
    notice: toast,
  });
}

function start() {
  let ui = null;
  const client = new ChatClient({ url: base, token: login.token, userId: login.userId });
  const notifier = makeNotifier(client, () => ui);
  const actions = { hurry: () => client.reconnect(), reopen: () => client.reconnect(), signOut: () => signOut(client, notifier) };
  ui = new Ui({ client, login, notifier, theme, install, actions });
  listen(client, notifier);
  notifier.listen({ shown: () => ui.openId, open: (conversationId) => openFromOutside(ui, conversationId) });
  keepGoing(client, ui);
  ui.changed();
  client.start().catch((error) => toast(error.message));
  if (tabStorage instanceof MemoryStorage) toast("The browser keeps nothing for this page: closing or reloading it signs you out.");
}

function listen(client, notifier) {
  const on = (type, handler) => client.addEventListener(type, (event) => handler(event.detail));
  on("status", ({ status }) => {
    if (!status.welcome) return;
    login.userId = client.me;
    notifier.begin();
  });
  on("message", ({ conversationId, message, live }) => {
    const conversation = client.conversation(conversationId);
    const wakes = ({ mutedUntil, notify }, { payload }) => mutedUntil <= client.serverNow || (notify === "MENTIONS" && mentionsMe(payload, client.me));
    const isNews = live && isUserMessage(message) && message.senderId !== client.me && wakes(conversation, message);
    if (isNews) notifier.heard(pushOf(conversation, message));
  });
  on("error", ({ error }) => {
    if (error.code !== "STORAGE") toast(error.message);
  });
  on("tokenexpiring", ({ expiresTs }) => toast(expiryNotice(expiresTs)));
  on("renewed", () => toast("The sign-in was renewed."));
}

function keepGoing(client, ui) {
  setInterval(() => ui.needsTick && ui.changed(), TICK_MS); // what changes with time alone
  addEventListener("storage", () => {
    theme.apply(); // another tab chose it
    ui.changed(); // or turned notifications on or off
  });
  addEventListener("hashchange", () => {
    const next = fragmentOf(location);
    if (next === null) return;
    const { token, conversationId } = next;
    const { sub } = login.claims;
    if (token !== null && (sub === undefined || claimsOf(token).sub !== sub)) return location.reload();
    takeFragment(location, history);
    if (token !== null) client.renew((login.token = token));
    if (conversationId) openFromOutside(ui, conversationId);
  });
}

/** A notification or a link opens a conversation, also while pins of another one are looked at. */
function openFromOutside(ui, conversationId) {
  byId("pins").close();
  ui.show(conversationId);
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
function pushOf(conversation, { messageId, senderId, payload }) {
  const words = textOf(payload);
  return {
    title: conversation.name,
    body: conversation.type === "GROUP" ? `${senderId}: ${words}` : words,
    collapseId: conversation.id,
    conversationId: conversation.id,
    messageId,
  };
}

function expiryNotice(expiresTs) {
  const time = new Date(expiresTs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `This sign-in ends at ${time}. Open a new link in this tab to stay.`;
}

/** So that the page starts offline; without it, it is as it was. */
function startOffline() {
  const renewed = () => toast("A newer version of this page is here. It shows once you reload.");
  startWorker(navigator.serviceWorker, base, renewed).catch((error) => console.warn(`the page does not start offline: ${error.message}`));
}

if (fragment !== null) logIn(fragment);
if (navigator.serviceWorker) startOffline();
if (login.token === null) askForToken();
else start();
