//! The same again: `Idempotency-Key` and `unique_key`.

use crate::harness::{Answer, Server, within};
use anteroom::core::{Idempotency, IdempotencyKey, Name, ShownState};
use serde_json::{Value, json};
use std::time::Duration;

const KEY: &str = "idempotency-key";

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn submit(server: &Server, path: &str, key: &str, body: &[u8]) -> Answer {
    let path = format!("/v1/tasks/{path}");
    server.send("POST", &path, &[(KEY, key)], body).await
}

/// Checks that this tells of a job that an earlier submit gave.
fn is_replay(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let replayed = answer.header("idempotency-replayed");
    assert_eq!(replayed, Some("true"), "{answer:?}");
}

async fn jobs(server: &Server) -> usize {
    let listed = server.get("/v1/jobs").await.json();
    listed["jobs"].as_array().unwrap().len()
}

/// Waits until the store remembers a submit.
async fn remembered(server: &Server, task: &str, key: &str) {
    let task = Name::new(task).unwrap();
    let key = Idempotency {
        scope: "".into(),
        key: IdempotencyKey::new(key).unwrap(),
    };
    within(async {
        while !server.engine.store().remembers(&task, &key).await.unwrap() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn cancel(server: &Server, id: &str) {
    let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.json()["state"], "cancelled", "{answer:?}");
}

#[tokio::test]
async fn the_same_again_gives_the_same_job() {
    let server = Server::start().await;
    let first = submit(&server, "pulled/jobs", "\"k 1\"", b"a").await;
    assert_eq!(first.status, 202);
    assert_eq!(first.header("idempotency-replayed"), None);
    for key in ["\"k 1\"", "k 1"] {
        let again = submit(&server, "pulled/jobs", key, b"a").await;
        is_replay(&again, 202);
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("cache-control"), Some("no-store"));
        again.says_retry_after();
    }
    let other = submit(&server, "pulled/jobs", "\"k 2\"", b"a").await;
    assert_ne!(id(&other), id(&first));
    assert_eq!(jobs(&server).await, 2);
}

#[tokio::test]
async fn a_key_for_something_else_is_422_and_stores_nothing() {
    let server = Server::start().await;
    let path = "/v1/tasks/pulled/jobs?priority=3";
    let text = ("content-type", "text/plain");
    let key = (KEY, "\"k\"");
    let first = server.send("POST", path, &[key, text], b"body").await;
    assert_eq!(first.status, 202);
    for (options, content_type, body) in [
        ("?priority=3", "text/plain", "bodi"),
        ("?priority=3", "text/plain", ""),
        ("?priority=3", "text/html", "body"),
        ("?priority=3", "text/plain; charset=utf-8", "body"),
        ("?priority=4", "text/plain", "body"),
        ("?priority=3&tag.a=b", "text/plain", "body"),
        ("", "text/plain", "body"),
    ] {
        let path = format!("/v1/tasks/pulled/jobs{options}");
        let headers = [key, ("content-type", content_type)];
        let answer = server.send("POST", &path, &headers, body.as_bytes()).await;
        answer.is_problem(422, "idempotency-key-reused");
    }
    let call = path.replace("jobs", "call");
    let answer = server.send("POST", &call, &[key], b"other").await;
    answer.is_problem(422, "idempotency-key-reused");
    assert_eq!(jobs(&server).await, 1);
    // The key is still good for what it was used for.
    let again = server.send("POST", path, &[key, text], b"body").await;
    is_replay(&again, 202);
    assert_eq!(id(&again), id(&first));
}

#[tokio::test]
async fn options_are_compared_as_they_were_parsed() {
    let server = Server::start().await;
    let first = submit(&server, "pulled/jobs?delay=60s&priority=2", "k", b"").await;
    for options in [
        "priority=2&delay=1m",
        "delay=PT1M&priority=2",
        "priority=2&delay=PT60S",
    ] {
        let again = submit(&server, &format!("pulled/jobs?{options}"), "k", b"").await;
        is_replay(&again, 202);
        assert_eq!(id(&again), id(&first), "{options}");
    }
}

#[tokio::test]
async fn a_key_is_one_of_its_task() {
    let server = Server::start().await;
    let one = submit(&server, "pulled/jobs", "k", b"").await;
    let other = submit(&server, "hold/jobs", "k", b"else").await;
    assert_eq!((one.status, other.status), (202, 202));
    assert_ne!(id(&one), id(&other));
    assert_eq!(other.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn a_replay_waits_as_a_submit_does() {
    let server = Server::start().await;
    let text = ("content-type", "application/json");
    let key = (KEY, "k");
    let path = "/v1/tasks/hold/jobs";
    let first = server.send("POST", path, &[key, text], b"[1]").await;
    let first = id(&first);
    let wait = ("prefer", "wait=60");
    let headers = [key, text, wait];
    let waiting = server.send("POST", path, &headers, b"[1]");
    let let_through = async {
        server.gate.arrived().await;
        server.gate.open();
    };
    let (again, ()) = tokio::join!(waiting, let_through);
    is_replay(&again, 200);
    assert_eq!(id(&again), first);
    assert_eq!(again.json()["result"]["json"], json!([1]));
    assert_eq!(again.header("preference-applied"), Some("wait=60"));
    // It is done: with a wait 200 at once, without one what the first submit was answered with.
    let again = server.send("POST", path, &[key, text, wait], b"[1]").await;
    is_replay(&again, 200);
    let again = server.send("POST", path, &[key, text], b"[1]").await;
    is_replay(&again, 202);
    assert_eq!(again.json()["state"], "succeeded");
    assert_eq!(again.json()["result"]["json"], json!([1]));
    assert_eq!(
        again.header("location"),
        Some(format!("/v1/jobs/{first}").as_str())
    );
    again.says_retry_after();
}

#[tokio::test]
async fn a_call_shares_the_keys_of_submits() {
    let server = Server::start().await;
    let first = submit(&server, "echo/jobs", "\"k\"", b"hello").await;
    let called = submit(&server, "echo/call", "\"k\"", b"hello").await;
    is_replay(&called, 200);
    assert_eq!(called.text(), "hello");
    assert_eq!(called.header("anteroom-job"), Some(id(&first).as_str()));
    let called = submit(&server, "fail/call", "\"k\"", b"").await;
    called.is_problem(502, "job-failed");
    assert_eq!(called.header("idempotency-replayed"), None);
    let again = submit(&server, "fail/call", "\"k\"", b"").await;
    again.is_problem(502, "job-failed");
    is_replay(&again, 502);
    assert_eq!(again.header("anteroom-job"), called.header("anteroom-job"));
    let submitted = submit(&server, "fail/jobs", "\"k\"", b"").await;
    is_replay(&submitted, 202);
    let job = id(&submitted);
    assert_eq!(called.header("anteroom-job"), Some(job.as_str()));
    assert_eq!(jobs(&server).await, 2);
}

#[tokio::test]
async fn twenty_of_the_same_at_once_make_one_job() {
    let server = Server::start().await;
    let each = (0..20).map(|_| submit(&server, "pulled/jobs", "\"k\"", b"a"));
    let answers = within(futures_util::future::join_all(each)).await;
    let new = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_none());
    assert_eq!(new.count(), 1);
    for answer in &answers {
        assert_eq!((answer.status, id(answer)), (202, id(&answers[0])));
    }
    assert_eq!(jobs(&server).await, 1);
}

#[tokio::test]
async fn a_replay_of_a_job_that_is_gone_is_410_and_makes_none() {
    let server = Server::start().await;
    let first = submit(&server, "pulled/jobs", "\"k\"", b"a").await;
    let first = id(&first);
    cancel(&server, &first).await;
    let path = format!("/v1/jobs/{first}");
    assert_eq!(server.send("DELETE", &path, &[], b"").await.status, 204);
    for call in ["jobs", "call"] {
        let answer = submit(&server, &format!("pulled/{call}"), "\"k\"", b"a").await;
        let problem = answer.is_problem(410, "job-expired");
        assert_eq!(problem["job"], first);
    }
    assert_eq!(jobs(&server).await, 0);
    let other = submit(&server, "pulled/jobs", "\"k\"", b"b").await;
    other.is_problem(422, "idempotency-key-reused");
}

#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
    let server = Server::by_hand().await;
    let hand = server.hand.as_ref().unwrap();
    let first = submit(&server, "pulled/jobs", "\"k\"", b"a").await;
    let day = Duration::from_hours(24);
    let tick = Duration::from_millis(1);
    hand.advance(day.checked_sub(tick).unwrap());
    let again = submit(&server, "pulled/jobs", "\"k\"", b"a").await;
    is_replay(&again, 202);
    assert_eq!(id(&again), id(&first));
    hand.advance(tick);
    let other = submit(&server, "pulled/jobs", "\"k\"", b"something else").await;
    assert_eq!(other.status, 202);
    assert_eq!(other.header("idempotency-replayed"), None);
    assert_ne!(id(&other), id(&first));
}

#[tokio::test]
async fn a_deadline_that_has_passed_meanwhile_does_no_harm_to_a_replay() {
    let server = Server::by_hand().await;
    let path = "pulled/jobs?start_before=2025-11-22T12:00:10Z";
    let first = submit(&server, path, "\"k\"", b"a").await;
    assert_eq!(first.status, 202);
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(20));
    let again = submit(&server, path, "\"k\"", b"a").await;
    is_replay(&again, 202);
    assert_eq!(id(&again), id(&first));
    let other = submit(&server, path, "\"k\"", b"b").await;
    other.is_problem(422, "idempotency-key-reused");
    for key in ["\"other\"", "\"another\""] {
        let late = submit(&server, path, key, b"a").await;
        late.is_about_parameter("start_before");
    }
}

