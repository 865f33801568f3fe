//! Changing a job that waits.

use crate::harness::{Answer, Server, within};
use anteroom::core::{Lease, Name, ShownState};
use anteroom::store::Want;
use serde_json::{Value, json};
use std::time::Duration;

const MERGE_PATCH: &str = "application/merge-patch+json";

async fn patch(server: &Server, id: &str, body: &Value) -> Answer {
    patch_if(server, id, body, None).await
}

async fn patch_if(server: &Server, id: &str, body: &Value, tag: Option<&str>) -> Answer {
    let mut headers = vec![("content-type", MERGE_PATCH)];
    headers.extend(tag.map(|tag| ("if-match", tag)));
    let path = format!("/v1/jobs/{id}");
    server
        .send("PATCH", &path, &headers, body.to_string().as_bytes())
        .await
}

async fn job(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/jobs/{id}")).await.json()
}

async fn tag(server: &Server, id: &str) -> String {
    let answer = server.get(&format!("/v1/jobs/{id}")).await;
    answer.header("etag").unwrap().to_owned()
}

/// Claims all that may start of the task `pulled`, in its order.
async fn claimed(server: &Server) -> Vec<String> {
    let want = Want {
        tasks: vec![Name::new("pulled").unwrap()],
        queues: None,
        limit: 100,
        lease: Lease::Pulled,
        lease_for: Duration::from_secs(30),
        wait: Duration::ZERO,
    };
    let claimed = server.engine.store().claim(want).await.unwrap();
    let ids = claimed.iter().map(|claimed| claimed.job.spec.id);
    ids.map(|id| id.to_string()).collect()
}

