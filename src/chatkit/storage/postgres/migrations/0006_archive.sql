-- What is needed to move bodies of old messages to an archive. Why it is so: docs/design/0022-archive.md. As on SQLite:
-- messages up to cold_seq have no body here; it is in the archive, or up to floor_seq it has expired. keep_ms is how long
-- entries are kept; 0 is for ever, NULL as long as the server says. manifest_version counts changes that its manifest in the
-- archive does not show yet.

ALTER TABLE conversation ADD COLUMN cold_seq bigint NOT NULL DEFAULT 0 CHECK (cold_seq >= 0);
ALTER TABLE conversation ADD COLUMN floor_seq bigint NOT NULL DEFAULT 0 CHECK (floor_seq >= 0);
ALTER TABLE conversation ADD COLUMN keep_ms bigint CHECK (keep_ms >= 0);
ALTER TABLE conversation ADD COLUMN manifest_version bigint NOT NULL DEFAULT 0 CHECK (manifest_version >= 0);

CREATE INDEX conversation_with_manifest_due ON conversation (conversation_key) WHERE manifest_version > 0;

-- The entries first_seq to last_seq of a conversation are in the object `name`, which is empty while the first one is
-- written. next_name is being written in its place, since next_ms; is_stale says that it has to be.
CREATE TABLE archive_range (
    conversation_key bigint NOT NULL,
    first_seq bigint NOT NULL CHECK (first_seq > 0),
    last_seq bigint NOT NULL CHECK (last_seq >= first_seq),
    name text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    size bigint NOT NULL CHECK (size >= 0),
    is_stale boolean NOT NULL,
    next_name text COLLATE "C" NOT NULL CHECK (name <> '' OR next_name <> ''),
    next_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, first_seq)
);

CREATE INDEX archive_range_by_name ON archive_range (name) WHERE name <> '';
CREATE INDEX archive_range_by_next_name ON archive_range (next_name) WHERE next_name <> '';
CREATE INDEX archive_range_unfinished ON archive_range (conversation_key, first_seq) WHERE is_stale OR next_name <> '';

-- The object of a range holds a body that was recalled just now: it is no longer read from there, and is written anew.
CREATE FUNCTION make_archive_range_stale() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE archive_range AS r SET is_stale = true
    WHERE r.conversation_key = NEW.conversation_key AND r.first_seq <= NEW.seq AND r.last_seq >= NEW.seq
        AND r.name <> '';
    RETURN NULL;
END
$$;

CREATE TRIGGER recall_makes_archive_range_stale AFTER INSERT ON recall
FOR EACH ROW EXECUTE FUNCTION make_archive_range_stale();
