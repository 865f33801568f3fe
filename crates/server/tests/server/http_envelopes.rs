//! Handing jobs in by envelope, one or an array of them.

use crate::harness::{Answer, Server, Wanted, within};
use crate::trouble::Trouble;
use anteroom::Options;
use anteroom::core::Name;
use anteroom_server::http::{RateLimit, RouterOptions, Scope, Token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::time::Duration;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn submit(server: &Server, body: &str) -> Answer {
    server
        .send("POST", "/v1/jobs", &JSON, body.as_bytes())
        .await
}

/// Returns the ids in an answer, once that is as it should be.
fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let jobs = body["jobs"].as_array().unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let id = |job: &Value| {
        assert_eq!(job.as_object().unwrap().len(), 3, "{job}");
        assert_eq!(job["duplicate"], false, "{job}");
        assert!(job["state"].is_string(), "{job}");
        job["id"].as_str().unwrap().to_owned()
    };
    jobs.iter().map(id).collect()
}

/// Checks that a body is refused with 422, and returns the places that it points at.
fn places(answer: &Answer, slug: &str) -> Vec<String> {
    let problem = answer.is_problem(422, slug);
    let errors = problem["errors"].as_array().unwrap();
    let place = |error: &Value| {
        assert!(!error["detail"].as_str().unwrap().is_empty(), "{problem}");
        assert_eq!(error.as_object().unwrap().len(), 2, "{problem}");
        error["pointer"].as_str().unwrap().to_owned()
    };
    errors.iter().map(place).collect()
}

#[tokio::test]
async fn an_envelope_is_202_with_its_job_in_a_list() {
    let server = Server::by_hand().await;
    let envelope = json!({
        "task": "pulled", "input": {"a": [1, 2]}, "content_type": "application/json",
        "queue": "fast", "group": "Customer 7", "priority": 0, "delay": "90s", "max_attempts": 3,
        "timeout": "PT1M", "start_before": "2025-11-23T13:00:00+01:00", "retain": "7d",
        "tags": {"user": "ann", "kind": "a&b"}
    });
    let answer = submit(&server, &envelope.to_string()).await;
    let ids = ids(&answer);
    assert_eq!(ids.len(), 1);
    assert_eq!(answer.json()["jobs"][0]["state"], "scheduled");
    let job = server.get(&format!("/v1/jobs/{}", ids[0])).await.json();
    for (member, value) in [
        ("task", json!("pulled")),
        ("queue", json!("fast")),
        ("group", json!("Customer 7")),
        ("priority", json!(0)),
        ("state", json!("scheduled")),
        ("run_at", json!("2025-11-22T12:01:30.000Z")),
        ("start_before", json!("2025-11-23T12:00:00.000Z")),
        ("timeout", json!("1m")),
        ("max_attempts", json!(3)),
        ("tags", json!({"user": "ann", "kind": "a&b"})),
        (
            "input",
            json!({"content_type": "application/json", "bytes": 11}),
        ),
    ] {
        assert_eq!(job[member], value, "{job}");
    }
}

#[tokio::test]
async fn an_array_is_202_with_its_jobs_in_their_order() {
    let server = Server::start().await;
    let envelopes: Vec<Value> = (0..50)
        .map(|number| json!({"task": "pulled", "input": number}))
        .collect();
    let answer = submit(&server, &Value::from(envelopes).to_string()).await;
    let ids = ids(&answer);
    assert_eq!(ids.len(), 50);
    assert!(ids.is_sorted(), "ids rise: {ids:?}");
    for (number, id) in ids.iter().enumerate() {
        let input = server.get(&format!("/v1/jobs/{id}/input")).await;
        assert_eq!(input.text(), number.to_string());
    }
    let page = server.get("/v1/jobs?page_size=1000").await.json();
    let listed = page["jobs"].as_array().unwrap().iter().rev();
    let listed: Vec<&str> = listed.map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids, "in the order of the list, too");
    let alone = submit(&server, r#"[{"task":"pulled"}]"#).await;
    assert_eq!(self::ids(&alone).len(), 1);
}