#[tokio::test]
async fn what_a_patch_names_is_changed_and_nothing_else() {
    let server = Server::by_hand().await;
    let id = server
        .submit("pulled", "?queue=a&group=g&priority=7&tag.x=1&tag.y=2")
        .await;
    let mut expected = job(&server, &id).await;
    let at = "2025-11-22T13:00:00.000Z";
    for (body, member, value) in [
        (json!({"priority": 0}), "priority", json!(0)),
        (json!({"queue": "b"}), "queue", json!("b")),
        (json!({"tags": {"z": ""}}), "tags", json!({"z": ""})),
        (json!({"tags": {}}), "tags", json!({})),
        (
            json!({"run_at": "2025-11-22T14:00:00+01:00"}),
            "run_at",
            json!(at),
        ),
    ] {
        let before = tag(&server, &id).await;
        let answer = patch(&server, &id, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_ne!(answer.header("etag"), Some(before.as_str()), "{body}");
        assert_eq!(answer.header("location"), None);
        answer.says_retry_after();
        expected[member] = value;
        if member == "run_at" {
            expected["state"] = json!("scheduled");
        }
        assert_eq!(answer.json(), expected, "{body}");
        assert_eq!(job(&server, &id).await, expected, "{body}");
        let after = tag(&server, &id).await;
        assert_eq!(answer.header("etag"), Some(after.as_str()), "{body}");
    }
    let all = json!({"priority": 9, "queue": "c", "tags": {"q": "1"}, "run_at": at});
    let answer = patch(&server, &id, &all).await.json();
    for member in ["priority", "queue", "tags", "run_at"] {
        assert_eq!(answer[member], all[member], "{member}");
    }
}

#[tokio::test]
async fn null_stands_for_what_a_submit_without_it_has() {
    let server = Server::by_hand().await;
    let id = server
        .submit("pulled", "?queue=a&priority=7&tag.x=1&delay=1h")
        .await;
    let all = json!({"priority": null, "queue": null, "tags": null, "run_at": null});
    let answer = patch(&server, &id, &all).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let job = answer.json();
    let plain = server.submit("pulled", "").await;
    let plain = self::job(&server, &plain).await;
    for member in ["priority", "queue", "tags", "run_at", "state"] {
        assert_eq!(job[member], plain[member], "{member}");
    }
}

#[tokio::test]
async fn an_empty_patch_changes_nothing() {
    let server = Server::start().await;
    let id = server.submit("pulled", "?tag.x=1").await;
    let before = (tag(&server, &id).await, job(&server, &id).await);
    let answer = patch(&server, &id, &json!({})).await;
    assert_eq!((answer.status, answer.json()), (200, before.1.clone()));
    assert_eq!(answer.header("etag"), Some(before.0.as_str()));
    assert_eq!((tag(&server, &id).await, job(&server, &id).await), before);
}

#[tokio::test]
async fn a_patched_job_waits_where_it_was_moved() {
    let server = Server::by_hand().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(server.submit("pulled", "").await);
    }
    for (n, body) in [
        (3, json!({"priority": 0})),
        (1, json!({"priority": 9})),
        (0, json!({"run_at": "2025-11-22T12:00:01Z"})),
    ] {
        let answer = patch(&server, &ids[n], &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(claimed(&server).await, [3, 2, 1].map(|n| ids[n].clone()));
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_secs(1));
    assert_eq!(claimed(&server).await, ids[..1]);
    // The counts of tasks and the filters of lists follow.
    let id = server.submit("pulled", "?queue=a").await;
    patch(&server, &id, &json!({"queue": "b"})).await;
    for (queue, count) in [("a", 0), ("b", 1)] {
        let page = server.get(&format!("/v1/jobs?queue={queue}")).await.json();
        assert_eq!(page["jobs"].as_array().unwrap().len(), count, "{queue}");
    }
}

#[tokio::test]
async fn a_scheduled_job_that_is_told_to_run_now_runs() {
    let server = Server::start().await;
    for body in [
        json!({"run_at": null}),
        json!({"run_at": "2020-01-01T00:00:00Z"}),
    ] {
        let id = server.submit("echo", "?delay=1h").await;
        let answer = patch(&server, &id, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        server.reach(&id, ShownState::Succeeded).await;
    }
}

#[tokio::test]
async fn a_patch_ends_a_wait_for_a_change() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let seen = tag(&server, &id).await;
    let path = format!("/v1/jobs/{id}");
    let headers = [("if-none-match", seen.as_str()), ("prefer", "wait=60")];
    let mut waiting = server.connect().await;
    waiting.request("GET", &path, &headers, b"").await;
    patch(&server, &id, &json!({"priority": 1})).await;
    let answer = within(waiting.answer(false)).await;
    assert_eq!(
        (answer.status, &answer.json()["priority"]),
        (200, &json!(1))
    );
}

#[tokio::test]
async fn only_a_job_that_waits_can_be_patched() {
    let server = Server::start().await;
    let running = server.submit("hold", "").await;
    server.reach(&running, ShownState::Running).await;
    let succeeded = server.done("echo", "").await;
    let failed = server.done("fail", "").await;
    let cancelled = server.submit("pulled", "").await;
    server.post(&format!("/v1/jobs/{cancelled}/cancel")).await;
    for id in [running, succeeded, failed, cancelled] {
        let before = (tag(&server, &id).await, job(&server, &id).await);
        for body in [json!({"priority": 1}), json!({})] {
            let answer = patch(&server, &id, &body).await;
            let problem = answer.is_problem(409, "not-waiting");
            assert_eq!(problem["job"], id);
        }
        assert_eq!((tag(&server, &id).await, job(&server, &id).await), before);
    }
    let between = server.submit("again", "").await;
    server.reach(&between, ShownState::Scheduled).await;
    let answer = patch(&server, &between, &json!({"priority": 1})).await;
    assert_eq!((answer.status, &answer.json()["attempt"]), (200, &json!(1)));
}

#[tokio::test]
async fn if_match_lets_only_what_was_seen_be_patched() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let seen = tag(&server, &id).await;
    let body = json!({"priority": 1});
    for stale in ["\"0\"", "nonsense", "", &format!("W/{seen}")] {
        let answer = patch_if(&server, &id, &body, Some(stale)).await;
        answer.is_problem(412, "version-differs");
        assert_eq!(answer.header("etag"), Some(seen.as_str()), "{stale}");
    }
    assert_eq!(job(&server, &id).await["priority"], 5);
    for good in [seen.clone(), format!("\"0\", W/\"1\",{seen}")] {
        let answer = patch_if(&server, &id, &json!({}), Some(&good)).await;
        assert_eq!(answer.status, 200, "{good}: {answer:?}");
    }
    let answer = patch_if(&server, &id, &body, Some(&seen)).await;
    assert_eq!(answer.status, 200);
    patch_if(&server, &id, &body, Some(&seen))
        .await
        .is_problem(412, "version-differs");
    // The answer's tag is good for the next change.
    let next = answer.header("etag").unwrap();
    let answer = patch_if(&server, &id, &json!({"priority": 2}), Some(next)).await;
    assert_eq!(answer.status, 200);
    let answer = patch_if(&server, &id, &json!({"priority": 3}), Some("*")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_patch_is_json() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let path = format!("/v1/jobs/{id}");
    let send = async |content_type: Option<&str>, body: &[u8]| {
        let headers: Vec<_> = content_type
            .iter()
            .map(|content_type| ("content-type", *content_type))
            .collect();
        server.send("PATCH", &path, &headers, body).await
    };
    for content_type in [
        MERGE_PATCH,
        "application/json",
        "application/json; charset=utf-8",
        "Application/Merge-Patch+JSON;x=y",
    ] {
        let answer = send(Some(content_type), b" {\"priority\": 4} ").await;
        assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
    }
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/json-patch+json"),
        Some("application/x-www-form-urlencoded"),
        Some("nonsense"),
    ] {
        let answer = send(content_type, b"{}").await;
        answer.is_problem(415, "unsupported-media-type");
        let types = answer.header("accept-patch").unwrap();
        assert!(types.contains(MERGE_PATCH) && types.contains("application/json"));
    }
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!("{{\"queue\": {open}{close}}}")
    };
    let deep = nested(129);
    for body in ["", "{", "{\"priority\": 1,}", "{} {}", "\u{e4}", &deep] {
        let answer = send(Some(MERGE_PATCH), body.as_bytes()).await;
        let problem = answer.is_problem(400, "malformed-json");
        assert!(problem["line"].is_u64() && problem["column"].is_u64());
    }
    let answer = send(Some(MERGE_PATCH), b"{\"queue\": \"\xff\"}").await;
    answer.is_problem(400, "malformed-json");
    let answer = send(Some(MERGE_PATCH), nested(128).as_bytes()).await;
    answer.is_problem(422, "invalid-body");
    let large = format!("{{\"queue\": \"{}\"}}", "x".repeat(70_000));
    let answer = send(Some(MERGE_PATCH), large.as_bytes()).await;
    answer.is_problem(413, "payload-too-large");
    assert_eq!(job(&server, &id).await["priority"], 4);
}

