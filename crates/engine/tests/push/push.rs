//! What is pushed, and what is made of the answer.

use crate::harness::{
    Request, SECRET, Service, answer, attempt, failed, ok, patiently, push_to, pusher, run,
    succeeded,
};
use anteroom::clock::Clock;
use anteroom::run::push::{Push, PushRunner};
use anteroom::run::{Outcome, RetryHint, Runner as _, Stop, StopReason};
use anteroom::webhook::verify;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JOB: &str = "018bcfe5-6800-7007-8000-00000000002a";

#[tokio::test]
async fn a_job_is_posted_with_its_input_and_what_identifies_it() {
    let mut service = Service::answering(&[&ok("out")]).await;
    let runner = pusher(service.url());
    assert_eq!(runner.kind(), "push");
    let outcome = run(&runner, "a b c").await;
    assert_eq!(succeeded(outcome), ("text/plain".into(), "out".into()));
    let (_, request) = service.next().await;
    assert_eq!(request.line, "POST /run?a=b HTTP/1.1");
    assert_eq!(&*request.body, b"a b c");
    let address = service.address.to_string();
    for (name, expected) in [
        ("host", Some(&*address)),
        ("content-type", Some("text/plain; charset=utf-8")),
        ("content-length", Some("5")),
        ("idempotency-key", Some(JOB)),
        ("anteroom-job", Some(JOB)),
        ("anteroom-task", Some("wordcount")),
        ("anteroom-attempt", Some("2")),
        ("anteroom-claim", Some("99")),
        ("anteroom-deadline", Some("2026-11-22T12:00:00.007Z")),
        ("webhook-id", Some(JOB)),
        ("webhook-signature", None),
    ] {
        assert_eq!(request.header(name), expected, "{name}");
    }
    let trace = request.header("traceparent").unwrap();
    assert!(
        trace.starts_with(&format!("00-{}-", JOB.replace('-', ""))),
        "{trace}"
    );
    let sent_at: i64 = request
        .header("webhook-timestamp")
        .unwrap()
        .parse()
        .unwrap();
    let now = Clock::system().now().as_millis() / 1_000;
    assert!((now - 60..=now).contains(&sent_at), "{sent_at} {now}");
}

#[tokio::test]
async fn with_secrets_it_is_signed_by_each_of_them() {
    let mut service = Service::answering(&[&ok("")]).await;
    let secrets = [SECRET, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];
    let secrets = secrets.map(|secret| secret.parse().unwrap()).to_vec();
    let push = Push {
        url: service.url(),
        secrets: secrets.clone(),
        ..Push::default()
    };
    let runner = PushRunner::new(push).unwrap();
    assert!(!format!("{runner:?}").contains("MfKQ"), "{runner:?}");
    // The second one is signed on a thread of its own.
    for input in ["a b c".to_owned(), "x".repeat(300_000)] {
        succeeded(run(&runner, &input).await);
        let (_, request) = service.next().await;
        let header = |name| request.header(name).unwrap();
        let timestamp = header("webhook-timestamp").parse().unwrap();
        let (id, signatures) = (header("webhook-id"), header("webhook-signature"));
        assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
        for secret in &secrets {
            let one = std::slice::from_ref(secret);
            assert!(verify(one, id, timestamp, &request.body, signatures));
        }
    }
}

#[tokio::test]
async fn an_answer_with_2xx_is_the_result_with_its_content_type() {
    let octets = "application/octet-stream";
    for (status, headers, body, expected) in [
        (
            "200 OK",
            "content-type: application/json\r\n",
            "{}",
            "application/json",
        ),
        (
            "201 Created",
            "content-type: text/x;a=\"b\"\r\n",
            "x",
            "text/x;a=\"b\"",
        ),
        ("299 Odd", "", "x", octets),
        ("200 OK", "content-type: no type\r\n", "x", octets),
        ("200 OK", "content-type: text/\u{e4}\r\n", "x", octets),
        (
            "200 OK",
            "content-type: a/b\r\ncontent-type: c/d\r\n",
            "x",
            octets,
        ),
        ("200 OK", "content-encoding: identity\r\n", "x", octets),
    ] {
        let outcome = push_to(&answer(status, headers, body)).await;
        assert_eq!(
            succeeded(outcome),
            (expected.into(), body.into()),
            "{headers}"
        );
    }
    let empty = push_to("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(succeeded(empty), (octets.into(), String::new()));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                   2\r\nab\r\n1\r\nc\r\n0\r\nx-trailer: y\r\n\r\n";
    assert_eq!(succeeded(push_to(chunked).await).1, "abc");
}

#[tokio::test]
async fn statuses_that_pass_are_tried_again_and_others_fail_for_good() {
    for (status, expected) in [
        (408, RetryHint::ByPolicy),
        (425, RetryHint::ByPolicy),
        (429, RetryHint::ByPolicy),
        (500, RetryHint::ByPolicy),
        (502, RetryHint::ByPolicy),
        (503, RetryHint::ByPolicy),
        (599, RetryHint::ByPolicy),
        (300, RetryHint::Never),
        (301, RetryHint::Never),
        (307, RetryHint::Never),
        (400, RetryHint::Never),
        (401, RetryHint::Never),
        (404, RetryHint::Never),
        (410, RetryHint::Never),
        (422, RetryHint::Never),
        (600, RetryHint::Never),
    ] {
        let text = "content-type: text/plain; charset=utf-8\r\n";
        let outcome = push_to(&answer(&format!("{status} Why"), text, " what it is \n")).await;
        let (message, retry) = failed(outcome);
        assert_eq!(retry, expected, "{status}: {message}");
        assert!(
            message.starts_with(&format!("the service answered {status}")),
            "{message}"
        );
        assert!(message.ends_with(": what it is"), "{message}");
    }
}

#[tokio::test]
async fn retry_after_is_kept_to_and_429_and_503_with_it_hand_the_job_back() {
    let secs = Duration::from_secs;
    for (status, field, expected) in [
        (429, "7", Outcome::Busy { delay: secs(7) }),
        (503, "120", Outcome::Busy { delay: secs(120) }),
        // Bounded at both ends.
        (503, "0", Outcome::Busy { delay: secs(1) }),
        (
            503,
            "99999999999999999999",
            Outcome::Busy {
                delay: secs(86_400),
            },
        ),
        (
            429,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            Outcome::Busy { delay: secs(1) },
        ),
        (
            429,
            "Fri, 31 Dec 9999 23:59:59 GMT",
            Outcome::Busy {
                delay: secs(86_400),
            },
        ),
    ] {
        let headers = format!("retry-after: {field}\r\n");
        let outcome = push_to(&answer(&format!("{status} Busy"), &headers, "")).await;
        assert_eq!(outcome, expected, "{status} {field}");
    }
    for (status, field, expected) in [
        (500, "7", RetryHint::After(secs(7))),
        (408, "3600", RetryHint::After(secs(3_600))),
        (503, "soon", RetryHint::ByPolicy),
        (503, "-1", RetryHint::ByPolicy),
        (400, "7", RetryHint::Never),
        (307, "7", RetryHint::Never),
    ] {
        let headers = format!("retry-after: {field}\r\n");
        let outcome = push_to(&answer(&format!("{status} X"), &headers, "")).await;
        assert_eq!(failed(outcome).1, expected, "{status} {field}");
    }
}

#[tokio::test]
async fn a_result_over_the_limit_fails_for_good() {
    let fits = "x".repeat(1_000);
    assert_eq!(succeeded(push_to(&ok(&fits)).await).1, fits);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1_001)
    );
    for over in [ok(&"x".repeat(1_001)), chunked] {
        let (message, retry) = failed(push_to(&over).await);
        assert_eq!(
            message,
            "the answer is longer than 1000 bytes, the limit of a result"
        );
        assert_eq!(retry, RetryHint::Never);
    }
}

