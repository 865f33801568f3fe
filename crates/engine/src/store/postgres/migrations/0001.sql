-- Instants are milliseconds since the Unix epoch, spans milliseconds. All of it lies in the schema
-- that the search path names first.

-- What was submitted. Only `start_before` and what an owner may change of a waiting job ever do.
CREATE TABLE job (
    id uuid NOT NULL,
    task text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    "group" text COLLATE "C",
    priority smallint NOT NULL,
    created_at bigint NOT NULL,
    max_attempts integer NOT NULL,
    timeout_ms bigint NOT NULL,
    start_before bigint,
    retain_ms bigint NOT NULL,
    unique_key text COLLATE "C",
    callback_url text,
    tags text, -- a JSON object of strings; NULL: none
    content_type text NOT NULL,
    input bytea NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE job_rest PARTITION OF job DEFAULT;

-- Where a job stands is told by the table that it lies in, and it lies in one of the three: whoever
-- changes it locks its row there, and moves it.

-- Those that wait. Rows are narrow, and are deleted when their job starts.
CREATE TABLE waiting (
    id uuid PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    "group" text COLLATE "C" NOT NULL, -- '': none
    priority smallint NOT NULL,
    is_scheduled boolean NOT NULL, -- whether `run_at` lay ahead when it was written
    deadline bigint, -- `start_before` of one that never began
    version bigint NOT NULL,
    run_at bigint NOT NULL,
    attempt integer NOT NULL,
    claim bigint NOT NULL, -- the latest
    lease smallint NOT NULL, -- 0 a node's, 1 a pulling worker's: the latest
    lease_expires_at bigint,
    started_at bigint,
    hand_backs integer NOT NULL,
    errors integer NOT NULL, -- errors ever written: the next ordinal
    reports bigint NOT NULL, -- reports ever made
    states bigint NOT NULL, -- states ever written down; 0: the rows of the job tell them
    progress_fraction double precision,
    progress_message bytea -- UTF-8
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
-- Ready ones of a task in their order, and where those of the next group begin.
CREATE INDEX waiting_order ON waiting (queue, task, priority, "group", run_at, id);
CREATE INDEX waiting_scheduled ON waiting (run_at) WHERE is_scheduled;
CREATE INDEX waiting_deadline ON waiting (deadline) WHERE deadline IS NOT NULL;

-- Those that run.
CREATE TABLE running (
    id uuid PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    "group" text COLLATE "C" NOT NULL, -- '': none
    priority smallint NOT NULL,
    node bigint, -- the epoch of the node that runs it; NULL: a worker pulled it
    version bigint NOT NULL,
    run_at bigint NOT NULL,
    attempt integer NOT NULL,
    claim bigint NOT NULL, -- the current one: the fence
    lease smallint NOT NULL,
    lease_expires_at bigint NOT NULL,
    lease_ms bigint NOT NULL, -- its length when it was taken or last extended
    started_at bigint NOT NULL,
    cancel_requested boolean NOT NULL,
    hand_backs integer NOT NULL,
    errors integer NOT NULL,
    reports bigint NOT NULL,
    states bigint NOT NULL,
    progress_fraction double precision,
    progress_message bytea -- UTF-8
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX running_queue ON running (queue);

-- Ends a transaction in which fewer rows were as they were thought to be: another one follows, which
-- looks first.
CREATE FUNCTION agree(as_known bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF as_known <> expected THEN
        RAISE serialization_failure
            USING MESSAGE = format('%s of %s rows were changed elsewhere', expected - as_known, expected);
    END IF;
END $$;

-- Those that ended, and their results.
CREATE TABLE done (
    id uuid NOT NULL,
    state smallint NOT NULL, -- 2 succeeded, 3 failed, 4 cancelled
    version bigint NOT NULL,
    run_at bigint NOT NULL,
    attempt integer NOT NULL,
    claim bigint NOT NULL,
    lease smallint NOT NULL,
    lease_expires_at bigint,
    started_at bigint,
    hand_backs integer NOT NULL,
    errors integer NOT NULL,
    reports bigint NOT NULL,
    states bigint NOT NULL,
    progress_fraction double precision,
    progress_message bytea, -- UTF-8
    cancel_requested boolean NOT NULL,
    finished_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    result_content_type text,
    result bytea,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE done_rest PARTITION OF done DEFAULT;
CREATE INDEX done_expires_at ON done (expires_at);

-- Where every job stands.
CREATE VIEW standing AS
    SELECT id, 0::smallint AS state, version, run_at, attempt, claim, lease, lease_expires_at,
        started_at, false AS cancel_requested, hand_backs, errors, reports, states,
        progress_fraction, progress_message, NULL::bigint AS finished_at,
        NULL::text AS result_content_type, NULL::integer AS result_bytes
    FROM waiting
    UNION ALL
    SELECT id, 1::smallint, version, run_at, attempt, claim, lease, lease_expires_at,
        started_at, cancel_requested, hand_backs, errors, reports, states,
        progress_fraction, progress_message, NULL, NULL, NULL
    FROM running
    UNION ALL
    SELECT id, state, version, run_at, attempt, claim, lease, lease_expires_at,
        started_at, cancel_requested, hand_backs, errors, reports, states,
        progress_fraction, progress_message, finished_at, result_content_type,
        octet_length(result)
    FROM done;

-- What failed attempts said, the newest of them.
CREATE TABLE error (
    id uuid NOT NULL,
    ordinal integer NOT NULL,
    attempt integer NOT NULL,
    at bigint NOT NULL,
    kind text NOT NULL,
    message bytea NOT NULL, -- UTF-8, in which a zero may stand
    PRIMARY KEY (id, ordinal)
);

-- What an attempt said, the latest of each job.
CREATE TABLE report (
    id uuid NOT NULL,
    ordinal bigint NOT NULL, -- counts what attempts of the job ever said, from 1
    version bigint NOT NULL,
    attempt integer NOT NULL,
    stream text, -- of a line; NULL: a progress
    fraction double precision,
    text bytea, -- the line, or the words of a progress: UTF-8, in which a zero may stand
    bytes bigint NOT NULL, -- of all texts of the job up to this one
    PRIMARY KEY (id, ordinal)
);

-- The states that a job entered, for one whose life did not go straight on.
CREATE TABLE state (
    id uuid NOT NULL,
    ordinal bigint NOT NULL, -- from 0
    version bigint NOT NULL,
    reports bigint NOT NULL,
    part smallint NOT NULL, -- 1 a change, 2 the passage from scheduled to ready
    state smallint NOT NULL, -- 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 failed, 5 cancelled
    attempt integer NOT NULL,
    PRIMARY KEY (id, ordinal)
);

-- What a worker that pulled a job ended its attempt with, the latest of each job: the same again is
-- answered as the first time.
CREATE TABLE settled (
    id uuid PRIMARY KEY,
    claim bigint NOT NULL,
    said bytea NOT NULL -- a digest
);

-- Ids of jobs that were forgotten or deleted.
CREATE TABLE gone (
    id uuid PRIMARY KEY,
    at bigint NOT NULL
);
CREATE INDEX gone_at ON gone (at);

-- Submits that are remembered by their idempotency key.
CREATE TABLE submit (
    scope text COLLATE "C" NOT NULL, -- whose key it is: the name of a token
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL, -- of what it asked for
    id uuid NOT NULL, -- the job that it gave
    duplicate boolean NOT NULL, -- that was there already, by its unique key
    at bigint NOT NULL,
    PRIMARY KEY (scope, task, key)
);
CREATE INDEX submit_at ON submit (at);

-- Which unfinished job has a unique key.
CREATE TABLE unique_key (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (task, key)
);

-- What was set for a queue while the servers ran; NULL: what their configuration says. A queue that
-- was made on first use has a row too.
CREATE TABLE queue (
    name text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    paused boolean,
    max_depth bigint,
    max_concurrency bigint,
    rate_limit integer,
    rate_period_ms bigint,
    group_concurrency bigint
);

-- Rises with every change of `queue`: whoever has seen the number knows all of it.
CREATE TABLE queue_change (
    one smallint PRIMARY KEY CHECK (one = 1),
    number bigint NOT NULL
);
INSERT INTO queue_change VALUES (1, 0);

-- A queue with limits: whoever takes jobs from it, or adds some, holds its row for that long.
CREATE TABLE limited (
    queue text COLLATE "C" PRIMARY KEY,
    pace bigint NOT NULL -- how far its starts have come, in nanoseconds: `Pace` of the core
) WITH (fillfactor = 50);

-- Small documents, which mean something to others.
CREATE TABLE document (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The latest version that a document was given. A row and no sequence: it is also the lock under
-- which documents are counted.
CREATE TABLE document_version (
    one smallint PRIMARY KEY CHECK (one = 1),
    number bigint NOT NULL
);
INSERT INTO document_version VALUES (1, 0);

-- The servers that run attempts, each under an epoch of its own.
CREATE TABLE node (
    epoch bigint PRIMARY KEY,
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL -- unless it says until then that it is alive
) WITH (fillfactor = 10);
CREATE SEQUENCE node_epoch;

-- Claim numbers, handed out to nodes by ten thousand. They begin beyond those that anybody makes up.
CREATE SEQUENCE claim START WITH 1099511627777 INCREMENT BY 10000;
