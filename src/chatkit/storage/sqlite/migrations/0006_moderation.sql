-- What a moderator holds and has refused, and what users report. Why: docs/design/0020-moderation.md.

-- A message under its key that the log has not. REVIEW: somebody is to decide; READY: it may be stored, and waits for one of
-- its sender before it; REFUSED: never, and its body is gone. AUTOINCREMENT: the numbers of a sender rise.
CREATE TABLE moderated (
    held_id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    sender_id TEXT NOT NULL,
    client_msg_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('REVIEW', 'READY', 'REFUSED')),
    at_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    payload_mac BLOB NOT NULL,
    payload BLOB NOT NULL CHECK ((length(payload) = 0) = (state = 'REFUSED')),
    UNIQUE (conversation_key, sender_id, client_msg_id)
) STRICT;

CREATE INDEX moderated_held ON moderated (sender_id, held_id) WHERE state <> 'REFUSED';

CREATE INDEX moderated_review ON moderated (held_id) WHERE state = 'REVIEW';

-- One for each user and message. body: a copy of what was reported, which outlives a recall until the report is resolved.
CREATE TABLE report (
    report_id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    reporter_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB CHECK (body IS NULL OR resolved_ms IS NULL),
    resolved_ms INTEGER,
    resolved_by TEXT NOT NULL DEFAULT '',
    resolution TEXT NOT NULL DEFAULT '',
    UNIQUE (conversation_key, seq, reporter_id)
) STRICT;

CREATE INDEX report_open ON report (report_id) WHERE resolved_ms IS NULL;
