-- Submits by SQL, in the transaction of whoever submits: `submit` and `submit_many`.
--
-- That transaction may stay open for long, and nobody else may have to wait for it. So what others use as
-- well (the keys, the rows of queues) is written when it commits, by triggers that are deferred until
-- then. Up to there a key lies in a table that only other submits by SQL look at.

-- What servers say of their tasks when they start: the latest that started. It stays when they go.
CREATE TABLE task (
    name text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    max_attempts integer NOT NULL,
    timeout_ms bigint NOT NULL,
    retain_ms bigint NOT NULL,
    input_bytes_max bigint NOT NULL,
    content_type text, -- NULL: any
    has_schema boolean NOT NULL -- which servers alone can check
);

-- The queues that the configuration of the server names that started last, and what it says of them.
CREATE TABLE named_queue (
    name text COLLATE "C" PRIMARY KEY,
    max_depth bigint
);

-- Whether jobs may wait in those only.
CREATE TABLE submit_rule (
    one smallint PRIMARY KEY CHECK (one = 1),
    strict_queues boolean NOT NULL
);
INSERT INTO submit_rule VALUES (1, false);

-- Idempotency keys and unique keys of transactions that are open, and the queues that they submit to. Of
-- another one no row is ever seen: it is deleted by the commit of the transaction that wrote it.
CREATE UNLOGGED TABLE submit_key (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    id uuid NOT NULL,
    duplicate boolean NOT NULL,
    PRIMARY KEY (task, key)
);
CREATE UNLOGGED TABLE submit_unique_key (
    task text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (task, key)
);
CREATE UNLOGGED TABLE submit_queue (
    id uuid PRIMARY KEY, -- of the first job
    queue text COLLATE "C" NOT NULL
);