#[tokio::test]
async fn a_malformed_or_repeated_key_is_400() {
    let server = Server::start().await;
    let long = "x".repeat(256);
    for key in ["", "\"\"", "\"a", "\"a\" b", "\"a\\b\"", "\"a\tb\"", &long] {
        for call in ["jobs", "call"] {
            let answer = submit(&server, &format!("pulled/{call}"), key, b"").await;
            answer.is_about_parameter("Idempotency-Key");
        }
    }
    let twice = [(KEY, "\"a\""), (KEY, "\"a\"")];
    let answer = server
        .send("POST", "/v1/tasks/pulled/jobs", &twice, b"")
        .await;
    answer.is_about_parameter("Idempotency-Key");
    assert_eq!(jobs(&server).await, 0);
}

#[tokio::test]
async fn a_server_that_drains_answers_no_replay_either() {
    let server = Server::start().await;
    submit(&server, "pulled/jobs", "\"k\"", b"a").await;
    server.engine.drain();
    let answer = submit(&server, "pulled/jobs", "\"k\"", b"a").await;
    answer.is_problem(503, "draining");
    answer.says_retry_after();
}

#[tokio::test]
async fn while_a_job_is_unfinished_none_has_its_unique_key() {
    let server = Server::start().await;
    let path = "/v1/tasks/pulled/jobs?unique_key=user%207";
    let first = server.send("POST", path, &[], b"a").await;
    assert_eq!(first.status, 202);
    let job = first.json();
    assert_eq!(job["unique_key"], "user 7");
    assert_eq!(job.get("duplicate"), None);
    // Whatever else it asks for.
    let again = server
        .send("POST", &format!("{path}&priority=0"), &[], b"other")
        .await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(again.header("cache-control"), Some("no-store"));
    assert_eq!(again.header("idempotency-replayed"), None);
    let mut expected = job.clone();
    expected["duplicate"] = Value::Bool(true);
    assert_eq!(again.json(), expected);
    let path_of_first = format!("/v1/jobs/{}?include=waiting", id(&first));
    let read = server.get(&path_of_first).await.json();
    assert_eq!(read, job, "it is a member of that answer alone");
    let other = server.submit("hold", "?unique_key=user%207").await;
    assert_ne!(other, id(&first), "of another task");
    assert_eq!(jobs(&server).await, 2);
    cancel(&server, &id(&first)).await;
    let next = server.send("POST", path, &[], b"a").await;
    assert_eq!(next.status, 202);
    assert_ne!(id(&next), id(&first));
}

