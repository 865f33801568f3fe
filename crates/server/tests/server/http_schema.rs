//! Inputs of a task that declares a JSON Schema.

use crate::harness::{Answer, SCHEMA, Server};
use serde_json::Value;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Checks that an input is refused, and returns the places that are pointed at.
fn places(answer: &Answer) -> Vec<String> {
    let problem = answer.is_problem(422, "invalid-input");
    let errors = problem["errors"].as_array().unwrap();
    let place = |error: &Value| {
        assert!(!error["detail"].as_str().unwrap().is_empty(), "{problem}");
        error["pointer"].as_str().unwrap().to_owned()
    };
    errors.iter().map(place).collect()
}

#[tokio::test]
async fn an_input_that_keeps_to_the_schema_is_taken() {
    let server = Server::start().await;
    for content_type in [
        "application/json",
        "application/vnd.x+json",
        "Application/JSON; a=b",
    ] {
        for call in ["jobs", "call"] {
            let headers = [("content-type", content_type)];
            let path = format!("/v1/tasks/checked/{call}");
            let answer = server
                .send("POST", &path, &headers, b"{\"a\": [1, 2]}")
                .await;
            assert!(answer.status < 300, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn one_that_does_not_is_422_and_pointed_at() {
    let server = Server::start().await;
    for (input, expected) in [
        (r#"{"a": ["x", 1, "y"]}"#, &["#/a/0", "#/a/2"][..]),
        (r#"{"a": [], "b/c": "long"}"#, &["#/b~1c"]),
        ("{}", &["#"]),
        ("7", &["#"]),
    ] {
        for call in ["jobs", "call"] {
            let path = format!("/v1/tasks/checked/{call}");
            let answer = server.send("POST", &path, &JSON, input.as_bytes()).await;
            assert_eq!(places(&answer), expected, "{input}");
        }
        let answer = server
            .send(
                "POST",
                "/v1/tasks/checked/jobs",
                &[("content-type", "text/x+json")],
                b"{",
            )
            .await;
        assert_eq!(places(&answer), ["#"]);
    }
    let malformed = server
        .send("POST", "/v1/tasks/checked/jobs", &JSON, b"{")
        .await;
    malformed.is_problem(400, "malformed-json");
    assert_eq!(server.count().await, 0);
}

#[tokio::test]
async fn at_most_twenty_errors_are_told_and_of_a_large_input_one() {
    let server = Server::start().await;
    for (count, told) in [(20, 20), (1_000, 20), (50_000, 1)] {
        let input = format!("{{\"a\": [{}]}}", vec!["\"x\""; count].join(","));
        let path = "/v1/tasks/checked/jobs";
        let answer = server.send("POST", path, &JSON, input.as_bytes()).await;
        assert_eq!(places(&answer).len(), told, "{count}");
    }
}

#[tokio::test]
async fn an_input_that_is_not_json_is_415() {
    let server = Server::start().await;
    let cases: [&[(&str, &str)]; 3] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/jsonx")],
    ];
    for headers in cases {
        let answer = server
            .send("POST", "/v1/tasks/checked/jobs", headers, b"{\"a\": []}")
            .await;
        answer.is_problem(415, "unsupported-media-type");
    }
}

#[tokio::test]
async fn in_envelopes_the_place_is_within_the_body() {
    let server = Server::start().await;
    let good = r#"{"task":"checked","input":{"a":[1]}}"#;
    let bad = r#"{"task":"checked","input":{"a":[1,"x"],"b/c":"long"}}"#;
    let answer = server.send("POST", "/v1/jobs", &JSON, bad.as_bytes()).await;
    assert_eq!(places(&answer), ["#/input/a/1", "#/input/b~1c"]);
    let body = format!("[{good},{good},{bad}]");
    let answer = server
        .send("POST", "/v1/jobs", &JSON, body.as_bytes())
        .await;
    assert_eq!(places(&answer), ["#/2/input/a/1", "#/2/input/b~1c"]);
    let encoded = r#"{"task":"checked","input_base64":"e30=","content_type":"application/json"}"#;
    let answer = server
        .send("POST", "/v1/jobs", &JSON, encoded.as_bytes())
        .await;
    assert_eq!(places(&answer), ["#/input_base64"]);
    let mixed = format!(r#"[{bad},{{"task":"nope"}},{{"task":"checked","input_base64":""}}]"#);
    let answer = server
        .send("POST", "/v1/jobs", &JSON, mixed.as_bytes())
        .await;
    let problem = answer.is_problem(422, "invalid-body");
    let errors = problem["errors"].as_array().unwrap().iter();
    let found: Vec<&str> = errors.map(|it| it["pointer"].as_str().unwrap()).collect();
    let expected = [
        "#/0/input/a/1",
        "#/0/input/b~1c",
        "#/1/task",
        "#/2/content_type",
    ];
    assert_eq!(found, expected);
    assert_eq!(server.count().await, 0);
    let body = format!("[{good},{good}]");
    let answer = server
        .send("POST", "/v1/jobs", &JSON, body.as_bytes())
        .await;
    assert_eq!(answer.status, 202);
    // So many that they are checked on a thread of their own.
    let many = format!("[{},{bad}]", vec![good; 9_000].join(","));
    let answer = server
        .send("POST", "/v1/jobs", &JSON, many.as_bytes())
        .await;
    assert_eq!(places(&answer), ["#/9000/input/a/1", "#/9000/input/b~1c"]);
}

#[tokio::test]
async fn a_task_shows_its_schema() {
    let server = Server::start().await;
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let task = server.get("/v1/tasks/checked").await.json();
    assert_eq!(task["schema"], schema);
    let task = server.get("/v1/tasks/echo").await.json();
    assert_eq!(task["schema"], Value::Null);
}
