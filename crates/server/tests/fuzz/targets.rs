//! What is sent, and what has to come of it.

use crate::harness::{INPUTS, Target, written};
use bolero::check;
use http::Request;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Words of queries: names of options and filters, values, and what goes between them.
const QUERY: [&str; 40] = [
    "queue",
    "group",
    "priority",
    "delay",
    "run_at",
    "max_attempts",
    "timeout",
    "start_before",
    "unique_key",
    "retain",
    "callback_url",
    "tag.a",
    "tag.",
    "task",
    "state",
    "created_after",
    "created_before",
    "page_size",
    "page_token",
    "include",
    "=",
    "=",
    "=",
    "&",
    "&",
    "1",
    "30s",
    "PT30S",
    "-",
    "2099-01-01T00:00:00Z",
    "2000-01-01T00:00:00.5+01:00",
    "ready",
    ",",
    "%20",
    "%",
    "+",
    "anteroom.x",
    "default",
    "99999999999999999999",
    "\u{e9}",
];

/// Words of JSON: of envelopes, patches and anything else.
const JSON: [&str; 48] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "d800",
    "null",
    "true",
    "0",
    "1",
    "-",
    "1e9",
    ".5",
    " ",
    "\n",
    "\"task\":\"pulled\"",
    "\"task\":\"nope\"",
    "\"input\":",
    "\"input_base64\":\"YWJj\"",
    "\"input_base64\":\"!\"",
    "\"content_type\":\"text/plain\"",
    "\"content_type\":\"a\\r\\nb: c\"",
    "\"queue\":\"q\"",
    "\"group\":\"g\"",
    "\"priority\":3",
    "\"priority\":\"3\"",
    "\"delay\":\"1s\"",
    "\"run_at\":\"2099-01-01T00:00:00Z\"",
    "\"max_attempts\":5",
    "\"timeout\":\"30s\"",
    "\"start_before\":\"2020-01-01T00:00:00Z\"",
    "\"unique_key\":\"u\"",
    "\"retain\":\"1h\"",
    "\"tags\":{\"a\":\"b\"}",
    "\"tags\":[]",
    "\"idempotency_key\":\"k\"",
    "\"unknown\":1",
    "{\"task\":\"pulled\",\"input\":1}",
    "{\"task\":\"pulled\",\"input\":{}},",
    "\u{e9}",
    "\u{0}",
    "\"\"",
    "{}",
    "[]",
];

/// Words of header fields.
const FIELDS: [&str; 32] = [
    "wait=1",
    "wait=0",
    "wait=",
    "wait=99999999999",
    "respond-async",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    "*",
    "W/",
    "\"1\"",
    "\"1r\"",
    "bytes=",
    "0-0",
    "-1",
    "5-",
    "2-1",
    "k",
    " ",
    "\t",
    "\u{e9}",
    "a",
    "text/plain",
    "application/json",
    "/",
    "charset=",
    "q=0.5",
    "Bearer ",
    "0",
    "1.1",
];

fn query(input: &[u8]) -> String {
    // A query is text; the library refuses what no request line can hold.
    String::from_utf8_lossy(&written(input, &QUERY)).into_owned()
}

#[test]
fn options_of_a_submit() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let path = format!("/v1/tasks/pulled/jobs?{}", query(input));
        let answer = target.borrow_mut().send(Request::post(path), Vec::new());
        if let Some(answer) = answer {
            let is_new = answer.status == 202;
            assert_eq!(answer.stored, usize::from(is_new), "{answer:?}");
        }
    });
}

#[test]
fn filters_of_a_list() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let path = format!("/v1/jobs?{}", query(input));
        target.borrow_mut().send(Request::get(path), Vec::new());
    });
}

#[test]
fn paths() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let path = String::from_utf8_lossy(&written(input, &PATHS)).into_owned();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            let request = Request::builder()
                .method(method)
                .uri(format!("/{path}"))
                .header("prefer", "wait=0");
            target.borrow_mut().send(request, Vec::new());
        }
    });
}

const PATHS: [&str; 23] = [
    "v1",
    "leases",
    "complete",
    "settle",
    "/",
    "/",
    "/",
    "tasks",
    "jobs",
    "pulled",
    "call",
    "events",
    "result",
    "input",
    "cancel",
    "retry",
    "queues",
    "problems",
    "00000000-0000-7000-8000-000000000000",
    "%2f",
    "%",
    "..",
    "?",
];

/// JSON goes in if and only if it is JSON, and byte for byte.
#[test]
fn json_inputs() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let body = written(input, &JSON);
        let request =
            Request::post("/v1/tasks/pulled/jobs").header("content-type", "application/json");
        let is_json = is_json(&body);
        let answer = target.borrow_mut().send(request, body).unwrap();
        let expected = if is_json { 202 } else { 400 };
        assert_eq!(answer.status, expected, "{answer:?}");
    });
}

fn is_json(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= 128
}

/// Returns how deep well-formed JSON is nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => depth += 1,
            b']' | b'}' if !is_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[test]
fn fields_of_a_read() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let mut target = target.borrow_mut();
        let value = written(input, &FIELDS);
        let id = target.job();
        for (field, path) in [
            ("if-none-match", format!("/v1/jobs/{id}")),
            ("range", format!("/v1/jobs/{id}/input")),
            ("accept", "/".to_owned()),
        ] {
            let request = Request::get(path).header(field, value.as_slice());
            target.send(request, Vec::new());
        }
    });
}

