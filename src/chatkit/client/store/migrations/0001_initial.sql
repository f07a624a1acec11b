-- One file belongs to one user's one device.
CREATE TABLE owner (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL
) STRICT;

-- What the server has not acknowledged; "position" is the order of sending.
CREATE TABLE pending_send (
  conversation_id TEXT NOT NULL,
  client_msg_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (conversation_id, client_msg_id)
) STRICT, WITHOUT ROWID;

-- Everything visible in (floor, prefix] is in the table message.
CREATE TABLE conversation (
  conversation_id TEXT PRIMARY KEY,
  type TEXT NOT NULL,
  epoch TEXT NOT NULL,
  prefix INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  has_left INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
  conversation_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  message_id TEXT NOT NULL,
  sender_id TEXT NOT NULL,
  server_ts INTEGER NOT NULL,
  payload BLOB NOT NULL,
  client_msg_id TEXT,
  PRIMARY KEY (conversation_id, seq)
) STRICT, WITHOUT ROWID;

-- Recalls of entries that are not in the table message yet.
CREATE TABLE early_recall (
  conversation_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (conversation_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE wanted_read (
  conversation_id TEXT PRIMARY KEY,
  up_to_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
