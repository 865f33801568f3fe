//! Services that misbehave: each hurts its own job only, and memory stays bounded.

use crate::harness::{
    PATIENCE, Request, Service, answer, attempt, failed, ok, patiently, push_to, pusher, pusher_by,
    run, succeeded,
};
use anteroom::run::client::Client;
use anteroom::run::targets::Targets;
use anteroom::run::{Outcome, RetryHint, Runner as _, Stop, StopReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Runs a push against connections that do what `function` does, while another one on a good
/// service succeeds; then stops it if it has not ended by itself.
async fn against<F, Fut>(function: F) -> Outcome
where
    F: Fn(TcpStream) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut hostile = Service::doing(move |mut stream, told, number| {
        let function = function.clone();
        async move {
            let Some(request) = Request::read(&mut stream).await else {
                return;
            };
            let _listens = told.send((number, request));
            function(stream).await;
        }
    })
    .await;
    let good = Service::answering(&[&ok("well")]).await;
    // One client for both: what one does must not reach the other.
    let client = Client::new(Targets::anywhere());
    let runner = pusher_by(&client, hostile.url());
    let other = pusher_by(&client, good.url());
    let stop = Stop::default();
    let attacked = runner.run(attempt("in", &stop));
    let meanwhile = async {
        hostile.next().await;
        assert_eq!(succeeded(run(&other, "in").await).1, "well");
    };
    let both = async { tokio::join!(attacked, meanwhile).0 };
    tokio::time::timeout(PATIENCE, both).await.expect("it ends")
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_limit() {
    let outcome = against(|mut stream| async move {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut going = stream.write_all(head.as_bytes()).await;
        while going.is_ok() {
            going = stream.write_all(b"4\r\nmore\r\n").await;
        }
    })
    .await;
    let (message, retry) = failed(outcome);
    assert!(message.contains("longer than 1000 bytes"), "{message}");
    assert_eq!(retry, RetryHint::Never);
}

#[tokio::test]
async fn a_failure_without_an_end_is_cut_and_told() {
    let outcome = against(|mut stream| async move {
        let head = "HTTP/1.1 500 No\r\ncontent-type: text/plain\r\n\r\n";
        let mut going = stream.write_all(head.as_bytes()).await;
        while going.is_ok() {
            going = stream.write_all(&[b'x'; 4_096]).await;
        }
    })
    .await;
    let (message, retry) = failed(outcome);
    assert!(
        message.ends_with("xxx") && message.len() < 5_000,
        "{}",
        message.len()
    );
    assert_eq!(retry, RetryHint::ByPolicy);
}

#[tokio::test]
async fn a_failure_that_drips_is_told_as_far_as_it_came() {
    let outcome = against(|mut stream| async move {
        let head = "HTTP/1.1 500 No\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\ndrip";
        stream.write_all(head.as_bytes()).await.unwrap();
        let _until_it_leaves = stream.read(&mut [0]).await;
    })
    .await;
    let (message, _) = failed(outcome);
    assert!(message.ends_with(": drip"), "{message}");
}

#[tokio::test]
async fn a_result_that_drips_comes_in_the_end() {
    let dripping = |mut stream: TcpStream| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for _ in 0..40 {
            tokio::task::yield_now().await;
            stream.write_all(b"x").await.unwrap();
        }
    };
    assert_eq!(succeeded(against(dripping).await).1, "x".repeat(40));
}

#[tokio::test]
async fn a_head_without_an_end_or_too_large_is_given_up() {
    let many = |count: usize| "x-field: y\r\n".repeat(count);
    assert_eq!(
        succeeded(push_to(&answer("200 OK", &many(90), "x")).await).1,
        "x"
    );
    for headers in [many(200), format!("x-long: {}\r\n", "y".repeat(200_000))] {
        let (message, retry) = failed(push_to(&answer("200 OK", &headers, "x")).await);
        assert!(message.contains("too large"), "{message}");
        assert_eq!(retry, RetryHint::ByPolicy);
    }
    let outcome = against(|mut stream| async move {
        let mut going = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while going.is_ok() {
            going = stream.write_all(b"x-more: and more\r\n").await;
        }
    })
    .await;
    assert!(failed(outcome).0.contains("too large"));
}

