//! Connections: malformed, slow, silent, too many, and the stop.

use crate::harness::{Server, Wanted, within};
use anteroom::Options;
use anteroom_server::http::serve::ServeLimits;
use std::time::Duration;

async fn limited(limits: ServeLimits) -> Server {
    Server::wanted(Wanted {
        limits,
        ..Wanted::default()
    })
    .await
}

#[tokio::test]
async fn a_connection_takes_one_request_after_the_other() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    for _ in 0..3 {
        let answer = connection
            .send("POST", "/v1/tasks/echo/jobs", &[], b"x")
            .await;
        assert_eq!(answer.status, 202);
        assert_eq!(
            connection.send("GET", "/nowhere", &[], b"").await.status,
            404
        );
        assert_eq!(
            connection.send("HEAD", "/v1/jobs", &[], b"").await.status,
            200
        );
    }
    let both = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /readyz HTTP/1.1\r\nhost: a\r\n\r\n";
    connection.write(both).await;
    assert!(connection.answer(false).await.text().contains("live"));
    assert!(connection.answer(false).await.text().contains("ready"));
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_a_problem() {
    let server = Server::start().await;
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let mut connection = server.connect().await;
        connection.write(bytes).await;
        let answer = connection.answer(false).await;
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["type"], "/problems/malformed-request");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.closed().await.is_empty());
    }
}

/// Whatever one byte of a request becomes, there is an answer, and an error is a problem.
#[tokio::test]
async fn no_damaged_request_goes_without_an_answer() {
    let server = limited(ServeLimits {
        head_timeout: Duration::from_millis(20),
        ..ServeLimits::default()
    })
    .await;
    let whole = b"GET /v1/jobs?page_size=1 HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n";
    for at in 0..whole.len() {
        for byte in *b"\0 \r\n%A/:\x80" {
            let mut damaged = whole.to_vec();
            damaged[at] = byte;
            let mut connection = server.connect().await;
            connection.write(&damaged).await;
            let answer = connection.answer(false).await;
            if answer.status >= 400 {
                let status = answer.json()["status"].clone();
                assert_eq!(status, answer.status, "{}", damaged.escape_ascii());
            }
        }
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let server = Server::start().await;
    let many = "x-many: 1\r\n".repeat(101);
    let long = format!("x-long: {}\r\n", "x".repeat(100_000));
    for fields in [many, long] {
        let mut connection = server.connect().await;
        connection
            .write(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"))
            .await;
        let answer = connection.answer(false).await;
        assert_eq!(answer.status, 431);
        assert_eq!(answer.json()["type"], "/problems/headers-too-large");
    }
}

/// A client that sends before it reads gets to see the answer, not a reset.
#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection
        .write("POST /v1/tasks/echo/jobs HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n")
        .await;
    connection.write(vec![b'x'; 500_000]).await;
    let answer = connection.answer(false).await;
    answer.is_problem(413, "payload-too-large");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.closed().await.is_empty());
}

/// A body that a call has no use for is not read, and does not cost the client its answer.
#[tokio::test]
async fn a_body_that_nobody_wants_does_no_harm() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let mut connection = server.connect().await;
    let path = format!("/v1/jobs/{id}/cancel");
    let answer = connection
        .send("POST", &path, &[], &vec![b'x'; 3_000_000])
        .await;
    assert_eq!(answer.status, 200);
    assert!(connection.closed().await.is_empty());
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    let headers = [("content-length", "100000000"), ("expect", "100-continue")];
    let answer = connection
        .send("POST", "/v1/tasks/echo/jobs", &headers, b"")
        .await;
    answer.is_problem(413, "payload-too-large");
}

#[tokio::test]
async fn a_chunked_body_counts_as_it_comes() {
    let server = Server::wanted(Wanted {
        options: Options {
            input_bytes_max: 10,
            ..Options::default()
        },
        ..Wanted::default()
    })
    .await;
    let headers = [("transfer-encoding", "chunked")];
    let fits = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
    let answer = server
        .send("POST", "/v1/tasks/echo/call", &headers, fits)
        .await;
    assert_eq!((answer.status, answer.text()), (200, "helloworld"));
    let larger = b"5\r\nhello\r\n6\r\nworld!\r\n";
    let answer = server
        .send("POST", "/v1/tasks/echo/call", &headers, larger)
        .await;
    answer.is_problem(413, "payload-too-large");
    let broken = b"5\r\nhello\r\nzz\r\n";
    let answer = server
        .send("POST", "/v1/tasks/echo/call", &headers, broken)
        .await;
    answer.is_malformed(&["zz"]);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_cut_off_with_408() {
    let server = limited(ServeLimits {
        head_timeout: Duration::from_millis(50),
        ..ServeLimits::default()
    })
    .await;
    let mut connection = server.connect().await;
    connection.write("GET / HTTP/1.1\r\nhost:").await;
    let answer = connection.answer(false).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["type"], "/problems/request-timeout");
    assert!(connection.closed().await.is_empty());
}

