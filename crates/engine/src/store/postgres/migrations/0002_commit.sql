-- Where a job of a submit by SQL waits, and what is left to the commit of its transaction.

-- Makes the id of a job: UUIDv7, the microseconds within its millisecond in front of what is random, so
-- that the ids of a session rise.
CREATE FUNCTION submit_id(at timestamptz) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    micros bigint := extract(epoch FROM at) * 1000000;
    part integer := micros % 1000 * 4096 / 1000;
BEGIN
    RETURN encode(substring(int8send(micros / 1000) FROM 3) || substring(int4send(28672 | part) FROM 3)
        || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid;
END $$;

-- Returns how many jobs may wait in a queue; NULL: any number.
CREATE FUNCTION submit_max_depth(of_queue text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT max_depth FROM queue WHERE name = of_queue),
        (SELECT max_depth FROM named_queue WHERE name = of_queue));
END $$;

-- Refuses a queue in which more would wait than may.
CREATE FUNCTION submit_check_depth(of_queue text, more bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    most bigint := submit_max_depth(of_queue);
    there bigint;
BEGIN
    IF most IS NULL THEN
        RETURN;
    END IF;
    SELECT count(*) INTO there FROM waiting WHERE queue = of_queue;
    IF there + more > most THEN
        PERFORM submit_refuse('queue-full', format('%s jobs wait in queue %s; the limit is %s',
            there, of_queue, most), 'Try the transaction again later.');
    END IF;
END $$;

-- Tells whether a queue has to be made, and refuses one that may not.
CREATE FUNCTION submit_is_to_be_made(of_queue text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
    kept bigint;
BEGIN
    IF EXISTS (SELECT FROM named_queue WHERE name = of_queue) THEN
        RETURN false;
    ELSIF (SELECT strict_queues FROM submit_rule WHERE one = 1) THEN
        PERFORM submit_refuse('unknown-queue', format(
            'there is no queue %s, and none is made on first use here', of_queue));
    ELSIF EXISTS (SELECT FROM queue WHERE name = of_queue) THEN
        RETURN false;
    END IF;
    SELECT count(*) FILTER (WHERE named_queue.name IS NULL), count(*) INTO made, kept
        FROM queue LEFT JOIN named_queue USING (name);
    IF made >= 1000 OR kept >= 10000 THEN
        PERFORM submit_refuse('too-many-queues', format('1000 queues were made on first use, which is the '
            'limit; %s is not one of them', of_queue));
    END IF;
    RETURN true;
END $$;

-- When a transaction commits that submitted: checks the depths of its queues, makes those that are new,
-- and wakes the servers. All of its queues at its first row, in one order for everybody.
CREATE FUNCTION submit_queues_at_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    queues text[];
    of_queue text;
BEGIN
    IF NOT EXISTS (SELECT FROM submit_queue WHERE id = NEW.id) THEN
        RETURN NULL; -- It was dealt with.
    END IF;
    SELECT array_agg(DISTINCT queue ORDER BY queue) INTO queues FROM submit_queue WHERE id >= NEW.id;
    DELETE FROM submit_queue WHERE id >= NEW.id;
    FOREACH of_queue IN ARRAY queues LOOP
        IF submit_is_to_be_made(of_queue) THEN
            PERFORM number FROM queue_change WHERE one = 1 FOR UPDATE;
            IF submit_is_to_be_made(of_queue) THEN
                INSERT INTO queue (name, version) VALUES (of_queue, 1);
                UPDATE queue_change SET number = number + 1 WHERE one = 1;
            END IF;
        END IF;
    END LOOP;
    FOREACH of_queue IN ARRAY queues LOOP
        IF submit_max_depth(of_queue) IS NOT NULL THEN
            INSERT INTO limited (queue, pace) VALUES (of_queue, 0) ON CONFLICT DO NOTHING;
            PERFORM pace FROM limited WHERE queue = of_queue FOR UPDATE;
            PERFORM submit_check_depth(of_queue, 0);
        END IF;
    END LOOP;
    -- Commits that notify wait for each other, so that there are few of them at a time. Where there are as
    -- many already, servers hear of those, or find this one's jobs when they look of themselves.
    FOR place IN 1..4 LOOP
        IF pg_try_advisory_xact_lock(1097757797, place) THEN
            PERFORM pg_notify('anteroom', '');
            EXIT;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON submit_queue DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION submit_queues_at_commit();

-- When a transaction commits that submitted under an idempotency key: from now on it is remembered.
CREATE FUNCTION submit_key_at_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    used submit_key;
    now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
BEGIN
    DELETE FROM submit_key WHERE task = NEW.task AND key = NEW.key RETURNING * INTO used;
    IF NOT FOUND THEN
        RETURN NULL; -- It was used before.
    END IF;
    DELETE FROM submit WHERE scope = '' AND task = used.task AND key = used.key
        AND at <= now_ms - 86400000;
    INSERT INTO submit (scope, task, key, fingerprint, id, duplicate, at)
        VALUES ('', used.task, used.key, used.fingerprint, used.id, used.duplicate, now_ms)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM submit_refuse('submitted-meanwhile', format('a server was given a submit of task %s with the '
            'idempotency key %s meanwhile', used.task, submit_shown(used.key)),
            'Try the transaction again: it gets that job, if it asks for the same.');
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON submit_key DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION submit_key_at_commit();

-- When a transaction commits that submitted under a unique key: from now on its job has it.
CREATE FUNCTION submit_unique_key_at_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    used submit_unique_key;
BEGIN
    DELETE FROM submit_unique_key WHERE task = NEW.task AND key = NEW.key RETURNING * INTO used;
    IF NOT FOUND THEN
        RETURN NULL; -- It was used for nothing new.
    END IF;
    INSERT INTO unique_key (task, key, id) VALUES (used.task, used.key, used.id) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM submit_refuse('submitted-meanwhile', format('a server was given a job of task %s with the '
            'unique key %s meanwhile', used.task, submit_shown(used.key)),
            'Try the transaction again: it gets that job.');
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON submit_unique_key DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION submit_unique_key_at_commit();
