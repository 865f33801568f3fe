-- What was set for a queue while the server ran; NULL: what its configuration says. A queue that was
-- made on first use has a row too.
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    paused INTEGER,
    max_depth INTEGER
) STRICT, WITHOUT ROWID;
