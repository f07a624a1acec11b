-- Uploaded files, and the messages that name them. Why: docs/design/0032-media.md.

-- parts: the SHA-256 of each part, in order; empty until all of it was received. A file that is going has no key any more,
-- so that the same key begins a new one.
CREATE TABLE blob (
    blob_id TEXT NOT NULL PRIMARY KEY,
    owner_id TEXT NOT NULL,
    upload_key TEXT,
    size INTEGER NOT NULL CHECK (size > 0),
    mime TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'READY', 'GOING')),
    at_ms INTEGER NOT NULL,
    parts BLOB NOT NULL,
    UNIQUE (owner_id, upload_key),
    CHECK ((upload_key IS NULL) = (state = 'GOING'))
) STRICT, WITHOUT ROWID;

-- What a user has, for the quota.
CREATE INDEX blob_of_owner ON blob (owner_id, size) WHERE state <> 'GOING';

-- The file that a message names, as long as the message can be read.
CREATE TABLE blob_reference (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    blob_id TEXT NOT NULL,
    PRIMARY KEY (conversation_key, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_reference_of_blob ON blob_reference (blob_id, conversation_key, seq);

-- What the collector is to look at, from due_ms on: it goes if nothing names it and it was last asked for keep_ms ago. A
-- file may be here more than once, and may have been named since: whoever writes here looks at nothing.
CREATE TABLE blob_due (
    due_id INTEGER PRIMARY KEY AUTOINCREMENT,
    due_ms INTEGER NOT NULL,
    blob_id TEXT NOT NULL,
    keep_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX blob_due_when ON blob_due (due_ms, due_id);
