-- Whom messages mention, what is pinned, and what groups are for. Why: docs/design/0034-mentions-pins-titles.md.

-- PINNED and TITLE entries have a key as messages have. The text of the CHECK alone changes, as in 0010_references.sql.
PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (kind = ''USER'' OR kind IN (''MEMBER'', ''RECALL'', ''EDIT'', ''REACTION''))',
    'CHECK (kind = ''USER'' OR kind IN (''MEMBER'', ''RECALL'', ''EDIT'', ''REACTION'', ''PINNED'', ''TITLE''))')
WHERE type = 'table' AND name = 'message';

PRAGMA writable_schema = RESET;

ALTER TABLE conversation ADD COLUMN description TEXT NOT NULL DEFAULT '';

-- Whether what mentions a member wakes them all the same.
ALTER TABLE mute ADD COLUMN but_mentions INTEGER NOT NULL DEFAULT 0 CHECK (but_mentions IN (0, 1));

-- Whom an entry mentions: a user, or everybody, who is *. The entry is a message, or the edit that added them.
CREATE TABLE mention (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id, seq)
) STRICT, WITHOUT ROWID;

-- For recalls and edits, and for whoever looks whom the newest entries mention.
CREATE INDEX mention_of_entry ON mention (conversation_key, seq);

CREATE TABLE pin (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    pinned_by_seq INTEGER NOT NULL CHECK (pinned_by_seq > seq),
    PRIMARY KEY (conversation_key, seq)
) STRICT, WITHOUT ROWID;
