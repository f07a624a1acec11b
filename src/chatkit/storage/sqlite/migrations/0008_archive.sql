-- What is needed to move bodies of old messages to an archive. Why it is so: docs/design/0022-archive.md.

-- Messages up to cold_seq have no body here: it is in the archive, or up to floor_seq it has expired. keep_ms is how long
-- entries are kept; 0 is for ever, NULL as long as the server says. manifest_version counts changes that its manifest in
-- the archive does not show yet.
ALTER TABLE conversation ADD COLUMN cold_seq INTEGER NOT NULL DEFAULT 0 CHECK (cold_seq >= 0);
ALTER TABLE conversation ADD COLUMN floor_seq INTEGER NOT NULL DEFAULT 0 CHECK (floor_seq >= 0);
ALTER TABLE conversation ADD COLUMN keep_ms INTEGER CHECK (keep_ms >= 0);
ALTER TABLE conversation ADD COLUMN manifest_version INTEGER NOT NULL DEFAULT 0 CHECK (manifest_version >= 0);

CREATE INDEX conversation_with_manifest_due ON conversation (conversation_key) WHERE manifest_version > 0;

-- The entries first_seq to last_seq of a conversation are in the object `name`, which is empty while the first one is
-- written. next_name is being written in its place, since next_ms; is_stale says that it has to be.
CREATE TABLE archive_range (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    first_seq INTEGER NOT NULL CHECK (first_seq > 0),
    last_seq INTEGER NOT NULL CHECK (last_seq >= first_seq),
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    is_stale INTEGER NOT NULL CHECK (is_stale IN (0, 1)),
    next_name TEXT NOT NULL CHECK (name <> '' OR next_name <> ''),
    next_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, first_seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX archive_range_by_name ON archive_range (name) WHERE name <> '';
CREATE UNIQUE INDEX archive_range_by_next_name ON archive_range (next_name) WHERE next_name <> '';
CREATE INDEX archive_range_unfinished ON archive_range (conversation_key) WHERE is_stale = 1 OR next_name <> '';
