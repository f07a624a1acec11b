-- What members are, who is banned, and what who joins may read. Why: docs/design/0017-roles-and-policy.md. Nodes of the
-- version before go on with the functions that they know, beside newer ones: they add members with the defaults.

ALTER TABLE conversation ADD COLUMN history text COLLATE "C" NOT NULL DEFAULT 'FROM_JOIN'
    CHECK (history IN ('FROM_JOIN', 'FROM_START'));

-- Who owns a group stands in conversation.owner_id; this is what that user was before, and is again afterwards.
ALTER TABLE conversation_member ADD COLUMN role text COLLATE "C" NOT NULL DEFAULT 'MEMBER'
    CHECK (role IN ('ADMIN', 'MEMBER', 'GUEST'));

-- Goes on into the next membership.
ALTER TABLE conversation_member ADD COLUMN silenced_until_ms bigint NOT NULL DEFAULT 0;

-- The first entry that may be read where it is before join_seq.
ALTER TABLE conversation_member ADD COLUMN first_seq bigint CHECK (first_seq < join_seq);

CREATE TABLE conversation_ban (
    conversation_key bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    by_id text COLLATE "C" NOT NULL,
    since_ms bigint NOT NULL,
    PRIMARY KEY (conversation_key, user_id)
);

-- As in 0002_batches.sql, with roles, silence, bans and histories.
CREATE FUNCTION load_batch_2(
    users text[],
    conversation_ids text[],
    conversation_keys bigint[],
    pairs text[],
    new_conversations integer,
    member_ids text[],
    member_keys bigint[],
    member_users text[],
    cursor_ids text[],
    cursor_keys bigint[],
    cursor_users text[],
    sent_ids text[],
    sent_senders text[],
    sent_client_msg_ids text[],
    place_keys bigint[],
    place_seqs bigint[],
    sender_keys bigint[],
    sender_firsts bigint[],
    sender_lasts bigint[],
    covered_ids text[],
    covered_keys bigint[],
    covered_users text[],
    covered_seqs bigint[],
    covered_reads boolean[],
    authors_max bigint,
    named_max bigint,
    device_users text[],
    listed_users text[],
    list_ids text[],
    list_max bigint,
    elder_ids text[],
    elder_max bigint,
    block_users text[],
    blocked_users text[],
    count_users text[],
    token_users text[],
    token_devices text[],
    token_hashes bytea[],
    tokens_of_users text[],
    login_hashes bytea[],
    revoked_users text[],
    revoked_devices text[],
    revoked_tokens bytea[],
    new_revocations integer,
    ban_ids text[],
    ban_users text[],
    ban_count_ids text[]
)
RETURNS TABLE (
    row_kind integer,
    n1 bigint, n2 bigint, n3 bigint, n4 bigint, n5 bigint, n6 bigint, n7 bigint, n8 bigint,
    t1 text, t2 text, t3 text, t4 text, t5 text, t6 text,
    b1 bytea, b2 bytea,
    n9 bigint, n10 bigint
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    resumed text[];
    locked bigint[];
BEGIN
    IF cardinality(token_hashes) > 0 THEN
        resumed := ARRAY(SELECT t.user_id FROM resume_token AS t WHERE t.token_hash = ANY (load_batch_2.token_hashes));
        device_users := device_users || resumed;
        listed_users := listed_users || resumed;
        users := users || resumed;
    END IF;
    IF cardinality(users) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(1667785077, 4);
        PERFORM pg_advisory_xact_lock(1667785076, number)
        FROM (SELECT DISTINCT hashtext(name) & 255 AS number FROM unnest(users) AS name ORDER BY number) AS numbers;
    END IF;
    IF cardinality(device_users) > 0 THEN
        PERFORM FROM device AS d WHERE d.user_id = ANY (device_users)
        ORDER BY d.user_id, d.device_id FOR NO KEY UPDATE;
    END IF;
    locked := ARRAY(
        SELECT n.conversation_key FROM unnest(conversation_ids) AS k (name)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        UNION
        SELECT unnest(conversation_keys)
        UNION
        SELECT p.conversation_key FROM unnest(pairs) AS k (pair)
        JOIN conversation_pair AS p ON p.single_pair = k.pair
        ORDER BY 1
    );
    IF cardinality(locked) > 0 THEN
        PERFORM FROM conversation AS c WHERE c.conversation_key = ANY (locked)
        ORDER BY c.conversation_key FOR NO KEY UPDATE;
        RETURN QUERY
        SELECT
            1, c.conversation_key, c.head_seq, c.member_count, c.last_activity_ms, c.blocks, o.first_seq,
            (c.history = 'FROM_START')::integer::bigint, c.floor_seq, c.conversation_id, c.type, c.title, c.epoch,
            c.owner_id, c.single_pair, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint
        FROM conversation AS c
        LEFT JOIN outbox AS o ON o.conversation_key = c.conversation_key
        WHERE c.conversation_key = ANY (locked);
    END IF;
    IF new_conversations > 0 THEN
        RETURN QUERY
        SELECT
            17, nextval('conversation_key'), NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM generate_series(1, new_conversations);
    END IF;
    IF cardinality(member_users) > 0 THEN
        RETURN QUERY
        SELECT
            2, m.conversation_key, m.join_seq, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, m.user_id, m.role, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            m.silenced_until_ms, m.first_seq
        FROM unnest(member_ids, member_keys, member_users) AS k (name, number, user_id)
        LEFT JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT * FROM conversation_member AS f
            WHERE f.conversation_key = coalesce(k.number, n.conversation_key) AND f.user_id = k.user_id
                AND f.leave_seq IS NULL
            OFFSET 0
        ) AS m;
    END IF;
    IF cardinality(cursor_users) > 0 THEN
        RETURN QUERY
        SELECT
            3, m.conversation_key, m.join_seq, m.leave_seq, u.delivered_seq, u.read_seq, u.read_ms, u.device_seq,
            u.has_left::integer::bigint, m.user_id, m.role, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            m.silenced_until_ms, m.first_seq
        FROM unnest(cursor_ids, cursor_keys, cursor_users) AS k (name, number, user_id)
        LEFT JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT * FROM conversation_member AS f
            WHERE f.conversation_key = coalesce(k.number, n.conversation_key) AND f.user_id = k.user_id
            OFFSET 0
        ) AS m
        CROSS JOIN LATERAL (
            SELECT * FROM member_cursor AS f WHERE f.conversation_key = m.conversation_key AND f.user_id = m.user_id
            OFFSET 0
        ) AS u;
        RETURN QUERY
        SELECT
            4, d.conversation_key, d.delivered_seq, d.updated_ms, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, NULL::bigint, d.user_id, d.device_id, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(cursor_ids, cursor_keys, cursor_users) AS k (name, number, user_id)
        LEFT JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT * FROM device_cursor AS f
            WHERE f.conversation_key = coalesce(k.number, n.conversation_key) AND f.user_id = k.user_id
            OFFSET 0
        ) AS d;
        RETURN QUERY
        SELECT
            5, x.conversation_key, x.seq, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, x.user_id, x.device_id, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(cursor_ids, cursor_keys, cursor_users) AS k (name, number, user_id)
        LEFT JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT * FROM device_cursor AS f
            WHERE f.conversation_key = coalesce(k.number, n.conversation_key) AND f.user_id = k.user_id
                AND f.exact_count > 0
            OFFSET 0
        ) AS d
        CROSS JOIN LATERAL (
            SELECT * FROM device_exact AS f
            WHERE f.conversation_key = d.conversation_key AND f.user_id = d.user_id AND f.device_id = d.device_id
            OFFSET 0
        ) AS x;
    END IF;
    IF cardinality(sent_senders) > 0 THEN
        RETURN QUERY
        SELECT
            6, e.conversation_key, e.seq, e.server_ts, r.recalled_by_seq, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, e.epoch, e.kind, e.sender_id, e.client_msg_id, k.name, NULL, e.payload_mac, e.payload,
            NULL::bigint, NULL::bigint
        FROM unnest(sent_ids, sent_senders, sent_client_msg_ids) AS k (name, sender_id, client_msg_id)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (  -- in an order that only the index by key has: without a sort it is the one to take
            SELECT * FROM message AS f
            WHERE f.conversation_key = n.conversation_key AND f.sender_id = k.sender_id
                AND f.client_msg_id >= k.client_msg_id
            ORDER BY f.client_msg_id LIMIT 1
        ) AS e
        LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq
        WHERE e.client_msg_id = k.client_msg_id;
    END IF;
    IF cardinality(place_seqs) > 0 THEN
        RETURN QUERY
        WITH named AS (
            SELECT k.conversation_key, k.seq, r.recalled_by_seq
            FROM unnest(place_keys, place_seqs) AS k (conversation_key, seq)
            LEFT JOIN recall AS r ON r.conversation_key = k.conversation_key AND r.seq = k.seq
        )
        SELECT
            7, e.conversation_key, e.seq, e.server_ts, r.recalled_by_seq, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, e.epoch, e.kind, e.sender_id, e.client_msg_id, NULL, NULL, e.payload_mac, e.payload,
            NULL::bigint, NULL::bigint
        FROM (
            SELECT conversation_key, seq FROM named
            UNION
            SELECT conversation_key, recalled_by_seq FROM named WHERE recalled_by_seq IS NOT NULL
        ) AS k
        JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.seq
        LEFT JOIN recall AS r ON r.conversation_key = e.conversation_key AND r.seq = e.seq;
    END IF;
    IF cardinality(sender_keys) > 0 THEN
        RETURN QUERY
        SELECT
            8, e.conversation_key, e.seq, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, e.sender_id, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(sender_keys, sender_firsts, sender_lasts) AS k (conversation_key, first_seq, last_seq)
        JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq BETWEEN k.first_seq AND k.last_seq;
    END IF;
    IF cardinality(covered_users) > 0 THEN
        RETURN QUERY
        SELECT DISTINCT
            8, e.conversation_key, e.seq, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, e.sender_id, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM (
            SELECT c.conversation_key, least(k.seq, c.head_seq) AS last_seq, greatest(
                CASE WHEN k.is_read THEN u.read_seq ELSE u.delivered_seq END, least(k.seq, c.head_seq) - authors_max
            ) AS after_seq
            FROM unnest(covered_ids, covered_keys, covered_users, covered_seqs, covered_reads)
                AS k (name, number, user_id, seq, is_read)
            LEFT JOIN conversation_name AS n ON n.conversation_id = k.name
            CROSS JOIN LATERAL (
                SELECT * FROM conversation AS f WHERE f.conversation_key = coalesce(k.number, n.conversation_key)
                OFFSET 0
            ) AS c
            CROSS JOIN LATERAL (
                SELECT * FROM member_cursor AS f
                WHERE f.conversation_key = c.conversation_key AND f.user_id = k.user_id
                OFFSET 0
            ) AS u
            WHERE c.single_pair IS NULL AND c.member_count <= named_max
            OFFSET 0  -- the ranges first, then their entries
        ) AS k
        CROSS JOIN LATERAL (
            SELECT * FROM message AS f
            WHERE f.conversation_key = k.conversation_key AND f.seq > k.after_seq AND f.seq <= k.last_seq
            ORDER BY f.seq
        ) AS e;
    END IF;
    IF cardinality(list_ids) > 0 THEN
        RETURN QUERY
        SELECT
            9, m.conversation_key, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, m.user_id, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint
        FROM unnest(list_ids) AS k (name)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT l.conversation_key, l.user_id FROM conversation_member AS l
            WHERE l.conversation_key = n.conversation_key AND n.conversation_key = ANY (locked)
                AND l.leave_seq IS NULL ORDER BY l.user_id LIMIT list_max
        ) AS m;
    END IF;
    IF cardinality(elder_ids) > 0 THEN
        RETURN QUERY
        SELECT
            10, m.conversation_key, m.join_seq, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, m.user_id, m.role, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(elder_ids) AS k (name)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        CROSS JOIN LATERAL (
            SELECT l.conversation_key, l.user_id, l.join_seq, l.role FROM conversation_member AS l
            WHERE l.conversation_key = n.conversation_key AND n.conversation_key = ANY (locked)
                AND l.leave_seq IS NULL
            ORDER BY CASE l.role WHEN 'ADMIN' THEN 1 WHEN 'MEMBER' THEN 2 ELSE 3 END, l.join_seq, l.user_id
            LIMIT elder_max
        ) AS m;
    END IF;
    IF cardinality(device_users) > 0 THEN
        RETURN QUERY
        SELECT
            11, d.first_seen_ms, d.last_seen_ms, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, d.user_id, d.device_id, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM device AS d WHERE d.user_id = ANY (device_users);
    END IF;
    IF cardinality(listed_users) > 0 THEN
        RETURN QUERY
        SELECT
            12, m.conversation_key, c.head_seq, c.member_count, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, m.user_id, c.conversation_id, c.type, c.epoch, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM conversation_member AS m
        JOIN conversation AS c ON c.conversation_key = m.conversation_key
        WHERE m.user_id = ANY (listed_users) AND m.leave_seq IS NULL;
    END IF;
    IF cardinality(block_users) > 0 THEN
        RETURN QUERY
        SELECT
            13, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, b.user_id, b.blocked_id, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(block_users, blocked_users) AS k (user_id, blocked_id)
        JOIN block AS b ON b.user_id = k.user_id AND b.blocked_id = k.blocked_id;
    END IF;
    IF cardinality(count_users) > 0 THEN
        RETURN QUERY
        SELECT
            14, count(*), NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, b.user_id, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint
        FROM block AS b WHERE b.user_id = ANY (count_users) GROUP BY b.user_id;
    END IF;
    IF cardinality(token_users) > 0 OR cardinality(token_hashes) > 0 OR cardinality(tokens_of_users) > 0
        OR cardinality(login_hashes) > 0
    THEN
        RETURN QUERY
        SELECT
            15, t.expires_ms, t.identity_expires_ms, t.login_ms, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, NULL::bigint, t.user_id, t.device_id, t.scope, NULL, NULL, NULL, t.token_hash, t.login_hash,
            NULL::bigint, NULL::bigint
        FROM (
            SELECT f.user_id, f.device_id FROM unnest(token_users, token_devices) AS k (user_id, device_id)
            JOIN resume_token AS f ON f.user_id = k.user_id AND f.device_id = k.device_id
            UNION
            SELECT f.user_id, f.device_id FROM resume_token AS f
            WHERE f.token_hash = ANY (load_batch_2.token_hashes)
            UNION
            SELECT f.user_id, f.device_id FROM resume_token AS f WHERE f.user_id = ANY (tokens_of_users)
            UNION
            SELECT f.user_id, f.device_id FROM resume_token AS f
            WHERE f.login_hash = ANY (load_batch_2.login_hashes)
        ) AS k
        JOIN resume_token AS t ON t.user_id = k.user_id AND t.device_id = k.device_id;
    END IF;
    IF new_revocations > 0 THEN
        PERFORM pg_advisory_xact_lock(1667785077, 2);
        RETURN QUERY
        SELECT
            18, nextval('revocation_position'), NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM generate_series(1, new_revocations);
    END IF;
    IF cardinality(revoked_users) > 0 THEN
        RETURN QUERY
        SELECT
            16, r.position, r.at_ms, r.ends_ms, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, r.kind, r.user_id, r.device_id, NULL, NULL, NULL, r.token_hash, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(revoked_users, revoked_devices, revoked_tokens) AS k (user_id, device_id, token_hash)
        JOIN revocation AS r ON r.user_id = k.user_id AND r.device_id = k.device_id AND r.token_hash = k.token_hash;
    END IF;
    IF cardinality(ban_users) > 0 THEN
        RETURN QUERY
        SELECT
            19, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, k.name, b.user_id, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea,
            NULL::bigint, NULL::bigint
        FROM unnest(ban_ids, ban_users) AS k (name, user_id)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        JOIN conversation_ban AS b ON b.conversation_key = n.conversation_key AND b.user_id = k.user_id;
    END IF;
    IF cardinality(ban_count_ids) > 0 THEN
        RETURN QUERY
        SELECT
            20, count(*), NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
            NULL::bigint, k.name, NULL, NULL, NULL, NULL, NULL, NULL::bytea, NULL::bytea, NULL::bigint, NULL::bigint
        FROM unnest(ban_count_ids) AS k (name)
        JOIN conversation_name AS n ON n.conversation_id = k.name
        JOIN conversation_ban AS b ON b.conversation_key = n.conversation_key
        GROUP BY k.name;
    END IF;
