//! Cancelling, retrying and deleting all jobs that match a filter.

use crate::harness::{Answer, Server};
use anteroom::Submission;
use anteroom::core::{Name, Payload, ShownState};
use serde_json::json;

async fn bulk(server: &Server, action: &str, filter: &str) -> Answer {
    match action {
        "delete" => {
            let path = format!("/v1/jobs{filter}");
            server.send("DELETE", &path, &[], b"").await
        }
        action => server.post(&format!("/v1/jobs/{action}{filter}")).await,
    }
}

/// Checks what a call says: matches, changes, and whether there are more.
async fn says(server: &Server, action: &str, filter: &str, expected: (u64, u64, bool)) {
    let answer = bulk(server, action, filter).await;
    assert_eq!(answer.status, 200, "{action} {filter}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let (matched, changed, more) = expected;
    let expected = json!({"matched": matched, "changed": changed, "more": more});
    assert_eq!(answer.json(), expected, "{action} {filter}");
}

async fn state(server: &Server, id: &str) -> String {
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    job["state"].as_str().unwrap().to_owned()
}

/// One job in each state, all with the tag `all`: scheduled, ready, running, succeeded, failed,
/// cancelled.
async fn one_of_each(server: &Server) -> [String; 6] {
    let scheduled = server.submit("pulled", "?tag.all=1&delay=1h").await;
    let ready = server.submit("pulled", "?tag.all=1").await;
    let running = server.submit("hold", "?tag.all=1").await;
    server.reach(&running, ShownState::Running).await;
    let succeeded = server.done("echo", "?tag.all=1").await;
    let failed = server.done("fail", "?tag.all=1").await;
    let cancelled = server.submit("pulled", "?tag.all=1").await;
    server.post(&format!("/v1/jobs/{cancelled}/cancel")).await;
    [scheduled, ready, running, succeeded, failed, cancelled]
}

#[tokio::test]
async fn cancelling_all_takes_the_unfinished_ones() {
    let server = Server::start().await;
    let all = one_of_each(&server).await;
    let other = server.submit("pulled", "").await;
    says(&server, "cancel", "?tag.all=1", (3, 3, false)).await;
    // The running one is told, as by a cancel of its own.
    server.reach(&all[2], ShownState::Cancelled).await;
    for (id, expected) in all.iter().zip([
        "cancelled",
        "cancelled",
        "cancelled",
        "succeeded",
        "failed",
        "cancelled",
    ]) {
        assert_eq!(state(&server, id).await, expected);
    }
    assert_eq!(state(&server, &other).await, "ready");
    says(&server, "cancel", "?tag.all=1", (0, 0, false)).await;
}

/// One that was told to stop already is no match: who repeats a cancel comes to an end.
#[tokio::test]
async fn a_running_job_is_told_to_stop_once() {
    let server = Server::start().await;
    // A pulled job stays running until its worker says something.
    let id = server.submit("pulled", "").await;
    let want = anteroom::store::Want {
        tasks: vec![Name::new("pulled").unwrap()],
        queues: None,
        limit: 1,
        lease: anteroom::core::Lease::Pulled,
        lease_for: std::time::Duration::from_mins(30),
        wait: std::time::Duration::ZERO,
    };
    assert_eq!(server.engine.store().claim(want).await.unwrap().len(), 1);
    says(&server, "cancel", "?state=running", (1, 1, false)).await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(
        (&job["state"], &job["cancel_requested"]),
        (&json!("running"), &json!(true))
    );
    says(&server, "cancel", "?state=running", (0, 0, false)).await;
}

#[tokio::test]
async fn retrying_all_takes_failed_cancelled_and_scheduled_ones() {
    let server = Server::by_hand().await;
    let all = one_of_each(&server).await;
    says(
        &server,
        "retry",
        "?tag.all=1&state=succeeded,ready,running",
        (0, 0, false),
    )
    .await;
    says(&server, "retry", "?tag.all=1", (3, 3, false)).await;
    for (id, expected) in [
        (0, "ready"),
        (1, "ready"),
        (2, "running"),
        (3, "succeeded"),
        (5, "ready"),
    ] {
        assert_eq!(state(&server, &all[id]).await, expected, "{id}");
    }
    let failed = server.get(&format!("/v1/jobs/{}", all[4])).await.json();
    assert!(
        !failed["errors"].as_array().unwrap().is_empty(),
        "errors are kept"
    );
}

#[tokio::test]
async fn deleting_all_takes_the_finished_ones() {
    let server = Server::start().await;
    let all = one_of_each(&server).await;
    says(&server, "delete", "?tag.all=1&state=ready", (0, 0, false)).await;
    says(&server, "delete", "?tag.all=1&state=failed", (1, 1, false)).await;
    says(&server, "delete", "?tag.all=1", (2, 2, false)).await;
    for (n, id) in all.iter().enumerate() {
        let answer = server.get(&format!("/v1/jobs/{id}")).await;
        if n < 3 {
            assert_eq!(answer.status, 200, "{n}");
        } else {
            answer.is_problem(410, "job-expired");
        }
    }
    says(&server, "delete", "?tag.all=1", (0, 0, false)).await;
}

#[tokio::test]
async fn bulk_calls_take_the_filters_of_a_list() {
    let server = Server::by_hand().await;
    let hand = server.hand.as_ref().unwrap();
    let submit = async |options: &str| {
        let id = server.submit("pulled", options).await;
        hand.advance(std::time::Duration::from_secs(1));
        id
    };
    for (options, filter) in [
        ("?queue=a", "?queue=a&task=pulled"),
        ("?group=g", "?group=g"),
        ("?delay=9h", "?state=scheduled"),
        ("?tag.a=1&tag.b=2", "?tag.a=1&tag.b=2"),
        (
            "",
            "?created_after=2025-11-22T12:00:03.999Z&created_before=2025-11-22T12:00:04.001Z",
        ),
    ] {
        let id = submit(options).await;
        says(&server, "cancel", filter, (1, 1, false)).await;
        assert_eq!(state(&server, &id).await, "cancelled", "{filter}");
    }
    let left = submit("").await;
    for filter in [
        "?task=hold",
        "?queue=a&group=g",
        "?tag.a=2",
        "?state=running",
    ] {
        says(&server, "cancel", filter, (0, 0, false)).await;
    }
    assert_eq!(state(&server, &left).await, "ready");
}

#[tokio::test]
async fn a_bulk_call_needs_a_filter_and_takes_nothing_else() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    for action in ["cancel", "retry", "delete"] {
        for empty in ["", "?"] {
            let answer = bulk(&server, action, empty).await;
            answer.is_problem(400, "invalid-parameter");
        }
        for (filter, parameter) in [
            ("?page_size=5&task=pulled", "page_size"),
            ("?page_token=x&task=pulled", "page_token"),
            ("?limit=5&task=pulled", "limit"),
            ("?state=done", "state"),
            ("?state=", "state"),
            ("?task=No", "task"),
            ("?tag.A=1", "tag.A"),
            ("?created_before=soon", "created_before"),
        ] {
            bulk(&server, action, filter)
                .await
                .is_about_parameter(parameter);
        }
    }
    assert_eq!(state(&server, &id).await, "ready");
}

