-- Open streamed messages. Why: docs/design/0033-streamed-messages.md.

-- size: bytes of all of its text. at_ms: when its author was last heard of. What ends a stream takes both away.
CREATE TABLE stream (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    parts bigint NOT NULL,
    size bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, seq)
);

CREATE INDEX stream_of_user ON stream (user_id);

CREATE INDEX stream_idle ON stream (at_ms);

-- Part 0 is the text that it began with.
CREATE TABLE stream_part (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    part bigint NOT NULL,
    text text COLLATE "C" NOT NULL,
    PRIMARY KEY (conversation_key, seq, part)
);
