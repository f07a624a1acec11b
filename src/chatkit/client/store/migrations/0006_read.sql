-- How far the user has read, as the server said: a list without a connection counts from there.
ALTER TABLE conversation ADD COLUMN read_seq INTEGER NOT NULL DEFAULT 0;
