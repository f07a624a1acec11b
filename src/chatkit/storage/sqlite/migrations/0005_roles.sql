-- What members are, who is banned, and what who joins may read. Why: docs/design/0017-roles-and-policy.md.

ALTER TABLE conversation ADD COLUMN history TEXT NOT NULL DEFAULT 'FROM_JOIN'
    CHECK (history IN ('FROM_JOIN', 'FROM_START'));

-- Who owns a group stands in conversation.owner_id; this is what that user was before, and is again afterwards.
ALTER TABLE conversation_member ADD COLUMN role TEXT NOT NULL DEFAULT 'MEMBER'
    CHECK (role IN ('ADMIN', 'MEMBER', 'GUEST'));

-- Goes on into the next membership.
ALTER TABLE conversation_member ADD COLUMN silenced_until_ms INTEGER NOT NULL DEFAULT 0;

-- The first entry that may be read where it is before join_seq.
ALTER TABLE conversation_member ADD COLUMN first_seq INTEGER CHECK (first_seq < join_seq);

-- Who follows an owner goes by role first, so all members are looked at.
DROP INDEX conversation_member_by_standing;

CREATE TABLE conversation_ban (
    conversation_key INTEGER NOT NULL REFERENCES conversation,
    user_id TEXT NOT NULL,
    by_id TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
) STRICT, WITHOUT ROWID;
