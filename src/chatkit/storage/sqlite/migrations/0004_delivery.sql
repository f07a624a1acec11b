-- What a delivery worker goes by. Why: docs/design/0016-delivery-workers.md.

-- Entries up to handled_seq are done with. ready_ms says since when there is more to do, or until when the row is left to
-- the worker whose ticket it has; NULL: nothing is to do. Rows from before are done with: there was nobody to push to.
ALTER TABLE outbox ADD COLUMN handled_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE outbox ADD COLUMN ready_ms INTEGER;

ALTER TABLE outbox ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;

ALTER TABLE outbox ADD COLUMN ticket INTEGER NOT NULL DEFAULT 0;

UPDATE outbox SET handled_seq = (
    SELECT c.head_seq FROM conversation AS c WHERE c.conversation_key = outbox.conversation_key
);

DROP INDEX outbox_since;

CREATE INDEX outbox_ready ON outbox (ready_ms, conversation_key) WHERE ready_ms IS NOT NULL;

-- One device that could not be pushed to, from the entry behind after_seq on. ready_ms as in outbox; NULL: it was given up,
-- for this reason. Without user and device it is the conversation as a whole.
CREATE TABLE delivery (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    after_seq INTEGER NOT NULL,
    ready_ms INTEGER,
    attempt INTEGER NOT NULL,
    ticket INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_ready ON delivery (ready_ms, conversation_key) WHERE ready_ms IS NOT NULL;

CREATE INDEX delivery_given_up ON delivery (since_ms) WHERE ready_ms IS NULL;

CREATE TABLE push_token (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    token TEXT NOT NULL,
    token_hash BLOB NOT NULL,
    hide_body INTEGER NOT NULL CHECK (hide_body IN (0, 1)),
    at_ms INTEGER NOT NULL,
    login_hash BLOB NOT NULL,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX push_token_of_hash ON push_token (token_hash);

CREATE INDEX push_token_of_login ON push_token (login_hash);

CREATE TABLE mute (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
) STRICT, WITHOUT ROWID;
