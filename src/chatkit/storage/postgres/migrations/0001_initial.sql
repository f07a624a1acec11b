-- The log and what hangs on it, as on SQLite (docs/design/0002-data-model.md); what differs and why:
-- docs/design/0013-postgresql.md. Every unique key of a table that has a conversation_key begins with it, and every
-- other one with a user or with the name that is looked up: the tables can be distributed by their first key column.
-- Text is compared by bytes, as everywhere in chatkit.
--
-- Some indexes have a condition that is always true. Only statements that name it can use them: on a table that was never
-- analysed the planner takes any index that begins with the right column, and keeps to it while the table grows.

CREATE TABLE setting (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- How many entries and audit rows were ever written, in parts: each writer has a row of its own, so that nobody waits
-- for another one's. Row -1 is the floor of the last renewal.
CREATE TABLE log_position (
    slot integer PRIMARY KEY,
    added bigint NOT NULL CHECK (added >= 0)
);

CREATE SEQUENCE conversation_key;

CREATE TABLE conversation (
    conversation_key bigint PRIMARY KEY,
    conversation_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL CHECK (type IN ('SINGLE', 'GROUP')),
    title text COLLATE "C" NOT NULL,
    epoch text COLLATE "C" NOT NULL,
    head_seq bigint NOT NULL CHECK (head_seq >= 0),
    owner_id text COLLATE "C" NOT NULL,
    single_pair text COLLATE "C" CHECK ((single_pair IS NULL) = (type = 'GROUP')),
    member_count bigint NOT NULL CHECK (member_count >= 0),
    created_ms bigint NOT NULL,
    last_activity_ms bigint NOT NULL,
    blocks bigint NOT NULL CHECK (blocks BETWEEN 0 AND 3)
) WITH (fillfactor = 70);

-- The two names by which a conversation is looked up.
CREATE TABLE conversation_name (
    conversation_id text COLLATE "C" PRIMARY KEY,
    conversation_key bigint NOT NULL
);

CREATE TABLE conversation_pair (
    single_pair text COLLATE "C" PRIMARY KEY,
    conversation_key bigint NOT NULL
);

CREATE TABLE conversation_member (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    join_seq bigint NOT NULL,
    leave_seq bigint CHECK (leave_seq > join_seq),
    PRIMARY KEY (conversation_key, user_id, join_seq)
);

CREATE UNIQUE INDEX conversation_member_current
    ON conversation_member (conversation_key, user_id) WHERE leave_seq IS NULL;

CREATE INDEX conversation_member_of_user
    ON conversation_member (user_id, conversation_key) WHERE leave_seq IS NULL;

CREATE INDEX conversation_member_by_standing
    ON conversation_member (conversation_key, join_seq, user_id) WHERE leave_seq IS NULL AND join_seq > 0;

CREATE TABLE message (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    epoch text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('USER', 'MEMBER', 'RECALL')),
    sender_id text COLLATE "C" NOT NULL,
    client_msg_id text COLLATE "C" CHECK ((client_msg_id IS NULL) = (kind <> 'USER')),
    server_ts bigint NOT NULL,
    payload_mac bytea,
    payload bytea NOT NULL,
    PRIMARY KEY (conversation_key, seq)
);

CREATE UNIQUE INDEX message_by_key ON message (conversation_key, sender_id, client_msg_id)
    WHERE client_msg_id IS NOT NULL;

CREATE TABLE recall (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    recalled_by_seq bigint NOT NULL CHECK (recalled_by_seq > seq),
    PRIMARY KEY (conversation_key, seq)
);

CREATE TABLE block (
    user_id text COLLATE "C" NOT NULL,
    blocked_id text COLLATE "C" NOT NULL CHECK (blocked_id <> user_id),
    since_ms bigint NOT NULL,
    PRIMARY KEY (user_id, blocked_id)
);

CREATE TABLE device (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    first_seen_ms bigint NOT NULL,
    last_seen_ms bigint NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE member_cursor (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    is_member boolean NOT NULL,
    delivered_seq bigint NOT NULL,
    read_seq bigint NOT NULL CHECK (read_seq <= delivered_seq),
    read_ms bigint NOT NULL,
    device_seq bigint NOT NULL,
    has_left boolean NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
) WITH (fillfactor = 70);

CREATE TABLE device_cursor (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    is_member boolean NOT NULL,
    delivered_seq bigint NOT NULL,
    exact_count bigint NOT NULL CHECK (exact_count >= 0),
    updated_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id)
) WITH (fillfactor = 70);