#[tokio::test]
async fn a_failure_shows_the_start_of_a_text_and_of_nothing_else() {
    let long = "ä".repeat(10_000);
    let json = "content-type: application/problem+json\r\n";
    let (message, _) = failed(push_to(&answer("500 No", json, &long)).await);
    assert!(
        message.contains("ää") && message.len() < 5_000,
        "{}",
        message.len()
    );
    let image = "content-type: image/png\r\n";
    let zipped = "content-type: text/plain\r\ncontent-encoding: gzip\r\n";
    for headers in [image, zipped, ""] {
        let (message, _) = failed(push_to(&answer("400 No", headers, "body")).await);
        assert_eq!(message, "the service answered 400 Bad Request", "{headers}");
    }
}

#[tokio::test]
async fn an_encoded_result_is_refused_since_it_would_be_passed_on_as_something_else() {
    let gzip = answer("200 OK", "content-encoding: gzip\r\n", "x");
    let (message, retry) = failed(push_to(&gzip).await);
    assert!(
        message.contains("\"gzip\"") && retry == RetryHint::Never,
        "{message}"
    );
}

#[tokio::test]
async fn a_service_that_is_not_there_is_tried_again() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let (message, retry) = failed(run(&pusher(url), "in").await);
    assert!(message.contains("Connection refused"), "{message}");
    assert_eq!(retry, RetryHint::ByPolicy);
    let (message, retry) = failed(run(&pusher("http://no-such-host.invalid/"), "in").await);
    assert!(message.contains("no-such-host.invalid"), "{message}");
    assert_eq!(retry, RetryHint::ByPolicy);
}

#[tokio::test]
async fn connections_are_used_again() {
    let mut service = Service::answering(&[&ok("out")]).await;
    let runner = pusher(service.url());
    for _ in 0..3 {
        succeeded(run(&runner, "in").await);
        assert_eq!(service.next().await.0, 0);
    }
}

#[tokio::test]
async fn a_stop_drops_the_connection_wherever_it_is() {
    // Nothing is answered; half a head is; half a body is.
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
    ] {
        let mut service = Service::doing(move |mut stream, told, number| async move {
            let request = Request::read(&mut stream).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            told.send((number, request.clone())).unwrap();
            // Ends when the other side has gone.
            let left = stream.read(&mut [0]).await;
            assert!(matches!(left, Ok(0) | Err(_)), "{left:?}");
            told.send((number, request)).unwrap();
        })
        .await;
        let (runner, stop) = (pusher(service.url()), Stop::default());
        let running = async {
            let outcome = runner.run(attempt("in", &stop)).await;
            assert_eq!(outcome, Outcome::failed("stopped"), "after {begun:?}");
        };
        let stopping = async {
            service.next().await;
            stop.request(StopReason::Cancelled);
        };
        patiently(async { tokio::join!(running, stopping) }).await;
        service.next().await;
    }
}

#[tokio::test]
async fn what_cannot_be_sent_fails_for_good() {
    let runner = pusher("http://127.0.0.1:9/");
    let mut attempt = attempt("in", &Stop::default());
    attempt.input.content_type = "text/plain\r\nx-injected: 1".into();
    let (message, retry) = failed(patiently(runner.run(attempt)).await);
    assert!(
        message.contains("cannot be sent") && retry == RetryHint::Never,
        "{message}"
    );
}
