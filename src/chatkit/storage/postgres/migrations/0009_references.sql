-- What users say of earlier messages. Why it is so: docs/design/0028-edits-and-reactions.md.

-- EDIT and REACTION entries have a key as messages have. What is there holds by the former rules, so nothing is looked at.
ALTER TABLE message
    DROP CONSTRAINT message_kind_check,
    DROP CONSTRAINT message_check,
    ADD CONSTRAINT message_kind_check
        CHECK (kind IN ('USER', 'MEMBER', 'RECALL', 'EDIT', 'REACTION')) NOT VALID,
    ADD CONSTRAINT message_check
        CHECK ((client_msg_id IS NULL) = (kind IN ('MEMBER', 'RECALL'))) NOT VALID;

-- All edits of a message, so that its recall finds them.
CREATE TABLE edit (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    edited_by_seq bigint NOT NULL CHECK (edited_by_seq > seq),
    PRIMARY KEY (conversation_key, seq, edited_by_seq)
);

-- Who reacts to a message now.
CREATE TABLE reaction (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    reaction text COLLATE "C" NOT NULL,
    reacted_by_seq bigint NOT NULL CHECK (reacted_by_seq > seq),
    PRIMARY KEY (conversation_key, seq, user_id, reaction)
);
