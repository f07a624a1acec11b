// Shows what the server pushes while no window shows it. The browser starts this worker for each push, also where the page
// is closed. It keeps nothing and knows no login; what the windows show it asks them (notifier.js is its other half).
// A classic script without imports, because not every browser that has Web Push takes modules here.

const ANSWER_WAIT_MS = 3_000; // a window that is frozen does not answer
const TITLE = "chatkit";
const BODY = "New message";

addEventListener("install", () => skipWaiting());
addEventListener("push", (event) => event.waitUntil(show(pushOf(event.data))));
addEventListener("message", (event) => event.waitUntil(show(event.data)));
addEventListener("pushsubscriptionchange", (event) => event.waitUntil(subscribeAgain()));
addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data.conversationId));
});

/** The server's JSON. Whatever else came must be shown as something: browsers end the subscription of who shows nothing. */
function pushOf(data) {
  try {
    return data.json() ?? {};
  } catch {
    return {};
  }
}

async function show(push) {
  await notify(push);
  const { badge = null } = push;
  if (badge !== null) await showBadge(badge);
}

/** Show a push, unless somebody looks at its conversation or it is shown already. A later one replaces it. */
async function notify({ title = null, body = null, collapseId = "", conversationId = null, messageId = null }) {
  const windows = await askWindows();
  if (windows.some(({ client, shows }) => client.visibilityState === "visible" && isOf(shows, conversationId))) return;
  const shown = await registration.getNotifications({ tag: collapseId });
  if (messageId !== null && shown.some((one) => one.data.messageId === messageId)) return;
  await registration.showNotification(title ?? TITLE, {
    body: body ?? (title === null ? BODY : ""),
    tag: collapseId,
    renotify: collapseId !== "",
    data: { conversationId, messageId },
  });
}

/** Bring a window to a conversation: one that shows it, else any that notifications are for, else a new one. */
async function open(conversationId) {
  const windows = await askWindows();
  const found = windows.find(({ shows }) => isOf(shows, conversationId)) ?? windows.find(({ shows }) => shows !== null);
  const fragment = conversationId === null ? "" : `#conversation=${encodeURIComponent(conversationId)}`;
  if (!found) return clients.openWindow(registration.scope + fragment);
  found.client.postMessage({ kind: "open", conversationId });
  return found.client.focus();
}

/** The browser gave the subscription up, and takes another; the windows register it, or the next one that is opened. */
async function subscribeAgain() {
  const answer = await fetch(new URL("v1/push", registration.scope));
  const { vapidPublicKey } = await answer.json();
  await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: vapidPublicKey });
  for (const { client } of await askWindows()) client.postMessage({ kind: "subscribed" });
}

/** The windows of this page, each with what it says that it shows; null where notifications are not for it. */
async function askWindows() {
  const all = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const { scope } = registration;
  const ours = all.filter(({ url }) => url.startsWith(scope) && new URL(".", url).href === scope);
  return Promise.all(ours.map(async (client) => ({ client, shows: await ask(client) })));
}

function ask(client) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = (event) => resolve(event.data);
    setTimeout(() => resolve(null), ANSWER_WAIT_MS);
    client.postMessage({ kind: "shows" }, [port2]);
  });
}

function isOf(shows, conversationId) {
  return shows !== null && conversationId !== null && shows.conversationId === conversationId;
}

/** Where the browser has badges. */
async function showBadge(count) {
  if (count > 0) await navigator.setAppBadge?.(count);
  else await navigator.clearAppBadge?.();
}
