-- Whom messages mention, what is pinned, and what groups are for. Why: docs/design/0034-mentions-pins-titles.md.

-- PINNED and TITLE entries have a key as messages have. What is there holds by the former rule, so nothing is looked at.
ALTER TABLE message
    DROP CONSTRAINT message_kind_check,
    ADD CONSTRAINT message_kind_check
        CHECK (kind IN ('USER', 'MEMBER', 'RECALL', 'EDIT', 'REACTION', 'PINNED', 'TITLE')) NOT VALID;

ALTER TABLE conversation ADD COLUMN description text NOT NULL DEFAULT '';

-- Whether what mentions a member wakes them all the same.
ALTER TABLE mute ADD COLUMN but_mentions boolean NOT NULL DEFAULT false;

-- Whom an entry mentions: a user, or everybody, who is *. The entry is a message, or the edit that added them.
CREATE TABLE mention (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id, seq)
);

-- For recalls and edits, and for whoever looks whom the newest entries mention.
CREATE INDEX mention_of_entry ON mention (conversation_key, seq);

CREATE TABLE pin (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    pinned_by_seq bigint NOT NULL CHECK (pinned_by_seq > seq),
    PRIMARY KEY (conversation_key, seq)
);
