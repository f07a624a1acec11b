-- What providers said of pushes to a device, by the entry that they were about: for `chatkit explain`. Of a device the newest
-- few in a conversation are kept, and for some days: docs/design/0019-what-became-of-a-message.md.

CREATE TABLE push_record (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    provider text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    answer text COLLATE "C" NOT NULL CHECK (answer IN ('TAKEN', 'RETRY', 'DEAD', 'REFUSED', 'UNKNOWN')),
    provider_id text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    tries bigint NOT NULL CHECK (tries > 0),
    first_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id, seq)
);

CREATE INDEX push_record_at ON push_record (at_ms);
