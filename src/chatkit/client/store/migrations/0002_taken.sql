-- How far the app has taken each log; what was stored before counts as taken.
ALTER TABLE conversation ADD COLUMN taken_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversation ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
-- The app has not taken yet that the log is another one above this seq; NULL: it has.
ALTER TABLE conversation ADD COLUMN renewed_above INTEGER;
UPDATE conversation SET taken_seq = prefix;

-- Answered sends of this device: the app knows of them by the answer. Above the prefix nothing else is stored.
ALTER TABLE message ADD COLUMN is_own INTEGER NOT NULL DEFAULT 0;
UPDATE message SET is_own = 1
  WHERE seq > (SELECT prefix FROM conversation AS c WHERE c.conversation_id = message.conversation_id);
