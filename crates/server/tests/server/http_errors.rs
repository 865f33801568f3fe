//! Whatever goes wrong is a problem document, never an HTML or empty error.

use crate::harness::{Server, Wanted, within};
use crate::trouble::Trouble;
use anteroom_server::http::RouterOptions;
use anteroom_server::http::problem::Kind;

#[tokio::test]
async fn a_path_with_nothing_at_it_is_404() {
    let server = Server::start().await;
    for (method, path) in [
        ("GET", "/nowhere"),
        ("POST", "/v1"),
        ("GET", "/v1/jobs/"),
        ("GET", "/v1/schedule"),
        ("POST", "/v1/leases/x"),
        ("POST", "/v1/leases/x/nothing"),
        (
            "GET",
            "/v1/jobs/019aabbc-0000-7000-8000-000000000000/nothing",
        ),
        ("GET", "/problems/nope"),
        ("GET", "//"),
        ("GET", "/v1/../v1/jobs"),
    ] {
        let problem = server
            .send(method, path, &[], b"")
            .await
            .is_problem(404, "unknown-route");
        assert_eq!(problem["instance"], path);
    }
}

#[tokio::test]
async fn a_method_that_is_not_taken_is_405_with_those_that_are() {
    let server = Server::start().await;
    for (method, path, allowed) in [
        ("GET", "/v1/tasks/echo/jobs", &["POST"][..]),
        ("PUT", "/v1/jobs", &["GET", "HEAD", "POST", "DELETE"]),
        ("POST", "/v1/jobs/x", &["GET", "HEAD", "PATCH", "DELETE"]),
        ("PUT", "/v1/jobs/x", &["GET", "HEAD", "PATCH", "DELETE"]),
        ("GET", "/v1/jobs/cancel", &["POST"]),
        ("DELETE", "/v1/jobs/retry", &["POST"]),
        ("DELETE", "/livez", &["GET", "HEAD"]),
        ("OPTIONS", "/v1/jobs", &["GET", "HEAD", "POST", "DELETE"]),
        ("BREW", "/", &["GET", "HEAD"]),
    ] {
        let answer = server.send(method, path, &[], b"").await;
        answer.is_problem(405, "method-not-allowed");
        let mut said: Vec<&str> = answer
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::trim)
            .collect();
        let mut allowed = allowed.to_vec();
        said.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(said, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_malformed_path_is_400() {
    let server = Server::start().await;
    for path in [
        "/v1/jobs/%",
        "/v1/jobs/%zz",
        "/v1/jobs/%ff",
        "/v1/tasks/%c3%28/jobs",
        "/%e4",
    ] {
        server.get(path).await.is_problem(400, "malformed-path");
    }
}

/// Forms of a request's target that no route has.
#[tokio::test]
async fn odd_targets_are_answered_too() {
    let server = Server::start().await;
    for (method, target) in [
        ("OPTIONS", "*"),
        ("CONNECT", "example.org:80"),
        ("GET", "http://localhost"),
        ("GET", "http://localhost/nowhere"),
        ("GET", "/nowhere?%"),
        ("GET", "/v1%2Fjobs"),
    ] {
        let answer = server.send(method, target, &[], b"").await;
        if target == "http://localhost" {
            assert_eq!(answer.status, 200, "the root");
        } else {
            let problem = answer.json();
            assert_eq!(
                problem["type"], "/problems/unknown-route",
                "{method} {target}"
            );
        }
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_414() {
    let server = Server::start().await;
    for path in [
        format!("/v1/jobs/{}", "x".repeat(9_000)),
        format!("/v1/jobs?task={}", "x".repeat(9_000)),
    ] {
        server.get(&path).await.is_problem(414, "uri-too-long");
    }
    let fits = format!("/v1/jobs/{}", "x".repeat(8_000));
    server.get(&fits).await.is_problem(404, "unknown-job");
}

#[tokio::test]
async fn a_request_names_one_host() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection.write("GET /livez HTTP/1.1\r\n\r\n").await;
    connection
        .answer(false)
        .await
        .is_problem(400, "malformed-request");
    let headers = [("host", "localhost"), ("host", "localhost")];
    server
        .get_with("/livez", &headers)
        .await
        .is_problem(400, "malformed-request");
    let mut connection = server.connect().await;
    connection.write("GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(
        connection.answer(false).await.status,
        200,
        "HTTP/1.0 had no Host"
    );
}

/// Clients send more in a path than RFC 3986 allows, and `instance` is a URI reference all the same.
#[tokio::test]
async fn the_instance_is_a_uri_reference() {
    let server = Server::start().await;
    for (path, instance) in [
        ("/a{b}|\"c\"", "/a%7Bb%7D%7C%22c%22"),
        ("/a%20b", "/a%20b"),
        ("/%zz", "/%25zz"),
    ] {
        let problem = server.get(path).await.json();
        assert_eq!(problem["instance"], instance, "{path}");
    }
}

#[tokio::test]
async fn every_problem_has_its_page() {
    let server = Server::start().await;
    for kind in Kind::ALL {
        let page = server.get(&format!("/problems/{}", kind.slug())).await;
        assert_eq!(page.status, 200, "{kind:?}");
        assert_eq!(
            page.header("content-type"),
            Some("text/markdown; charset=utf-8")
        );
        assert!(!page.text().is_empty());
    }
}

#[tokio::test]
async fn problems_are_not_cached() {
    let server = Server::start().await;
    let answer = server.get("/nowhere").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn bodies_beyond_what_the_server_will_hold_are_503() {
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            max_buffered: 1_000,
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let mut slow = server.connect().await;
    slow.write(
        "POST /v1/tasks/echo/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 600\r\n\
         expect: 100-continue\r\n\r\n",
    )
    .await;
    assert_eq!(slow.answer(false).await.status, 100, "its room is reserved");
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 600])
        .await;
    answer.is_problem(503, "overloaded");
    answer.says_retry_after();
    slow.write([b'x'; 600]).await;
    assert_eq!(slow.answer(false).await.status, 202);
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 600])
        .await;
    assert_eq!(answer.status, 202, "there is room again");
}

