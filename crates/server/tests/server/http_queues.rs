//! Queues: what is seen of them, pause and resume, limits, and which there are.

use crate::harness::{Answer, Server, Wanted, within};
use anteroom::core::limits::QUEUES_MADE_MAX;
use anteroom::core::{Name, Payload, QueueSettings, RateLimit, ShownState};
use anteroom::{Options, Submission};
use axum::Router;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn patch(server: &Server, queue: &str, body: &str) -> Answer {
    patch_with(server, queue, &[JSON], body).await
}

async fn patch_with(server: &Server, queue: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/v1/queues/{queue}");
    server.send("PATCH", &path, headers, body.as_bytes()).await
}

/// Changes a queue, which must not be refused.
async fn set(server: &Server, queue: &str, body: &str) -> Value {
    let answer = patch(server, queue, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn queue(server: &Server, queue: &str) -> Value {
    let answer = server.get(&format!("/v1/queues/{queue}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn names(server: &Server) -> Vec<String> {
    let all = server.get("/v1/queues").await.json();
    let all = all["queues"].as_array().unwrap();
    let name = |queue: &Value| queue["name"].as_str().unwrap().to_owned();
    all.iter().map(name).collect()
}

/// Moves a job to another queue.
async fn move_to(server: &Server, id: &str, queue: &str) -> Answer {
    let body = json!({"queue": queue}).to_string();
    let path = format!("/v1/jobs/{id}");
    server.send("PATCH", &path, &[JSON], body.as_bytes()).await
}

async fn submit(server: &Server, options: &str) -> Answer {
    let path = format!("/v1/tasks/echo/jobs{options}");
    server.send("POST", &path, &[], b"x").await
}

async fn with(options: Options) -> Server {
    Server::wanted(Wanted {
        options,
        ..Wanted::default()
    })
    .await
}

fn configured(queue: &str, max_depth: Option<u64>) -> Options {
    let settings = QueueSettings {
        max_depth,
        ..QueueSettings::default()
    };
    Options {
        queues: BTreeMap::from([(Name::new(queue).unwrap(), settings)]),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_queue_shows_what_waits_and_what_holds_it() {
    let server = Server::by_hand().await;
    set(&server, "q", r#"{"paused": true, "max_depth": 100}"#).await;
    for options in ["?queue=q", "?queue=q", "?queue=q&delay=1h"] {
        server.submit("pulled", options).await;
    }
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_millis(3_250));
    let answer = server.get("/v1/queues/q").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let expected = json!({
        "name": "q",
        "paused": true,
        "depth": {"scheduled": 1, "ready": 2, "running": 0},
        "oldest_ready_age": "3.2s",
        "rates": {
            "submitted_per_second": 0.05,
            "started_per_second": 0.0,
            "finished_per_second": 0.0,
        },
        "limits": {
            "max_concurrency": null,
            "rate_limit": null,
            "max_depth": 100,
            "group_concurrency": null,
        },
        "links": {"self": "/v1/queues/q", "jobs": "/v1/jobs?queue=q"},
    });
    assert_eq!(answer.json(), expected);
    let all = server.get("/v1/queues").await.json();
    assert_eq!(all["queues"][1], expected);
    let listed = server.get("/v1/jobs?queue=q").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 3);
    let head = server.send("HEAD", "/v1/queues/q", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let empty = queue(&server, "default").await;
    assert_eq!(empty["oldest_ready_age"], Value::Null);
}

#[tokio::test]
async fn queues_are_listed_by_name_whoever_named_them() {
    let server = with(configured("configured", None)).await;
    assert_eq!(names(&server).await, ["configured", "default"]);
    server.submit("pulled", "?queue=used").await;
    set(&server, "paused", r#"{"paused": true}"#).await;
    let all = ["configured", "default", "paused", "used"];
    assert_eq!(names(&server).await, all);
    server.get("/v1/queues?x=1").await.is_about_parameter("x");
}

#[tokio::test]
async fn a_queue_that_nobody_named_or_used_is_unknown() {
    let server = Server::start().await;
    for name in ["other", "anteroom.callback", "No", "a%20b", "%C3%A4"] {
        let answer = server.get(&format!("/v1/queues/{name}")).await;
        answer.is_problem(404, "unknown-queue");
    }
    for name in ["anteroom.callback", "No"] {
        let answer = patch(&server, name, r#"{"paused": true}"#).await;
        answer.is_problem(404, "unknown-queue");
    }
    let answer = server.post("/v1/queues/default").await;
    answer.is_problem(405, "method-not-allowed");
    assert!(answer.header("allow").unwrap().contains("PATCH"));
}

#[tokio::test]
async fn a_paused_queue_takes_submits_and_starts_none() {
    let server = Server::start().await;
    let shown = set(&server, "q", r#"{"paused": true}"#).await;
    assert_eq!(shown["paused"], true);
    let held_back = server.submit("echo", "?queue=q").await;
    let held_back_too = server.submit("echo", "?queue=q&priority=0").await;
    // One that was submitted later, of the same task, is done long before.
    server.done("echo", "").await;
    for id in [&held_back, &held_back_too] {
        let job = server.get(&format!("/v1/jobs/{id}")).await.json();
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!("ready"), &json!(0))
        );
    }
    assert_eq!(queue(&server, "q").await["depth"]["ready"], 2);
    let shown = set(&server, "q", r#"{"paused": false}"#).await;
    assert_eq!(shown["paused"], false);
    for id in [&held_back, &held_back_too] {
        server.reach(id, ShownState::Succeeded).await;
    }
}

#[tokio::test]
async fn what_runs_when_its_queue_is_paused_goes_on() {
    let server = Server::start().await;
    let running = server.submit("hold", "").await;
    server.gate.arrived().await;
    set(&server, "default", r#"{"paused": true}"#).await;
    let waits = server.submit("hold", "").await;
    assert_eq!(queue(&server, "default").await["depth"]["running"], 1);
    server.gate.open();
    server.reach(&running, ShownState::Succeeded).await;
    let job = server.get(&format!("/v1/jobs/{waits}")).await.json();
    assert_eq!(job["state"], "ready");
    // A waiting job can still be cancelled, and retried without being started.
    let path = format!("/v1/jobs/{waits}");
    let cancelled = server.post(&format!("{path}/cancel")).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    let retried = server.post(&format!("{path}/retry")).await.json();
    assert_eq!(retried["state"], "ready");
    set(&server, "default", r#"{"paused": false}"#).await;
    server.gate.open();
    server.reach(&waits, ShownState::Succeeded).await;
}

#[tokio::test]
async fn a_submit_that_waits_is_answered_once_its_queue_is_resumed() {
    let server = Server::start().await;
    set(&server, "default", r#"{"paused": true}"#).await;
    let mut waiting = server.connect().await;
    let prefer = [("prefer", "wait=60")];
    waiting
        .request("POST", "/v1/tasks/echo/call", &prefer, b"hello")
        .await;
    server.first_job().await;
    set(&server, "default", r#"{"paused": null}"#).await;
    let answer = waiting.answer(false).await;
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}

#[tokio::test]
async fn a_change_says_everything_that_is_wrong_with_it() {
    let server = Server::start().await;
    let body = r#"{"paused": 1, "max_depth": 0, "rate_limit": {"limit": 5}, "a/b": null,
                   "max_concurrency": "8", "group_concurrency": 2.5}"#;
    let problem = patch(&server, "q", body).await;
    let problem = problem.is_problem(422, "invalid-body");
    let errors = problem["errors"].as_array().unwrap();
    let mut pointers: Vec<&str> = errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    let expected = [
        "#/a~1b",
        "#/group_concurrency",
        "#/max_concurrency",
        "#/max_depth",
        "#/paused",
        "#/rate_limit",
    ];
    assert_eq!(pointers, expected);
    let doubled = r#"{"paused": true, "paused": false}"#;
    let problem = patch(&server, "q", doubled).await;
    let problem = problem.is_problem(422, "invalid-body");
    assert_eq!(problem["errors"][0]["pointer"], "#/paused");
    for body in ["[]", "null", "true", "\"paused\"", "7"] {
        let problem = patch(&server, "q", body).await;
        problem.is_problem(422, "invalid-body");
    }
    for number in ["-1", "1.5", "1e30", "99999999999", "\"5\"", "[]", "true"] {
        let body = format!("{{\"max_depth\": {number}}}");
        let problem = patch(&server, "q", &body).await;
        let problem = problem.is_problem(422, "invalid-body");
        assert_eq!(problem["errors"][0]["pointer"], "#/max_depth", "{number}");
    }
    let nested = |depth: usize| format!("{{\"x\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    let problem = patch(&server, "q", &nested(127)).await;
    let problem = problem.is_problem(422, "invalid-body");
    assert_eq!(problem["errors"][0]["pointer"], "#/x");
    let too_deep = nested(128);
    for body in ["", "{", "{\"paused\": true", "paused", "{} {}", &too_deep] {
        let problem = patch(&server, "q", body).await;
        problem.is_problem(400, "malformed-json");
    }
    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(70_000));
    let answer = patch(&server, "q", &large).await;
    answer.is_problem(413, "payload-too-large");
    // None of them made the queue.
    assert_eq!(names(&server).await, ["default"]);
}

#[tokio::test]
async fn a_change_is_json_or_a_merge_patch() {
    let server = Server::start().await;
    let body = r#"{"paused": true}"#;
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "nonsense")],
    ] {
        let answer = patch_with(&server, "q", headers, body).await;
        answer.is_problem(415, "unsupported-media-type");
        let accepted = answer.header("accept-patch").unwrap();
        assert!(
            accepted.contains("application/merge-patch+json"),
            "{accepted}"
        );
    }
    for content_type in [
        "application/merge-patch+json",
        "Application/JSON; charset=utf-8",
    ] {
        let headers = [("content-type", content_type)];
        let answer = patch_with(&server, "q", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_limit_is_changed_while_the_server_runs_and_shown() {
    let server = Server::start().await;
    let nothing = json!({
        "max_concurrency": null,
        "rate_limit": null,
        "max_depth": null,
        "group_concurrency": null,
    });
    assert_eq!(queue(&server, "default").await["limits"], nothing);
    for (member, value, shown) in [
        ("max_concurrency", json!(8), json!(8)),
        ("group_concurrency", json!(2), json!(2)),
        ("max_depth", json!(1_000_000), json!(1_000_000)),
        (
            "rate_limit",
            json!({"period": "PT1M30S", "limit": 100}),
            json!({"limit": 100, "period": "1m30s"}),
        ),
        (
            "rate_limit",
            json!({"limit": 1, "period": "1.5s"}),
            json!({"limit": 1, "period": "1s500ms"}),
        ),
    ] {
        let body = json!({member: value}).to_string();
        let answer = set(&server, "default", &body).await;
        assert_eq!(answer["limits"][member], shown, "{member}");
        assert_eq!(queue(&server, "default").await, answer);
        // What is shown is taken.
        let body = json!({member: shown}).to_string();
        assert_eq!(set(&server, "default", &body).await, answer);
    }
    let all = queue(&server, "default").await["limits"].clone();
    let expected = json!({
        "max_concurrency": 8,
        "rate_limit": {"limit": 1, "period": "1s500ms"},
        "max_depth": 1_000_000,
        "group_concurrency": 2,
    });
    assert_eq!(all, expected, "each leaves the others");
    let listed = server.get("/v1/queues").await.json();
    assert_eq!(listed["queues"][0]["limits"], expected);
    for member in [
        "max_concurrency",
        "rate_limit",
        "max_depth",
        "group_concurrency",
    ] {
        let answer = set(&server, "default", &json!({member: null}).to_string()).await;
        assert_eq!(answer["limits"][member], Value::Null, "{member}");
    }
    assert_eq!(queue(&server, "default").await["limits"], nothing);
}

#[tokio::test]
async fn a_limit_out_of_its_bounds_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    set(&server, "q", r#"{"max_concurrency": 3}"#).await;
    let before = server.get("/v1/queues/q").await;
    for (body, pointer) in [
        (r#"{"max_concurrency": 0}"#, "#/max_concurrency"),
        (r#"{"max_concurrency": 1000001}"#, "#/max_concurrency"),
        (r#"{"group_concurrency": 0}"#, "#/group_concurrency"),
        (r#"{"group_concurrency": -1}"#, "#/group_concurrency"),
        (r#"{"rate_limit": "100/s"}"#, "#/rate_limit"),
        (r#"{"rate_limit": {"limit": 100}}"#, "#/rate_limit"),
        (
            r#"{"rate_limit": {"limit": 0, "period": "1s"}}"#,
            "#/rate_limit/limit",
        ),
        (
            r#"{"rate_limit": {"limit": 1, "period": "0s"}}"#,
            "#/rate_limit/period",
        ),
        (
            r#"{"rate_limit": {"limit": 1, "period": "-1s"}}"#,
            "#/rate_limit/period",
        ),
        (
            r#"{"rate_limit": {"limit": 1, "period": "500us"}}"#,
            "#/rate_limit/period",
        ),
        (
            r#"{"rate_limit": {"limit": 1, "period": "1s", "burst": 2}}"#,
            "#/rate_limit/burst",
        ),
    ] {
        // What is right beside it is not done either.
        let body = body.replacen('{', "{\"paused\": true, ", 1);
        let problem = patch(&server, "q", &body).await;
        let problem = problem.is_problem(422, "invalid-body");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{body}");
    }
    let after = server.get("/v1/queues/q").await;
    assert_eq!(after.header("etag"), before.header("etag"));
    let after = after.json();
    assert_eq!(
        (&after["paused"], &after["limits"]["max_concurrency"]),
        (&json!(false), &json!(3))
    );
    // How to start no jobs is told.
    let problem = patch(&server, "q", r#"{"max_concurrency": 0}"#).await;
    let detail = problem.json()["detail"].to_string();
    assert!(detail.contains("to start no jobs, set paused"), "{detail}");
}

#[tokio::test]
async fn if_match_lets_only_what_was_seen_be_changed() {
    let server = Server::start().await;
    let seen = server.get("/v1/queues/default").await;
    let seen = seen.header("etag").unwrap().to_owned();
    // What is counted does not change it.
    server.submit("pulled", "").await;
    let again = server.get("/v1/queues/default").await;
    assert_eq!(again.header("etag"), Some(seen.as_str()));
    let pause = r#"{"paused": true}"#;
    let weak = format!("W/{seen}");
    for stale in ["\"99\"", weak.as_str(), "nonsense"] {
        let headers = [JSON, ("if-match", stale)];
        let answer = patch_with(&server, "default", &headers, pause).await;
        answer.is_problem(412, "version-differs");
        assert_eq!(answer.header("etag"), Some(seen.as_str()));
    }
    assert_eq!(queue(&server, "default").await["paused"], false);
    let headers = [JSON, ("if-match", seen.as_str())];
    let answer = patch_with(&server, "default", &headers, pause).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let changed = answer.header("etag").unwrap().to_owned();
    assert_ne!(changed, seen);
    let answer = patch_with(&server, "default", &headers, r#"{"paused": false}"#).await;
    answer.is_problem(412, "version-differs");
    // The same again changes nothing.
    let answer = patch(&server, "default", pause).await;
    assert_eq!(answer.header("etag"), Some(changed.as_str()));
    let headers = [JSON, ("if-match", "*")];
    let answer = patch_with(&server, "default", &headers, "{}").await;
    assert_eq!(answer.status, 200);
    let answer = patch_with(&server, "new", &headers, pause).await;
    answer.is_problem(412, "version-differs");
}

#[tokio::test]
async fn null_goes_back_to_what_the_configuration_says() {
    let mut options = configured("q", Some(5));
    for settings in options.queues.values_mut() {
        settings.max_concurrency = Some(6);
        settings.group_concurrency = Some(7);
        settings.rate_limit = Some(RateLimit {
            limit: 8,
            period: Duration::from_secs(9),
        });
    }
    let server = with(options).await;
    let limits = json!({
        "max_depth": 5,
        "max_concurrency": 6,
        "group_concurrency": 7,
        "rate_limit": {"limit": 8, "period": "9s"},
    });
    assert_eq!(queue(&server, "q").await["limits"], limits);
    let others = json!({
        "max_depth": 15,
        "max_concurrency": 16,
        "group_concurrency": 17,
        "rate_limit": {"limit": 18, "period": "19s"},
    });
    let shown = set(&server, "q", &others.to_string()).await;
    assert_eq!(shown["limits"], others);
    set(&server, "q", r#"{"paused": true}"#).await;
    for member in [
        "max_depth",
        "max_concurrency",
        "group_concurrency",
        "rate_limit",
    ] {
        let shown = set(&server, "q", &json!({member: null}).to_string()).await;
        assert_eq!(shown["limits"][member], limits[member]);
        assert_eq!(shown["paused"], true, "{member}");
    }
    assert_eq!(queue(&server, "q").await["limits"], limits);
    let shown = set(&server, "q", r#"{"paused": null}"#).await;
    assert_eq!(shown["paused"], false);
}

#[tokio::test]
async fn a_full_queue_takes_no_more_and_says_when_to_come_back() {
    let server = with(configured("q", Some(2))).await;
    set(&server, "q", r#"{"paused": true}"#).await;
    let first = server.submit("echo", "?queue=q&delay=1h").await;
    server.submit("echo", "?queue=q").await;
    for call in ["jobs", "call"] {
        let path = format!("/v1/tasks/echo/{call}?queue=q");
        let answer = server.send("POST", &path, &[], b"x").await;
        let problem = answer.is_problem(429, "queue-full");
        assert_eq!(problem["detail"], "2 jobs wait in queue q; the limit is 2");
        answer.says_retry_after();
        assert_eq!(answer.header("ratelimit-policy"), Some("\"queue\";q=2"));
        assert_eq!(answer.header("ratelimit"), Some("\"queue\";r=0;t=5"));
    }
    assert_eq!(submit(&server, "").await.status, 202, "another queue");
    let cancel = format!("/v1/jobs/{first}/cancel");
    assert_eq!(server.post(&cancel).await.status, 200);
    assert_eq!(submit(&server, "?queue=q").await.status, 202);
    submit(&server, "?queue=q")
        .await
        .is_problem(429, "queue-full");
    set(&server, "q", r#"{"paused": false}"#).await;
    within(async {
        while submit(&server, "?queue=q").await.status != 202 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_jobs_are_taken_at_once_than_a_queue_may_hold() {
    let server = with(configured("q", Some(7))).await;
    let submits = (0..20).map(|_| async {
        let answer = server
            .send("POST", "/v1/tasks/pulled/jobs?queue=q", &[], b"x")
            .await;
        answer.status
    });
    let statuses = futures_join(submits).await;
    let taken = statuses.iter().filter(|status| **status == 202).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!((taken, refused), (7, 13), "{statuses:?}");
    assert_eq!(queue(&server, "q").await["depth"]["ready"], 7);
}

/// Polls all of them side by side to their ends.
async fn futures_join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in pending.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if pending.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn no_more_queues_are_made_than_may() {
    let server = Server::start().await;
    let into = |n: usize| Submission {
        queue: Name::new(&format!("q{n}")).ok(),
        ..Submission::new(
            Name::new("pulled").unwrap(),
            Payload {
                content_type: "text/plain".into(),
                bytes: "x".into(),
            },
        )
    };
    let fill = (1..QUEUES_MADE_MAX).map(into).collect();
    server.engine.submit_all(fill).await.unwrap();
    assert_eq!(submit(&server, "?queue=last").await.status, 202);
    let refused = submit(&server, "?queue=more").await;
    refused.is_problem(422, "too-many-queues");
    let refused = patch(&server, "more", r#"{"paused": true}"#).await;
    refused.is_problem(422, "too-many-queues");
    let id = server.submit("pulled", "").await;
    let refused = move_to(&server, &id, "more").await;
    refused.is_problem(422, "too-many-queues");
    assert_eq!(move_to(&server, &id, "last").await.status, 200);
    let answer = server.get("/v1/queues/more").await;
    answer.is_problem(404, "unknown-queue");
    for known in ["q7", "last", "default"] {
        let answer = submit(&server, &format!("?queue={known}")).await;
        assert_eq!(answer.status, 202, "{known}");
        set(&server, known, r#"{"paused": true}"#).await;
    }
    assert_eq!(names(&server).await.len(), QUEUES_MADE_MAX + 1);
}

/// A queue that a job was moved to was none: it went with its last job, counted for no limit, and
/// was made by a server that makes none.
#[tokio::test]
async fn a_queue_that_a_job_is_moved_to_is_made_as_for_a_submit() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    assert_eq!(move_to(&server, &id, "made").await.status, 200);
    assert_eq!(queue(&server, "made").await["depth"]["ready"], 1);
    assert_eq!(move_to(&server, &id, "default").await.status, 200);
    assert_eq!(queue(&server, "made").await["depth"]["ready"], 0);
    let nobody = "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d";
    let refused = move_to(&server, nobody, "other").await;
    refused.is_problem(404, "unknown-job");
    assert_eq!(names(&server).await, ["default", "made"]);
}

#[tokio::test]
async fn a_strict_server_takes_named_queues_only() {
    let server = with(Options {
        strict_queues: true,
        ..configured("configured", None)
    })
    .await;
    for named in ["configured", "default"] {
        let answer = submit(&server, &format!("?queue={named}")).await;
        assert_eq!(answer.status, 202, "{named}");
        set(&server, named, r#"{"paused": true}"#).await;
    }
    assert_eq!(submit(&server, "").await.status, 202);
    let refused = submit(&server, "?queue=other").await;
    refused.is_problem(422, "unknown-queue");
    let refused = submit(&server, "?queue=anteroom.x").await;
    refused.is_problem(404, "unknown-queue");
    let refused = patch(&server, "other", r#"{"paused": true}"#).await;
    refused.is_problem(404, "unknown-queue");
    let id = server.submit("pulled", "").await;
    let refused = move_to(&server, &id, "other").await;
    refused.is_problem(422, "unknown-queue");
    let refused = move_to(&server, &id, "anteroom.x").await;
    refused.is_problem(404, "unknown-queue");
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["queue"], "default");
    assert_eq!(move_to(&server, &id, "configured").await.status, 200);
    assert_eq!(names(&server).await, ["configured", "default"]);
}

#[tokio::test]
async fn a_server_that_holds_starts_nothing_until_a_queue_is_resumed() {
    let server = with(Options {
        hold: true,
        ..configured("q", None)
    })
    .await;
    let first = server.submit("echo", "?queue=q").await;
    let other = server.submit("echo", "?queue=later").await;
    for name in ["q", "default", "later"] {
        assert_eq!(queue(&server, name).await["paused"], true, "{name}");
    }
    assert_eq!(
        set(&server, "q", r#"{"max_depth": 5}"#).await["paused"],
        true
    );
    assert_eq!(
        set(&server, "q", r#"{"paused": false}"#).await["paused"],
        false
    );
    server.reach(&first, ShownState::Succeeded).await;
    let job = server.get(&format!("/v1/jobs/{other}")).await.json();
    assert_eq!(job["state"], "ready");
}

#[tokio::test]
async fn rates_count_what_happened_in_the_last_minute() {
    let server = Server::by_hand().await;
    for _ in 0..6 {
        server.done("echo", "").await;
    }
    let expected = |rate: f64| {
        json!({
            "submitted_per_second": rate,
            "started_per_second": rate,
            "finished_per_second": rate,
        })
    };
    assert_eq!(queue(&server, "default").await["rates"], expected(0.1));
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_mins(1));
    assert_eq!(queue(&server, "default").await["rates"], expected(0.0));
}

#[tokio::test]
async fn links_of_queues_carry_the_prefix() {
    let server = Server::wanted(Wanted {
        around: |router| Router::new().nest("/work", router),
        ..Wanted::default()
    })
    .await;
    let answer = server.get("/work/v1/queues/default").await.json();
    let links = json!({
        "self": "/work/v1/queues/default",
        "jobs": "/work/v1/jobs?queue=default",
    });
    assert_eq!(answer["links"], links);
    let root = server.get("/work").await.json();
    assert_eq!(root["links"]["queues"], "/work/v1/queues");
}
