-- Who may not be here, and which login a resume token stands for.

-- login_hash: digest of the token that the login came by. login_ms: when the host last said who this is; of tokens that
-- are older than this column not known, so it is counted from their end.
ALTER TABLE resume_token ADD COLUMN login_hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE resume_token ADD COLUMN login_ms INTEGER NOT NULL DEFAULT 0;
UPDATE resume_token SET login_ms = expires_ms;
CREATE INDEX resume_token_of_login ON resume_token (login_hash);

-- AUTOINCREMENT: nodes read what is above the last position they know, so none is given twice. One row for each subject
-- and kind: a user ('' for a token), a device ('' for all), or the digest of a token (empty for none).
CREATE TABLE revocation (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('REVOKED', 'BANNED', 'DISCONNECTED')),
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    token_hash BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    ends_ms INTEGER,
    UNIQUE (user_id, device_id, token_hash, kind)
) STRICT;

CREATE INDEX revocation_ends ON revocation (ends_ms) WHERE ends_ms IS NOT NULL;

CREATE TABLE login_audit (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('REVOKED', 'BANNED', 'UNBANNED', 'DISCONNECTED')),
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    token_hash BLOB NOT NULL
) STRICT;

CREATE TRIGGER login_audit_is_never_changed BEFORE UPDATE ON login_audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;

CREATE TRIGGER login_audit_is_never_deleted BEFORE DELETE ON login_audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;
