-- As whom an entry of somebody else mentions the user: by name, or with everybody (*), who comes first.
ALTER TABLE message ADD COLUMN mentioned_as TEXT;
UPDATE message SET mentioned_as = (
    SELECT min(named.value) FROM owner, json_each(
        CAST(payload AS TEXT), iif(named_seq IS NULL, '$.mentions', '$.payload.mentions')) AS named
    WHERE named.value IN ('*', owner.user_id) AND message.sender_id <> owner.user_id)
WHERE instr(payload, CAST('"mentions":' AS BLOB)) > 0;

CREATE INDEX message_mention ON message (conversation_id, ifnull(named_seq, seq), mentioned_as, seq, named_seq)
WHERE mentioned_as IS NOT NULL;
