-- What providers said of pushes to a device, by the entry that they were about: for `chatkit explain`. Of a device the newest
-- few in a conversation are kept, and for some days: docs/design/0019-what-became-of-a-message.md.

CREATE TABLE push_record (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    provider TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('TAKEN', 'RETRY', 'DEAD', 'REFUSED', 'UNKNOWN')),
    provider_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    tries INTEGER NOT NULL CHECK (tries > 0),
    first_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX push_record_at ON push_record (at_ms);
