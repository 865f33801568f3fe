-- Submits by SQL. See `0002_tables.sql`.

-- Returns what an idempotency key remembers, if it was used for the same; NULL: nothing, and from here on
-- it remembers `fresh`. Waits for another transaction that has used it, and sees what became of it.
CREATE FUNCTION submit_remembered(task_name text, key_text text, print bytea, fresh uuid)
RETURNS submit_key LANGUAGE plpgsql AS $$
DECLARE
    known submit_key;
    since bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 86400000;
BEGIN
    INSERT INTO submit_key (task, key, fingerprint, id, duplicate)
        VALUES (task_name, key_text, print, fresh, false) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        SELECT task, key, fingerprint, id, duplicate INTO known FROM submit
            WHERE scope = '' AND task = task_name AND key = key_text AND at > since;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        DELETE FROM submit_key WHERE task = task_name AND key = key_text;
    ELSE
        SELECT * INTO known FROM submit_key WHERE task = task_name AND key = key_text;
    END IF;
    IF known.fingerprint <> print THEN
        PERFORM submit_refuse('idempotency-key-reused', format('the idempotency key %s was used for another '
            'submit of task %s in the last 24 hours', submit_shown(key_text), task_name));
    ELSIF NOT EXISTS (SELECT FROM job WHERE id = known.id) THEN
        PERFORM submit_refuse('job-expired', format('the idempotency key %s gave job %s, which was deleted, '
            'or its retention is over; no new job was made', submit_shown(key_text), known.id));
    END IF;
    RETURN known;
END $$;

-- Returns the unfinished job that has a unique key; NULL: none, and from here on `fresh` has it.
CREATE FUNCTION submit_holder(task_name text, key_text text, fresh uuid) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    holder uuid;
BEGIN
    INSERT INTO submit_unique_key (task, key, id)
        VALUES (task_name, key_text, fresh) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        SELECT id INTO holder FROM unique_key WHERE task = task_name AND key = key_text;
        IF FOUND THEN
            DELETE FROM submit_unique_key WHERE task = task_name AND key = key_text;
        END IF;
    ELSE
        SELECT id INTO holder FROM submit_unique_key WHERE task = task_name AND key = key_text;
    END IF;
    RETURN holder;
END $$;

-- Submits one job: what all forms of `submit` have in common.
CREATE FUNCTION submit_one(
    task_name text, input bytea, is_json boolean, options jsonb, OUT job uuid, OUT is_duplicate boolean)
LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
    now_ms bigint := floor(extract(epoch FROM at) * 1000);
    of_task task;
    unknown text;
    given_queue text;
    of_queue text;
    of_group text;
    priority bigint;
    delay numeric;
    run_at bigint;
    max_attempts bigint;
    timeout numeric;
    start_before bigint;
    retain numeric;
    unique_text text;
    key_text text;
    callback_url text;
    tags record;
    content_type text;
    known submit_key;