#[test]
fn fields_of_a_submit() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let value = written(input, &FIELDS);
        for field in ["content-type", "idempotency-key", "content-encoding"] {
            let request = Request::post("/v1/tasks/pulled/jobs").header(field, value.as_slice());
            let answer = target.borrow_mut().send(request, Vec::new());
            if let Some(answer) = answer {
                assert!(answer.stored <= 1, "{answer:?}");
            }
        }
    });
}

/// Envelopes go in all or none, and each that went in is told of.
#[test]
fn envelopes() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let request = Request::post("/v1/jobs").header("content-type", "application/json");
        let body = written(input, &JSON);
        let is_json = is_json(&body);
        let answer = target.borrow_mut().send(request, body).unwrap();
        assert_eq!(answer.status == 400, !is_json, "{answer:?}");
        if answer.status == 202 {
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let told = told["jobs"].as_array().unwrap();
            let new = told.iter().filter(|job| job["duplicate"] == false).count();
            // What an idempotency key gives again is told of, and not new.
            assert!((1..=10_000).contains(&told.len()), "{answer:?}");
            assert!(answer.stored <= new, "{answer:?}");
        }
    });
}

/// Of a stream each line that is not blank is answered, and as many are stored as are told of.
#[test]
fn streams_of_envelopes() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let request = Request::post("/v1/jobs").header("content-type", "application/x-ndjson");
        let body = written(input, &JSON);
        let sent = body.split(|byte| *byte == b'\n');
        let sent = sent.filter(|line| !line.trim_ascii().is_empty()).count();
        let answer = target.borrow_mut().send(request, body).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let told: Vec<Value> = serde_json::Deserializer::from_slice(&answer.body)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(told.len(), sent, "{answer:?}");
        let ids = told.iter().filter(|line| line["id"].is_string()).count();
        assert!(answer.stored <= ids, "{answer:?}");
        for line in told.iter().filter(|line| !line["id"].is_string()) {
            assert!(
                line["status"]
                    .as_u64()
                    .is_some_and(|status| status < 500 || status == 501),
                "{line}"
            );
        }
    });
}

/// A change is made whole or not at all, and only what it names is another.
#[test]
fn changes() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let mut target = target.borrow_mut();
        let body = written(input, &CHANGES);
        let is_json = is_json(&body);
        let id = target.job();
        for path in [format!("/v1/jobs/{id}"), "/v1/queues/q".to_owned()] {
            let request =
                Request::patch(path).header("content-type", "application/merge-patch+json");
            let answer = target.send(request, body.clone()).unwrap();
            assert_eq!(answer.status == 400, !is_json, "{answer:?}");
        }
    });
}

/// Words of changes.
const CHANGES: [&str; 32] = [
    "{",
    "}",
    ",",
    ":",
    "null",
    "true",
    "false",
    "0",
    "9",
    "10",
    "-1",
    "1.5",
    "\"\"",
    "\"q\"",
    "[]",
    "{}",
    "\"run_at\":",
    "\"priority\":",
    "\"queue\":",
    "\"tags\":",
    "\"paused\":",
    "\"max_depth\":",
    "\"max_concurrency\":",
    "\"rate_limit\":",
    "\"group_concurrency\":",
    "\"limit\":",
    "\"period\":",
    "\"2099-01-01T00:00:00Z\"",
    "\"1s\"",
    "\"anteroom.x\"",
    "\"a/~b\":",
    "\"unknown\":",
];

/// A corpus under the name of no target would be left out without a word.
#[test]
fn every_corpus_has_its_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/__fuzz__");
    for corpus in std::fs::read_dir(folder).unwrap() {
        let name = corpus.unwrap().file_name().into_string().unwrap();
        let target = name.strip_prefix("targets__").unwrap();
        let source = include_str!("targets.rs");
        assert!(source.contains(&format!("fn {target}()")), "{name}");
    }
}

/// What workers say: JSON is taken or refused with a reason, anything else is malformed.
#[test]
fn leases() {
    let target = std::panic::AssertUnwindSafe(std::cell::RefCell::new(Target::new()));
    check!().with_iterations(INPUTS).for_each(|input: &[u8]| {
        let mut target = target.borrow_mut();
        let body = written(input, &LEASES);
        let is_json = body.is_empty() || is_json(&body);
        target.job();
        for path in [
            "/v1/leases",
            "/v1/leases/x/extend",
            "/v1/leases/x/fail",
            "/v1/leases/settle",
        ] {
            let request = Request::post(path).header("content-type", "application/json");
            let answer = target.send(request, body.clone()).unwrap();
            let is_none = body.is_empty() && path == "/v1/leases/settle";
            assert_eq!(answer.status == 400, !is_json || is_none, "{answer:?}");
        }
    });
}

/// Words of what workers say.
const LEASES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "false",
    "1",
    "0.5",
    "\"pulled\"",
    "\"anteroom.callback\"",
    "\"30s\"",
    "\"x\"",
    "\"text/plain\"",
    "\"eA==\"",
    "\"complete\"",
    "\"fail\"",
    "\"extend\"",
    "\"release\"",
    "\"tasks\"",
    "\"queues\"",
    "\"max\"",
    "\"lease\"",
    "\"worker\"",
    "\"action\"",
    "\"result\"",
    "\"result_base64\"",
    "\"content_type\"",
    "\"error\"",
    "\"retry\"",
    "\"retry_after\"",
    "\"extend_by\"",
    "\"progress\"",
    "\"fraction\"",
    "\"message\"",
    "\"log\"",
    " ",
    "\u{e9}",
];
