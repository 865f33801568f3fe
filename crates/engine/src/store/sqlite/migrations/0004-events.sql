-- What happened to jobs, as far as the rows of the jobs themselves do not tell it.

-- What an attempt said, the latest of each job.
CREATE TABLE report (
    seq INTEGER NOT NULL,
    ordinal INTEGER NOT NULL, -- counts what attempts of the job ever said, from 1
    version INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    stream TEXT, -- of a line; NULL: a progress
    fraction REAL,
    text TEXT, -- the line, or the words of a progress
    bytes INTEGER NOT NULL, -- of all texts of the job up to this one
    PRIMARY KEY (seq, ordinal)
) STRICT, WITHOUT ROWID;

-- The states that a job entered, for one whose life did not go straight on.
CREATE TABLE state (
    seq INTEGER NOT NULL,
    ordinal INTEGER NOT NULL, -- from 0
    version INTEGER NOT NULL,
    reports INTEGER NOT NULL,
    part INTEGER NOT NULL, -- 1 a change, 2 the passage from scheduled to ready
    state INTEGER NOT NULL, -- 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 failed, 5 cancelled
    attempt INTEGER NOT NULL,
    PRIMARY KEY (seq, ordinal)
) STRICT, WITHOUT ROWID;

-- Beside where the job stands: how often each was written, and the latest progress.
ALTER TABLE live ADD COLUMN reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN states INTEGER NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN progress_fraction REAL;
ALTER TABLE live ADD COLUMN progress_message TEXT;
ALTER TABLE done ADD COLUMN reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE done ADD COLUMN states INTEGER NOT NULL DEFAULT 0;
ALTER TABLE done ADD COLUMN progress_fraction REAL;
ALTER TABLE done ADD COLUMN progress_message TEXT;
