// The worker's half of timers.js: it only counts.

import { countdowns } from "./timers.js";

const count = countdowns((id) => postMessage(id));
addEventListener("message", (event) => count(event.data));
