-- What the options of a submit by SQL mean: what HTTP takes, within the same limits (`limits.rs`).

-- Refuses a submit: `problem` is the last part of the type of the same problem over HTTP.
CREATE FUNCTION submit_refuse(problem text, said text, advice text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    code text := CASE problem
        WHEN 'malformed-json' THEN '22P02'
        WHEN 'unknown-task' THEN '42704'
        WHEN 'unknown-queue' THEN '42704'
        WHEN 'invalid-input' THEN '0A000'
        WHEN 'payload-too-large' THEN '54000'
        WHEN 'queue-full' THEN '53400'
        WHEN 'too-many-queues' THEN '53400'
        WHEN 'idempotency-key-reused' THEN '23505'
        WHEN 'job-expired' THEN '02000'
        WHEN 'submitted-meanwhile' THEN '40001'
        ELSE '22023'
    END;
BEGIN
    IF advice IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = said, CONSTRAINT = problem;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = said, CONSTRAINT = problem, HINT = advice;
END $$;

-- Returns a text as it is told in a refusal.
CREATE FUNCTION submit_shown(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN to_json(left(value, 64) || CASE WHEN length(value) > 64 THEN '…' ELSE '' END)::text;
END $$;

-- Returns an option that is a text; NULL where it is not given.
CREATE FUNCTION submit_text(options jsonb, option text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    kind text := coalesce(jsonb_typeof(options -> option), 'null');
BEGIN
    IF kind NOT IN ('null', 'string') THEN
        PERFORM submit_refuse('invalid-body', format('%s is of type %s; it is a string', option, kind));
    END IF;
    RETURN options ->> option;
END $$;

-- Returns an option that is a whole number.
CREATE FUNCTION submit_number(options jsonb, option text, low bigint, high bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given jsonb := options -> option;
BEGIN
    IF coalesce(jsonb_typeof(given), 'null') = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) = 'number' AND given::numeric BETWEEN low AND high
        AND given::numeric = trunc(given::numeric) THEN
        RETURN given::bigint;
    END IF;
    PERFORM submit_refuse('invalid-body', format(
        '%s is %s; it is a whole number from %s to %s', option, left(given::text, 64), low, high));
END $$;

-- Checks a name of something and returns it.
CREATE FUNCTION submit_name(what text, name text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length(name) > 64 THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s bytes; the limit is 64', what, octet_length(name)));
    ELSIF name COLLATE "C" !~ '^[a-z0-9][a-z0-9._-]*$' THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s; a name is a-z, 0-9, and after the first character also . _ -',
            what, submit_shown(name)));
    END IF;
    RETURN name;
END $$;

-- Checks a group or a key, of which there may be so many bytes or characters, and returns it.
CREATE FUNCTION submit_label(option text, label text, size bigint, unit text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF size NOT BETWEEN 1 AND 255 THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s %s; it is 1 to 255 %s', option, size, unit, unit));
    ELSIF label ~ E'[\\u0001-\\u001f\\u007f-\\u009f]' THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s, which has a control character; none may stand there',
            option, submit_shown(label)));
    END IF;
    RETURN label;
END $$;

-- Reads a duration (1h30m, PT1H30M), and returns its nanoseconds. A day is 24 hours.
CREATE FUNCTION submit_span(options jsonb, option text, least_ms bigint, most_ms bigint, range text)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given text := submit_text(options, option);
    parts text[];
    part text[];
    unit_ns bigint;
    last_ns bigint := 9223372036854775807;
    is_whole boolean := true;
    span numeric := 0;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    parts := regexp_match(upper(given COLLATE "C"),
        '^P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?'
        '(?:([0-9]+(?:[.][0-9]{1,9})?)S)?)?$');
    IF length(given) <= 255 AND coalesce(parts[1], parts[2], parts[3], parts[4], parts[5]) <> '' THEN
        span := 1000000000 * (coalesce(parts[1], '0')::numeric * 604800
            + coalesce(parts[2], '0')::numeric * 86400 + coalesce(parts[3], '0')::numeric * 3600
            + coalesce(parts[4], '0')::numeric * 60 + coalesce(parts[5], '0')::numeric);
    ELSIF length(given) <= 255 AND given ~
        '^[0-9]+([.][0-9]{1,9})? *[a-zµ]+((, +| *)[0-9]+([.][0-9]{1,9})? *[a-zµ]+)*$' THEN
        FOR part IN SELECT regexp_matches(given, '([0-9]+)([.][0-9]+)? *([a-zµ]+)', 'g') LOOP
            unit_ns := CASE
                WHEN part[3] IN ('w', 'wk', 'wks', 'week', 'weeks') THEN 604800000000000
                WHEN part[3] IN ('d', 'day', 'days') THEN 86400000000000
                WHEN part[3] IN ('h', 'hr', 'hrs', 'hour', 'hours') THEN 3600000000000
                WHEN part[3] IN ('m', 'min', 'mins', 'minute', 'minutes') THEN 60000000000
                WHEN part[3] IN ('s', 'sec', 'secs', 'second', 'seconds') THEN 1000000000
                WHEN part[3] IN ('ms', 'msec', 'msecs', 'milli', 'millis', 'millisecond',
                    'milliseconds') THEN 1000000
                WHEN part[3] IN ('us', 'µs', 'usec', 'usecs', 'micro', 'micros', 'microsecond',
                    'microseconds') THEN 1000
                WHEN part[3] IN ('ns', 'nsec', 'nsecs', 'nano', 'nanos', 'nanosecond',
                    'nanoseconds') THEN 1
            END;
            -- From the greatest unit to the smallest, of which alone there may be a part.
            EXIT WHEN unit_ns IS NULL OR unit_ns >= last_ns OR NOT is_whole;
            EXIT WHEN part[2] IS NOT NULL AND unit_ns > 3600000000000;
            last_ns := unit_ns;
            is_whole := part[2] IS NULL;
            span := span + trunc((part[1] || coalesce(part[2], ''))::numeric * unit_ns);
            unit_ns := 0;
        END LOOP;
        span := CASE WHEN unit_ns = 0 THEN span END;
    ELSE
        span := NULL;
    END IF;
    IF span IS NULL THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s, which is no duration such as 30s, 1h30m or PT30S', option, submit_shown(given)));
    ELSIF span NOT BETWEEN least_ms::numeric * 1000000 AND most_ms::numeric * 1000000 THEN
        PERFORM submit_refuse('invalid-body', format('%s is %s; it is %s', option, given, range));
    END IF;
    RETURN span;
END $$;

-- Reads a time by RFC 3339 that lies at most a year ahead, and returns its milliseconds.
CREATE FUNCTION submit_instant(options jsonb, option text, now_ms bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given text := submit_text(options, option);
    parts text[];
    instant bigint;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    parts := regexp_match(given, '^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]'
        '((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:[.]([0-9]+))?'
        '(?:[Zz]|([+ -])([01][0-9]|2[0-3]):([0-5][0-9]))$');
    IF parts IS NOT NULL THEN
        BEGIN
            instant := extract(epoch FROM (parts[1] || ' ' || parts[2] || '+00')::timestamptz) * 1000;
        EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
            instant := NULL; -- There is no such day.
        END;
    END IF;
    IF instant IS NULL THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s, which is no time such as 2026-11-22T12:00:00Z', option, submit_shown(given)));
    END IF;
    instant := instant + rpad(left(coalesce(parts[3], ''), 3), 3, '0')::bigint
        - CASE parts[4] WHEN '-' THEN -60000 ELSE 60000 END
        * (coalesce(parts[5], '0')::bigint * 60 + coalesce(parts[6], '0')::bigint);
    IF instant > now_ms + 31622400000 THEN
        PERFORM submit_refuse('invalid-body', format(
            '%s is %s, more than a year (8784h) ahead', option, given));
    END IF;
    RETURN instant;
END $$;

-- Reads the tags, checks them, and returns them in the order of their names; NULL: none.
CREATE FUNCTION submit_tags(options jsonb, OUT names text[], OUT said text[])
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given jsonb := options -> 'tags';
    tag record;
BEGIN
    IF coalesce(jsonb_typeof(given), 'null') = 'null' THEN
        RETURN;
    ELSIF jsonb_typeof(given) <> 'object' THEN
        PERFORM submit_refuse('invalid-body', format('tags is of type %s; it is an object of strings, '
            'such as {"user": "ann"}', jsonb_typeof(given)));
    END IF;
    FOR tag IN SELECT key, value FROM jsonb_each(given) ORDER BY key COLLATE "C" LOOP
        PERFORM submit_name('the name of a tag', tag.key);
        IF starts_with(tag.key, 'anteroom.') THEN
            PERFORM submit_refuse('invalid-body', format(
                'tag %s begins with what the server keeps for itself', tag.key));
        ELSIF jsonb_typeof(tag.value) <> 'string' THEN
            PERFORM submit_refuse('invalid-body', format(
                'tag %s is of type %s; it is a string', tag.key, jsonb_typeof(tag.value)));
        ELSIF octet_length(tag.value #>> '{}') > 255 THEN
            PERFORM submit_refuse('invalid-body', format('tag %s is %s bytes; the limit is 255',
                tag.key, octet_length(tag.value #>> '{}')));
        END IF;
        names := names || tag.key;
        said := said || (tag.value #>> '{}');
    END LOOP;
    IF cardinality(names) > 32 THEN
        PERFORM submit_refuse('invalid-body', format('tags are %s; the limit is 32', cardinality(names)));
    END IF;
END $$;

-- Reads the URL that a callback is sent to. Where it may lead, whoever sends it looks at.
CREATE FUNCTION submit_callback_url(options jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given text := submit_text(options, 'callback_url');
    authority text;
    parts text[];
    wrong text;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    authority := substring(given FROM '^[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)');
    -- A host by its name, or an address of version 6 in brackets; and a port.
    parts := regexp_match(authority, '^(?:[A-Za-z0-9._-]+|[[]([0-9A-Fa-f:.]+)[]])(?::([0-9]{1,9}))?$');
    wrong := CASE
        WHEN octet_length(given) > 2048 THEN 'more than 2048 bytes'
        WHEN authority IS NULL THEN 'which begins with neither http:// nor https://'
        WHEN strpos(given, '#') > 0 THEN 'which has a fragment after a #; it is never sent'
        WHEN given !~ '^[]A-Za-z0-9._~:/?@!$&''()*+,;=%[-]*$'
            THEN 'which has a character that has to be percent-encoded'
        WHEN strpos(authority, '@') > 0 THEN 'which names a user before an @; there is no use for one'
        WHEN parts IS NULL OR NOT coalesce(parts[1] ~ ':', true)
            THEN 'which names no host such as example.org, 192.0.2.1 or [2001:db8::1], or has a port '
                'that is no number'
        WHEN parts[2]::integer NOT BETWEEN 1 AND 65535
            THEN 'which has a port that is no number from 1 to 65535'
    END;
    IF wrong IS NULL AND parts[1] IS NOT NULL THEN
        BEGIN
            PERFORM parts[1]::inet;
        EXCEPTION WHEN invalid_text_representation THEN
            wrong := 'which names no host such as example.org, 192.0.2.1 or [2001:db8::1]';
        END;
    END IF;
    IF wrong IS NOT NULL THEN
        PERFORM submit_refuse('invalid-body', format('callback_url is %s, %s', submit_shown(given), wrong));
    END IF;
    RETURN given;
END $$;

-- Checks that bytes are JSON, at most 128 levels deep.
CREATE FUNCTION submit_check_json(bytes bytea) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    rest text;
BEGIN
    BEGIN
        rest := convert_from(bytes, 'UTF8');
        PERFORM rest::json;
    EXCEPTION WHEN invalid_text_representation OR character_not_in_repertoire THEN
        GET STACKED DIAGNOSTICS rest = PG_EXCEPTION_DETAIL;
        PERFORM submit_refuse('malformed-json', format('the input is not JSON: %s %s', SQLERRM, rest),
            'What is not JSON is given as bytea, with its content_type in the options.');
    END;
    IF length(rest) - length(translate(rest, '[{', '')) <= 128 THEN
        RETURN;
    END IF;
    -- Only the brackets outside of strings, and of those level by level from within.
    rest := regexp_replace(rest, E'"([^"\\\\]|\\\\.)*"', '', 'g');
    rest := regexp_replace(rest, '[^][{}]+', '', 'g');
    FOR level IN 1..128 LOOP
        rest := regexp_replace(rest, '[[][]]|[{][}]', '', 'g');
    END LOOP;
    IF rest <> '' THEN
        PERFORM submit_refuse('malformed-json', 'the input is JSON nested deeper than 128');
    END IF;
END $$;

-- Returns a content type without its parameters, in lower case.
CREATE FUNCTION submit_essence(content_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN lower(btrim(split_part(content_type, ';', 1), E' \t') COLLATE "C");
END $$;

-- Returns the content type that an input is kept under, if the task takes it.
CREATE FUNCTION submit_content_type(of_task task, is_json boolean, options jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    given text := submit_text(options, 'content_type');
    essence text;
    taken text := of_task.content_type;
BEGIN
    IF octet_length(given) > 255 OR given ~ E'[^\\t -~]' OR submit_essence(given) !~
        '^[a-z0-9!#$%&''*+.^_`|~-]+/[a-z0-9!#$%&''*+.^_`|~-]+$' THEN
        PERFORM submit_refuse('invalid-body', format('content_type is %s, which is no media type such as '
            'text/plain, of at most 255 bytes', submit_shown(given)));
    END IF;
    given := coalesce(given, CASE WHEN is_json THEN 'application/json' ELSE 'application/octet-stream' END);
    essence := submit_essence(given);
    IF is_json AND essence <> 'application/json' THEN
        PERFORM submit_refuse('invalid-body', format('content_type is %s, but JSON is kept as '
            'application/json; leave it out, or give the input as bytea', given));
    END IF;
    IF taken IS NULL AND of_task.has_schema AND essence !~ '[+]json$' THEN
        taken := 'application/json';
    END IF;
    IF submit_essence(taken) <> essence THEN
        PERFORM submit_refuse('unsupported-media-type', format('task %s takes %s, not %s',
            of_task.name, taken, given));
    END IF;
    RETURN given;
END $$;

-- Returns a part of what a fingerprint is the digest of: `fingerprint.rs` has the whole.
CREATE FUNCTION submit_field(name text, value bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN coalesce(int8send(octet_length(name)) || convert_to(name, 'UTF8')
        || int8send(octet_length(value)) || value, '');
END $$;

CREATE FUNCTION submit_wide(number numeric) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN int8send(0) || int8send(number::bigint);
END $$;
