-- Open streamed messages. Why: docs/design/0033-streamed-messages.md.

-- size: bytes of all of its text. at_ms: when its author was last heard of. What ends a stream takes both away.
CREATE TABLE stream (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    parts INTEGER NOT NULL,
    size INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX stream_of_user ON stream (user_id);

CREATE INDEX stream_idle ON stream (at_ms);

-- Part 0 is the text that it began with.
CREATE TABLE stream_part (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    part INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (conversation_key, seq, part)
) STRICT, WITHOUT ROWID;
