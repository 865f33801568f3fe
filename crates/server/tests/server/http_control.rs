//! Cancel, retry and delete.

use crate::harness::Server;
use anteroom::core::ShownState;

#[tokio::test]
async fn cancelling_a_waiting_job_is_final_at_once() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["state"], "cancelled");
    let again = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(
        (again.status, again.json()["state"].as_str()),
        (200, Some("cancelled"))
    );
}

#[tokio::test]
async fn cancelling_a_running_job_tells_it_to_stop() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    server.reach(&id, ShownState::Running).await;
    let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["cancel_requested"], true);
    answer.says_retry_after();
    server.reach(&id, ShownState::Cancelled).await;
}

#[tokio::test]
async fn cancelling_a_finished_job_changes_nothing() {
    let server = Server::start().await;
    for (task, state) in [("echo", "succeeded"), ("fail", "failed")] {
        let id = server.done(task, "").await;
        let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
        assert_eq!(
            (answer.status, answer.json()["state"].as_str()),
            (200, Some(state))
        );
    }
}

#[tokio::test]
async fn a_retry_starts_the_attempts_over() {
    let server = Server::start().await;
    let id = server.done("fail", "").await;
    let answer = server.post(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(answer.status, 202);
    let job = answer.json();
    assert_eq!(
        (job["state"].as_str(), &job["attempt"]),
        (Some("ready"), &0.into())
    );
    assert_eq!(
        job["errors"].as_array().unwrap().len(),
        1,
        "errors are kept"
    );
    answer.says_retry_after();
    assert!(answer.header("location").is_some());
    server.reach(&id, ShownState::Failed).await;
}

#[tokio::test]
async fn a_retry_runs_a_scheduled_job_now() {
    let server = Server::start().await;
    let id = server.submit("echo", "?delay=1h").await;
    assert_eq!(
        server.post(&format!("/v1/jobs/{id}/retry")).await.status,
        202
    );
    server.reach(&id, ShownState::Succeeded).await;
}

#[tokio::test]
async fn there_is_not_always_something_to_retry() {
    let server = Server::start().await;
    let succeeded = server.done("echo", "").await;
    let answer = server.post(&format!("/v1/jobs/{succeeded}/retry")).await;
    answer.is_problem(409, "already-succeeded");
    let ready = server.submit("pulled", "").await;
    let running = server.submit("hold", "").await;
    server.reach(&running, ShownState::Running).await;
    for id in [ready, running] {
        let answer = server.post(&format!("/v1/jobs/{id}/retry")).await;
        answer.is_problem(409, "nothing-to-retry");
    }
}

#[tokio::test]
async fn only_a_finished_job_can_be_deleted() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    let path = format!("/v1/jobs/{id}");
    server
        .send("DELETE", &path, &[], b"")
        .await
        .is_problem(409, "not-final");
    server.gate.open();
    server.reach(&id, ShownState::Succeeded).await;
    let answer = server.send("DELETE", &path, &[], b"").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    server
        .send("DELETE", &path, &[], b"")
        .await
        .is_problem(410, "job-expired");
}

#[tokio::test]
async fn control_of_a_job_that_is_not_there() {
    let server = Server::start().await;
    for id in ["019aabbc-0000-7000-8000-000000000000", "nope"] {
        for call in ["cancel", "retry"] {
            let answer = server.post(&format!("/v1/jobs/{id}/{call}")).await;
            answer.is_problem(404, "unknown-job");
        }
        let answer = server
            .send("DELETE", &format!("/v1/jobs/{id}"), &[], b"")
            .await;
        answer.is_problem(404, "unknown-job");
    }
    let gone = server.done("echo", "").await;
    server
        .send("DELETE", &format!("/v1/jobs/{gone}"), &[], b"")
        .await;
    for call in ["cancel", "retry"] {
        let answer = server.post(&format!("/v1/jobs/{gone}/{call}")).await;
        answer.is_problem(410, "job-expired");
    }
}

#[tokio::test]
async fn if_match_lets_only_what_was_seen_be_changed() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let path = format!("/v1/jobs/{id}");
    let cancel = format!("{path}/cancel");
    let seen = server.get(&path).await.header("etag").unwrap().to_owned();
    for stale in ["\"0\"", "nonsense", &format!("W/{seen}")] {
        let answer = server
            .send("POST", &cancel, &[("if-match", stale)], b"")
            .await;
        answer.is_problem(412, "version-differs");
        assert_eq!(answer.header("etag"), Some(seen.as_str()));
    }
    assert_eq!(server.get(&path).await.json()["state"], "ready");
    let list = format!("\"0\", {seen}");
    let answer = server
        .send("POST", &cancel, &[("if-match", &list)], b"")
        .await;
    assert_eq!(answer.status, 200);

    let stale = [("if-match", seen.as_str())];
    let retry = server
        .send("POST", &format!("{path}/retry"), &stale, b"")
        .await;
    retry.is_problem(412, "version-differs");
    server
        .send("DELETE", &path, &stale, b"")
        .await
        .is_problem(412, "version-differs");
    let any = [("if-match", "*")];
    assert_eq!(server.send("DELETE", &path, &any, b"").await.status, 204);
}