/// The deadline of a head runs from its first byte: a byte now and then does not stretch it.
#[tokio::test]
async fn a_head_that_trickles_is_cut_off_too() {
    let server = limited(ServeLimits {
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_hours(1),
        ..ServeLimits::default()
    })
    .await;
    let mut connection = server.connect().await;
    connection.write("GET / HTTP/1.1\r\n").await;
    let said = within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                said = connection.closed() => break said,
                _ = tick.tick() => {}
            }
            // Once the server has closed, writing may fail.
            let _maybe = connection.try_write(b"x").await;
        }
    })
    .await;
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 408 "),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = limited(ServeLimits {
        idle_timeout: Duration::from_millis(50),
        ..ServeLimits::default()
    })
    .await;
    let mut silent = server.connect().await;
    assert!(silent.closed().await.is_empty());
    let mut used = server.connect().await;
    assert_eq!(used.send("GET", "/livez", &[], b"").await.status, 200);
    assert!(used.closed().await.is_empty());
}

/// Neither the idle time nor that of a head counts while a request is being answered.
#[tokio::test]
async fn a_long_wait_is_not_cut_off() {
    let server = limited(ServeLimits {
        head_timeout: Duration::from_millis(20),
        idle_timeout: Duration::from_millis(20),
        ..ServeLimits::default()
    })
    .await;
    let answer = server
        .send("POST", "/v1/tasks/hold/jobs", &[("prefer", "wait=1")], b"")
        .await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let server = limited(ServeLimits {
        connections: 1,
        write_timeout: Duration::from_millis(50),
        ..ServeLimits::default()
    })
    .await;
    let path = {
        let mut connection = server.connect().await;
        let answer = connection
            .send("POST", "/v1/tasks/echo/call", &[], &vec![b'x'; 1_000_000])
            .await;
        assert_eq!(answer.status, 200);
        format!("/v1/jobs/{}/result", answer.header("anteroom-job").unwrap())
    };
    let mut deaf = server.connect().await;
    for _ in 0..30 {
        deaf.request("GET", &path, &[], b"").await;
    }
    // There is room for one connection: this one is answered once the other is given up.
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_their_turn() {
    let server = limited(ServeLimits {
        connections: 1,
        ..ServeLimits::default()
    })
    .await;
    let mut first = server.connect().await;
    assert_eq!(first.send("GET", "/livez", &[], b"").await.status, 200);
    let mut second = server.connect().await;
    second.request("GET", "/livez", &[], b"").await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.answer(false)).await;
    assert!(early.is_err(), "the cap is one");
    drop(first);
    assert_eq!(second.answer(false).await.status, 200);
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_closes_what_is_silent() {
    let mut server = Server::start().await;
    let mut fresh = server.connect().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.send("GET", "/livez", &[], b"").await.status, 200);
    let mut waiting = server.connect().await;
    waiting.send("GET", "/livez", &[], b"").await;
    let headers = [("prefer", "wait=60")];
    waiting
        .request("POST", "/v1/tasks/hold/call", &headers, b"kept")
        .await;
    server.first_job().await;
    server.stop_listening();
    assert!(fresh.closed().await.is_empty());
    assert!(idle.closed().await.is_empty());
    server.gate.open();
    let answer = waiting.answer(false).await;
    assert_eq!((answer.status, answer.text()), (200, "kept"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(waiting.closed().await.is_empty());
    server.ended().await;
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_stop_waits_only_so_long() {
    let mut server = limited(ServeLimits {
        drain_timeout: Duration::from_millis(50),
        ..ServeLimits::default()
    })
    .await;
    let mut waiting = server.connect().await;
    waiting
        .request("POST", "/v1/tasks/hold/call", &[("prefer", "wait=60")], b"")
        .await;
    server.first_job().await;
    server.stop_listening();
    server.ended().await;
    assert!(waiting.closed().await.is_empty());
}
