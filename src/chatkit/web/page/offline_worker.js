// Starts the page without a network: it keeps the page's files, all of one version, and answers with them. Whatever else is
// asked for goes its way. VERSION and FILES (path below the page: hash) come from the server, in files.js.

const KEPT = `chatkit page of ${registration.scope}: `;

addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(keepAll().catch((error) => console.warn(`the page does not start offline yet: ${error.message}`)));
});
addEventListener("activate", (event) => event.waitUntil(forgetOthers()));
addEventListener("fetch", (event) => {
  const path = pathOf(event.request);
  if (path !== null) event.respondWith(answer(event, path));
});

/** Which of the page's files is asked for; null if none. */
function pathOf({ method, url, mode }) {
  const { href, search } = new URL(url);
  const [asked] = href.split(/[?#]/);
  const path = asked.slice(registration.scope.length);
  const isOurs = asked.startsWith(registration.scope) && Object.hasOwn(FILES, path) && (search === "" || mode === "navigate");
  return method === "GET" && isOurs ? path : null;
}

/** What is kept, where all of it is; else the server's, and the next try to keep all. */
async function answer(event, path) {
  const cache = await keptWhole();
  const kept = await cache?.match(new URL(path, registration.scope));
  if (kept) return kept;
  if (event.request.mode === "navigate") event.waitUntil(keepAll().catch(() => {})); // a look offline is no news
  return fetch(event.request);
}

/** What is kept of this version; undefined unless all of it is. */
async function keptWhole() {
  if (!(await caches.has(KEPT + VERSION))) return undefined;
  const cache = await caches.open(KEPT + VERSION);
  return (await cache.match(registration.scope)) && cache; // the page itself is put last
}

/** Keep every file: one with other content than the list says, as in the middle of an update, fails it, and so does a full disk. */
async function keepAll() {
  const answers = await Promise.all(Object.entries(FILES).map(([path, integrity]) => whole(new URL(path, registration.scope), integrity)));
  const cache = await caches.open(KEPT + VERSION);
  const [page, ...others] = answers; // the list begins with the page itself
  await Promise.all(others.map(([url, response]) => cache.put(url, response)));
  await cache.put(...page);
}

async function whole(url, integrity) {
  const response = await fetch(url, { integrity, cache: "no-cache" });
  if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}`);
  return [url, response];
}

async function forgetOthers() {
  if (!(await keptWhole())) return;
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(KEPT) && name !== KEPT + VERSION).map((name) => caches.delete(name)));
}
