-- What of a conversation wakes the user: ALL, or while it is muted MENTIONS or NONE.
ALTER TABLE conversation ADD COLUMN notify TEXT NOT NULL DEFAULT 'ALL';
UPDATE conversation SET notify = 'NONE' WHERE muted_until_ms > 0;
