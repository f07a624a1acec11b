-- What was said of an entry when it was fetched (JSON), and which earlier entry an EDIT or REACTION names.
ALTER TABLE message ADD COLUMN marks BLOB;
ALTER TABLE message ADD COLUMN named_seq INTEGER;

CREATE INDEX message_naming ON message (conversation_id, named_seq) WHERE named_seq IS NOT NULL;
