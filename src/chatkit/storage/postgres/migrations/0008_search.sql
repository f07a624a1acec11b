-- The index of search. Why it is so: docs/design/0030-search.md. It follows the log, and is empty where nobody searches.

-- place: a number that begins with server_ts, which messages are found by. terms: without positions.
CREATE TABLE search_entry (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    place bigint NOT NULL CHECK (place >= 0),
    terms tsvector NOT NULL,
    PRIMARY KEY (conversation_key, seq)
);

CREATE INDEX search_entry_by_place ON search_entry (place);
CREATE INDEX search_entry_by_terms ON search_entry USING gin (terms);

-- Up to where a conversation was taken up.
CREATE TABLE search_progress (
    conversation_key bigint PRIMARY KEY,
    indexed_seq bigint NOT NULL CHECK (indexed_seq > 0)
);

-- What is recalled or expires leaves at once, also where no server follows the log any more.
CREATE FUNCTION take_recalled_out_of_search() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM search_entry AS s WHERE s.conversation_key = NEW.conversation_key AND s.seq = NEW.seq;
    RETURN NULL;
END
$$;

CREATE TRIGGER recall_leaves_search AFTER INSERT ON recall
FOR EACH ROW EXECUTE FUNCTION take_recalled_out_of_search();

CREATE FUNCTION take_expired_out_of_search() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM search_entry AS s WHERE s.conversation_key = NEW.conversation_key AND s.seq <= NEW.floor_seq;
    RETURN NULL;
END
$$;

CREATE TRIGGER expired_leave_search AFTER UPDATE OF floor_seq ON conversation
FOR EACH ROW WHEN (NEW.floor_seq > OLD.floor_seq) EXECUTE FUNCTION take_expired_out_of_search();
