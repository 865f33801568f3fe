-- What was set for a queue while the server ran; NULL: what its configuration says. A queue that was
-- made on first use has a row too.
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    paused INTEGER,
    max_depth INTEGER
) STRICT, WITHOUT ROWID;

-- Small documents, which mean something to others.
CREATE TABLE document (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

-- The latest version that a document was given.
CREATE TABLE document_version (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO document_version (one, number) VALUES (1, 0);