#[tokio::test]
async fn an_input_is_kept_as_the_exact_bytes_of_its_value() {
    let server = Server::start().await;
    let spaced = "{ \"b\" : 1.50e+3,\n \"a\":\"\\u00e4\" , \"a\" : 12345678901234567890.0 }";
    let envelopes = format!(
        "[{{\"task\":\"echo\",\"input\":{spaced}}}, {{\"task\":\"echo\",\"input\": null }},\
         {{\"task\":\"echo\",\"input_base64\":\"AP8K\",\"content_type\":\"image/png\"}},\
         {{\"task\":\"echo\",\"input_base64\":\"AP8K\"}}, {{\"task\":\"echo\"}}]"
    );
    let answer = submit(&server, &envelopes).await;
    let expected: [(&str, &[u8]); 5] = [
        ("application/json", spaced.as_bytes()),
        ("application/json", b"null"),
        ("image/png", b"\x00\xff\n"),
        ("application/octet-stream", b"\x00\xff\n"),
        ("application/octet-stream", b""),
    ];
    for (id, (content_type, bytes)) in ids(&answer).iter().zip(expected) {
        let prefer = [("prefer", "wait=60")];
        server.get_with(&format!("/v1/jobs/{id}"), &prefer).await;
        for part in ["input", "result"] {
            let raw = server.get(&format!("/v1/jobs/{id}/{part}")).await;
            assert_eq!(raw.header("content-type"), Some(content_type), "{raw:?}");
            assert_eq!(raw.body, bytes);
        }
    }
}