BEGIN
    IF jsonb_typeof(options) <> 'object' THEN
        PERFORM submit_refuse('invalid-body', format('the options are of type %s; they are an object',
            jsonb_typeof(options)));
    END IF;
    options := coalesce(options, '{}');
    SELECT key INTO unknown FROM jsonb_object_keys(options) AS key
        WHERE key NOT IN ('queue', 'group', 'priority', 'delay', 'run_at', 'max_attempts', 'timeout',
            'start_before', 'retain', 'unique_key', 'callback_url', 'tags', 'idempotency_key',
            'content_type', 'unchecked') LIMIT 1;
    IF FOUND THEN
        PERFORM submit_refuse('invalid-body', format('%s is unknown; the options are queue, group, priority, '
            'delay, run_at, max_attempts, timeout, start_before, retain, unique_key, callback_url, tags, '
            'idempotency_key, content_type, unchecked', submit_shown(unknown)));
    ELSIF coalesce(jsonb_typeof(options -> 'unchecked'), 'null') NOT IN ('null', 'boolean') THEN
        PERFORM submit_refuse('invalid-body', format('unchecked is of type %s; it is a boolean',
            jsonb_typeof(options -> 'unchecked')));
    END IF;
    given_queue := submit_name('queue', submit_text(options, 'queue'));
    of_group := submit_text(options, 'group');
    priority := submit_number(options, 'priority', 0, 9);
    delay := submit_span(options, 'delay', 0, 31622400000, 'from 0s to 8784h');
    run_at := submit_instant(options, 'run_at', now_ms);
    max_attempts := submit_number(options, 'max_attempts', 1, 100);
    timeout := submit_span(options, 'timeout', 100, 604800000, 'from 100ms to 168h');
    start_before := submit_instant(options, 'start_before', now_ms);
    retain := submit_span(options, 'retain', 0, 7776000000, 'from 0s to 2160h');
    unique_text := submit_text(options, 'unique_key');
    key_text := submit_text(options, 'idempotency_key');
    callback_url := submit_callback_url(options);
    tags := submit_tags(options);
    PERFORM submit_label('group', of_group, octet_length(of_group), 'bytes'),
        submit_label('unique_key', unique_text, octet_length(unique_text), 'bytes'),
        submit_label('idempotency_key', key_text, length(key_text), 'characters');
    IF delay IS NOT NULL AND run_at IS NOT NULL THEN
        PERFORM submit_refuse('invalid-body', 'delay and run_at exclude each other; give one of them');
    END IF;

    SELECT * INTO of_task FROM task WHERE name = task_name;
    IF NOT FOUND THEN
        PERFORM submit_refuse('unknown-task', format('there is no task %s', coalesce(submit_shown(task_name),
            'NULL')), 'A server that has it in its configuration says so when it starts.');
    END IF;
    of_queue := coalesce(given_queue, of_task.queue);
    IF starts_with(of_queue, 'anteroom.') THEN
        PERFORM submit_refuse('unknown-queue', format(
            '%s begins with what the server keeps for itself', of_queue));
    ELSIF input IS NULL THEN
        PERFORM submit_refuse('invalid-body', 'the input is NULL', 'JSON has a null of its own, '
            '''null''::json; no input at all is ''''::bytea.');
    ELSIF octet_length(input) > of_task.input_bytes_max THEN
        PERFORM submit_refuse('payload-too-large', format('the input is %s bytes; the limit is %s',
            octet_length(input), of_task.input_bytes_max));
    END IF;
    content_type := submit_content_type(of_task, is_json, options);
    IF submit_essence(content_type) = 'application/json' THEN
        PERFORM submit_check_json(input);
    END IF;
    IF of_task.has_schema AND NOT coalesce(options ->> 'unchecked' = 'true', false) THEN
        PERFORM submit_refuse('invalid-input', format('task %s has a JSON Schema, which servers alone can '
            'check', task_name), 'Submit it over HTTP; or see to it that the input fits, and say so by '
            '"unchecked": true in the options.');
    END IF;

    job := submit_id(at);
    is_duplicate := false;
    IF key_text IS NOT NULL THEN
        known := submit_remembered(task_name, key_text, sha256(
            submit_field('', 'anteroom submit 1') || submit_field('input', input)
            || submit_field('content_type', convert_to(submit_essence(content_type)
                || coalesce(';' || btrim(substring(content_type FROM ';(.*)'), E' \t'), ''), 'UTF8'))
            || submit_field('queue', convert_to(given_queue, 'UTF8'))
            || submit_field('group', convert_to(of_group, 'UTF8'))
            || submit_field('priority', substring(int4send(priority::integer) FROM 4))
            || submit_field('delay', submit_wide(delay))
            || submit_field('run_at', int8send(run_at))
            || submit_field('max_attempts', int4send(max_attempts::integer))
            || submit_field('timeout', submit_wide(timeout))
            || submit_field('start_before', int8send(start_before))
            || submit_field('retain', submit_wide(retain))
            || submit_field('unique_key', convert_to(unique_text, 'UTF8'))
            || submit_field('callback_url', convert_to(callback_url, 'UTF8'))
            || coalesce((SELECT string_agg(submit_field('tag.' || name, convert_to(said, 'UTF8')), ''
                ORDER BY name COLLATE "C") FROM unnest(tags.names, tags.said) AS tag (name, said)), '')), job);
        IF known.id IS NOT NULL THEN
            job := known.id;
            is_duplicate := known.duplicate;
            RETURN;
        END IF;
    END IF;
    IF start_before <= now_ms THEN
        PERFORM submit_refuse('invalid-body', format('start_before is %s, which has passed; it lies ahead',
            options ->> 'start_before'));
    END IF;
    IF unique_text IS NOT NULL THEN
        known.id := submit_holder(task_name, unique_text, job);
        IF known.id IS NOT NULL THEN
            UPDATE submit_key SET id = known.id, duplicate = true
                WHERE task = task_name AND key = key_text;
            job := known.id;
            is_duplicate := true;
            RETURN;
        END IF;
    END IF;

    -- Only at the first job of this transaction in its queue. Rows of others are never seen, and those that
    -- are older than this transaction need not be gone over.
    IF NOT EXISTS (SELECT FROM submit_queue WHERE queue = of_queue AND id >= (lpad(to_hex(
        floor(extract(epoch FROM now()) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid) THEN
        PERFORM submit_is_to_be_made(of_queue), submit_check_depth(of_queue, 1);
        INSERT INTO submit_queue (id, queue) VALUES (job, of_queue);
    END IF;
    INSERT INTO job (id, task, queue, "group", priority, created_at, max_attempts, timeout_ms, start_before,
        retain_ms, unique_key, callback_url, tags, content_type, input)
    VALUES (job, task_name, of_queue, of_group, coalesce(priority, 5), now_ms,
        coalesce(max_attempts, of_task.max_attempts),
        coalesce(trunc(timeout / 1000000)::bigint, of_task.timeout_ms), start_before,
        coalesce(trunc(retain / 1000000)::bigint, of_task.retain_ms), unique_text, callback_url,
        (SELECT '{' || string_agg(to_json(name)::text || ':' || to_json(said)::text, ','
            ORDER BY name COLLATE "C") || '}' FROM unnest(tags.names, tags.said) AS tag (name, said)),
        content_type, input);
    run_at := greatest(run_at, now_ms + coalesce(trunc(delay / 1000000)::bigint, 0));
    INSERT INTO waiting (id, task, queue, "group", priority, is_scheduled, deadline, version, run_at, attempt,
        claim, lease, hand_backs, errors, reports, states)
    VALUES (job, task_name, of_queue, coalesce(of_group, ''), coalesce(priority, 5), run_at > now_ms,
        start_before, 1, run_at, 0, 0, 0, 0, 0, 0, 0);
END $$;

-- Reads base64 by RFC 4648, section 4: PostgreSQL itself takes more.
CREATE FUNCTION submit_base64(given text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    bytes bytea;
BEGIN
    BEGIN
        bytes := decode(given, 'base64');
    EXCEPTION WHEN invalid_parameter_value THEN
        bytes := NULL;
    END;
    IF translate(encode(bytes, 'base64'), E'\n', '') IS DISTINCT FROM given THEN
        PERFORM submit_refuse('invalid-body', 'input_base64 is no base64 by RFC 4648, section 4');
    END IF;
    RETURN bytes;
END $$;

-- The forms that are called. Whoever may call them needs no right to any table.

-- JSON, kept to the byte.
CREATE FUNCTION submit(task text, input json, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET standard_conforming_strings = on
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (submit_one(task, convert_to(input::text, 'UTF8'), true, options)).job;
END $$;

-- JSON, as PostgreSQL writes it.
CREATE FUNCTION submit(task text, input jsonb, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET standard_conforming_strings = on
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (submit_one(task, convert_to(input::text, 'UTF8'), true, options)).job;
END $$;

-- JSON as text. It is also what a literal, or a parameter without a type, is taken for.
CREATE FUNCTION submit(task text, input text, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET standard_conforming_strings = on
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (submit_one(task, convert_to(input, 'UTF8'), true, options)).job;
END $$;

-- Bytes, of the content_type that the options name.
CREATE FUNCTION submit(task text, input bytea, options jsonb DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET standard_conforming_strings = on
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (submit_one(task, input, false, options)).job;
END $$;

-- Envelopes, as `POST /v1/jobs` takes them: an array of 1 to 10,000. A row for each, in their order.
CREATE FUNCTION submit_many(jobs json, OUT ordinal bigint, OUT id uuid, OUT duplicate boolean)
RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER
SET search_path = anteroom, pg_temp SET standard_conforming_strings = on
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    envelope json;
    members jsonb;
    is_json boolean;
    input bytea;
    state text;
    said text;
    advice text;
    problem text;
BEGIN
    IF json_typeof(jobs) IS DISTINCT FROM 'array' THEN
        PERFORM submit_refuse('invalid-body', format('the jobs are %s; they are an array of envelopes',
            coalesce('of type ' || json_typeof(jobs), 'NULL')));
    ELSIF json_array_length(jobs) NOT BETWEEN 1 AND 10000 THEN
        PERFORM submit_refuse('invalid-body', format('the array holds %s jobs; it takes 1 to 10000',
            json_array_length(jobs)));
    END IF;
    FOR envelope, ordinal IN
        SELECT value, number FROM json_array_elements(jobs) WITH ORDINALITY AS each (value, number) LOOP
        IF json_typeof(envelope) <> 'object' THEN
            PERFORM submit_refuse('invalid-body', format('is of type %s; it is an object',
                json_typeof(envelope)));
        END IF;
        -- The input is left as it is written, which jsonb would not.
        members := (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM json_each(envelope)
            WHERE key <> 'input');
        is_json := envelope -> 'input' IS NOT NULL;
        IF is_json AND members ->> 'input_base64' IS NOT NULL THEN
            PERFORM submit_refuse('invalid-body',
                'input and input_base64 exclude each other; give one of them');
        END IF;
        input := CASE WHEN is_json THEN convert_to((envelope -> 'input')::text, 'UTF8')
            ELSE submit_base64(coalesce(submit_text(members, 'input_base64'), '')) END;
        SELECT one.job, one.is_duplicate INTO id, duplicate FROM submit_one(submit_text(members, 'task'),
            input, is_json, members - '{task,input_base64}'::text[]) AS one;
        RETURN NEXT;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, said = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT,
        problem = CONSTRAINT_NAME;
    said := coalesce('job ' || ordinal || ': ', '') || said;
    IF problem = '' THEN
        RAISE EXCEPTION USING ERRCODE = state, MESSAGE = said;
    END IF;
    PERFORM submit_refuse(problem, said, nullif(advice, ''));
END $$;

-- Only to whom it is granted.
DO $$
DECLARE
    one regprocedure;
BEGIN
    FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'anteroom'::regnamespace
        AND starts_with(proname, 'submit') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
    END LOOP;
END $$;