#[tokio::test]
async fn what_is_not_http_is_tried_again() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnope\r\n",
    ] {
        let outcome = against(move |mut stream| async move {
            let _listens = stream.write_all(garbage.as_bytes()).await;
        })
        .await;
        let (message, retry) = failed(outcome);
        assert_eq!(retry, RetryHint::ByPolicy, "{garbage:?} gave {message}");
    }
}

#[tokio::test]
async fn a_connection_cut_at_any_stage_is_tried_again() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody";
    for cut in [0, 4, 17, 30, 38, 40] {
        let outcome = against(move |mut stream| async move {
            stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
        })
        .await;
        let (message, retry) = failed(outcome);
        assert_eq!(retry, RetryHint::ByPolicy, "cut at {cut}: {message}");
    }
}

#[tokio::test]
async fn answers_before_the_final_one_are_passed_over() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let outcome = push_to(&format!("{early}{early}{}", ok("out"))).await;
    assert_eq!(succeeded(outcome).1, "out");
    // They may come for ever; then the job's timeout or a cancel ends it.
    let mut service = Service::doing(|mut stream, told, number| async move {
        let request = Request::read(&mut stream).await.unwrap();
        let mut going = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        told.send((number, request)).unwrap();
        while going.is_ok() {
            going = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
    })
    .await;
    let (runner, stop) = (pusher(service.url()), Stop::default());
    let stopping = async {
        service.next().await;
        stop.request(StopReason::Timeout);
    };
    let (outcome, ()) =
        patiently(async { tokio::join!(runner.run(attempt("in", &stop)), stopping) }).await;
    assert_eq!(outcome, Outcome::failed("stopped"));
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_fails() {
    let (message, _) = failed(push_to("HTTP/1.1 101 Switching Protocols\r\n\r\n").await);
    assert!(!message.is_empty());
}

#[tokio::test]
async fn an_answer_that_comes_before_the_input_was_read_is_the_answer() {
    let service = Service::doing(|mut stream, _, _| async move {
        // The head at most: the input is some megabytes.
        let mut some = [0; 1_000];
        let _begun = stream.read(&mut some).await;
        let refused = answer("413 Too Large", "content-type: text/plain\r\n", "too much");
        stream.write_all(refused.as_bytes()).await.unwrap();
        let _until_it_leaves = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let outcome = run(&pusher(service.url()), &"x".repeat(8 << 20)).await;
    let (message, retry) = failed(outcome);
    assert!(
        message.ends_with("Payload Too Large: too much"),
        "{message}"
    );
    assert_eq!(retry, RetryHint::Never);
}

#[tokio::test]
async fn lies_about_a_length_reach_no_other_job() {
    // Longer than it says: the rest would be the next job's answer.
    let second = ok("forged");
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{second}");
    let service = Service::answering(&[&long, &ok("real")]).await;
    let runner = pusher(service.url());
    assert_eq!(succeeded(run(&runner, "in").await).1, "ok");
    assert_eq!(succeeded(run(&runner, "in").await).1, "real");
    // Shorter than it says is an answer that broke off; longer than may be is refused at once.
    let outcome = against(|mut stream| async move {
        let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort";
        stream.write_all(short.as_bytes()).await.unwrap();
    })
    .await;
    let (message, retry) = failed(outcome);
    assert!(message.starts_with("the answer broke off"), "{message}");
    assert_eq!(retry, RetryHint::ByPolicy);
    let (message, retry) =
        failed(push_to("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\nx").await);
    assert!(
        message.contains("longer than") && retry == RetryHint::Never,
        "{message}"
    );
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let mut inside = Service::answering(&[&ok("secret")]).await;
    let location = format!("location: {}\r\n", inside.url());
    for status in ["301 A", "302 B", "303 C", "307 D", "308 E"] {
        let (message, retry) = failed(push_to(&answer(status, &location, "")).await);
        assert_eq!(retry, RetryHint::Never, "{message}");
    }
    assert!(inside.is_quiet());
}
