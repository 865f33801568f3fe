//! Pages of other sites.

use crate::harness::{Answer, Server, Wanted};
use anteroom_server::http::browsers::{Guard, loopback_guard};

const PAGE: &str = "https://app.example";

async fn guarded() -> Server {
    Server::wanted(Wanted {
        around: |router| {
            let guard = Guard {
                is_loopback: true,
                allowed_origins: vec![PAGE.to_owned()],
            };
            loopback_guard(router, guard)
        },
        ..Wanted::default()
    })
    .await
}

async fn submit(server: &Server, headers: &[(&str, &str)]) -> Answer {
    server
        .send("POST", "/v1/tasks/echo/jobs", headers, b"x")
        .await
}

#[tokio::test]
async fn only_loopback_names_are_answered() {
    let server = guarded().await;
    for (host, status) in [
        ("localhost", 200),
        ("localhost:9999", 200),
        ("127.0.0.1", 200),
        ("127.8.8.8:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
    ] {
        for path in ["/", "/livez", "/v1/jobs"] {
            let answer = server.get_with(path, &[("host", host)]).await;
            assert_eq!(answer.status, status, "{host} {path}");
            if status == 403 {
                answer.is_problem(403, "cross-site");
            }
        }
    }
    let nowhere = server
        .get_with("/nowhere", &[("host", "evil.example")])
        .await;
    nowhere.is_problem(403, "cross-site");
    let absolute = server
        .get_with("http://evil.example/v1/jobs", &[("host", "localhost")])
        .await;
    absolute.is_problem(403, "cross-site");
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let server = guarded().await;
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://localhost:1")],
        &[("host", "localhost"), ("origin", "https://localhost")],
        &[
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ],
    ] {
        submit(&server, headers).await.is_problem(403, "cross-site");
        let answer = server.send("DELETE", "/v1/jobs/x", headers, b"").await;
        answer.is_problem(403, "cross-site");
        assert_eq!(
            server.get_with("/v1/jobs", headers).await.status,
            200,
            "reading is not changing"
        );
    }
    assert_eq!(
        server.get("/v1/jobs").await.json()["jobs"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn its_own_pages_and_other_programs_may() {
    let server = guarded().await;
    let own = format!("http://{}", server.address);
    for headers in [
        &[][..],
        &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("host", "localhost"), ("origin", "http://localhost")],
    ] {
        assert_eq!(submit(&server, headers).await.status, 202, "{headers:?}");
    }
}

#[tokio::test]
async fn an_allowed_origin_may_and_is_told_so() {
    let server = guarded().await;
    let headers = [("origin", PAGE), ("sec-fetch-site", "cross-site")];
    let answer = submit(&server, &headers).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert!(
        answer
            .header("access-control-expose-headers")
            .unwrap()
            .contains("location")
    );

    let asked = [("origin", PAGE), ("access-control-request-method", "POST")];
    let answer = server
        .send("OPTIONS", "/v1/tasks/echo/jobs", &asked, b"")
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    assert!(
        answer
            .header("access-control-allow-headers")
            .unwrap()
            .contains("prefer")
    );

    let other = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
    ];
    let answer = server
        .send("OPTIONS", "/v1/tasks/echo/jobs", &other, b"")
        .await;
    answer.is_problem(405, "method-not-allowed");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), Some("Origin"));
}
