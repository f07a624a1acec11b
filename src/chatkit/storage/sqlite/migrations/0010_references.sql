-- What users say of earlier messages. Why it is so: docs/design/0028-edits-and-reactions.md.

-- EDIT and REACTION entries have a key as messages have. A CHECK cannot be altered; as no row is written otherwise than
-- before, its text alone changes, which SQLite's page on ALTER TABLE allows. Anything else would copy the whole log.
-- USER comes first: a list of more than two takes a table of its own for each statement.
PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (kind IN (''USER'', ''MEMBER'', ''RECALL''))',
    'CHECK (kind = ''USER'' OR kind IN (''MEMBER'', ''RECALL'', ''EDIT'', ''REACTION''))'),
    'CHECK ((client_msg_id IS NULL) = (kind <> ''USER''))',
    'CHECK ((client_msg_id IS NULL) = (kind <> ''USER'' AND kind IN (''MEMBER'', ''RECALL'')))')
WHERE type = 'table' AND name = 'message';

PRAGMA writable_schema = RESET;

-- All edits of a message, so that its recall finds them.
CREATE TABLE edit (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    edited_by_seq INTEGER NOT NULL CHECK (edited_by_seq > seq),
    PRIMARY KEY (conversation_key, seq, edited_by_seq)
) STRICT, WITHOUT ROWID;

-- Who reacts to a message now.
CREATE TABLE reaction (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    seq INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    reaction TEXT NOT NULL,
    reacted_by_seq INTEGER NOT NULL CHECK (reacted_by_seq > seq),
    PRIMARY KEY (conversation_key, seq, user_id, reaction)
) STRICT, WITHOUT ROWID;
