//! Callbacks: what is sent when a job has ended, and when it is sent again.

use crate::harness::{SECRET, Service, answer, attempt_of, failed, ok, patiently, succeeded};
use anteroom::run::callback::CallbackRunner;
use anteroom::run::client::Client;
use anteroom::run::targets::Targets;
use anteroom::run::{Outcome, RetryHint, Runner as _, Stop};
use anteroom::webhook::{Secret, verify};
use std::time::Duration;

const EVENT: &str = r#"{"type":"job.succeeded"}"#;

fn runner() -> CallbackRunner {
    let secrets: Vec<Secret> = vec![SECRET.parse().unwrap()];
    CallbackRunner::new(Client::new(Targets::public([], true)), secrets)
}

async fn call(runner: &CallbackRunner, number: u32, url: Option<&str>) -> Outcome {
    let attempt = attempt_of(EVENT, &Stop::default(), number, url);
    patiently(runner.run(attempt)).await
}

#[tokio::test]
async fn an_event_is_posted_signed_and_its_answer_ignored() {
    let mut service = Service::answering(&[&ok("whatever"), "HTTP/1.1 204 X\r\n\r\n"]).await;
    let (runner, url) = (runner(), service.url());
    assert_eq!(runner.kind(), "push");
    let mut ids = Vec::new();
    for number in [1, 2] {
        let outcome = call(&runner, number, Some(&url)).await;
        assert_eq!(succeeded(outcome).1, "");
        let (connection, request) = service.next().await;
        assert_eq!(connection, 0, "the connection is used again");
        assert_eq!(request.line, "POST /run?a=b HTTP/1.1");
        assert_eq!(&*request.body, EVENT.as_bytes());
        let header = |name| request.header(name).unwrap();
        let timestamp = header("webhook-timestamp").parse().unwrap();
        let (id, signatures) = (header("webhook-id"), header("webhook-signature"));
        let secrets: [Secret; 1] = [SECRET.parse().unwrap()];
        assert!(verify(&secrets, id, timestamp, &request.body, signatures));
        ids.push(id.to_owned());
    }
    assert_eq!(ids[0], ids[1], "the same for each attempt");
}

#[tokio::test]
async fn an_answer_longer_than_anybody_wants_is_ignored_too() {
    let service = Service::answering(&[&ok(&"x".repeat(1 << 20))]).await;
    let outcome = call(&runner(), 1, Some(&service.url())).await;
    assert_eq!(succeeded(outcome).1, "");
}

#[tokio::test]
async fn whatever_is_no_success_is_sent_again_as_the_schedule_says() {
    for status in [
        "301 A", "307 B", "400 C", "404 D", "408 E", "429 F", "500 G", "503 H",
    ] {
        let text = "content-type: text/plain\r\n";
        let service = Service::answering(&[&answer(status, text, "why")]).await;
        let (runner, url) = (runner(), service.url());
        for number in [1, 2, 9] {
            let (message, retry) = failed(call(&runner, number, Some(&url)).await);
            assert!(message.ends_with(": why"), "{message}");
            assert_eq!(retry, RetryHint::ByPolicy, "{status} {number}");
        }
    }
}

#[tokio::test]
async fn a_longer_retry_after_is_kept_to_and_a_shorter_one_is_not() {
    let long = RetryHint::After(Duration::from_mins(10));
    for (field, expected) in [("600", long), ("1", RetryHint::ByPolicy)] {
        let headers = format!("retry-after: {field}\r\n");
        let service = Service::answering(&[&answer("503 X", &headers, "")]).await;
        let (_, retry) = failed(call(&runner(), 1, Some(&service.url())).await);
        assert_eq!(retry, expected, "{field}");
    }
}

#[tokio::test]
async fn gone_stops_it_and_so_does_a_url_that_is_none() {
    let service = Service::answering(&[&answer("410 Gone", "", "")]).await;
    let (message, retry) = failed(call(&runner(), 1, Some(&service.url())).await);
    assert!(message.contains("410 Gone"), "{message}");
    assert_eq!(retry, RetryHint::Never);
    for url in [None, Some("ftp://a/"), Some("http://u:p@a/")] {
        let (message, retry) = failed(call(&runner(), 1, url).await);
        assert_eq!(retry, RetryHint::Never, "{message}");
        assert!(
            message.contains("callback_url") && !message.contains("u:p"),
            "{message}"
        );
    }
}