#[tokio::test]
async fn a_unique_key_is_free_after_every_end() {
    let server = Server::start().await;
    for task in ["echo", "fail"] {
        let first = server.done(task, "?unique_key=u").await;
        let second = server.done(task, "?unique_key=u").await;
        assert_ne!(first, second, "{task}");
    }
}

#[tokio::test]
async fn a_duplicate_waits_for_the_job_that_is_there() {
    let server = Server::start().await;
    let options = "?unique_key=u";
    let path = format!("/v1/tasks/hold/jobs{options}");
    let first = server.send("POST", &path, &[], b"first").await;
    let first = id(&first);
    server.gate.arrived().await;
    let call = format!("/v1/tasks/hold/call{options}");
    let none = [("prefer", "wait=0")];
    let at_once = server.send("POST", &call, &none, b"other").await;
    assert_eq!(at_once.status, 202, "{at_once:?}");
    assert_eq!(at_once.json()["duplicate"], true);
    let wait = ("prefer", "wait=60");
    let submitting = [(KEY, "submit"), wait];
    let submitting = server.send("POST", &path, &submitting, b"other");
    let calling = [(KEY, "call"), wait];
    let calling = server.send("POST", &call, &calling, b"other");
    let let_through = async {
        // What is remembered was taken for a duplicate: from here on it waits.
        remembered(&server, "hold", "submit").await;
        remembered(&server, "hold", "call").await;
        server.gate.open();
    };
    let (submitted, called, ()) = tokio::join!(submitting, calling, let_through);
    assert_eq!((submitted.status, id(&submitted)), (200, first.clone()));
    let job = submitted.json();
    assert_eq!(
        (&job["duplicate"], &job["done"]),
        (&true.into(), &true.into())
    );
    assert_eq!((called.status, called.text()), (200, "first"));
    assert_eq!(called.header("anteroom-job"), Some(first.as_str()));
    assert_eq!(jobs(&server).await, 1);
}

