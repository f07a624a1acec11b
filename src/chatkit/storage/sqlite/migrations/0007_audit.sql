-- One audit for every privileged act, its rows chained by digests. Why: docs/design/0021-the-audit.md.

-- SQLite changes no CHECK of a table, so it is made anew, this time without a list of actions: those are in
-- core/log/audit.py. conversation_key 0: of no conversation. number counts within a chain, from 1; 0 and no digest: from
-- before the chains. detail: a JSON object of texts.
CREATE TABLE audit_anew (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL CHECK (conversation_key >= 0),
    actor_id TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action <> ''),
    seq INTEGER NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '{}',
    number INTEGER NOT NULL CHECK (number >= 0),
    digest BLOB NOT NULL CHECK (length(digest) = CASE number WHEN 0 THEN 0 ELSE 32 END)
) STRICT;

INSERT INTO audit_anew (audit_id, at_ms, conversation_key, actor_id, action, seq, subject, number, digest)
SELECT audit_id, at_ms, conversation_key, actor_id, action, seq, subject, 0, x'' FROM audit;

INSERT INTO audit_anew (at_ms, conversation_key, actor_id, action, seq, subject, detail, number, digest)
SELECT at_ms, 0, '', action, 0, user_id, CASE
    WHEN token_hash <> x'' THEN json_object('token', lower(hex(token_hash)))
    WHEN device_id <> '' THEN json_object('device', device_id)
    ELSE '{}'
END, 0, x'' FROM login_audit ORDER BY audit_id;

DROP TABLE audit;

DROP TABLE login_audit;

ALTER TABLE audit_anew RENAME TO audit;

CREATE INDEX audit_of_conversation ON audit (conversation_key, audit_id);

-- By chain (core.log.audit.chain_of).
CREATE UNIQUE INDEX audit_in_chains
    ON audit (CASE action WHEN 'CREATED' THEN 0 ELSE conversation_key END, number) WHERE number > 0;

CREATE INDEX audit_before_chains ON audit (audit_id) WHERE number = 0;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;

-- How far each chain has got: one for each conversation, and 0 for the log.
CREATE TABLE audit_head (
    chain INTEGER PRIMARY KEY,
    number INTEGER NOT NULL CHECK (number >= 0),
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;

INSERT INTO audit_head SELECT conversation_key, 0, zeroblob(32) FROM conversation;

INSERT INTO audit_head VALUES (0, 0, zeroblob(32));

-- Who is being erased. A server that starts goes on with it.
CREATE TABLE erasure (
    user_id TEXT PRIMARY KEY,
    erases_bodies INTEGER NOT NULL CHECK (erases_bodies IN (0, 1)),
    by_id TEXT NOT NULL,
    began_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
