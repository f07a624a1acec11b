-- Uploaded files, and the messages that name them, as on SQLite (docs/design/0032-media.md).

CREATE TABLE blob (
    blob_id text COLLATE "C" NOT NULL PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL,
    upload_key text COLLATE "C",
    size bigint NOT NULL CHECK (size > 0),
    mime text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('PENDING', 'READY', 'GOING')),
    at_ms bigint NOT NULL,
    parts bytea NOT NULL,
    CHECK ((upload_key IS NULL) = (state = 'GOING'))
);

-- A key makes one file: whoever uploads is locked. A unique index would keep the table from being distributed.
CREATE INDEX blob_of_key ON blob (owner_id, upload_key);

CREATE INDEX blob_of_owner ON blob (owner_id, size) WHERE state <> 'GOING';

CREATE TABLE blob_reference (
    conversation_key bigint NOT NULL,
    seq bigint NOT NULL,
    blob_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (conversation_key, seq)
);

CREATE INDEX blob_reference_of_blob ON blob_reference (blob_id, conversation_key, seq);

CREATE SEQUENCE blob_due_id;

CREATE TABLE blob_due (
    due_id bigint NOT NULL DEFAULT nextval('blob_due_id') PRIMARY KEY,
    due_ms bigint NOT NULL,
    blob_id text COLLATE "C" NOT NULL,
    keep_ms bigint NOT NULL
);

CREATE INDEX blob_due_when ON blob_due (due_ms, due_id);
