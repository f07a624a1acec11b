-- One audit for every privileged act, its rows chained by digests, as on SQLite (docs/design/0021-the-audit.md). Here the
-- server itself numbers and chains them, with its owner's rights: whoever may only add rows can neither choose their place nor
-- touch how far a chain has got. The list of actions is in core/log/audit.py.

ALTER TABLE audit DROP CONSTRAINT audit_action_check;
ALTER TABLE audit ALTER COLUMN audit_id DROP DEFAULT;
ALTER TABLE audit ADD COLUMN detail text COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE audit ADD COLUMN number bigint NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN digest bytea NOT NULL DEFAULT '';

INSERT INTO audit (audit_id, at_ms, conversation_key, actor_id, action, seq, subject, detail)
SELECT nextval('audit_id'), at_ms, 0, '', action, 0, user_id, CASE
    WHEN token_hash <> '' THEN json_build_object('token', encode(token_hash, 'hex'))::text
    WHEN device_id <> '' THEN json_build_object('device', device_id)::text
    ELSE '{}'
END
FROM (SELECT * FROM login_audit ORDER BY audit_id) AS l;

INSERT INTO log_position AS p (slot, added) SELECT 0, count(*) FROM login_audit
ON CONFLICT (slot) DO UPDATE SET added = p.added + excluded.added;

DROP TRIGGER login_audit_is_append_only ON login_audit;
DROP INDEX login_audit_in_order;
DROP TABLE login_audit;
DROP SEQUENCE login_audit_id;

CREATE INDEX audit_in_chains
    ON audit ((CASE action WHEN 'CREATED' THEN 0 ELSE conversation_key END), number) WHERE number > 0;
CREATE INDEX audit_before_chains ON audit (audit_id) WHERE number = 0;
CREATE INDEX audit_in_order ON audit (audit_id) WHERE number >= 0;

-- How far each chain has got: one for each conversation, and 0 for the log.
CREATE TABLE audit_head (
    chain bigint PRIMARY KEY,
    number bigint NOT NULL CHECK (number >= 0),
    digest bytea NOT NULL CHECK (length(digest) = 32)
) WITH (fillfactor = 70);

INSERT INTO audit_head (chain, number, digest)
SELECT conversation_key, 0, decode(repeat('00', 32), 'hex') FROM conversation
UNION ALL
SELECT 0, 0, decode(repeat('00', 32), 'hex');

-- Who is being erased. A server that starts goes on with it.
CREATE TABLE erasure (
    user_id text COLLATE "C" PRIMARY KEY,
    erases_bodies boolean NOT NULL,
    by_id text COLLATE "C" NOT NULL,
    began_ms bigint NOT NULL
);

-- As core.log.audit.digest_of.
CREATE FUNCTION audit_digest_1(previous bytea, texts text[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.sha256('chatkit audit 1'::bytea || previous || pg_catalog.string_agg(
        pg_catalog.int8send(pg_catalog.octet_length(pg_catalog.convert_to(t, 'UTF8'::name))::bigint)
            || pg_catalog.convert_to(t, 'UTF8'::name), ''::bytea ORDER BY place))
    FROM unnest(texts) WITH ORDINALITY AS k (t, place)
$$;

-- The shared lock lasts to the commit: whoever has it alone for a moment knows that no row with a lower number is to come.
CREATE FUNCTION announce_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1667785077, 5);
    RETURN NULL;
END
$$;

CREATE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    start CONSTANT bytea := pg_catalog.decode(pg_catalog.repeat('00'::text, 32), 'hex'::text);
    head audit_head;
BEGIN
    IF NEW.action = 'CREATED' THEN
        INSERT INTO audit_head (chain, number, digest) VALUES (NEW.conversation_key, 0, start) ON CONFLICT DO NOTHING;
    END IF;
    INSERT INTO audit_head AS h (chain, number, digest)
    VALUES (CASE NEW.action WHEN 'CREATED' THEN 0 ELSE NEW.conversation_key END, 1, start)
    ON CONFLICT (chain) DO UPDATE SET number = h.number + 1
    RETURNING * INTO head;
    NEW.audit_id := pg_catalog.nextval('audit_id'::regclass);
    NEW.number := head.number;
    NEW.digest := audit_digest_1(head.digest, ARRAY[
        NEW.audit_id::text, NEW.at_ms::text, NEW.conversation_key::text, NEW.actor_id, NEW.action, NEW.seq::text,
        NEW.subject, NEW.detail, NEW.number::text]);
    UPDATE audit_head AS h SET digest = NEW.digest WHERE h.chain = head.chain;
    RETURN NEW;
END
$$;

-- With these rights only its own tables are found, whatever temporary ones a session has; and functions are named with their
-- schema, so that nobody puts one of their own in between.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION chain_audit() SET search_path = %I, pg_temp', current_schema());
END
$$;

CREATE TRIGGER audit_is_announced BEFORE INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION announce_audit();
CREATE TRIGGER audit_is_chained BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION chain_audit();

-- What an older version that runs beside this one reads and writes.
CREATE VIEW login_audit AS
SELECT subject AS user_id, audit_id, at_ms, action, coalesce(detail::json ->> 'device', '') AS device_id,
    decode(coalesce(detail::json ->> 'token', ''), 'hex') AS token_hash
FROM audit WHERE action IN ('REVOKED', 'BANNED', 'UNBANNED', 'DISCONNECTED');

CREATE FUNCTION audit_login() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (at_ms, conversation_key, actor_id, action, seq, subject, detail)
    VALUES (NEW.at_ms, 0, '', NEW.action, 0, NEW.user_id, CASE
        WHEN NEW.token_hash <> '' THEN json_build_object('token', encode(NEW.token_hash, 'hex'))::text
        WHEN NEW.device_id <> '' THEN json_build_object('device', NEW.device_id)::text
        ELSE '{}'
    END);
    INSERT INTO log_position AS p (slot, added) VALUES (0, 1)
    ON CONFLICT (slot) DO UPDATE SET added = p.added + excluded.added;
    RETURN NEW;
END
$$;

CREATE TRIGGER login_audit_goes_into_audit INSTEAD OF INSERT ON login_audit
    FOR EACH ROW EXECUTE FUNCTION audit_login();

-- Called at the end of a batch, with the rows that core.log.audit.note made.
CREATE FUNCTION write_audit_1(slot integer, acts jsonb) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO log_position AS p (slot, added) VALUES (write_audit_1.slot, jsonb_array_length(acts))
    ON CONFLICT (slot) DO UPDATE SET added = p.added + excluded.added;
    IF acts @? '$[*][3] ? (@ == "CREATED" || @ == "ADDED")' THEN
        PERFORM pg_advisory_xact_lock(1667785077, 1);
    END IF;
    INSERT INTO audit (at_ms, conversation_key, actor_id, action, seq, subject, detail)
    SELECT (e ->> 0)::bigint, (e ->> 1)::bigint, e ->> 2, e ->> 3, (e ->> 4)::bigint, e ->> 5, e ->> 6
    FROM jsonb_array_elements(acts) WITH ORDINALITY AS k (e, place) ORDER BY k.place;
END
$$;
