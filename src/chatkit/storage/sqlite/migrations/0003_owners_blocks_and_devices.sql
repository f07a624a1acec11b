-- Owners that can change, blocks, and device cursors that are written only where a device went its own way.
-- Why: docs/design/0010-membership-and-blocks.md.

ALTER TABLE conversation RENAME COLUMN creator_id TO owner_id;

-- Of a SINGLE, which of its members blocked the other one: 1 the first by id, 2 the second. Repeats what block says.
ALTER TABLE conversation ADD COLUMN blocks INTEGER NOT NULL DEFAULT 0 CHECK (blocks BETWEEN 0 AND 3);

-- A role follows from the owner.
ALTER TABLE conversation_member DROP COLUMN role;

-- Who has been a member for longest.
CREATE INDEX conversation_member_by_standing
    ON conversation_member (conversation_key, join_seq, user_id) WHERE leave_seq IS NULL;

-- Groups whose creator has left get an owner by the rule that holds from now on.
UPDATE conversation SET owner_id = (
    SELECT m.user_id FROM conversation_member AS m
    WHERE m.conversation_key = conversation.conversation_key AND m.leave_seq IS NULL
    ORDER BY m.join_seq, m.user_id LIMIT 1
)
WHERE type = 'GROUP' AND member_count > 0 AND NOT EXISTS (
    SELECT 1 FROM conversation_member AS m WHERE m.conversation_key = conversation.conversation_key
        AND m.user_id = conversation.owner_id AND m.leave_seq IS NULL
);

CREATE TABLE block (
    user_id TEXT NOT NULL,
    blocked_id TEXT NOT NULL CHECK (blocked_id <> user_id),
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, blocked_id)
) STRICT, WITHOUT ROWID;

-- The farthest that one of the user's devices ever got. A device without a row in device_cursor is there.
ALTER TABLE member_cursor ADD COLUMN device_seq INTEGER NOT NULL DEFAULT 0;

UPDATE member_cursor SET device_seq = CASE WHEN delivered_seq > read_seq THEN delivered_seq ELSE ifnull((
    SELECT max(d.delivered_seq) FROM device_cursor AS d
    WHERE d.conversation_key = member_cursor.conversation_key AND d.user_id = member_cursor.user_id
), (
    SELECT min(m.join_seq) - 1 FROM conversation_member AS m
    WHERE m.conversation_key = member_cursor.conversation_key AND m.user_id = member_cursor.user_id
)) END;

-- Whether the last membership ended by the user's own choice; of those that ended before, nobody knows.
ALTER TABLE member_cursor ADD COLUMN has_left INTEGER NOT NULL DEFAULT 0 CHECK (has_left IN (0, 1));

DROP VIEW offline_inbox;

CREATE VIEW offline_inbox AS
SELECT
    c.conversation_id,
    u.user_id,
    v.device_id,
    ifnull(d.delivered_seq, u.device_seq) + 1 AS first_seq,
    c.head_seq AS last_seq
FROM member_cursor AS u
JOIN device AS v ON v.user_id = u.user_id
JOIN conversation AS c ON c.conversation_key = u.conversation_key
LEFT JOIN device_cursor AS d ON d.conversation_key = u.conversation_key AND d.user_id = u.user_id
    AND d.device_id = v.device_id
WHERE u.is_member = 1 AND ifnull(d.delivered_seq, u.device_seq) < c.head_seq;

-- SQLite changes no CHECK of a table: audit is made anew, with two more actions, and keeps its numbers.
CREATE TABLE audit_anew (
    audit_id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    actor_id TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN (
        'CREATED', 'ADDED', 'REMOVED', 'LEFT', 'OWNER_CHANGED', 'TITLE_CHANGED', 'RECALLED', 'EPOCH_RENEWED')),
    seq INTEGER NOT NULL,
    subject TEXT NOT NULL
) STRICT;

INSERT INTO audit_anew SELECT audit_id, at_ms, conversation_key, actor_id, action, seq, subject FROM audit;

DROP TABLE audit;

ALTER TABLE audit_anew RENAME TO audit;

CREATE INDEX audit_of_conversation ON audit (conversation_key, audit_id);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'audit rows are append-only');
END;
