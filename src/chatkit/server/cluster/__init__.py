"""Several servers on one log: messages between them (`bridge`, `messages`), and the log asked for what they miss."""
