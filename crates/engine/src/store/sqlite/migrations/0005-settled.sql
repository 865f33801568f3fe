-- What a worker that pulled a job ended its attempt with, the latest of each job: the same again is
-- answered as the first time.
CREATE TABLE settled (
    seq INTEGER PRIMARY KEY,
    claim INTEGER NOT NULL,
    said BLOB NOT NULL -- a digest
) STRICT;
