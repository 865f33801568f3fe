//! What a job waits for: where it stands, when it starts, and why not yet.

use crate::harness::{Answer, Server, Wanted, within};
use anteroom::Options;
use anteroom::core::{Name, QueueSettings, ShownState};
use serde_json::{Value, json};
use std::time::Duration;

async fn pause(server: &Server, queue: &str, paused: bool) {
    let body = json!({"paused": paused}).to_string();
    let headers = [("content-type", "application/json")];
    let path = format!("/v1/queues/{queue}");
    let answer = server.send("PATCH", &path, &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn submit(server: &Server, task: &str, options: &str) -> Answer {
    let path = format!("/v1/tasks/{task}/jobs{options}");
    server.send("POST", &path, &[], b"x").await
}

async fn asked(server: &Server, id: &str) -> Answer {
    server.get(&format!("/v1/jobs/{id}?include=waiting")).await
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Checks the members of `waiting`, and returns its reasons.
fn reasons_of(waiting: &Value) -> Vec<&str> {
    let members: Vec<&String> = waiting.as_object().unwrap().keys().collect();
    assert_eq!(members.len(), 4, "{waiting}");
    assert!(waiting["exact"].is_boolean(), "{waiting}");
    let reasons = waiting["reasons"].as_array().unwrap();
    assert!((1..=5).contains(&reasons.len()), "{waiting}");
    reasons.iter().map(|it| it.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_submit_says_where_its_job_stands_and_why() {
    let server = Server::start().await;
    pause(&server, "q", true).await;
    for ahead in 0..3 {
        let answer = submit(&server, "echo", "?queue=q").await;
        assert_eq!(answer.status, 202);
        let waiting = &answer.json()["waiting"];
        assert_eq!(waiting["position"], ahead, "{waiting}");
        assert_eq!(waiting["exact"], true, "{waiting}");
        assert_eq!(waiting["eta"], Value::Null, "a paused queue has none");
        let reasons = reasons_of(waiting);
        assert_eq!(reasons[0], "queue q is paused; resume it to go on");
        match ahead {
            0 => assert_eq!(reasons.len(), 1),
            1 => assert_eq!(reasons[1], "1 job is ahead of it"),
            _ => assert_eq!(reasons[1], "2 jobs are ahead of it"),
        }
    }
    // More urgent jobs are ahead of it, less urgent ones are not.
    let urgent = submit(&server, "echo", "?queue=q&priority=0").await;
    assert_eq!(urgent.json()["waiting"]["position"], 0);
    // What waits in another queue is not.
    let free = submit(&server, "echo", "").await.json();
    let expected = json!({
        "position": 0, "exact": true, "eta": "0s", "reasons": ["it starts at once"],
    });
    assert_eq!(free["waiting"], expected);
}

#[tokio::test]
async fn a_call_that_is_not_met_says_what_its_job_waits_for() {
    let server = Server::start().await;
    pause(&server, "q", true).await;
    for wait in ["respond-async", "wait=1"] {
        let headers = [("prefer", wait)];
        let answer = server
            .send("POST", "/v1/tasks/echo/call?queue=q", &headers, b"x")
            .await;
        assert_eq!(answer.status, 202);
        let job = answer.json();
        let reasons = reasons_of(&job["waiting"]);
        assert_eq!(reasons[0], "queue q is paused; resume it to go on");
    }
}

#[tokio::test]
async fn a_duplicate_and_a_replay_say_what_their_job_waits_for() {
    let server = Server::start().await;
    pause(&server, "q", true).await;
    submit(&server, "echo", "?queue=q").await;
    let key = [("idempotency-key", "k")];
    let path = "/v1/tasks/echo/jobs?queue=q&unique_key=u";
    let first = server.send("POST", path, &key, b"x").await.json();
    let duplicate = server.send("POST", path, &[], b"x").await;
    let replay = server.send("POST", path, &key, b"x").await;
    assert_eq!((duplicate.status, replay.status), (200, 202));
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    for answer in [duplicate.json(), replay.json()] {
        assert_eq!(answer["waiting"], first["waiting"]);
        assert_eq!(answer["waiting"]["position"], 1);
    }
}

#[tokio::test]
async fn a_job_is_read_with_what_it_waits_for() {
    let server = Server::start().await;
    pause(&server, "q", true).await;
    let submitted = submit(&server, "hold", "?queue=q").await;
    let id = id_of(&submitted);
    let answer = asked(&server, &id).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), submitted.json());
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Prefer"));
    assert_eq!(answer.header("location"), None);
    answer.says_retry_after();
    let path = format!("/v1/jobs/{id}?include=waiting");
    let head = server.send("HEAD", &path, &[], b"").await;
    assert_eq!((head.status, head.header("etag")), (200, None));

    // Nowhere else.
    let plain = server.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(plain.json()["waiting"], Value::Null);
    assert!(plain.header("etag").is_some());
    let result = server.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(
        (result.status, &result.json()["waiting"]),
        (202, &Value::Null)
    );
    let list = server.get("/v1/jobs").await.json();
    assert_eq!(list["jobs"][0].get("waiting"), None);

    pause(&server, "q", false).await;
    server.reach(&id, ShownState::Running).await;
    assert_eq!(asked(&server, &id).await.json()["waiting"], Value::Null);
    server.gate.open();
    server.reach(&id, ShownState::Succeeded).await;
    let done = asked(&server, &id).await;
    assert_eq!(done.json()["waiting"], Value::Null);
    assert_eq!(
        (done.header("etag"), done.header("retry-after")),
        (None, None)
    );
}

#[tokio::test]
async fn a_scheduled_job_has_no_position_and_says_until_when() {
    let server = Server::by_hand().await;
    let answer = submit(&server, "echo", "?delay=90s").await;
    let expected = json!({
        "position": null, "exact": false, "eta": "1m30s",
        "reasons": ["run_at is ahead: 2025-11-22T12:01:30.000Z"],
    });
    assert_eq!(answer.json()["waiting"], expected);
    assert_eq!(
        asked(&server, &id_of(&answer)).await.json()["waiting"],
        expected
    );
}

#[tokio::test]
async fn a_job_that_failed_says_which_attempt_it_waits_for() {
    let server = Server::start().await;
    let id = server.submit("again", "").await;
    server.reach(&id, ShownState::Scheduled).await;
    let job = asked(&server, &id).await.json();
    let said = reasons_of(&job["waiting"])[0].to_owned();
    assert!(
        said.starts_with("waiting for attempt 2 of 5 at 2"),
        "{said}"
    );
    assert!(said.ends_with(", after error: not this time"), "{said}");
}

#[tokio::test]
async fn a_wait_with_waiting_ends_as_one_without() {
    let server = Server::start().await;
    let submitted = submit(&server, "hold", "").await;
    let id = id_of(&submitted);
    server.gate.arrived().await;
    let plain = server.get(&format!("/v1/jobs/{id}")).await;
    let tag = plain.header("etag").unwrap();
    let path = format!("/v1/jobs/{id}?include=waiting");
    // It has no tag, so that none matches: it is never 304 for one.
    let seen = [("if-none-match", tag)];
    assert_eq!(server.get_with(&path, &seen).await.status, 200);
    let seen = [("if-none-match", tag), ("prefer", "wait=1")];
    let answer = server.get_with(&path, &seen).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["state"], "running");
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    // Whatever there is will do.
    let any = server.get_with(&path, &[("if-none-match", "*")]).await;
    assert_eq!((any.status, any.header("etag")), (304, None));
    // A change ends the wait.
    let mut client = server.connect().await;
    let seen = [("if-none-match", tag), ("prefer", "wait=60")];
    client.request("GET", &path, &seen, b"").await;
    server.gate.open();
    assert_eq!(client.answer(false).await.json()["state"], "succeeded");
    let gone = server.get("/v1/jobs/019aabbc-0000-7000-8000-000000000000?include=waiting");
    gone.await.is_problem(404, "unknown-job");
}

/// Takes a job from the task `pulled`, and ends it so many seconds later.
async fn work(server: &Server, seconds: u64) {
    let body = br#"{"tasks": ["pulled"], "lease": "1h"}"#;
    let headers = [("content-type", "application/json")];
    let answer = server.send("POST", "/v1/leases", &headers, body).await;
    let lease = answer.json()["leases"][0]["lease"]
        .as_str()
        .unwrap()
        .to_owned();
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(seconds));
    let path = format!("/v1/leases/{lease}/complete");
    assert_eq!(server.send("POST", &path, &[], b"").await.status, 200);
}

/// A server whose jobs took ten seconds each so far, one at a time, and of which `waiting` wait.
async fn with_backlog(waiting: usize, max_depth: Option<u64>) -> Server {
    let settings = QueueSettings {
        max_depth,
        ..QueueSettings::default()
    };
    let server = Server::wanted(Wanted {
        options: Options {
            queues: [(Name::new("default").unwrap(), settings)].into(),
            ..Options::default()
        },
        by_hand: true,
        ..Wanted::default()
    })
    .await;
    for _ in 0..5 {
        submit(&server, "pulled", "").await;
        work(&server, 10).await;
    }
    for _ in 0..waiting {
        submit(&server, "pulled", "").await;
    }
    server
}

#[tokio::test]
async fn the_eta_and_retry_after_come_from_how_long_jobs_took() {
    let server = with_backlog(0, None).await;
    for (eta, retry_after) in [
        // The worker asks again: it has nothing to do.
        ("0s", 10),
        ("20s", 30),
        ("30s", 40),
        ("40s", 50),
        ("50s", 60),
        ("1m", 60),
    ] {
        let answer = submit(&server, "pulled", "").await;
        let job = answer.json();
        assert_eq!(job["waiting"]["eta"], eta, "{job}");
        assert_eq!(answer.says_retry_after(), retry_after, "until it is done");
        let asked = asked(&server, &id_of(&answer)).await;
        assert_eq!(asked.says_retry_after(), retry_after);
        // Without a look at what is ahead: no sooner than that.
        let plain = server.get(&format!("/v1/jobs/{}", id_of(&answer))).await;
        assert_eq!(plain.says_retry_after(), 10);
    }
}

#[tokio::test]
async fn a_submit_that_cannot_start_in_time_is_503_at_once() {
    let server = with_backlog(20, None).await;
    let path = |call| format!("/v1/tasks/pulled/{call}?start_before=2025-11-22T12:01:50Z");
    // It is 12:00:50, and the last of twenty starts in 200 s.
    for call in ["jobs", "call"] {
        let answer = within(server.post(&path(call))).await;
        let problem = answer.is_problem(503, "too-late");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("about 20 jobs start before it"), "{detail}");
        assert!(
            detail.ends_with("start_before is in 1m; nothing was stored"),
            "{detail}"
        );
        assert_eq!(answer.says_retry_after(), 60);
    }
    let envelope = json!({"task": "pulled", "start_before": "2025-11-22T12:01:50Z"});
    let json = [("content-type", "application/json")];
    let one = envelope.to_string();
    let answer = server.send("POST", "/v1/jobs", &json, one.as_bytes()).await;
    answer.is_problem(503, "too-late");
    assert_eq!(server.count().await, 25, "nothing was stored");
    // An array says nothing of each alone, and is taken.
    let many = json!([envelope]).to_string();
    let answer = server
        .send("POST", "/v1/jobs", &json, many.as_bytes())
        .await;
    assert_eq!(answer.status, 202);
    // More urgent, it is soon enough; and half of what is thought is in time.
    for fits in [
        "?start_before=2025-11-22T12:01:50Z&priority=0",
        "?start_before=2025-11-22T12:03:00Z",
    ] {
        assert_eq!(submit(&server, "pulled", fits).await.status, 202, "{fits}");
    }
}

#[tokio::test]
async fn a_full_queue_says_when_there_is_room() {
    let server = with_backlog(8, Some(8)).await;
    let body = br#"{"tasks": ["pulled"], "max": 1}"#;
    let headers = [("content-type", "application/json")];
    server.send("POST", "/v1/leases", &headers, body).await;
    assert_eq!(submit(&server, "pulled", "").await.status, 202);
    let answer = submit(&server, "pulled", "").await;
    answer.is_problem(429, "queue-full");
    assert_eq!(answer.says_retry_after(), 10, "one has to start");
    assert_eq!(answer.header("ratelimit"), Some("\"queue\";r=0;t=10"));
    let three = json!([{"task": "pulled"}, {"task": "pulled"}, {"task": "pulled"}]).to_string();
    let answer = server
        .send("POST", "/v1/jobs", &headers, three.as_bytes())
        .await;
    answer.is_problem(429, "queue-full");
    assert_eq!(answer.says_retry_after(), 30, "three have to");
}
