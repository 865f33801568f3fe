-- Instants are milliseconds since the Unix epoch, spans milliseconds.

-- What was submitted. `seq` is a hint taken from the id, which is the identity.
CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    "group" TEXT,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    start_before INTEGER,
    retain_ms INTEGER NOT NULL,
    unique_key TEXT,
    callback_url TEXT,
    tags TEXT, -- a JSON object of strings; NULL: none
    content_type TEXT NOT NULL,
    input BLOB NOT NULL
) STRICT;

-- Where an unfinished job stands, and what rebuilds the order of those that wait.
CREATE TABLE live (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    start_before INTEGER,
    state INTEGER NOT NULL, -- 0 waiting, 1 running
    version INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    lease INTEGER NOT NULL, -- 0 a node's, 1 a pulling worker's: the latest
    lease_expires_at INTEGER,
    started_at INTEGER,
    cancel_requested INTEGER NOT NULL,
    hand_backs INTEGER NOT NULL,
    errors INTEGER NOT NULL, -- errors ever written: the next ordinal
    lease_ms INTEGER -- its length when it was taken or last extended; NULL unless running
) STRICT;

-- Where a finished job stands, and its result.
CREATE TABLE done (
    seq INTEGER PRIMARY KEY,
    state INTEGER NOT NULL, -- 2 succeeded, 3 failed, 4 cancelled
    version INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    lease INTEGER NOT NULL, -- 0 a node's, 1 a pulling worker's: the latest
    lease_expires_at INTEGER,
    started_at INTEGER,
    cancel_requested INTEGER NOT NULL,
    hand_backs INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    result_content_type TEXT,
    result BLOB
) STRICT;
CREATE INDEX done_expires_at ON done (expires_at);

-- What failed attempts said, the newest of them.
CREATE TABLE error (
    seq INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (seq, ordinal)
) STRICT, WITHOUT ROWID;

-- Ids of jobs that were forgotten or deleted.
CREATE TABLE gone (
    id BLOB PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_at ON gone (at);

-- How often the store was opened: the upper bits of claim numbers.
CREATE TABLE opening (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO opening (one, number) VALUES (1, 0);