#[tokio::test]
async fn one_that_is_wrong_keeps_all_out_and_is_pointed_at() {
    let server = Server::start().await;
    for (body, slug, expected) in [
        (
            r#"[{"task":"echo"},{"task":"echo"},{"task":"nope"}]"#,
            "unknown-task",
            &["#/2/task"][..],
        ),
        (r#"{"task":"nope"}"#, "unknown-task", &["#/task"]),
        (r#"{"task":"Not a name"}"#, "unknown-task", &["#/task"]),
        (
            r#"{"task":"anteroom.callback"}"#,
            "unknown-task",
            &["#/task"],
        ),
        (
            r#"[{"task":"echo","priority":"5"}]"#,
            "invalid-body",
            &["#/0/priority"],
        ),
        (
            r#"[{"task":"echo","colour":"red"}]"#,
            "invalid-body",
            &["#/0/colour"],
        ),
        (
            r#"[{"task":"echo","task":"echo"}]"#,
            "invalid-body",
            &["#/0/task"],
        ),
        (r#"[{"task":"echo"},7]"#, "invalid-body", &["#/1"]),
        (r#"[[{"task":"echo"}]]"#, "invalid-body", &["#/0"]),
        ("7", "invalid-body", &["#"]),
        (
            r#"[{"task":"nope"},{"task":"echo","delay":5},{"x":1}]"#,
            "invalid-body",
            &["#/2/x", "#/1/delay", "#/2/task"],
        ),
        (
            r#"[{"task":"echo","start_before":"2020-01-01T00:00:00Z"}]"#,
            "invalid-body",
            &["#/0/start_before"],
        ),
        (
            r#"[{"task":"typed","input":"a"},{"task":"typed","input_base64":""}]"#,
            "unsupported-media-type",
            &["#/0/content_type", "#/1/content_type"],
        ),
        (
            r#"{"task":"echo","input":"a","content_type":"text/plain"}"#,
            "invalid-body",
            &["#/content_type"],
        ),
        (
            r#"{"task":"echo","input":"a","input_base64":"YQ=="}"#,
            "invalid-body",
            &["#/input", "#/input_base64"],
        ),
        (
            r#"{"task":"echo","input_base64":"YQ"}"#,
            "invalid-body",
            &["#/input_base64"],
        ),
        (
            r#"[{"task":"echo","queue":"anteroom.x"}]"#,
            "unknown-queue",
            &["#/0/queue"],
        ),
    ] {
        let answer = submit(&server, body).await;
        assert_eq!(places(&answer, slug), expected, "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(expected[0]), "{body}: {detail}");
    }
    assert_eq!(server.count().await, 0);
}

#[tokio::test]
async fn all_mistakes_are_told_up_to_twenty() {
    let server = Server::start().await;
    let wrong = |count: usize| format!("[{}]", vec![r#"{"task":"nope"}"#; count].join(","));
    for (count, told) in [(3, 3), (20, 20), (21, 20), (10_000, 20)] {
        let answer = submit(&server, &wrong(count)).await;
        assert_eq!(places(&answer, "unknown-task").len(), told, "{count}");
    }
}

#[tokio::test]
async fn json_that_is_none_is_400_with_the_place() {
    let server = Server::start().await;
    let large = format!("[{}\n {{\"task\":}}]", r#"{"task":"echo"},"#.repeat(20_000));
    for (body, line, column) in [
        (&b"{\"task\": nope}"[..], 1, 11),
        (b"[{\"task\":\"echo\"},\n {\"task\":\"echo\"} {}]", 2, 18),
        (b"{\"task\":\"echo\"", 1, 14),
        (b"\n\n", 3, 0),
        (b"{\"task\":\"\xe4\"}", 1, 10),
        (large.as_bytes(), 2, 10),
    ] {
        let answer = server.send("POST", "/v1/jobs", &JSON, body).await;
        let problem = answer.is_problem(400, "malformed-json");
        assert_eq!(problem["line"], line, "{problem}");
        assert_eq!(problem["column"], column, "{problem}");
    }
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"task":"echo","input":{open}{close}}}"#)
    };
    assert_eq!(submit(&server, &nested(127)).await.status, 202);
    let answer = submit(&server, &nested(128)).await;
    answer.is_problem(400, "malformed-json");
}

#[tokio::test]
async fn an_array_holds_one_to_ten_thousand_jobs() {
    let server = Server::start().await;
    let array = |count: usize| format!("[{}]", vec![r#"{"task":"pulled"}"#; count].join(","));
    let answer = submit(&server, "[]").await;
    assert_eq!(places(&answer, "invalid-body"), ["#"]);
    let answer = submit(&server, &array(10_001)).await;
    assert_eq!(places(&answer, "invalid-body"), ["#"]);
    let problem = answer.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("10000"), "{detail}");
    assert_eq!(server.count().await, 0);
    let answer = submit(&server, &array(10_000)).await;
    assert_eq!(ids(&answer).len(), 10_000);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_max_bulk() {
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            max_bulk: 10_000,
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let of_size = |size: usize| {
        let frame = r#"[{"task":"echo","input":""}]"#.len();
        format!(
            r#"[{{"task":"echo","input":"{}"}}]"#,
            "x".repeat(size - frame)
        )
    };
    assert_eq!(submit(&server, &of_size(10_000)).await.status, 202);
    let answer = submit(&server, &of_size(10_001)).await;
    answer.is_problem(413, "payload-too-large");
    let mut connection = server.connect().await;
    let chunked = [
        ("content-type", "application/json"),
        ("transfer-encoding", "chunked"),
    ];
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 10_001, of_size(10_001));
    let answer = connection
        .send("POST", "/v1/jobs", &chunked, body.as_bytes())
        .await;
    answer.is_problem(413, "payload-too-large");
}

#[tokio::test]
async fn an_input_may_be_as_large_as_max_input() {
    let server = Server::wanted(Wanted {
        options: Options {
            input_bytes_max: 100,
            ..Options::default()
        },
        ..Wanted::default()
    })
    .await;
    let text = |bytes: usize| format!(r#"{{"task":"echo","input":"{}"}}"#, "x".repeat(bytes - 2));
    let fits = format!(
        r#"{{"task":"echo","input_base64":"{}=="}}"#,
        "A".repeat(134)
    );
    for fitting in [text(100), fits] {
        assert_eq!(submit(&server, &fitting).await.status, 202);
    }
    let encoded = format!(r#"{{"task":"echo","input_base64":"{}="}}"#, "A".repeat(135));
    for (large, member) in [(text(101), "input"), (encoded, "input_base64")] {
        let answer = submit(&server, &large).await;
        let problem = answer.is_problem(413, "payload-too-large");
        assert_eq!(problem["errors"][0]["pointer"], format!("#/{member}"));
        let answer = submit(&server, &format!(r#"[{{"task":"echo"}},{large}]"#)).await;
        let pointer = format!("#/1/{member}");
        assert_eq!(places(&answer, "payload-too-large"), [pointer]);
    }
}

#[tokio::test]
async fn options_are_members_and_not_parameters() {
    let server = Server::start().await;
    let answer = server
        .send("POST", "/v1/jobs?priority=1", &JSON, br#"{"task":"echo"}"#)
        .await;
    answer.is_about_parameter("priority");
    assert_eq!(server.count().await, 0);
}

#[tokio::test]
async fn other_content_types_are_415_and_told_what_is_taken() {
    let server = Server::start().await;
    let body = br#"{"task":"echo"}"#;
    let cases: [&[(&str, &str)]; 4] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/vnd.x+json")],
    ];
    for headers in cases {
        let answer = server.send("POST", "/v1/jobs", headers, body).await;
        answer.is_problem(415, "unsupported-media-type");
        assert_eq!(
            answer.header("accept-post"),
            Some("application/json, application/x-ndjson")
        );
    }
    let compressed = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let answer = server.send("POST", "/v1/jobs", &compressed, body).await;
    answer.is_problem(415, "unsupported-media-type");
    let spelled = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = server.send("POST", "/v1/jobs", &spelled, body).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn it_is_not_waited_for_the_jobs() {
    let server = Server::start().await;
    let headers = [("content-type", "application/json"), ("prefer", "wait=60")];
    let body = br#"{"task":"hold"}"#;
    let answer = server.send("POST", "/v1/jobs", &headers, body).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("preference-applied"), None);
}

#[tokio::test]
async fn a_server_that_drains_takes_none() {
    let server = Server::start().await;
    server.engine.drain();
    let answer = submit(&server, r#"[{"task":"echo"}]"#).await;
    answer.is_problem(503, "draining");
    answer.says_retry_after();
}

/// Bodies count until they are stored, and no longer, whatever becomes of their jobs.
#[tokio::test]
async fn a_body_takes_up_room_until_it_is_stored() {
    let trouble = Trouble::default();
    let server = Server::wanted(Wanted {
        trouble: trouble.clone(),
        router: RouterOptions {
            max_buffered: 200_000,
            max_bulk: 90_000,
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let input = "x".repeat(40_000);
    let one = format!(r#"{{"task":"pulled","input":"{input}"}}"#);
    let two = format!("[{one},{one}]");
    for _ in 0..5 {
        assert_eq!(submit(&server, &two).await.status, 202);
    }
    let wrong = format!(r#"[{one},{{"task":"nope","input":"{input}"}}]"#);
    for _ in 0..5 {
        assert_eq!(submit(&server, &wrong).await.status, 422);
    }
    trouble.stall();
    let (stalled, refused) = tokio::join!(submit(&server, &two), async {
        within(trouble.stalls_one()).await;
        // What is kept of the first is 80 kB, and the second takes twice its size while it is read.
        let refused = submit(&server, &two).await;
        trouble.go_on();
        refused
    });
    assert_eq!(stalled.status, 202);
    refused.is_problem(503, "overloaded");
    assert_eq!(submit(&server, &two).await.status, 202);
}

#[tokio::test]
async fn the_same_again_under_its_key_gives_the_same_job() {
    let server = Server::start().await;
    let keyed = r#"{"task":"pulled","input":1,"idempotency_key":"k 1"}"#;
    let first = submit(&server, keyed).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    let first_ids = ids(&first);
    let again = submit(&server, keyed).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(ids(&again), first_ids);
    // The field of the head means the member.
    let field = [
        ("content-type", "application/json"),
        ("idempotency-key", "\"k 1\""),
    ];
    for body in [r#"{"task":"pulled","input":1}"#, keyed] {
        let again = server
            .send("POST", "/v1/jobs", &field, body.as_bytes())
            .await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{body}");
        assert_eq!(ids(&again), first_ids, "{body}");
    }
    // In an array each has its own; it is the same submit as by the task's path.
    let array = format!(r#"[{{"task":"pulled","input":2,"idempotency_key":"k 2"}},{keyed}]"#);
    for _ in 0..2 {
        let answer = submit(&server, &array).await;
        assert_eq!(answer.header("idempotency-replayed"), None);
        assert_eq!(ids(&answer)[1], first_ids[0]);
    }
    let by_task = server
        .send("POST", "/v1/tasks/pulled/jobs", &field, b"1")
        .await;
    assert_eq!(by_task.json()["id"], first_ids[0].as_str());
    assert_eq!(server.count().await, 2);
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_pointed_at() {
    let server = Server::start().await;
    let keyed = |input: u8| format!(r#"{{"task":"pulled","input":{input},"idempotency_key":"k"}}"#);
    assert_eq!(submit(&server, &keyed(1)).await.status, 202);
    let answer = submit(&server, &keyed(2)).await;
    assert_eq!(
        places(&answer, "idempotency-key-reused"),
        ["#/idempotency_key"]
    );
    let array = format!(r#"[{{"task":"pulled"}},{{"task":"pulled"}},{}]"#, keyed(2));
    let answer = submit(&server, &array).await;
    assert_eq!(
        places(&answer, "idempotency-key-reused"),
        ["#/2/idempotency_key"]
    );
    let field = [
        ("content-type", "application/json"),
        ("idempotency-key", "other"),
    ];
    let answer = server
        .send("POST", "/v1/jobs", &field, keyed(1).as_bytes())
        .await;
    assert_eq!(places(&answer, "invalid-body"), ["#/idempotency_key"]);
    let answer = server
        .send("POST", "/v1/jobs", &field, br#"[{"task":"pulled"}]"#)
        .await;
    answer.is_about_parameter("Idempotency-Key");
    assert_eq!(server.count().await, 1);
}

#[tokio::test]
async fn one_that_has_the_unique_key_of_another_is_its_duplicate() {
    let server = Server::start().await;
    let unique = r#"{"task":"pulled","unique_key":"u"}"#;
    let array = format!("[{unique},{{\"task\":\"pulled\"}},{unique}]");
    let answer = submit(&server, &array).await;
    assert_eq!(answer.status, 202);
    let body = answer.json();
    let jobs = body["jobs"].as_array().unwrap();
    let duplicates: Vec<bool> = jobs.iter().map(|it| it["duplicate"] == true).collect();
    assert_eq!(duplicates, [false, false, true]);
    assert_eq!(jobs[0]["id"], jobs[2]["id"]);
    let answer = submit(&server, unique).await;
    assert_eq!(
        answer.status, 202,
        "a list says no more than that it is durable"
    );
    assert_eq!(answer.json()["jobs"][0]["duplicate"], true);
    assert_eq!(answer.json()["jobs"][0]["id"], jobs[0]["id"]);
    assert_eq!(server.count().await, 2);
}

#[tokio::test]
async fn a_full_queue_is_429_for_the_whole() {
    let server = Server::start().await;
    let limit = br#"{"max_depth": 2}"#;
    let answer = server.send("PATCH", "/v1/queues/q", &JSON, limit).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let one = r#"{"task":"pulled","queue":"q"}"#;
    let other = r#"{"task":"pulled"}"#;
    let answer = submit(&server, &format!("[{other},{one},{one},{one}]")).await;
    answer.is_problem(429, "queue-full");
    answer.says_retry_after();
    assert_eq!(server.count().await, 0);
    assert_eq!(
        submit(&server, &format!("[{one},{one},{other}]"))
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn a_queue_that_is_not_made_is_pointed_at() {
    let server = Server::wanted(Wanted {
        options: Options {
            strict_queues: true,
            ..Options::default()
        },
        ..Wanted::default()
    })
    .await;
    let array = r#"[{"task":"pulled"},{"task":"pulled","queue":"q"}]"#;
    let answer = submit(&server, array).await;
    assert_eq!(places(&answer, "unknown-queue"), ["#/1/queue"]);
    let answer = submit(&server, r#"{"task":"pulled","queue":"q"}"#).await;
    assert_eq!(places(&answer, "unknown-queue"), ["#/queue"]);
}

#[tokio::test]
async fn a_token_counts_for_each_job() {
    let token = Token {
        name: Name::new("web").unwrap(),
        sha256: vec![Sha256::digest("secret").into()],
        scopes: vec![Scope::Submit],
        tasks: Some(vec![Name::new("pulled").unwrap()]),
        rate_limit: Some(RateLimit {
            limit: NonZeroU32::new(5).unwrap(),
            period: Duration::from_hours(1),
        }),
    };
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            tokens: vec![token],
            ..RouterOptions::default()
        },
        by_hand: true,
        ..Wanted::default()
    })
    .await;
    let send = async |body: &str, content_type: &str| {
        let headers = [
            ("content-type", content_type),
            ("authorization", "Bearer secret"),
        ];
        server
            .send("POST", "/v1/jobs", &headers, body.as_bytes())
            .await
    };
    let array = |count: usize| format!("[{}]", vec![r#"{"task":"pulled"}"#; count].join(","));
    let answer = send(r#"[{"task":"pulled"},{"task":"echo"}]"#, JSON[0].1).await;
    answer.is_problem(403, "forbidden");
    assert_eq!(send(&array(3), JSON[0].1).await.status, 202);
    send(&array(3), JSON[0].1)
        .await
        .is_problem(429, "rate-limited");
    assert_eq!(send(&array(2), JSON[0].1).await.status, 202);
    send(&array(1), JSON[0].1)
        .await
        .is_problem(429, "rate-limited");
    assert_eq!(server.count().await, 5);
}