END
$$;

-- As in 0002_batches.sql, with the same; a mute until 0 is none, and the audit is written by a function of its own.
CREATE FUNCTION write_batch_2(
    slot integer,
    message_keys bigint[],
    message_seqs bigint[],
    message_epochs text[],
    message_kinds text[],
    message_senders text[],
    message_client_msg_ids text[],
    message_ts bigint[],
    message_macs bytea[],
    message_payloads bytea[],
    head_seqs bigint[],
    head_ms bigint[],
    head_keys bigint[],
    member_delivered bigint[],
    member_read bigint[],
    member_read_ms bigint[],
    member_device_seqs bigint[],
    member_keys bigint[],
    member_users text[],
    device_delivered bigint[],
    device_exacts bigint[],
    device_ms bigint[],
    device_keys bigint[],
    device_users text[],
    device_ids text[],
    outbox_keys bigint[],
    outbox_stored bigint[],
    outbox_firsts bigint[],
    outbox_heads bigint[],
    outbox_may_close boolean[],
    woken_ms bigint[],
    woken_keys bigint[],
    rare jsonb
)
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_sort = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    held bigint[] := '{}';
    written bigint := cardinality(message_keys);
BEGIN
    IF rare IS NOT NULL THEN
        INSERT INTO conversation (
            conversation_key, conversation_id, type, title, epoch, head_seq, owner_id, single_pair, member_count,
            created_ms, last_activity_ms, blocks, history)
        SELECT
            (e ->> 0)::bigint, e ->> 1, e ->> 2, e ->> 3, e ->> 4, (e ->> 5)::bigint, e ->> 6, e ->> 7,
            (e ->> 8)::bigint, (e ->> 9)::bigint, (e ->> 10)::bigint, (e ->> 11)::bigint, e ->> 12
        FROM jsonb_array_elements(rare -> 'new_conversations') AS e;
        INSERT INTO conversation_name (conversation_id, conversation_key)
        SELECT e ->> 1, (e ->> 0)::bigint FROM jsonb_array_elements(rare -> 'new_conversations') AS e;
        INSERT INTO conversation_pair (single_pair, conversation_key)
        SELECT e ->> 7, (e ->> 0)::bigint FROM jsonb_array_elements(rare -> 'new_conversations') AS e
        WHERE e ->> 7 IS NOT NULL;
        UPDATE conversation AS c
        SET epoch = e ->> 0, member_count = (e ->> 1)::bigint, title = e ->> 2, owner_id = e ->> 3,
            blocks = (e ->> 4)::bigint, history = e ->> 5
        FROM jsonb_array_elements(rare -> 'conversations') AS e WHERE c.conversation_key = (e ->> 6)::bigint;
    END IF;
    UPDATE conversation AS c SET head_seq = k.head_seq, last_activity_ms = k.ms
    FROM unnest(head_seqs, head_ms, head_keys) AS k (head_seq, ms, conversation_key)
    WHERE c.conversation_key = k.conversation_key;
    INSERT INTO message (
        conversation_key, seq, epoch, kind, sender_id, client_msg_id, server_ts, payload_mac, payload)
    SELECT * FROM unnest(
        message_keys, message_seqs, message_epochs, message_kinds, message_senders, message_client_msg_ids,
        message_ts, message_macs, message_payloads);
    IF rare IS NOT NULL THEN
        UPDATE message AS e SET payload = ''
        FROM jsonb_array_elements(rare -> 'recalls') AS k
        WHERE e.conversation_key = (k ->> 0)::bigint AND e.seq = (k ->> 1)::bigint;
        INSERT INTO recall (conversation_key, seq, recalled_by_seq)
        SELECT (e ->> 0)::bigint, (e ->> 1)::bigint, (e ->> 2)::bigint
        FROM jsonb_array_elements(rare -> 'recalls') AS e;
        UPDATE conversation_member AS m SET leave_seq = (e ->> 0)::bigint
        FROM jsonb_array_elements(rare -> 'ended') AS e
        WHERE m.conversation_key = (e ->> 1)::bigint AND m.user_id = e ->> 2 AND m.join_seq = (e ->> 3)::bigint;
        UPDATE conversation_member AS m SET role = e ->> 0, silenced_until_ms = (e ->> 1)::bigint
        FROM jsonb_array_elements(rare -> 'standings') AS e
        WHERE m.conversation_key = (e ->> 2)::bigint AND m.user_id = e ->> 3 AND m.join_seq = (e ->> 4)::bigint;
        INSERT INTO conversation_member (
            conversation_key, user_id, join_seq, leave_seq, first_seq, role, silenced_until_ms)
        SELECT
            (e ->> 0)::bigint, e ->> 1, (e ->> 2)::bigint, (e ->> 3)::bigint, (e ->> 4)::bigint, e ->> 5,
            (e ->> 6)::bigint
        FROM jsonb_array_elements(rare -> 'joined') AS e;
        INSERT INTO conversation_ban (conversation_key, user_id, by_id, since_ms)
        SELECT (e ->> 0)::bigint, e ->> 1, e ->> 2, (e ->> 3)::bigint
        FROM jsonb_array_elements(rare -> 'bans') AS e
        ON CONFLICT (conversation_key, user_id) DO UPDATE SET by_id = excluded.by_id, since_ms = excluded.since_ms;
        DELETE FROM conversation_ban AS b USING jsonb_array_elements(rare -> 'ended_bans') AS k
        WHERE b.conversation_key = (k ->> 0)::bigint AND b.user_id = k ->> 1;
        IF rare ? 'forgotten' THEN
            DELETE FROM device AS d USING jsonb_array_elements(rare -> 'forgotten') AS k
            WHERE d.user_id = k ->> 0 AND d.device_id = k ->> 1;
            held := ARRAY(
                SELECT DISTINCT o.conversation_key FROM jsonb_array_elements(rare -> 'forgotten') AS k
                JOIN device_cursor AS d ON d.user_id = k ->> 0 AND d.device_id = k ->> 1 AND d.is_member
                    AND d.exact_count >= 0
                JOIN outbox AS o ON o.conversation_key = d.conversation_key
                ORDER BY 1
            );
            PERFORM FROM conversation AS c WHERE c.conversation_key = ANY (held)
            ORDER BY c.conversation_key FOR NO KEY UPDATE;
            DELETE FROM device_exact AS x USING jsonb_array_elements(rare -> 'forgotten') AS k, device_cursor AS d
            WHERE d.user_id = k ->> 0 AND d.device_id = k ->> 1 AND d.exact_count > 0 AND d.exact_count >= 0
                AND x.conversation_key = d.conversation_key AND x.user_id = d.user_id AND x.device_id = d.device_id;
            DELETE FROM device_cursor AS d USING jsonb_array_elements(rare -> 'forgotten') AS k
            WHERE d.user_id = k ->> 0 AND d.device_id = k ->> 1 AND d.exact_count >= 0;
            DELETE FROM resume_token AS t USING jsonb_array_elements(rare -> 'forgotten') AS k
            WHERE t.user_id = k ->> 0 AND t.device_id = k ->> 1;
            DELETE FROM push_token AS t USING jsonb_array_elements(rare -> 'forgotten') AS k
            WHERE t.user_id = k ->> 0 AND t.device_id = k ->> 1;
        END IF;
        INSERT INTO device (user_id, device_id, first_seen_ms, last_seen_ms)
        SELECT e ->> 0, e ->> 1, (e ->> 2)::bigint, (e ->> 3)::bigint
        FROM jsonb_array_elements(rare -> 'devices') AS e
        ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms;
        INSERT INTO member_cursor (
            conversation_key, user_id, is_member, delivered_seq, read_seq, read_ms, device_seq, has_left)
        SELECT
            (e ->> 0)::bigint, e ->> 1, (e ->> 2)::boolean, (e ->> 3)::bigint, (e ->> 4)::bigint, (e ->> 5)::bigint,
            (e ->> 6)::bigint, (e ->> 7)::boolean
        FROM jsonb_array_elements(rare -> 'new_member_cursors') AS e
        ON CONFLICT (conversation_key, user_id) DO UPDATE SET
            is_member = excluded.is_member, delivered_seq = excluded.delivered_seq, read_seq = excluded.read_seq,
            read_ms = excluded.read_ms, device_seq = excluded.device_seq, has_left = excluded.has_left;
        INSERT INTO device_cursor (
            conversation_key, user_id, device_id, is_member, delivered_seq, exact_count, updated_ms)
        SELECT
            (e ->> 0)::bigint, e ->> 1, e ->> 2, (e ->> 3)::boolean, (e ->> 4)::bigint, (e ->> 5)::bigint,
            (e ->> 6)::bigint
        FROM jsonb_array_elements(rare -> 'new_device_cursors') AS e
        CROSS JOIN LATERAL (  -- one that was forgotten meanwhile has no cursor any more
            SELECT FROM device AS v WHERE v.user_id = e ->> 1 AND v.device_id = e ->> 2 FOR KEY SHARE
        ) AS v
        ON CONFLICT (conversation_key, user_id, device_id) DO UPDATE SET
            is_member = excluded.is_member, delivered_seq = excluded.delivered_seq,
            exact_count = excluded.exact_count, updated_ms = excluded.updated_ms;
    END IF;
    IF cardinality(member_keys) > 0 THEN
        UPDATE member_cursor AS u
        SET delivered_seq = k.delivered, read_seq = k.read, read_ms = k.read_ms, device_seq = k.device_seq
        FROM unnest(
            member_delivered, member_read, member_read_ms, member_device_seqs, member_keys, member_users
        ) AS k (delivered, read, read_ms, device_seq, conversation_key, user_id)
        WHERE u.conversation_key = k.conversation_key AND u.user_id = k.user_id;
    END IF;
    IF cardinality(device_keys) > 0 THEN
        UPDATE device_cursor AS d SET delivered_seq = k.delivered, exact_count = k.exact, updated_ms = k.ms
        FROM unnest(
            device_delivered, device_exacts, device_ms, device_keys, device_users, device_ids
        ) AS k (delivered, exact, ms, conversation_key, user_id, device_id)
        WHERE d.conversation_key = k.conversation_key AND d.user_id = k.user_id AND d.device_id = k.device_id;
    END IF;
    IF rare IS NOT NULL THEN
        DELETE FROM device_exact AS x USING jsonb_array_elements(rare -> 'passed') AS k
        WHERE x.conversation_key = (k ->> 0)::bigint AND x.user_id = k ->> 1 AND x.device_id = k ->> 2
            AND x.seq <= (k ->> 3)::bigint;
        INSERT INTO device_exact (conversation_key, user_id, device_id, seq)
        SELECT (e ->> 0)::bigint, e ->> 1, e ->> 2, (e ->> 3)::bigint
        FROM jsonb_array_elements(rare -> 'exact') AS e;
        IF rare ? 'logins_ended' THEN
            DELETE FROM resume_token;
        END IF;
        DELETE FROM resume_token AS t USING jsonb_array_elements(rare -> 'dropped_tokens') AS k
        WHERE t.user_id = k ->> 0 AND t.device_id = k ->> 1;
        INSERT INTO revocation (position, kind, user_id, device_id, token_hash, at_ms, ends_ms)
        SELECT
            (e ->> 0)::bigint, e ->> 1, e ->> 2, e ->> 3, decode(e ->> 4, 'base64'), (e ->> 5)::bigint,
            (e ->> 6)::bigint
        FROM jsonb_array_elements(rare -> 'revocations') AS e
        ON CONFLICT (user_id, device_id, token_hash, kind) DO UPDATE SET
            position = excluded.position, at_ms = excluded.at_ms, ends_ms = excluded.ends_ms;
        DELETE FROM revocation AS r
        WHERE r.ends_ms < (rare ->> 'revocations_before_ms')::bigint
            AND r.at_ms < (rare ->> 'revocations_before_ms')::bigint;
        INSERT INTO resume_token (
            user_id, device_id, token_hash, expires_ms, identity_expires_ms, scope, login_hash, login_ms)
        SELECT
            e ->> 0, e ->> 1, decode(e ->> 2, 'base64'), (e ->> 3)::bigint, (e ->> 4)::bigint, e ->> 5,
            decode(e ->> 6, 'base64'), (e ->> 7)::bigint
        FROM jsonb_array_elements(rare -> 'tokens') AS e
        ON CONFLICT (user_id, device_id) DO UPDATE SET
            token_hash = excluded.token_hash, expires_ms = excluded.expires_ms,
            identity_expires_ms = excluded.identity_expires_ms, scope = excluded.scope,
            login_hash = excluded.login_hash, login_ms = excluded.login_ms;
        INSERT INTO block (user_id, blocked_id, since_ms)
        SELECT e ->> 0, e ->> 1, (e ->> 2)::bigint FROM jsonb_array_elements(rare -> 'blocks') AS e
        ON CONFLICT (user_id, blocked_id) DO UPDATE SET since_ms = excluded.since_ms;
        DELETE FROM block AS b USING jsonb_array_elements(rare -> 'ended_blocks') AS k
        WHERE b.user_id = k ->> 0 AND b.blocked_id = k ->> 1;
        INSERT INTO mute (conversation_key, user_id, until_ms)
        SELECT (e ->> 0)::bigint, e ->> 1, (e ->> 2)::bigint FROM jsonb_array_elements(rare -> 'mutes') AS e
        WHERE (e ->> 2)::bigint > 0
        ON CONFLICT (conversation_key, user_id) DO UPDATE SET until_ms = excluded.until_ms;
        DELETE FROM mute AS x USING jsonb_array_elements(rare -> 'mutes') AS k
        WHERE x.conversation_key = (k ->> 0)::bigint AND x.user_id = k ->> 1 AND (k ->> 2)::bigint = 0;
        DELETE FROM push_token AS t USING jsonb_array_elements(rare -> 'dropped_push') AS k
        WHERE t.user_id = k ->> 0 AND (k ->> 1 = '' OR t.device_id = k ->> 1)
            AND (k ->> 2 IS NULL OR t.token = k ->> 2) AND (k ->> 3 IS NULL OR t.at_ms <= (k ->> 3)::bigint);
        DELETE FROM push_token AS t USING jsonb_array_elements(rare -> 'dropped_push_logins') AS k
        WHERE t.login_hash = decode(k ->> 0, 'base64');
        DELETE FROM push_token AS t USING jsonb_array_elements(rare -> 'taken_push') AS k
        WHERE t.token_hash = decode(k ->> 0, 'base64');
        INSERT INTO push_token (user_id, device_id, provider, token, token_hash, hide_body, at_ms, login_hash)
        SELECT
            e ->> 0, e ->> 1, e ->> 2, e ->> 3, decode(e ->> 4, 'base64'), (e ->> 5)::boolean, (e ->> 6)::bigint,
            decode(e ->> 7, 'base64')
        FROM jsonb_array_elements(rare -> 'push_tokens') AS e
        ON CONFLICT (user_id, device_id) DO UPDATE SET
            provider = excluded.provider, token = excluded.token, token_hash = excluded.token_hash,
            hide_body = excluded.hide_body, at_ms = excluded.at_ms, login_hash = excluded.login_hash;
    END IF;
    IF cardinality(woken_keys) > 0 THEN
        UPDATE outbox AS o SET ready_ms = k.ms FROM unnest(woken_ms, woken_keys) AS k (ms, conversation_key)
        WHERE o.conversation_key = k.conversation_key AND o.ready_ms IS NULL;
    END IF;
    IF cardinality(outbox_keys) > 0 OR cardinality(held) > 0 THEN
        WITH named AS (
            SELECT k.conversation_key, k.stored_seq, k.first_seq, k.head_seq,
                k.may_close OR k.conversation_key = ANY (held) AS may_close
            FROM unnest(outbox_keys, outbox_stored, outbox_firsts, outbox_heads, outbox_may_close)
                AS k (conversation_key, stored_seq, first_seq, head_seq, may_close)
            UNION ALL
            SELECT c.conversation_key, o.first_seq, o.first_seq, c.head_seq, true
            FROM unnest(held) AS k (conversation_key)
            JOIN conversation AS c ON c.conversation_key = k.conversation_key
            JOIN outbox AS o ON o.conversation_key = k.conversation_key
            WHERE k.conversation_key <> ALL (outbox_keys)
        ), confirmed AS (
            SELECT k.*, CASE WHEN k.may_close AND k.first_seq IS NOT NULL
                THEN least_confirmed_1(k.conversation_key, k.first_seq, k.head_seq) END AS least
            FROM named AS k
        ), decided AS (
            SELECT k.conversation_key, k.stored_seq, CASE
                WHEN k.first_seq IS NULL OR k.least IS NULL THEN k.first_seq
                WHEN k.least < k.head_seq THEN greatest(k.first_seq, k.least + 1)
            END AS first_seq
            FROM confirmed AS k
        ), closed AS (
            DELETE FROM outbox AS o USING decided AS k
            WHERE o.conversation_key = k.conversation_key AND k.first_seq IS NULL AND k.stored_seq IS NOT NULL
        )
        INSERT INTO outbox (conversation_key, first_seq, since_ms, handled_seq, ready_ms)
        SELECT e.conversation_key, e.seq, e.server_ts, e.seq - 1, e.server_ts FROM decided AS k
        JOIN message AS e ON e.conversation_key = k.conversation_key AND e.seq = k.first_seq
        WHERE k.first_seq IS DISTINCT FROM k.stored_seq
        ON CONFLICT (conversation_key) DO UPDATE SET
            first_seq = excluded.first_seq, since_ms = excluded.since_ms,
            handled_seq = greatest(outbox.handled_seq, excluded.handled_seq),
            ready_ms = CASE WHEN outbox.attempt = 0 AND outbox.handled_seq < excluded.first_seq
                THEN excluded.since_ms ELSE outbox.ready_ms END;
    END IF;
    IF written > 0 THEN
        INSERT INTO log_position AS p (slot, added) VALUES (write_batch_2.slot, written)
        ON CONFLICT (slot) DO UPDATE SET added = p.added + excluded.added;
    END IF;
    IF rare ? 'audit' THEN
        PERFORM write_audit_1(write_batch_2.slot, rare -> 'audit');
    END IF;
END
$$;