/// Bodies once lost their place as soon as they had come: before a stalled disk they then piled up
/// without a bound.
#[tokio::test]
async fn a_body_keeps_its_room_until_the_store_has_it() {
    let trouble = Trouble::default();
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            max_buffered: 1_000,
            ..RouterOptions::default()
        },
        trouble: trouble.clone(),
        ..Wanted::default()
    })
    .await;
    trouble.stall();
    let mut first = server.connect().await;
    first
        .request("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 600])
        .await;
    within(trouble.stalls_one()).await;
    server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 600])
        .await
        .is_problem(503, "overloaded");
    trouble.go_on();
    assert_eq!(first.answer(false).await.status, 202);
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 600])
        .await;
    assert_eq!(answer.status, 202, "there is room again");
}

#[tokio::test]
async fn a_body_has_no_room_while_its_client_waits_for_the_end() {
    for path in ["/v1/tasks/hold/jobs", "/v1/tasks/hold/call"] {
        let server = Server::wanted(Wanted {
            router: RouterOptions {
                max_buffered: 1_000,
                ..RouterOptions::default()
            },
            ..Wanted::default()
        })
        .await;
        let mut waiting = server.connect().await;
        waiting
            .request("POST", path, &[("prefer", "wait=60")], &[b'x'; 600])
            .await;
        server.first_job().await;
        // The job may be there a moment before its handler knows.
        within(async {
            let submit = "/v1/tasks/echo/jobs";
            while server.send("POST", submit, &[], &[b'x'; 600]).await.status != 202 {}
        })
        .await;
        server.gate.open();
        assert_eq!(waiting.answer(false).await.status, 200, "{path}");
    }
}
