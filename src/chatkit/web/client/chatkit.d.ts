// The types of chatkit.js, beside it for whoever imports a copy. What is below `types` is made of the JSDoc, by scripts/types.

export * from "./types/chatkit.js";
export type { Options } from "./types/client.js";
export type { Conversation } from "./types/conversation.js";
export type { ChatEvent, ChatEventMap } from "./types/events.js";
export type { Edit, LocalStore, Message, Payload, Pending, Reaction, Sent, Status } from "./types/types.js";