CREATE INDEX device_cursor_of_device ON device_cursor (user_id, device_id) WHERE exact_count >= 0;

CREATE TABLE device_exact (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id, seq)
);

CREATE TABLE resume_token (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    expires_ms bigint NOT NULL,
    identity_expires_ms bigint,
    scope text COLLATE "C" NOT NULL,
    login_hash bytea NOT NULL,
    login_ms bigint NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

CREATE INDEX resume_token_of_hash ON resume_token (token_hash);
CREATE INDEX resume_token_of_login ON resume_token (login_hash);

-- Positions are given under a lock that lasts to the commit: whoever has read up to one misses none below it.
CREATE TABLE revocation (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('REVOKED', 'BANNED', 'DISCONNECTED')),
    position bigint NOT NULL,
    at_ms bigint NOT NULL,
    ends_ms bigint,
    PRIMARY KEY (user_id, device_id, token_hash, kind)
);

CREATE SEQUENCE revocation_position;
CREATE INDEX revocation_by_position ON revocation (position);
CREATE INDEX revocation_ends ON revocation (ends_ms) WHERE ends_ms IS NOT NULL;

CREATE SEQUENCE login_audit_id;

CREATE TABLE login_audit (
    user_id text COLLATE "C" NOT NULL,
    audit_id bigint NOT NULL DEFAULT nextval('login_audit_id'),
    at_ms bigint NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (action IN ('REVOKED', 'BANNED', 'UNBANNED', 'DISCONNECTED')),
    device_id text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    PRIMARY KEY (user_id, audit_id)
);

CREATE INDEX login_audit_in_order ON login_audit (audit_id);

-- What delivery workers go by: docs/design/0016-delivery-workers.md.
CREATE TABLE outbox (
    conversation_key bigint PRIMARY KEY,
    first_seq bigint NOT NULL,
    since_ms bigint NOT NULL,
    handled_seq bigint NOT NULL,
    ready_ms bigint,
    attempt bigint NOT NULL DEFAULT 0,
    ticket bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE INDEX outbox_ready ON outbox (ready_ms, conversation_key) WHERE ready_ms IS NOT NULL;

CREATE TABLE delivery (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    after_seq bigint NOT NULL,
    ready_ms bigint,
    attempt bigint NOT NULL,
    ticket bigint NOT NULL,
    since_ms bigint NOT NULL,
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (conversation_key, user_id, device_id)
);

CREATE INDEX delivery_ready ON delivery (ready_ms, conversation_key) WHERE ready_ms IS NOT NULL;
CREATE INDEX delivery_given_up ON delivery (since_ms) WHERE ready_ms IS NULL;

CREATE TABLE push_token (
    user_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    token text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    hide_body boolean NOT NULL,
    at_ms bigint NOT NULL,
    login_hash bytea NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

CREATE INDEX push_token_of_hash ON push_token (token_hash);
CREATE INDEX push_token_of_login ON push_token (login_hash);

CREATE TABLE mute (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    until_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
);

CREATE VIEW offline_inbox AS
SELECT
    c.conversation_id,
    u.user_id,
    v.device_id,
    coalesce(d.delivered_seq, u.device_seq) + 1 AS first_seq,
    c.head_seq AS last_seq
FROM member_cursor AS u
JOIN device AS v ON v.user_id = u.user_id
JOIN conversation AS c ON c.conversation_key = u.conversation_key
LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = u.user_id
    AND d.device_id = v.device_id
WHERE u.is_member AND coalesce(d.delivered_seq, u.device_seq) < c.head_seq;

-- Ids are given under a lock that lasts to the commit, as those of revocations.
CREATE SEQUENCE audit_id;

CREATE TABLE audit (
    conversation_key bigint NOT NULL,
    audit_id bigint NOT NULL DEFAULT nextval('audit_id'),
    at_ms bigint NOT NULL,
    actor_id text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (action IN (
        'CREATED', 'ADDED', 'REMOVED', 'LEFT', 'OWNER_CHANGED', 'TITLE_CHANGED', 'RECALLED', 'EPOCH_RENEWED')),
    seq bigint NOT NULL,
    subject text COLLATE "C" NOT NULL,
    PRIMARY KEY (conversation_key, audit_id)
);

CREATE INDEX audit_of_joins ON audit (audit_id) WHERE action IN ('CREATED', 'ADDED');

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are append-only';
END
$$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER login_audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON login_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
