-- Submits that are remembered by their idempotency key, in the order of their commits.
CREATE TABLE submit (
    number INTEGER PRIMARY KEY,
    scope TEXT NOT NULL, -- whose key it is: the name of a token
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL, -- of what it asked for
    id BLOB NOT NULL, -- the job that it gave
    duplicate INTEGER NOT NULL, -- 1: that was there already, by its unique key
    at INTEGER NOT NULL,
    UNIQUE (scope, task, key)
) STRICT;

-- Which unfinished job has a unique key.
CREATE TABLE unique_key (
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (task, key)
) STRICT, WITHOUT ROWID;
