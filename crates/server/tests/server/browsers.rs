//! Pages of other sites.

use crate::harness::{Answer, Server, Wanted};
use anteroom::core::Name;
use anteroom_server::http::browsers::{Guard, loopback_guard};
use anteroom_server::http::{RouterOptions, Scope, Token, route_table};
use axum::Router;
use http::Method;
use sha2::{Digest, Sha256};

const PAGE: &str = "https://app.example";

fn guard(router: Router, is_loopback: bool, has_tokens: bool) -> Router {
    let guard = Guard {
        is_loopback,
        has_tokens,
        allowed_origins: vec![PAGE.to_owned()],
    };
    Router::new().fallback_service(loopback_guard(router, guard))
}

async fn guarded() -> Server {
    Server::wanted(Wanted {
        around: |router| guard(router, true, false),
        ..Wanted::default()
    })
    .await
}

/// A server with a token, `secret`, that may do everything.
async fn guarded_with_a_token() -> Server {
    let token = Token {
        name: Name::new("page").unwrap(),
        sha256: vec![Sha256::digest("secret").into()],
        scopes: vec![Scope::Admin],
        tasks: None,
        rate_limit: None,
    };
    Server::wanted(Wanted {
        router: RouterOptions {
            tokens: vec![token],
            ..RouterOptions::default()
        },
        around: |router| guard(router, true, true),
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

/// Asks as a browser does before a call of a page.
async fn preflight(server: &Server, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "DELETE"),
        ("access-control-request-headers", "authorization,if-match"),
    ];
    server.send("OPTIONS", "/v1/jobs/x", &headers, b"").await
}

fn lists(answer: &Answer, field: &str, wanted: &[&str]) {
    let list = answer.header(field).unwrap().to_ascii_lowercase();
    let listed: Vec<&str> = list.split(',').map(str::trim).collect();
    for one in wanted {
        let one = one.to_ascii_lowercase();
        assert!(listed.contains(&one.as_str()), "{one} in {field}: {list}");
    }
}

#[tokio::test]
async fn an_allowed_page_may_use_all_of_the_contract() {
    for server in [guarded().await, guarded_with_a_token().await] {
        let answer = preflight(&server, PAGE).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.header("vary"), Some("Origin"));
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        lists(&answer, "access-control-allow-methods", &methods);
        let headers = [
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Prefer",
            "If-Match",
            "If-None-Match",
            "Range",
            "If-Range",
            "Last-Event-ID",
        ];
        lists(&answer, "access-control-allow-headers", &headers);
        let headers = [("origin", PAGE), ("authorization", "Bearer secret")];
        let answer = server.get_with("/v1/jobs/x", &headers).await;
        answer.is_problem(404, "unknown-job");
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
        let exposed = [
            "Location",
            "Retry-After",
            "ETag",
            "Anteroom-Job",
            "Idempotency-Replayed",
            "Preference-Applied",
            "RateLimit",
            "RateLimit-Policy",
            "Allow",
            "Accept-Patch",
            "Accept-Ranges",
            "Content-Range",
            "WWW-Authenticate",
            "X-Request-Id",
        ];
        lists(&answer, "access-control-expose-headers", &exposed);
    }
}

#[tokio::test]
async fn with_tokens_the_token_decides() {
    let server = guarded_with_a_token().await;
    let foreign = [
        ("host", "jobs.example"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    submit(&server, &foreign)
        .await
        .is_problem(401, "unauthorized");
    let answer = server.get_with("/v1/jobs", &foreign).await;
    answer.is_problem(401, "unauthorized");
    let with_token = [&foreign[..], &[("authorization", "Bearer secret")]].concat();
    let answer = submit(&server, &with_token).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    // It may, and its page's script is not told what came of it.
    assert_eq!(answer.header("access-control-allow-origin"), None);
    for origin in ["https://evil.example", "null"] {
        let answer = preflight(&server, origin).await;
        answer.is_problem(401, "unauthorized");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let answer = server.get_with("/v1/jobs", &[("origin", PAGE)]).await;
    answer.is_problem(401, "unauthorized");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some(PAGE),
        "the page may know why"
    );
}

/// Listening beyond loopback with `insecure = true`.
#[tokio::test]
async fn beyond_loopback_any_host_is_asked_and_foreign_pages_are_refused() {
    let server = Server::wanted(Wanted {
        around: |router| guard(router, false, false),
        ..Wanted::default()
    })
    .await;
    let named = ("host", "jobs.example");
    assert_eq!(server.get_with("/v1/jobs", &[named]).await.status, 200);
    assert_eq!(submit(&server, &[named]).await.status, 202);
    let own = [named, ("origin", "http://jobs.example")];
    assert_eq!(submit(&server, &own).await.status, 202);
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "null"),
        ("origin", "https://evil.example"),
    ] {
        let answer = submit(&server, &[named, foreign]).await;
        answer.is_problem(403, "cross-site");
    }
}

#[tokio::test]
async fn an_origin_beside_an_allowed_one_is_not_let_in_with_it() {
    let server = guarded().await;
    let headers = [("origin", PAGE), ("origin", "https://evil.example")];
    let answer = submit(&server, &headers).await;
    answer.is_problem(403, "cross-site");
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

/// Whatever a route answers a browser with, from the table of all routes: pages have a policy, and
/// what came from outside can do nothing in its own name.
#[tokio::test]
async fn pages_have_a_policy_and_foreign_content_is_harmless() {
    let server = Server::start().await;
    let id = server.done("odd", "").await;
    let mut pages = 0;
    for route in route_table() {
        if route.method != Method::GET {
            continue;
        }
        let path = route.path.replace("{id}", &id).replace("{task}", "odd");
        let path = path.replace("{slug}", "cross-site");
        let is_foreign = path.ends_with("/result") || path.ends_with("/input");
        for accept in ["text/html", "*/*"] {
            let answer = server.get_with(&path, &[("accept", accept)]).await;
            let content_type = answer.header("content-type").unwrap_or_default();
            let policy = answer.header("content-security-policy");
            if is_foreign {
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(policy, Some("sandbox"), "{path}: {answer:?}");
            } else if content_type.starts_with("text/html") {
                pages += 1;
                let policy = policy.unwrap_or_else(|| panic!("{path} has no policy: {answer:?}"));
                assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
                assert!(
                    policy.contains("frame-ancestors 'none'"),
                    "{path}: {policy}"
                );
                assert!(!policy.contains("unsafe-eval"), "{path}: {policy}");
            }
            if is_foreign || content_type.starts_with("text/") {
                let sniffing = answer.header("x-content-type-options");
                assert_eq!(sniffing, Some("nosniff"), "{path}: {answer:?}");
            }
        }
    }
    assert!(pages >= 2, "the root and the problems");
    let answer = server
        .send("POST", "/v1/tasks/odd/call", &[], b"<script>")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}
