-- What the app keeps of a conversation: it is written with what the app has taken, in one transaction.
CREATE TABLE app_state (
  conversation_id TEXT PRIMARY KEY,
  state BLOB NOT NULL
) STRICT, WITHOUT ROWID;