/// Jobs of one task, many at once.
async fn submit_many(server: &Server, count: usize, tag: &str) {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: "x".into(),
    };
    let mut submission = Submission::new(Name::new("pulled").unwrap(), input);
    let tag = (Name::new("kind").unwrap(), tag.to_owned());
    submission.tags = [tag].into_iter().collect();
    let mut left = count;
    while left > 0 {
        let some = left.min(5_000);
        let all = vec![submission.clone(); some];
        server.engine.submit_all(all).await.unwrap();
        left -= some;
    }
}

/// Time stands still, so that it is the matches that a call stops at.
#[tokio::test]
async fn a_bulk_call_stops_after_10_000_matches() {
    let server = Server::by_hand().await;
    submit_many(&server, 10_003, "a").await;
    for action in ["cancel", "retry", "cancel", "delete"] {
        says(&server, action, "?tag.kind=a", (10_000, 10_000, true)).await;
        says(&server, action, "?tag.kind=a", (3, 3, false)).await;
        says(&server, action, "?tag.kind=a", (0, 0, false)).await;
    }
    let page = server.get("/v1/jobs").await.json();
    assert_eq!(page["jobs"], json!([]));
}

/// A page of a list looks at 10,000 jobs; a bulk call goes on to the last.
#[tokio::test]
async fn a_bulk_call_finds_what_lies_far_back() {
    let server = Server::by_hand().await;
    submit_many(&server, 3, "rare").await;
    submit_many(&server, 20_500, "usual").await;
    for action in ["cancel", "retry", "cancel", "delete"] {
        says(&server, action, "?tag.kind=rare", (3, 3, false)).await;
    }
    says(&server, "delete", "?tag.kind=rare", (0, 0, false)).await;
}
