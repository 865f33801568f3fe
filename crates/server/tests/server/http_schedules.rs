//! Schedules: what is put, shown, refused and fired over HTTP.

use crate::harness::{Answer, Server, Wanted, within};
use anteroom::core::limits::SCHEDULE_INPUT_BYTES_MAX;
use anteroom::core::{Cron, Name, Payload, Zone};
use anteroom::{CatchUp, Options, Schedule, Submission};
use anteroom_server::http::{RouterOptions, Scope, Token};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");
/// Where the clock that is set by hand begins.
const START: &str = "2025-11-22T12:00:00.000Z";

async fn put(server: &Server, name: &str, body: &Value) -> Answer {
    put_with(server, name, &[JSON], &body.to_string()).await
}

async fn put_with(server: &Server, name: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/v1/schedules/{name}");
    server.send("PUT", &path, headers, body.as_bytes()).await
}

async fn shown(server: &Server, name: &str) -> Value {
    let answer = server.get(&format!("/v1/schedules/{name}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn trigger(server: &Server, name: &str, headers: &[(&str, &str)]) -> Answer {
    let path = format!("/v1/schedules/{name}/trigger");
    server.send("POST", &path, headers, b"").await
}

fn every(cron: &str) -> Value {
    json!({"task": "pulled", "cron": cron})
}

/// Waits until a schedule has fired for this time, and returns its job.
async fn fired(server: &Server, name: &str, at: &str) -> Value {
    within(async {
        loop {
            let schedule = shown(server, name).await;
            if schedule["last_at"] == at {
                let job = schedule["links"]["last_job"].as_str().unwrap().to_owned();
                return server.get(&job).await.json();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// A server whose configuration has a schedule `file`, which is paused.
async fn with_configured(router: RouterOptions) -> Server {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: "a b c".into(),
    };
    let schedule = Schedule {
        cron: Cron::new("0 3 * * *", Zone::new("Europe/Berlin").unwrap()).unwrap(),
        submission: Submission::new(Name::new("pulled").unwrap(), input),
        paused: true,
        catch_up: CatchUp::Last,
    };
    let options = Options {
        schedules: BTreeMap::from([(Name::new("file").unwrap(), schedule)]),
        ..Options::default()
    };
    Server::wanted(Wanted {
        options,
        router,
        by_hand: true,
        ..Wanted::default()
    })
    .await
}

#[tokio::test]
async fn what_was_put_is_shown_whole() {
    let server = Server::by_hand().await;
    let body = json!({
        "task": "pulled", "cron": "*/10 * * * *", "timezone": "europe/berlin", "input": {"a": 1.0},
        "queue": "q", "group": "g", "priority": 2, "delay": "90s", "max_attempts": 3,
        "timeout": "1m", "retain": "2h", "unique_key": "u", "tags": {"who": "ann"},
        "paused": false, "catch_up": "last",
    });
    let answer = put(&server, "often", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), Some("/v1/schedules/often"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let tag = answer.header("etag").unwrap().to_owned();
    let mut expected = json!({
        "name": "often", "timezone": "Europe/Berlin", "content_type": "application/json",
        "delay": "1m30s", "callback_url": null, "defined_in": "api",
        "next_at": "2025-11-22T12:10:00.000Z", "last_at": null, "last_job": null,
        "last_error": null,
        "links": {
            "self": "/v1/schedules/often", "trigger": "/v1/schedules/often/trigger",
            "preview": "/v1/schedules/often/preview",
        },
    });
    for (name, value) in body.as_object().unwrap() {
        let members = expected.as_object_mut().unwrap();
        members.entry(name.clone()).or_insert(value.clone());
    }
    assert_eq!(answer.json(), expected);
    let got = server.get("/v1/schedules/often").await;
    assert_eq!(
        (got.header("etag"), got.json()),
        (Some(&*tag), expected.clone())
    );
    let members = expected.as_object_mut().unwrap();
    members.remove("input");
    put(&server, "another", &every("0 3 * * *")).await;
    let list = server.get("/v1/schedules").await;
    assert_eq!(list.header("cache-control"), Some("no-store"));
    let list = list.json();
    assert_eq!(list["schedules"][0]["name"], "another");
    assert_eq!(list["schedules"][1], expected);
    // The least there is, in its place.
    let answer = put(&server, "often", &every("0 3 * * *")).await;
    assert_eq!((answer.status, answer.header("location")), (200, None));
    assert_ne!(answer.header("etag"), Some(&*tag));
    let least = answer.json();
    for (name, expected) in [
        ("timezone", json!("UTC")),
        ("content_type", json!("application/octet-stream")),
        ("input_base64", json!("")),
        ("priority", Value::Null),
        ("tags", json!({})),
        ("catch_up", json!("none")),
        ("paused", json!(false)),
    ] {
        assert_eq!(least[name], expected, "{name}");
    }
    assert!(least.get("input").is_none());
    let head = server.send("HEAD", "/v1/schedules/often", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn it_fires_at_its_times_with_what_was_put() {
    let server = Server::by_hand().await;
    let body = json!({
        "task": "pulled", "cron": "*/10 * * * *", "input": [1.50, "\u{e4}"],
        "priority": 1, "tags": {"who": "ann"},
    });
    put(&server, "s", &body).await;
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_mins(10));
    let job = fired(&server, "s", "2025-11-22T12:10:00.000Z").await;
    assert_eq!(
        (&job["task"], &job["priority"]),
        (&json!("pulled"), &json!(1))
    );
    assert_eq!(job["tags"], json!({"who": "ann"}));
    assert_eq!(job["created_at"], "2025-11-22T12:10:00.000Z");
    let input = server.get(job["links"]["input"].as_str().unwrap()).await;
    assert_eq!(input.header("content-type"), Some("application/json"));
    assert_eq!(input.text(), "[1.5,\"\u{e4}\"]");
    // Two more come due at once: the later one is submitted.
    hand.advance(Duration::from_mins(20));
    fired(&server, "s", "2025-11-22T12:30:00.000Z").await;
    assert_eq!(server.count().await, 2);
    assert_eq!(
        shown(&server, "s").await["next_at"],
        "2025-11-22T12:40:00.000Z"
    );
}

#[tokio::test]
async fn a_body_that_is_wrong_is_pointed_at() {
    let server = Server::start().await;
    let with = |member: &str, value: Value| {
        let mut body = json!({"task": "echo", "cron": "0 3 * * *"});
        body[member] = value;
        body
    };
    for (body, slug, pointer) in [
        (with("cron", json!("61 * * * *")), "invalid-body", "#/cron"),
        (with("cron", json!("0 0 31 2 *")), "invalid-body", "#/cron"),
        (with("cron", json!("@daily")), "invalid-body", "#/cron"),
        (
            with("timezone", json!("Mars/Olympus")),
            "invalid-body",
            "#/timezone",
        ),
        (with("catch_up", json!("all")), "invalid-body", "#/catch_up"),
        (with("paused", json!(1)), "invalid-body", "#/paused"),
        (
            with("run_at", json!("2027-01-01T00:00:00Z")),
            "invalid-body",
            "#/run_at",
        ),
        (
            with("start_before", json!("2027-01-01T00:00:00Z")),
            "invalid-body",
            "#/start_before",
        ),
        (
            with("idempotency_key", json!("k")),
            "invalid-body",
            "#/idempotency_key",
        ),
        (with("nope", json!(1)), "invalid-body", "#/nope"),
        (with("priority", json!(10)), "invalid-body", "#/priority"),
        (with("delay", json!("-1s")), "invalid-body", "#/delay"),
        (
            with("content_type", json!("text")),
            "invalid-body",
            "#/content_type",
        ),
        (with("task", json!("nobody")), "unknown-task", "#/task"),
        (
            with("task", json!("anteroom.callback")),
            "unknown-task",
            "#/task",
        ),
        (with("task", json!("No")), "unknown-task", "#/task"),
        (with("task", Value::Null), "invalid-body", "#/task"),
        (
            with("queue", json!("anteroom.q")),
            "unknown-queue",
            "#/queue",
        ),
        (
            with("task", json!("typed")),
            "unsupported-media-type",
            "#/content_type",
        ),
        (
            json!({"task": "checked", "cron": "0 3 * * *", "input": {"width": "wide"}}),
            "invalid-input",
            "#/input",
        ),
    ] {
        let problem = put(&server, "s", &body).await.is_problem(422, slug);
        assert_eq!(
            problem["errors"][0]["pointer"], pointer,
            "{body}: {problem}"
        );
    }
    for (headers, body, status, slug) in [
        (&[JSON][..], "{", 400, "malformed-json"),
        (
            &[("content-type", "text/plain")],
            "{}",
            415,
            "unsupported-media-type",
        ),
        (&[], "{}", 415, "unsupported-media-type"),
        (&[JSON], "[]", 422, "invalid-body"),
        (&[JSON], "", 400, "malformed-json"),
    ] {
        put_with(&server, "s", headers, body)
            .await
            .is_problem(status, slug);
    }
    let deep = format!("{{\"input\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    put_with(&server, "s", &[JSON], &deep)
        .await
        .is_problem(400, "malformed-json");
    let large = BASE64_STANDARD.encode(vec![0; SCHEDULE_INPUT_BYTES_MAX + 1]);
    let answer = put(&server, "s", &with("input_base64", json!(large))).await;
    answer.is_problem(413, "payload-too-large");
    let answer = put(&server, "s", &with("group", json!("x".repeat(2_000_000)))).await;
    answer.is_problem(413, "payload-too-large");
    assert_eq!(
        server.get("/v1/schedules").await.json(),
        json!({"schedules": []})
    );
}

#[tokio::test]
async fn what_is_not_there_is_unknown() {
    let server = Server::start().await;
    for name in ["nobody", "anteroom.s", "No", "a%20b", "%C3%A4"] {
        for (method, rest) in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/trigger"),
            ("GET", "/preview"),
        ] {
            let path = format!("/v1/schedules/{name}{rest}");
            let answer = server.send(method, &path, &[], b"").await;
            answer.is_problem(404, "unknown-schedule");
        }
        if name != "nobody" {
            let answer = put(&server, name, &every("0 3 * * *")).await;
            answer.is_problem(404, "unknown-schedule");
        }
    }
    put(&server, "s", &every("0 3 * * *")).await;
    for (method, path, allowed) in [
        ("POST", "/v1/schedules", "GET"),
        ("POST", "/v1/schedules/s", "PUT"),
        ("PATCH", "/v1/schedules/s", "DELETE"),
        ("GET", "/v1/schedules/s/trigger", "POST"),
        ("PUT", "/v1/schedules/s/preview", "GET"),
    ] {
        let answer = server.send(method, path, &[], b"").await;
        answer.is_problem(405, "method-not-allowed");
        assert!(answer.header("allow").unwrap().contains(allowed), "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/schedules?x=1"),
        ("GET", "/v1/schedules/s?x=1"),
        ("PUT", "/v1/schedules/s?x=1"),
        ("DELETE", "/v1/schedules/s?x=1"),
        ("POST", "/v1/schedules/s/trigger?x=1"),
        ("GET", "/v1/schedules/s/preview?x=1"),
    ] {
        let answer = server.send(method, path, &[JSON], b"{}").await;
        answer.is_about_parameter("x");
    }
}

#[tokio::test]
async fn a_change_may_ask_for_what_was_before() {
    let server = Server::start().await;
    let body = every("0 3 * * *").to_string();
    let with = async |name: &str, value: &str| {
        let headers = [JSON, (name, value)];
        put_with(&server, "s", &headers, &body).await
    };
    with("if-match", "*")
        .await
        .is_problem(412, "version-differs");
    let answer = with("if-none-match", "*").await;
    assert_eq!(answer.status, 201);
    let first = answer.header("etag").unwrap().to_owned();
    let answer = with("if-none-match", "*").await;
    answer.is_problem(412, "version-differs");
    assert_eq!(answer.header("etag"), Some(&*first));
    let answer = with("if-match", &first).await;
    assert_eq!(answer.status, 200);
    let second = answer.header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    for stale in [first.clone(), format!("W/{second}"), "\"0\"".to_owned()] {
        let answer = with("if-match", &stale).await;
        answer.is_problem(412, "version-differs");
        let path = "/v1/schedules/s";
        let answer = server
            .send("DELETE", path, &[("if-match", &stale)], b"")
            .await;
        answer.is_problem(412, "version-differs");
    }
    // A trigger changes nothing of it.
    trigger(&server, "s", &[]).await;
    let path = "/v1/schedules/s";
    let answer = server
        .send("DELETE", path, &[("if-match", &second)], b"")
        .await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let answer = server.send("DELETE", path, &[], b"").await;
    answer.is_problem(404, "unknown-schedule");
    assert_eq!(server.count().await, 1, "its job stays");
}

#[tokio::test]
async fn one_of_the_configuration_is_shown_and_triggered_and_not_changed() {
    let server = with_configured(RouterOptions::default()).await;
    let schedule = shown(&server, "file").await;
    assert_eq!(schedule["defined_in"], "configuration");
    assert_eq!(schedule["input_base64"], "YSBiIGM=");
    assert_eq!(schedule["next_at"], Value::Null, "it is paused");
    let answer = put(&server, "file", &every("0 3 * * *")).await;
    answer.is_problem(409, "defined-in-configuration");
    let answer = put_with(&server, "file", &[JSON], "{}").await;
    answer.is_problem(409, "defined-in-configuration");
    let answer = server.send("DELETE", "/v1/schedules/file", &[], b"").await;
    answer.is_problem(409, "defined-in-configuration");
    assert_eq!(shown(&server, "file").await, schedule);
    let answer = trigger(&server, "file", &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let list = server.get("/v1/schedules").await.json();
    assert_eq!(list["schedules"][0]["name"], "file");
}

#[tokio::test]
async fn a_trigger_submits_at_once() {
    let server = with_configured(RouterOptions::default()).await;
    let paused = json!({
        "task": "pulled", "cron": "0 3 * * *", "paused": true, "input": 7, "delay": "1h",
    });
    put(&server, "s", &paused).await;
    let answer = trigger(&server, "s", &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = answer.json();
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(&*path));
    assert!(answer.says_retry_after() > 0);
    assert_eq!(
        (&job["task"], &job["created_at"]),
        (&json!("pulled"), &json!(START))
    );
    assert_eq!(job["run_at"], "2025-11-22T13:00:00.000Z");
    assert_eq!(server.get(&format!("{path}/input")).await.text(), "7");
    let schedule = shown(&server, "s").await;
    assert_eq!(schedule["last_at"], Value::Null, "it was no firing");
    // Each is a job of its own, unless it has a key.
    assert_ne!(trigger(&server, "s", &[]).await.json()["id"], job["id"]);
    let keyed = [("idempotency-key", "\"once\"")];
    let first = trigger(&server, "s", &keyed).await;
    let again = trigger(&server, "s", &keyed).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let alone = json!({"task": "pulled", "cron": "0 3 * * *", "unique_key": "alone"});
    put(&server, "alone", &alone).await;
    let first = trigger(&server, "alone", &[]).await;
    let again = trigger(&server, "alone", &[]).await;
    assert_eq!((first.status, again.status), (202, 200));
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(first.json()["id"], again.json()["id"]);
    server.engine.drain();
    trigger(&server, "s", &[]).await.is_problem(503, "draining");
    let answer = put(&server, "s", &every("0 3 * * *")).await;
    answer.is_problem(503, "draining");
    assert_eq!(server.get("/v1/schedules/s").await.status, 200);
}

#[tokio::test]
async fn a_preview_says_when_it_will_fire() {
    let server = with_configured(RouterOptions::default()).await;
    let times = async |path: &str| {
        let answer = server.get(&format!("/v1/schedules/{path}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let times = answer.json()["times"].as_array().unwrap().clone();
        let times = times.iter().map(|time| time.as_str().unwrap().to_owned());
        times.collect::<Vec<_>>()
    };
    // Also of one that is paused, in its own zone.
    let five = times("file/preview").await;
    assert_eq!(five.len(), 5);
    assert_eq!(
        five[..2],
        ["2025-11-23T02:00:00.000Z", "2025-11-24T02:00:00.000Z"]
    );
    let year = times("file/preview?count=100").await;
    assert_eq!(year.len(), 100);
    let daily = json!({
        "task": "pulled", "cron": "30 2 28-30 3 *", "timezone": "Europe/Berlin",
    });
    put(&server, "gap", &daily).await;
    let expected = [
        "2026-03-28T01:30:00.000Z",
        "2026-03-29T01:00:00.000Z",
        "2026-03-30T00:30:00.000Z",
    ];
    assert_eq!(times("gap/preview?count=3").await, expected);
    let overlap = json!({
        "task": "pulled", "cron": "30 2 24-26 10 *", "timezone": "Europe/Berlin",
    });
    put(&server, "overlap", &overlap).await;
    let expected = [
        "2026-10-24T00:30:00.000Z",
        "2026-10-25T00:30:00.000Z",
        "2026-10-26T01:30:00.000Z",
    ];
    assert_eq!(times("overlap/preview?count=3").await, expected);
    for count in ["0", "101", "-1", "x", "", "1.5", "1&count=2"] {
        let path = format!("/v1/schedules/gap/preview?count={count}");
        server.get(&path).await.is_about_parameter("count");
    }
}

fn token(name: &str, scopes: &[Scope], tasks: Option<&[&str]>) -> Token {
    let names = |tasks: &[&str]| tasks.iter().map(|task| Name::new(task).unwrap()).collect();
    Token {
        name: Name::new(name).unwrap(),
        sha256: vec![Sha256::digest(format!("{name}-secret")).into()],
        scopes: scopes.to_vec(),
        tasks: tasks.map(names),
        rate_limit: None,
    }
}

#[tokio::test]
async fn a_token_for_some_tasks_knows_of_their_schedules_only() {
    let router = RouterOptions {
        tokens: vec![
            token("admin", &[Scope::Admin], None),
            token("echo", &[Scope::Admin], Some(&["echo"])),
            token("reader", &[Scope::Read], Some(&["echo"])),
            token("submit", &[Scope::Submit], None),
        ],
        ..RouterOptions::default()
    };
    let server = with_configured(router).await;
    let ask = async |caller: &str, method: &str, path: &str, body: &Value| {
        let bearer = format!("Bearer {caller}-secret");
        let headers = [JSON, ("authorization", &*bearer)];
        let body = body.to_string();
        let path = format!("/v1/schedules{path}");
        server.send(method, &path, &headers, body.as_bytes()).await
    };
    let echo = json!({"task": "echo", "cron": "0 3 * * *"});
    let pulled = every("0 3 * * *");
    assert_eq!(ask("admin", "PUT", "/pulled", &pulled).await.status, 201);
    assert_eq!(ask("echo", "PUT", "/echo", &echo).await.status, 201);
    for caller in ["echo", "reader"] {
        let list = ask(caller, "GET", "", &Value::Null).await.json();
        assert_eq!(list["schedules"].as_array().unwrap().len(), 1, "{caller}");
        assert_eq!(list["schedules"][0]["name"], "echo", "{caller}");
        assert_eq!(ask(caller, "GET", "/echo", &Value::Null).await.status, 200);
        for path in ["/pulled", "/pulled/preview", "/file", "/file/preview"] {
            let answer = ask(caller, "GET", path, &Value::Null).await;
            answer.is_problem(404, "unknown-schedule");
        }
    }
    for (method, path) in [
        ("PUT", "/pulled"),
        ("PUT", "/file"),
        ("DELETE", "/pulled"),
        ("DELETE", "/file"),
        ("POST", "/pulled/trigger"),
        ("POST", "/file/trigger"),
    ] {
        let answer = ask("echo", method, path, &echo).await;
        answer.is_problem(404, "unknown-schedule");
    }
    let answer = ask("echo", "PUT", "/echo", &pulled).await;
    answer.is_problem(403, "forbidden");
    let answer = ask("echo", "PUT", "/new", &pulled).await;
    answer.is_problem(403, "forbidden");
    assert_eq!(
        ask("echo", "POST", "/echo/trigger", &Value::Null)
            .await
            .status,
        202
    );
    for (caller, method, path) in [
        ("reader", "PUT", "/echo"),
        ("reader", "DELETE", "/echo"),
        ("reader", "POST", "/echo/trigger"),
        ("submit", "GET", "/echo"),
        ("submit", "POST", "/echo/trigger"),
    ] {
        let answer = ask(caller, method, path, &echo).await;
        answer.is_problem(403, "forbidden");
    }
    assert_eq!(
        ask("echo", "DELETE", "/echo", &Value::Null).await.status,
        204
    );
}
