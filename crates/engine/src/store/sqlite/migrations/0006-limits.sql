-- What else was set for a queue while the server ran; NULL: what its configuration says. The two of a
-- rate are set together.
ALTER TABLE queue ADD COLUMN max_concurrency INTEGER;
ALTER TABLE queue ADD COLUMN rate_limit INTEGER;
ALTER TABLE queue ADD COLUMN rate_period_ms INTEGER;
ALTER TABLE queue ADD COLUMN group_concurrency INTEGER;

-- The group of an unfinished job, as `job` has it: what rebuilds the turns of groups at the opening
-- without a look at inputs.
ALTER TABLE live ADD COLUMN "group" TEXT;
UPDATE live SET "group" = job."group" FROM job
    WHERE job.seq = live.seq AND job."group" IS NOT NULL;

-- How far the starts have come of a queue whose rate is limited: `Pace` of the core. A queue that has
-- no row may start as many as its limit lets at once.
CREATE TABLE pace (
    queue TEXT PRIMARY KEY,
    nanos INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
