-- The log and what hangs on it. Why each table is as it is: docs/design/0002-data-model.md.
-- Unique keys of everything inside a conversation begin with its key, so that a later store can shard by it.

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a key is never given twice, since message ids are made from it.
CREATE TABLE conversation (
    conversation_key INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation_id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL CHECK (type IN ('SINGLE', 'GROUP')),
    title TEXT NOT NULL,
    epoch TEXT NOT NULL,
    head_seq INTEGER NOT NULL CHECK (head_seq >= 0),
    creator_id TEXT NOT NULL,
    single_pair TEXT UNIQUE CHECK ((single_pair IS NULL) = (type = 'GROUP')),
    member_count INTEGER NOT NULL CHECK (member_count >= 0),
    created_ms INTEGER NOT NULL,
    last_activity_ms INTEGER NOT NULL
) STRICT;

-- One row per membership: visible are join_seq <= seq < leave_seq; leave_seq is NULL while it lasts.
CREATE TABLE conversation_member (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    join_seq INTEGER NOT NULL,
    leave_seq INTEGER CHECK (leave_seq > join_seq),
    role TEXT NOT NULL CHECK (role IN ('CREATOR', 'MEMBER')),
    PRIMARY KEY (conversation_key, user_id, join_seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX conversation_member_current
    ON conversation_member (conversation_key, user_id) WHERE leave_seq IS NULL;

CREATE INDEX conversation_member_of_user
    ON conversation_member (user_id, conversation_key) WHERE leave_seq IS NULL;

-- A rowid table on purpose: rows are written at the tail whatever their conversation, so that only small index
-- entries are spread (1.2 dirty pages an append against 2.6 without rowid). A row never changes its size: a recall
-- overwrites the payload with zeros in place and leaves no page to be rearranged, so no copy of it stays behind.
-- payload is last, so that reading the other columns never touches its overflow pages.
CREATE TABLE message (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL CHECK (seq > 0),
    epoch TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('USER', 'MEMBER', 'RECALL')),
    sender_id TEXT NOT NULL,
    client_msg_id TEXT CHECK ((client_msg_id IS NULL) = (kind <> 'USER')),
    server_ts INTEGER NOT NULL,
    payload_mac BLOB,
    payload BLOB NOT NULL,
    UNIQUE (conversation_key, seq),
    UNIQUE (conversation_key, sender_id, client_msg_id)
) STRICT;

CREATE TABLE recall (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    recalled_by_seq INTEGER NOT NULL CHECK (recalled_by_seq > seq),
    PRIMARY KEY (conversation_key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;

-- Of a user: delivered_seq is the most of the user's devices and never below read_seq. is_member repeats what
-- conversation_member says, so that "least of the other members" reads one range of one table.
CREATE TABLE member_cursor (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    is_member INTEGER NOT NULL CHECK (is_member IN (0, 1)),
    delivered_seq INTEGER NOT NULL,
    read_seq INTEGER NOT NULL CHECK (read_seq <= delivered_seq),
    read_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
) STRICT, WITHOUT ROWID;

-- Of a device: all that is visible up to delivered_seq is on it; and exact_count single entries above that.
CREATE TABLE device_cursor (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    is_member INTEGER NOT NULL CHECK (is_member IN (0, 1)),
    delivered_seq INTEGER NOT NULL,
    exact_count INTEGER NOT NULL CHECK (exact_count >= 0),
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id)
) STRICT, WITHOUT ROWID;

-- To forget a device. Moving a cursor does not touch it.
CREATE INDEX device_cursor_of_device ON device_cursor (user_id, device_id);

CREATE TABLE device_exact (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE resume_token (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE,
    expires_ms INTEGER NOT NULL,
    identity_expires_ms INTEGER,
    scope TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;

-- At most one row per conversation: the entries from first_seq to the conversation's head are those that not every
-- device has confirmed. The last one is always the head, so an append to an open row writes nothing here.
CREATE TABLE outbox (
    conversation_key INTEGER PRIMARY KEY REFERENCES conversation,
    first_seq INTEGER NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_since ON outbox (since_ms, conversation_key);

CREATE VIEW offline_inbox AS
SELECT
    c.conversation_id,
    d.user_id,
    d.device_id,
    d.delivered_seq + 1 AS first_seq,
    c.head_seq AS last_seq
FROM device_cursor AS d
JOIN conversation AS c ON c.conversation_key = d.conversation_key
WHERE d.is_member = 1 AND d.delivered_seq < c.head_seq;

CREATE TABLE audit (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    actor_id TEXT NOT NULL,
    action TEXT NOT NULL
        CHECK (action IN ('CREATED', 'ADDED', 'REMOVED', 'LEFT', 'RECALLED', 'EPOCH_RENEWED')),
    seq INTEGER NOT NULL,
    subject TEXT NOT NULL
) STRICT;

CREATE INDEX audit_of_conversation ON audit (conversation_key, audit_id);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;
