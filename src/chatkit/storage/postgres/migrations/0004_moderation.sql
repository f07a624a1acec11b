-- What a moderator holds and has refused, and what users report, as on SQLite (docs/design/0020-moderation.md).

-- Numbers are given under the lock of the conversation, so those of a sender rise there.
CREATE SEQUENCE held_id;

CREATE TABLE moderated (
    conversation_key bigint NOT NULL,
    sender_id text COLLATE "C" NOT NULL,
    client_msg_id text COLLATE "C" NOT NULL,
    held_id bigint NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('REVIEW', 'READY', 'REFUSED')),
    at_ms bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    payload_mac bytea NOT NULL,
    payload bytea NOT NULL CHECK ((length(payload) = 0) = (state = 'REFUSED')),
    PRIMARY KEY (conversation_key, sender_id, client_msg_id)
);

CREATE INDEX moderated_held ON moderated (sender_id, held_id) WHERE state <> 'REFUSED';

CREATE INDEX moderated_review ON moderated (held_id) WHERE state = 'REVIEW';

CREATE SEQUENCE report_id;

CREATE TABLE report (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    reporter_id text COLLATE "C" NOT NULL,
    report_id bigint NOT NULL DEFAULT nextval('report_id'),
    reason text COLLATE "C" NOT NULL,
    note text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    body bytea CHECK (body IS NULL OR resolved_ms IS NULL),
    resolved_ms bigint,
    resolved_by text COLLATE "C" NOT NULL DEFAULT '',
    resolution text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (conversation_key, seq, reporter_id)
);

CREATE INDEX report_open ON report (report_id) WHERE resolved_ms IS NULL;
