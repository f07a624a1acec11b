-- What a list of conversations shows beside the messages.
ALTER TABLE conversation ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN activity_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversation ADD COLUMN muted_until_ms INTEGER NOT NULL DEFAULT 0;
UPDATE conversation SET activity_ms = ifnull((
    SELECT max(server_ts) FROM message WHERE message.conversation_id = conversation.conversation_id), 0);