#[tokio::test]
async fn a_malformed_unique_key_is_400() {
    let server = Server::start().await;
    let long = "x".repeat(256);
    for key in ["", "a%0Ab", &long, "a&unique_key=b"] {
        let path = format!("/v1/tasks/pulled/jobs?unique_key={key}");
        server.post(&path).await.is_about_parameter("unique_key");
    }
    assert_eq!(jobs(&server).await, 0);
}

#[tokio::test]
async fn a_retry_takes_its_unique_key_again_or_is_409() {
    let server = Server::start().await;
    let options = "?unique_key=u";
    let first = server.submit("pulled", options).await;
    cancel(&server, &first).await;
    let second = server.submit("pulled", options).await;
    let path = format!("/v1/jobs/{first}");
    let before = server.get(&path).await.json();
    let retry = format!("{path}/retry");
    let problem = server
        .post(&retry)
        .await
        .is_problem(409, "unique-key-taken");
    assert_eq!(problem["job"], second);
    assert_eq!(server.get(&path).await.json(), before, "nothing changed");
    cancel(&server, &second).await;
    assert_eq!(server.post(&retry).await.status, 202);
    let again = server
        .send("POST", "/v1/tasks/pulled/jobs?unique_key=u", &[], b"")
        .await;
    assert_eq!((again.status, id(&again)), (200, first));
}

#[tokio::test]
async fn a_retry_of_a_scheduled_job_keeps_its_unique_key() {
    let server = Server::start().await;
    let id = server.submit("pulled", "?unique_key=u&delay=1h").await;
    let answer = server.post(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn of_both_keys_the_idempotency_key_is_looked_at_first() {
    let server = Server::start().await;
    let path = "pulled/jobs?unique_key=u";
    let first = server.submit("pulled", "?unique_key=u").await;
    let duplicate = submit(&server, path, "\"k\"", b"a").await;
    assert_eq!((duplicate.status, id(&duplicate)), (200, first.clone()));
    assert_eq!(duplicate.json()["duplicate"], true);
    assert_eq!(duplicate.header("idempotency-replayed"), None);
    let again = submit(&server, path, "\"k\"", b"a").await;
    is_replay(&again, 200);
    assert_eq!(again.json(), duplicate.json());
    let other = submit(&server, path, "\"k\"", b"b").await;
    other.is_problem(422, "idempotency-key-reused");
    // The key remembers that job, also when its unique key is free.
    cancel(&server, &first).await;
    let again = submit(&server, path, "\"k\"", b"a").await;
    is_replay(&again, 200);
    assert_eq!(id(&again), first);
    let new = submit(&server, path, "\"k 2\"", b"a").await;
    assert_eq!(new.status, 202);
    let new = id(&new);
    assert_ne!(new, first);
    // A replay of what is done makes no second job, however free its unique key.
    cancel(&server, &new).await;
    let again = submit(&server, path, "\"k 2\"", b"a").await;
    is_replay(&again, 202);
    assert_eq!(id(&again), new);
    assert_eq!(jobs(&server).await, 2);
    server.reach(&new, ShownState::Cancelled).await;
}
