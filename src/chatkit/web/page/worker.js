// The page's service worker: a browser has one for each address. A classic script, because not every browser that has Web Push
// takes modules here.

importScripts("static/files.js", "static/offline_worker.js", "static/push_worker.js");
