use super::*;
use anteroom::StartAt;
use anteroom::core::Priority;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_millis(1_763_812_800_000);

fn parsed(text: &str) -> Result<Envelopes, Refused> {
    let bounds = Bounds {
        now: NOW,
        input_bytes_max: 100,
        key_scope: "".into(),
    };
    parse(text.as_bytes(), &bounds)
}

/// Returns where something is wrong.
fn wrong(text: &str) -> Vec<String> {
    match parsed(text) {
        Err(Refused::Wrong(mistakes)) => {
            let pointers = mistakes.kept().iter().map(|it| it.pointer.clone());
            pointers.collect()
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_member_is_read() {
    let text = r#" { "task":"resize", "input" : { "b":1.50, "a" : [ ] },"queue":"fast",
        "group":"Customer 7","priority":0,"delay":"90s","max_attempts":3,"timeout":"PT1M",
        "start_before":"2025-11-23T13:00:00+01:00","retain":"7d","unique_key":"u 1",
        "idempotency_key":"order 7, \"b\"","tags":{"user":"ann","k":"\u00e4"}}"#;
    let mut envelopes = parsed(text).unwrap();
    assert!(!envelopes.is_array);
    let (submission, member) = envelopes.submissions.pop().unwrap();
    assert_eq!(member, InputMember::Json);
    assert_eq!(&*submission.task, "resize");
    assert_eq!(&submission.input.bytes[..], br#"{ "b":1.50, "a" : [ ] }"#);
    assert_eq!(&*submission.input.content_type, "application/json");
    assert_eq!(submission.queue.as_deref(), Some("fast"));
    assert_eq!(submission.group.as_deref(), Some("Customer 7"));
    assert_eq!(submission.priority.map(Priority::get), Some(0));
    assert_eq!(submission.start, Some(StartAt::In(Duration::from_secs(90))));
    assert_eq!(submission.max_attempts, Some(3));
    assert_eq!(submission.timeout, Some(Duration::from_mins(1)));
    assert_eq!(
        submission.start_before,
        Some(NOW.after(Duration::from_hours(24)))
    );
    assert_eq!(submission.retain, Some(Duration::from_hours(168)));
    assert_eq!(submission.unique_key.as_deref(), Some("u 1"));
    let key = submission.idempotency.unwrap().key;
    assert_eq!(&*key, "order 7, \"b\"");
    let tags: Vec<(&str, &str)> = submission
        .tags
        .iter()
        .map(|(name, value)| (&**name, value.as_str()))
        .collect();
    assert_eq!(tags, [("k", "ä"), ("user", "ann")]);
}

#[test]
fn an_input_is_json_or_bytes_or_nothing() {
    for (members, content_type, bytes) in [
        (r#""input":null"#, "application/json", &b"null"[..]),
        (r#""input":"a\u0062""#, "application/json", br#""a\u0062""#),
        (r#""input":1.0E+2"#, "application/json", b"1.0E+2"),
        (
            r#""input":1,"content_type":"Application/JSON; charset=utf-8""#,
            "Application/JSON; charset=utf-8",
            b"1",
        ),
        (
            r#""input":1,"input_base64":null,"content_type":null"#,
            "application/json",
            b"1",
        ),
        (
            r#""input_base64":"YWJj""#,
            "application/octet-stream",
            b"abc",
        ),
        (
            r#""input_base64":"\/\/8=""#,
            "application/octet-stream",
            b"\xff\xff",
        ),
        (
            r#""input_base64":"","content_type":"text/plain""#,
            "text/plain",
            b"",
        ),
        (
            r#""input_base64":"WzFd","content_type":"application/json""#,
            "application/json",
            b"[1]",
        ),
        (r#""priority":null"#, "application/octet-stream", b""),
        (
            r#""content_type":"text/plain; charset=utf-8""#,
            "text/plain; charset=utf-8",
            b"",
        ),
    ] {
        let mut envelopes = parsed(&format!(r#"{{"task":"a",{members}}}"#)).unwrap();
        let (submission, _) = envelopes.submissions.pop().unwrap();
        assert_eq!(&*submission.input.content_type, content_type, "{members}");
        assert_eq!(&submission.input.bytes[..], bytes, "{members}");
    }
}

#[test]
fn each_mistake_has_its_place() {
    let many = format!("{{{}}}", vec![r#""t":"""#; 33].join(","));
    let many = format!(r#""tags":{many}"#);
    let long = format!(r#""group":"{}""#, "x".repeat(9_000));
    let large = format!(r#""input":"{}""#, "x".repeat(100));
    let large_base64 = format!(r#""input_base64":"{}""#, "A".repeat(140));
    for (members, places) in [
        (r#""priority":"5""#, &["#/priority"][..]),
        (r#""priority":10"#, &["#/priority"]),
        (r#""priority":5.0"#, &["#/priority"]),
        (r#""priority":-1"#, &["#/priority"]),
        (r#""priority":1e999999"#, &["#/priority"]),
        (r#""max_attempts":0"#, &["#/max_attempts"]),
        (r#""max_attempts":101"#, &["#/max_attempts"]),
        (r#""max_attempts":true"#, &["#/max_attempts"]),
        (r#""queue":7"#, &["#/queue"]),
        (r#""queue":"Fast""#, &["#/queue"]),
        (r#""queue":"anteroom.callback""#, &["#/queue"]),
        (r#""group":"""#, &["#/group"]),
        (r#""unique_key":"""#, &["#/unique_key"]),
        (r#""unique_key":1"#, &["#/unique_key"]),
        (r#""idempotency_key":"""#, &["#/idempotency_key"]),
        (r#""idempotency_key":"a\nb""#, &["#/idempotency_key"]),
        (r#""callback_url":"ftp://a/""#, &["#/callback_url"]),
        (r#""group":"a\nb""#, &["#/group"]),
        (long.as_str(), &["#/group"]),
        (r#""delay":30"#, &["#/delay"]),
        (r#""delay":"-1s""#, &["#/delay"]),
        (r#""delay":"9000h""#, &["#/delay"]),
        (
            r#""delay":"1s","run_at":"2025-11-23T00:00:00Z""#,
            &["#/delay", "#/run_at"],
        ),
        (r#""run_at":"tomorrow""#, &["#/run_at"]),
        (r#""run_at":["2025-11-23T00:00:00Z"]"#, &["#/run_at"]),
        (r#""timeout":"1ms""#, &["#/timeout"]),
        (r#""start_before":"2025""#, &["#/start_before"]),
        (r#""retain":"91d""#, &["#/retain"]),
        (r#""tags":["a"]"#, &["#/tags"]),
        (r#""tags":"a""#, &["#/tags"]),
        (r#""tags":{"a":1}"#, &["#/tags/a"]),
        (
            r#""tags":{"A":"1","b/c":"2"}"#,
            &["#/tags/A", "#/tags/b~1c"],
        ),
        (r#""tags":{"a":"1","a":"1"}"#, &["#/tags/a"]),
        (r#""tags":{"anteroom.x":"1"}"#, &["#/tags/anteroom.x"]),
        (r#""content_type":"text""#, &["#/content_type"]),
        (
            r#""content_type":"text/plain\r\nx: y""#,
            &["#/content_type"],
        ),
        (r#""content_type":"text/\u00e4""#, &["#/content_type"]),
        (r#""content_type":5"#, &["#/content_type"]),
        (
            r#""input":{},"content_type":"text/plain""#,
            &["#/content_type"],
        ),
        (
            r#""input":{},"input_base64":"""#,
            &["#/input", "#/input_base64"],
        ),
        (large.as_str(), &["#/input"]),
        (large_base64.as_str(), &["#/input_base64"]),
        (r#""input_base64":1"#, &["#/input_base64"]),
        (r#""input_base64":"YWJ""#, &["#/input_base64"]),
        (r#""input_base64":"YWI""#, &["#/input_base64"]),
        (r#""input_base64":"YWJ=""#, &["#/input_base64"]),
        (r#""input_base64":"YW Jj""#, &["#/input_base64"]),
        (r#""input_base64":"-_8=""#, &["#/input_base64"]),
        (r#""input_base64":"YWJj\n""#, &["#/input_base64"]),
        (
            r#""input_base64":"e30","content_type":"application/json""#,
            &["#/input_base64"],
        ),
        (
            r#""input_base64":"Zm9v","content_type":"application/json""#,
            &["#/input_base64"],
        ),
        (r#""content_type":"application/json""#, &["#/input_base64"]),
        (r#""inputs":{}"#, &["#/inputs"]),
        (r#""a/b~c d":{}"#, &["#/a~1b~0c%20d"]),
        (r#""task":"b""#, &["#/task"]),
        (r#""input":1,"input":2"#, &["#/input"]),
        (
            r#""priority":true,"queue":1,"x":0"#,
            &["#/x", "#/queue", "#/priority"],
        ),
    ] {
        let text = format!(r#"{{"task":"a",{members}}}"#);
        assert_eq!(wrong(&text), places, "{members}");
        let nested = places.iter().map(|place| place.replacen("#/", "#/1/", 1));
        let nested: Vec<String> = nested.collect();
        assert_eq!(
            wrong(&format!(r#"[{{"task":"a"}},{text}]"#)),
            nested,
            "{members}"
        );
    }
    let found = wrong(&format!(r#"{{"task":"a",{many}}}"#));
    assert_eq!(found[0], "#/tags");
}

#[test]
fn the_task_is_named() {
    for (text, place) in [
        ("{}", "#/task"),
        (r#"{"task":null}"#, "#/task"),
        (r#"{"task":7}"#, "#/task"),
        (r#"{"task":""}"#, "#/task"),
        (r#"{"task":"No Task"}"#, "#/task"),
        (r#"[{"task":"a"},{"input":1}]"#, "#/1/task"),
    ] {
        assert_eq!(wrong(text), [place], "{text}");
    }
}

#[test]
fn what_is_no_envelope_is_told_as_such() {
    for (text, places) in [
        ("42", &["#"][..]),
        ("null", &["#"]),
        ("\"a\"", &["#"]),
        ("true", &["#"]),
        ("-1.5", &["#"]),
        ("[]", &["#"]),
        ("[[]]", &["#/0"]),
        (
            "[[[{}]], 1, {\"task\":\"a\"}, \"b\", null, false]",
            &["#/0", "#/1", "#/3", "#/4", "#/5"],
        ),
    ] {
        assert_eq!(wrong(text), places, "{text}");
    }
}

/// A number may be as long as it likes in JSON: where it is no envelope it is wrong, and not
/// malformed.
#[test]
fn a_number_out_of_range_is_json() {
    for (text, places) in [
        ("9e999", vec!["#"]),
        (r#"[{"task":"a"}, -1e400, 7]"#, vec!["#/1", "#/2"]),
    ] {
        assert_eq!(wrong(text), places, "{text}");
    }
    assert!(parsed(r#"{"task":"a","input":9e999}"#).is_ok());
}

#[test]
fn what_is_not_json_is_malformed() {
    let deep = format!(
        r#"{{"task":"a","input":{}{}}}"#,
        "[".repeat(128),
        "]".repeat(128)
    );
    for text in [
        "",
        " ",
        "{",
        "{} {}",
        "[{}",
        r#"{"task":"a","input":}"#,
        r#"{"task":"a","input":01}"#,
        r#"{"task":"a",}"#,
        r#"[{"task":"a"},]"#,
        r#"{"task":"a","input":"\ud800"#,
        deep.as_str(),
    ] {
        assert!(matches!(parsed(text), Err(Refused::Malformed(_))), "{text}");
    }
    let bounds = Bounds {
        now: NOW,
        input_bytes_max: 100,
        key_scope: "".into(),
    };
    let latin = parse(b"{\"task\":\"\xe4\"}", &bounds);
    assert!(matches!(latin, Err(Refused::Malformed(_))));
    let shallow = format!(
        r#"{{"task":"a","input":{}{}}}"#,
        "[".repeat(49),
        "]".repeat(49)
    );
    assert!(parsed(&shallow).is_ok());
}

#[test]
fn an_array_holds_no_more_jobs_than_a_submit_may() {
    let array = |count: usize| format!("[{}]", vec![r#"{"task":"a"}"#; count].join(","));
    let whole = parsed(&array(SUBMIT_JOBS_MAX)).unwrap();
    assert_eq!(whole.submissions.len(), SUBMIT_JOBS_MAX);
    assert!(whole.is_array);
    match parsed(&array(SUBMIT_JOBS_MAX + 7)) {
        Err(Refused::Wrong(mistakes)) => {
            let [mistake] = mistakes.kept() else {
                panic!("{mistakes:?}");
            };
            assert_eq!(mistake.detail, "holds 10007 jobs; it takes 1 to 10000");
        }
        other => panic!("{other:?}"),
    }
}

/// An attacker's names and values must not come back in full.
#[test]
fn what_is_told_is_short_however_long_it_is() {
    let name = "ä".repeat(100_000);
    let pair = format!("\"{name}\":1");
    let number = "1".repeat(100_000);
    let text = format!(r#"{{{pair},"priority":{number},"tags":{{"{name}":""}},"task":"{name}"}}"#);
    match parsed(&text) {
        Err(Refused::Wrong(mistakes)) => {
            let told = mistakes.into_problem(false);
            let (_, _, document) = told.to_parts("", "");
            assert!(document.len() < 10_000, "{}", document.len());
        }
        other => panic!("{other:?}"),
    }
}