#[tokio::test]
async fn what_is_wrong_in_a_patch_is_422_and_pointed_at() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let before = tag(&server, &id).await;
    let far = "2030-01-01T00:00:00Z";
    for (body, pointers) in [
        (json!([]), &["#"][..]),
        (json!(null), &["#"]),
        (json!({"state": "ready"}), &["#/state"]),
        (json!({"priority": 10}), &["#/priority"]),
        (json!({"priority": "1"}), &["#/priority"]),
        (json!({"queue": "No"}), &["#/queue"]),
        (json!({"run_at": "soon"}), &["#/run_at"]),
        (json!({"run_at": far}), &["#/run_at"]),
        (json!({"tags": {"a": 1}}), &["#/tags/a"]),
        (json!({"tags": {"A": "1"}}), &["#/tags/A"]),
        (json!({"tags": {"anteroom.a": "1"}}), &["#/tags/anteroom.a"]),
        (json!({"tags": {"a": "x".repeat(256)}}), &["#/tags/a"]),
        (
            json!({"priority": 1, "run_at": far, "x/y": 1}),
            &["#/run_at", "#/x~1y"],
        ),
    ] {
        let answer = patch(&server, &id, &body).await;
        let problem = answer.is_problem(422, "invalid-body");
        let errors = problem["errors"].as_array().unwrap().iter();
        let said: Vec<&str> = errors
            .map(|error| {
                assert!(
                    error["detail"]
                        .as_str()
                        .is_some_and(|text| !text.is_empty())
                );
                assert_eq!(error.get("parameter"), None, "{problem}");
                error["pointer"].as_str().unwrap()
            })
            .collect();
        assert_eq!(said, pointers, "{body}");
    }
    let query = server
        .send(
            "PATCH",
            &format!("/v1/jobs/{id}?priority=1"),
            &[("content-type", MERGE_PATCH)],
            b"{}",
        )
        .await;
    query.is_about_parameter("priority");
    assert_eq!(tag(&server, &id).await, before, "nothing was changed");
}

#[tokio::test]
async fn a_patch_of_a_job_that_is_not_there() {
    let server = Server::start().await;
    let body = json!({"priority": 1});
    for id in ["019aabbc-0000-7000-8000-000000000000", "nope"] {
        for tag in [None, Some("*"), Some("\"1-ready\"")] {
            let answer = patch_if(&server, id, &body, tag).await;
            answer.is_problem(404, "unknown-job");
        }
        patch(&server, id, &json!({"queue": null}))
            .await
            .is_problem(404, "unknown-job");
    }
    let gone = server.done("echo", "").await;
    server
        .send("DELETE", &format!("/v1/jobs/{gone}"), &[], b"")
        .await;
    for tag in [None, Some("*"), Some("\"1-ready\"")] {
        let answer = patch_if(&server, &gone, &body, tag).await;
        answer.is_problem(410, "job-expired");
    }
}

#[tokio::test]
async fn reserved_names_are_404() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let before = tag(&server, &id).await;
    patch(&server, &id, &json!({"queue": "anteroom.callback"}))
        .await
        .is_problem(404, "unknown-queue");
    assert_eq!(tag(&server, &id).await, before);
    for call in ["jobs", "call"] {
        let path = format!("/v1/tasks/anteroom.callback/{call}");
        server.post(&path).await.is_problem(404, "unknown-task");
        let path = format!("/v1/tasks/echo/{call}?queue=anteroom.callback");
        server.post(&path).await.is_problem(404, "unknown-queue");
    }
    let all = server.get("/v1/jobs").await.json();
    assert_eq!(
        all["jobs"].as_array().unwrap().len(),
        1,
        "nothing was stored"
    );
}

/// A patch and what is at odds with it, at once: whichever loses changes nothing.
#[tokio::test]
async fn a_patch_that_loses_its_race_changes_nothing() {
    let server = Server::start().await;
    for _ in 0..20 {
        let id = server.submit("pulled", "").await;
        let path = format!("/v1/jobs/{id}/cancel");
        let body = json!({"priority": 1});
        let (patched, cancelled) = tokio::join!(patch(&server, &id, &body), server.post(&path));
        assert_eq!(cancelled.status, 200);
        let job = job(&server, &id).await;
        assert_eq!(job["state"], "cancelled");
        let priority = if patched.status == 200 {
            1
        } else {
            patched.is_problem(409, "not-waiting");
            5
        };
        assert_eq!(job["priority"], priority);
    }
}
