// The chatkit client for browsers. `import { ChatClient } from "/v1/client/chatkit.js"` is all there is to install.

export { ChatClient } from "./client.js";
export { ChatError } from "./errors.js";
export { Upload } from "./media.js";
export { contentOf, isCutOff, isOpen } from "./marks.js";
export { MessageStream } from "./message_stream.js";
export { SearchHit } from "./search.js";
export { IndexedDbStore } from "./store_indexeddb.js";
export { MemoryStore } from "./store_memory.js";
export { isUserMessage } from "./timeline.js";
export { claimsOf } from "./tokens.js";
