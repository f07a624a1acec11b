-- Each version of a message is a row of the index of search: the message, and each edit at its own seq. The index is made
-- anew: docs/design/0030-search.md.

TRUNCATE search_entry, search_progress;

ALTER TABLE search_entry ADD COLUMN message_seq bigint NOT NULL CHECK (message_seq > 0);
