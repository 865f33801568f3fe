//! What may be asked for, and how what may not is refused.

use super::*;
use anteroom::{Invalid, Validate};

#[expect(clippy::too_many_lines, reason = "it is a table")]
#[tokio::test]
async fn what_is_wrong_is_named_with_its_limit() {
    let database = database();
    let mut texts = left("texts");
    texts.content_type = Some("text/plain".into());
    let options = Options {
        input_bytes_max: 400,
        ..Options::default()
    };
    let engine = engine(&database, vec![left("work"), texts], options).await;
    let session = Session::of(&database).await;
    let long = "x".repeat(256);
    let tags: Vec<String> = (0..33).map(|n| format!(r#""t{n}":"""#)).collect();
    for (options, said) in [
        (
            r#"{"prio":1}"#.to_owned(),
            r#""prio" is unknown; the options are queue, "#,
        ),
        (
            "[]".into(),
            "the options are of type array; they are an object",
        ),
        (
            r#"{"priority":10}"#.into(),
            "priority is 10; it is a whole number from 0 to 9",
        ),
        (r#"{"priority":-1}"#.into(), "priority is -1; "),
        (r#"{"priority":"5"}"#.into(), r#"priority is "5"; "#),
        (r#"{"priority":1.5}"#.into(), "priority is 1.5; "),
        (
            r#"{"max_attempts":0}"#.into(),
            "max_attempts is 0; it is a whole number from 1 to 100",
        ),
        (r#"{"max_attempts":101}"#.into(), "max_attempts is 101; "),
        (
            r#"{"queue":"Fast"}"#.into(),
            r#"queue is "Fast"; a name is a-z, 0-9, "#,
        ),
        (r#"{"queue":""}"#.into(), r#"queue is ""; a name is "#),
        (
            format!(r#"{{"queue":"{}"}}"#, "x".repeat(65)),
            "queue is 65 bytes; the limit is 64",
        ),
        (
            r#"{"queue":7}"#.into(),
            "queue is of type number; it is a string",
        ),
        (
            r#"{"group":""}"#.into(),
            "group is 0 bytes; it is 1 to 255 bytes",
        ),
        (format!(r#"{{"group":"{long}"}}"#), "group is 256 bytes; "),
        (
            r#"{"group":"a\nb"}"#.into(),
            r#"group is "a\nb", which has a control character"#,
        ),
        (r#"{"unique_key":"a\u0085"}"#.into(), "unique_key is "),
        (
            format!(r#"{{"unique_key":"{}"}}"#, "é".repeat(128)),
            "unique_key is 256 bytes; ",
        ),
        (
            format!(r#"{{"idempotency_key":"{long}"}}"#),
            "idempotency_key is 256 characters; ",
        ),
        (
            r#"{"delay":"1s","run_at":"2026-01-01T00:00:00Z"}"#.into(),
            "delay and run_at exclude each other",
        ),
        (
            r#"{"delay":"8784h1ms"}"#.into(),
            "delay is 8784h1ms; it is from 0s to 8784h",
        ),
        (
            r#"{"delay":30}"#.into(),
            "delay is of type number; it is a string",
        ),
        (
            r#"{"timeout":"99ms"}"#.into(),
            "timeout is 99ms; it is from 100ms to 168h",
        ),
        (r#"{"timeout":"168h1ns"}"#.into(), "timeout is 168h1ns; "),
        (
            r#"{"retain":"91d"}"#.into(),
            "retain is 91d; it is from 0s to 2160h",
        ),
        (
            r#"{"run_at":"9999-01-01T00:00:00Z"}"#.into(),
            "run_at is 9999-01-01T00:00:00Z, more than a year",
        ),
        (
            r#"{"start_before":"2020-01-01T00:00:00Z"}"#.into(),
            "start_before is 2020-01-01T00:00:00Z, which has passed",
        ),
        (
            r#"{"tags":["a"]}"#.into(),
            "tags is of type array; it is an object of strings",
        ),
        (
            r#"{"tags":{"a":1}}"#.into(),
            "tag a is of type number; it is a string",
        ),
        (
            r#"{"tags":{"A":"1"}}"#.into(),
            r#"the name of a tag is "A"; a name is "#,
        ),
        (
            r#"{"tags":{"anteroom.a":"1"}}"#.into(),
            "tag anteroom.a begins with what",
        ),
        (
            format!(r#"{{"tags":{{"a":"{long}"}}}}"#),
            "tag a is 256 bytes; the limit is 255",
        ),
        (
            format!(r#"{{"tags":{{{}}}}}"#, tags.join(",")),
            "tags are 33; the limit is 32",
        ),
        (
            r#"{"content_type":"text/plain"}"#.into(),
            "content_type is text/plain, but JSON is kept as",
        ),
        (
            r#"{"content_type":"text"}"#.into(),
            r#"content_type is "text", which is no media type"#,
        ),
        (
            r#"{"unchecked":1}"#.into(),
            "unchecked is of type number; it is a boolean",
        ),
    ] {
        let sql = format!("SELECT anteroom.submit('work', '1', '{options}')");
        let refusal = session.refusal(&sql).await;
        assert_eq!(
            (&*refusal.0, &*refusal.1),
            ("22023", "invalid-body"),
            "{options}"
        );
        assert!(refusal.2.starts_with(said), "{options}: {}", refusal.2);
    }
    let large = format!("'\"{}\"'", "x".repeat(399));
    let deep = format!("'{}{}'", "[".repeat(129), "]".repeat(129));
    for (call, state, problem, said) in [
        (
            "'nope', '1'",
            "42704",
            "unknown-task",
            r#"there is no task "nope""#,
        ),
        (
            "'anteroom.callback', '1'",
            "42704",
            "unknown-task",
            "there is no task",
        ),
        (
            "NULL, '1'",
            "42704",
            "unknown-task",
            "there is no task NULL",
        ),
        (
            "'work', NULL::json",
            "22023",
            "invalid-body",
            "the input is NULL",
        ),
        (
            "'work', NULL::bytea",
            "22023",
            "invalid-body",
            "the input is NULL",
        ),
        (
            "'work', 'a b'",
            "22P02",
            "malformed-json",
            "the input is not JSON: ",
        ),
        (
            "'work', '\\xff'::bytea, '{\"content_type\":\"application/json\"}'",
            "22P02",
            "malformed-json",
            "the input is not JSON: invalid byte sequence",
        ),
        (
            &format!("'work', {deep}"),
            "22P02",
            "malformed-json",
            "the input is JSON nested deeper than 128",
        ),
        (
            &format!("'work', {large}"),
            "54000",
            "payload-too-large",
            "the input is 401 bytes; the limit is 400",
        ),
        (
            "'texts', '1'",
            "22023",
            "unsupported-media-type",
            "task texts takes text/plain, not application/json",
        ),
        (
            "'work', '1', '{\"queue\":\"anteroom.callback\"}'",
            "42704",
            "unknown-queue",
            "anteroom.callback begins with what the server keeps",
        ),
    ] {
        let refusal = session
            .refusal(&format!("SELECT anteroom.submit({call})"))
            .await;
        assert_eq!(
            (&*refusal.0, &*refusal.1),
            (state, problem),
            "{call}: {}",
            refusal.2
        );
        assert!(refusal.2.starts_with(said), "{call}: {}", refusal.2);
    }
    assert_eq!(database.sql("SELECT count(*) FROM anteroom.job"), "0");
    session
        .sql(
            "SELECT anteroom.submit('texts', 'a'::bytea, '{\"content_type\":\"Text/Plain; a=b\"}')",
        )
        .await;
    session
        .sql(&format!(
            "SELECT anteroom.submit('work', {})",
            large.replacen("xx", "", 1)
        ))
        .await;
    stop(engine).await;
}

/// The same cases as those of the server, as far as a duration goes that anybody would write.
#[tokio::test]
async fn durations_are_those_of_the_wire() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    for (text, expected) in [
        ("30s", Some("30000")),
        ("1h30m", Some("5400000")),
        ("1h 30m", Some("5400000")),
        ("1 hour, 30 minutes", Some("5400000")),
        ("100ms", Some("100")),
        ("1.5s", Some("1500")),
        ("1.5h", Some("5400000")),
        ("7d", Some("604800000")),
        ("2w", Some("1209600000")),
        ("1d2h3m4s5ms", Some("93784005")),
        ("2000us", Some("2")),
        ("PT30S", Some("30000")),
        ("pt1h30m", Some("5400000")),
        ("PT1.5S", Some("1500")),
        ("P1D", Some("86400000")),
        ("P1W1DT1S", Some("691201000")),
        ("0s", Some("0")),
        ("", None),
        ("30", None),
        ("-5s", None),
        ("-PT5S", None),
        ("5s ago", None),
        ("1mo", None),
        ("P1Y", None),
        ("P", None),
        ("PT", None),
        ("soon", None),
        ("99999999999999999999s", None),
        ("1:30:00", None),
        ("+30s", None),
        ("1s1h", None),
        ("1.5h30m", None),
        ("1s 1s", None),
        ("s", None),
    ] {
        let sql = format!(
            "SELECT anteroom.submit_span(jsonb_build_object('delay', '{text}'), 'delay', 0, \
             31622400000, '') / 1000000"
        );
        let sql = format!("SET search_path = anteroom; SELECT trim_scale(({sql}))");
        let millis = session.try_sql(&sql).await.ok();
        assert_eq!(millis.as_deref(), expected, "{text}");
    }
    stop(engine).await;
}

#[tokio::test]
async fn times_are_those_of_the_wire() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    for (text, expected) in [
        ("2026-11-22T12:00:00Z", Some("1795348800000")),
        ("2026-11-22T12:00:00.1239Z", Some("1795348800123")),
        ("2026-11-22T13:00:00+01:00", Some("1795348800000")),
        ("2026-11-22t07:00:00.5-05:00", Some("1795348800500")),
        ("2026-11-23T11:59:00+23:59", Some("1795348800000")),
        ("2026-11-22T12:00:00.123456789012z", Some("1795348800123")),
        ("", None),
        ("2026-11-22", None),
        ("2026-11-22T12:00:00", None),
        ("1763812800", None),
        ("now", None),
        ("2026-11-22 12:00:00Z", None),
        ("2026-11-22T12:00:60Z", None),
        ("2026-11-22T24:00:00Z", None),
        ("2026-02-30T12:00:00Z", None),
        ("2026-13-01T12:00:00Z", None),
        ("2026-11-22T12:00:00+24:00", None),
        ("2026-11-22T12:00:00Z[UTC]", None),
        (" 2026-11-22T12:00:00Z", None),
        ("2026-11-22T12:00:00Z\n", None),
    ] {
        let sql = format!(
            "SET search_path = anteroom; SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; \
             SELECT submit_instant(jsonb_build_object('run_at', '{text}'), 'run_at', 1795348800000)"
        );
        let millis = session.try_sql(&sql).await.ok();
        assert_eq!(millis.as_deref(), expected, "{text}");
    }
    stop(engine).await;
}

#[tokio::test]
async fn a_callback_url_says_where_to_and_nothing_else() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let longest = format!("http://a/{}", "x".repeat(2_039));
    let too_long = format!("{longest}x");
    for (text, is_taken) in [
        ("http://example.org", true),
        ("HTTPS://Example.org:8443/a%20b?c=d&e=[1]", true),
        ("http://192.0.2.1?x", true),
        ("http://[2001:db8::1]:80/", true),
        ("http://a_b.example/@x:y", true),
        (&longest, true),
        (&too_long, false),
        ("", false),
        ("example.org/hook", false),
        ("ftp://example.org/", false),
        ("javascript://a", false),
        (" http://a", false),
        ("http://a/b c", false),
        ("http://a\\@b/", false),
        ("http://a/\u{e4}", false),
        ("http://a/\n", false),
        ("http://a/b#c", false),
        ("http://user@a/", false),
        ("http://", false),
        ("http:///a", false),
        ("http://:80/", false),
        ("http://127%2e0.0.1/", false),
        ("http://[::1", false),
        ("http://[a]/", false),
        ("http://[1:2]/", false),
        ("http://[192.0.2.1]/", false),
        ("http://[::1]80/", false),
        ("http://a:/", false),
        ("http://a:0/", false),
        ("http://a:+1/", false),
        ("http://a:65536/", false),
        ("http://a:80:90/", false),
    ] {
        let sql = format!(
            "SELECT anteroom.submit('work', '1', jsonb_build_object('callback_url', '{text}'))"
        );
        let taken = session.try_sql(&sql).await;
        assert_eq!(taken.is_ok(), is_taken, "{text}: {taken:?}");
    }
    stop(engine).await;
}

#[derive(Debug)]
struct Nothing;

impl Validate for Nothing {
    fn check(&self, _input: &[u8]) -> Vec<Invalid> {
        Vec::new()
    }

    fn schema(&self) -> Option<&str> {
        None
    }
}

/// What servers alone can check is not taken unchecked, unless the caller says that he did.
#[tokio::test]
async fn a_task_with_a_schema_is_submitted_to_by_those_who_say_so() {
    let database = database();
    let mut checked = left("checked");
    checked.validator = Some(Arc::new(Nothing));
    let engine = engine(&database, vec![checked], Options::default()).await;
    let session = Session::of(&database).await;
    let (state, problem, said) = session
        .refusal("SELECT anteroom.submit('checked', '1')")
        .await;
    assert_eq!((&*state, &*problem), ("0A000", "invalid-input"));
    assert!(said.contains("task checked has a JSON Schema"), "{said}");
    session
        .sql("SELECT anteroom.submit('checked', '1', '{\"unchecked\":true}')")
        .await;
    for (content_type, is_taken) in [("application/x+json", true), ("text/plain", false)] {
        let sql = format!(
            "SELECT anteroom.submit('checked', '1'::bytea, \
             '{{\"unchecked\":true,\"content_type\":\"{content_type}\"}}')"
        );
        assert_eq!(
            session.try_sql(&sql).await.is_ok(),
            is_taken,
            "{content_type}"
        );
    }
    stop(engine).await;
}
