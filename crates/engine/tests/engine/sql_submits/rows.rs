//! A job that was submitted by SQL is to the byte the one that a server would have stored.

use super::*;
use anteroom::core::{Label, Payload, Priority, Timestamp};
use anteroom::store::Found;
use anteroom::{CallbackUrl, Callbacks, CheckTarget, StartAt, Submission};
use async_trait::async_trait;

#[derive(Debug)]
struct Anywhere;

#[async_trait]
impl CheckTarget for Anywhere {
    async fn check(&self, _url: &str) -> Result<(), String> {
        Ok(())
    }
}

fn json(text: &'static str) -> Payload {
    Payload {
        content_type: "application/json".into(),
        bytes: text.into(),
    }
}

fn label(text: &str) -> Option<Label> {
    Label::new(text).ok()
}

/// All that can be asked for, alone and together, with the options that ask for it by SQL.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn cases(ahead: Timestamp, ahead_text: &str) -> Vec<(Submission, String)> {
    let plain = || Submission::new(name("work"), json(r#"{"a": [1.50, "é"]}"#));
    let minute = Duration::from_mins(1);
    let tags = || {
        [
            (name("z"), "a \"b\"\\\n\t\u{1}\u{7f}é/".into()),
            (name("a.b-c"), String::new()),
        ]
    };
    vec![
        (plain(), "{}".into()),
        (
            Submission {
                queue: Some(name("other")),
                ..plain()
            },
            r#"{"queue":"other"}"#.into(),
        ),
        (
            Submission {
                group: label("Customer 7é"),
                ..plain()
            },
            r#"{"group":"Customer 7é"}"#.into(),
        ),
        (
            Submission {
                priority: Priority::new(0).ok(),
                ..plain()
            },
            r#"{"priority":0}"#.into(),
        ),
        (
            Submission {
                start: Some(StartAt::At(ahead)),
                ..plain()
            },
            format!(r#"{{"run_at":"{ahead_text}"}}"#),
        ),
        (
            Submission {
                start: Some(StartAt::At(Timestamp::from_millis(5))),
                ..plain()
            },
            r#"{"run_at":"1970-01-01T01:00:00.0059+01:00"}"#.into(),
        ),
        (
            Submission {
                start: Some(StartAt::In(Duration::ZERO)),
                ..plain()
            },
            r#"{"delay":"0s"}"#.into(),
        ),
        (
            Submission {
                max_attempts: Some(100),
                ..plain()
            },
            r#"{"max_attempts":100}"#.into(),
        ),
        (
            Submission {
                timeout: Some(Duration::from_micros(100_500)),
                ..plain()
            },
            r#"{"timeout":"100.5ms"}"#.into(),
        ),
        (
            Submission {
                start_before: Some(ahead),
                ..plain()
            },
            format!(r#"{{"start_before":"{ahead_text}"}}"#),
        ),
        (
            Submission {
                retain: Some(Duration::ZERO),
                ..plain()
            },
            r#"{"retain":"PT0S"}"#.into(),
        ),
        (
            Submission {
                callback_url: CallbackUrl::new("https://[2001:db8::1]:8443/a?b=c").ok(),
                ..plain()
            },
            r#"{"callback_url":"https://[2001:db8::1]:8443/a?b=c"}"#.into(),
        ),
        (
            Submission {
                tags: tags().into(),
                ..plain()
            },
            r#"{"tags":{"z":"a \"b\"\\\n\t\u0001\u007fé/","a.b-c":""}}"#.into(),
        ),
        (
            Submission {
                queue: Some(name("q")),
                group: label("g"),
                priority: Priority::new(9).ok(),
                start: Some(StartAt::At(ahead)),
                max_attempts: Some(1),
                timeout: Some(minute),
                start_before: Some(ahead),
                retain: Some(Duration::from_hours(2160)),
                tags: tags().into(),
                ..plain()
            },
            format!(
                r#"{{"queue":"q","group":"g","priority":9,"run_at":"{ahead_text}","max_attempts":1,
                "timeout":"1m","start_before":"{ahead_text}","retain":"90d","delay":null,"idempotency_key":null,
                "tags":{{"a.b-c":"","z":"a \"b\"\\\n\t\u0001\u007fé/"}}}}"#,
            ),
        ),
    ]
}

const ROWS: &str = "SELECT concat_ws(E'\\n', \
    (SELECT (to_jsonb(job) - '{id,created_at}'::text[])::text FROM anteroom.job WHERE id = $id), \
    (SELECT (to_jsonb(waiting) - CASE WHEN is_scheduled THEN '{id}' ELSE '{id,run_at}' END::text[] \
        )::text FROM anteroom.waiting WHERE id = $id), \
    (SELECT (to_jsonb(submit) - '{id,key,at}'::text[])::text FROM anteroom.submit WHERE id = $id), \
    (SELECT (run_at = created_at AND NOT is_scheduled)::text FROM anteroom.waiting \
        JOIN anteroom.job USING (id) WHERE id = $id))";

#[tokio::test]
async fn the_rows_are_those_that_a_server_writes() {
    let database = database();
    let mut work = left("work");
    work.queue = name("works");
    work.max_attempts = 7;
    work.timeout = Duration::from_secs(77);
    let options = Options {
        retain: Duration::from_secs(777),
        callbacks: Some(Callbacks {
            runner: function::bytes(|attempt| async move { Outcome::Succeeded(attempt.input) }),
            targets: Arc::new(Anywhere),
        }),
        ..Options::default()
    };
    let engine = engine(&database, vec![work], options).await;
    let session = Session::of(&database).await;
    let ahead = engine.clock().now().after(Duration::from_hours(24));
    let text = format!(
        "SELECT to_char(to_timestamp({}.0 / 1000) AT TIME ZONE 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        ahead.as_millis()
    );
    let ahead_text = session.sql(&text).await;
    let rows = async |id: &str| {
        let sql = ROWS.replace("$id", &format!("'{id}'::uuid"));
        session.sql(&sql).await
    };
    let cases = cases(ahead, &ahead_text).into_iter();
    for (number, (submission, options)) in cases.enumerate() {
        let input = String::from_utf8(submission.input.bytes.to_vec()).unwrap();
        let by_engine = Submission {
            idempotency: Some(super::keys::key(&format!("engine {number}"))),
            ..submission
        };
        let by_engine = engine.submit(by_engine).await.unwrap().job.spec.id;
        let with_key =
            format!("('{options}'::jsonb || '{{\"idempotency_key\":\"sql {number}\"}}')");
        let by_sql = format!("SELECT anteroom.submit('work', '{input}'::json, {with_key})");
        let by_sql = session.sql(&by_sql).await;
        let (left, right) = (rows(&by_engine.to_string()).await, rows(&by_sql).await);
        assert!(left.lines().count() == 4, "{left}");
        assert_eq!(left, right, "{options}");
        // The engine reads it as its own.
        let id = by_sql.parse().unwrap();
        let Found::Here(job) = engine.store().get(id).await.unwrap() else {
            panic!("{options}");
        };
        let own = engine.store().get(by_engine).await.unwrap().here().unwrap();
        assert_eq!(job.spec.tags, own.spec.tags);
        assert_eq!(job.spec.timeout, own.spec.timeout);
    }
    stop(engine).await;
}

#[tokio::test]
async fn a_delay_counts_from_the_submit() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let id = session.submit("1", r#"{"delay":"1h30m"}"#).await;
    let job = engine.store().get(id).await.unwrap().here().unwrap();
    let delay = job.status.run_at.since(job.spec.created_at);
    assert_eq!(delay, Duration::from_mins(90));
    stop(engine).await;
}

/// JSON is kept as it is written, and anything else to the byte.
#[tokio::test]
async fn an_input_is_json_of_each_kind_or_bytes() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let long = format!("'{}1{}'", "[".repeat(128), "]".repeat(128));
    for (input, options, content_type, bytes) in [
        (
            r#"' {"b" :1.50}'::json"#,
            "{}",
            "application/json",
            r#" {"b" :1.50}"#,
        ),
        (
            r#"'{"b" :1.50}'::jsonb"#,
            "{}",
            "application/json",
            r#"{"b": 1.50}"#,
        ),
        (
            r#"'{"b" :1.50}'"#,
            "{}",
            "application/json",
            r#"{"b" :1.50}"#,
        ),
        (r#"'"a]\"{"'::text"#, "{}", "application/json", r#""a]\"{""#),
        ("'null'::json", "{}", "application/json", "null"),
        (&long, "{}", "application/json", long.trim_matches('\'')),
        (
            "'1'::json",
            r#"{"content_type":"Application/JSON; charset=utf-8"}"#,
            "Application/JSON; charset=utf-8",
            "1",
        ),
        ("'a b'::bytea", "{}", "application/octet-stream", "a b"),
        ("''::bytea", "{}", "application/octet-stream", ""),
        (
            "convert_to('é', 'UTF8')",
            r#"{"content_type":"text/plain"}"#,
            "text/plain",
            "é",
        ),
        (
            "'[1]'::bytea",
            r#"{"content_type":"application/json"}"#,
            "application/json",
            "[1]",
        ),
    ] {
        let sql = format!("SELECT anteroom.submit('work', {input}, '{options}')");
        let id = session.sql(&sql).await.parse().unwrap();
        let kept = engine.store().input(id).await.unwrap().here().unwrap();
        assert_eq!(&*kept.content_type, content_type, "{input}");
        assert_eq!(std::str::from_utf8(&kept.bytes).unwrap(), bytes, "{input}");
    }
    stop(engine).await;
}

/// Also within one transaction, and within one millisecond.
#[tokio::test]
async fn ids_rise_in_the_order_of_the_calls() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let many = "CREATE TABLE made AS SELECT n, anteroom.submit('work', n::text::json) AS id \
        FROM generate_series(1, 2000) AS n";
    session.sql(many).await;
    let rise = "SELECT bool_and(before < id) FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before \
        FROM made) AS pairs";
    assert_eq!(session.sql(rise).await, "t");
    let sound = "SELECT count(*) FROM anteroom.job WHERE substr(id::text, 15, 1) = '7' \
        AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b') \
        AND ('x' || translate(substr(id::text, 1, 13), '-', ''))::bit(48)::bigint = created_at";
    assert_eq!(session.sql(sound).await, "2000");
    stop(engine).await;
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
#[tokio::test]
async fn many_are_envelopes_and_all_or_none() {
    let database = database();
    let engine = idle(&database).await;
    let session = Session::of(&database).await;
    let many = async |envelopes: &str| {
        let sql = format!(
            "SELECT string_agg(id::text, ' ' ORDER BY ordinal) FROM anteroom.submit_many('{envelopes}')"
        );
        session.try_sql(&sql).await
    };
    let envelopes = r#"[{"task":"work","input": {"a" : 1e2},"priority":1},
        {"task":"work","input_base64":"YWJj","content_type":"text/plain","tags":{"a":"b"}},
        {"task":"work","input":null}, {"task":"work","input_base64":null}]"#;
    let ids = many(envelopes).await.unwrap();
    let mut kept = Vec::new();
    for id in ids.split(' ') {
        let input = engine
            .store()
            .input(id.parse().unwrap())
            .await
            .unwrap()
            .here()
            .unwrap();
        kept.push((input.content_type.to_string(), input.bytes));
    }
    let expected = [
        ("application/json", &br#"{"a" : 1e2}"#[..]),
        ("text/plain", b"abc"),
        ("application/json", b"null"),
        ("application/octet-stream", b""),
    ];
    for (kept, expected) in kept.iter().zip(expected) {
        assert_eq!((&*kept.0, &kept.1[..]), expected);
    }
    let bulk: Vec<&str> = vec![r#"{"task":"work","input":1}"#; 10_000];
    many(&format!("[{}]", bulk.join(","))).await.unwrap();
    assert_eq!(
        database.sql("SELECT count(*) FROM anteroom.waiting"),
        "10004"
    );
    for (envelopes, problem, said) in [
        (
            "[]".to_owned(),
            "invalid-body",
            "the array holds 0 jobs; it takes 1 to 10000",
        ),
        (
            format!("[{},1]", bulk.join(",")),
            "invalid-body",
            "the array holds 10001 jobs",
        ),
        (
            "{}".to_owned(),
            "invalid-body",
            "the jobs are of type object; they are an array",
        ),
        (
            r#"[{"task":"work"}, 1]"#.into(),
            "invalid-body",
            "job 2: is of type number; it is an object",
        ),
        (
            r#"[{"task":"work"},{"task":"work","priority":10}]"#.into(),
            "invalid-body",
            "job 2: priority is 10; it is a whole number from 0 to 9",
        ),
        (
            r#"[{"task":"nope"}]"#.into(),
            "unknown-task",
            "job 1: there is no task \"nope\"",
        ),
        (
            r#"[{"input":1}]"#.into(),
            "unknown-task",
            "job 1: there is no task NULL",
        ),
        (
            r#"[{"task":7}]"#.into(),
            "invalid-body",
            "job 1: task is of type number",
        ),
        (
            r#"[{"task":"work","input":1,"input_base64":""}]"#.into(),
            "invalid-body",
            "job 1: input and input_base64 exclude each other",
        ),
        (
            r#"[{"task":"work","input_base64":"YWJ"}]"#.into(),
            "invalid-body",
            "job 1: input_base64 is no",
        ),
        (
            r#"[{"task":"work","input_base64":"YW Jj"}]"#.into(),
            "invalid-body",
            "job 1: input_base64 is no",
        ),
        (
            r#"[{"task":"work","input_base64":"YWJ="}]"#.into(),
            "invalid-body",
            "job 1: input_base64 is no",
        ),
    ] {
        let error = many(&envelopes).await.unwrap_err();
        assert_eq!(error.constraint(), Some(problem), "{error:?}");
        assert!(error.message().starts_with(said), "{}", error.message());
    }
    assert_eq!(
        database.sql("SELECT count(*) FROM anteroom.waiting"),
        "10004"
    );
    stop(engine).await;
}
