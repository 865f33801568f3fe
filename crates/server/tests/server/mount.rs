//! The router under a prefix of somebody's own application.

use crate::harness::{Server, Wanted};
use axum::Router;
use axum::routing::get;

async fn mounted() -> Server {
    Server::wanted(Wanted {
        around: |router| {
            Router::new()
                .route("/own", get(|| async { "mine" }))
                .nest("/tenants/{tenant}/work", router)
        },
        ..Wanted::default()
    })
    .await
}

#[tokio::test]
async fn links_and_location_carry_the_prefix() {
    let server = mounted().await;
    let answer = server.post("/tenants/7/work/v1/tasks/pulled/jobs").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = answer.json();
    let path = format!("/tenants/7/work/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(path.as_str()));
    assert_eq!(job["links"]["self"], path);
    for link in ["result", "input", "events", "cancel"] {
        assert_eq!(job["links"][link], format!("{path}/{link}"));
    }
    let with_waiting = format!("{path}?include=waiting");
    assert_eq!(server.get(&with_waiting).await.json(), job);
    let list = server.get("/tenants/7/work/v1/jobs").await.json();
    assert_eq!(list["jobs"][0]["links"], job["links"]);
    let task = server.get("/tenants/7/work/v1/tasks/pulled").await.json();
    assert_eq!(task["links"]["self"], "/tenants/7/work/v1/tasks/pulled");
    assert_eq!(server.get("/own").await.text(), "mine");
}

#[tokio::test]
async fn problems_carry_the_prefix() {
    let server = mounted().await;
    for (method, path, status, slug) in [
        ("GET", "/v1/jobs/nope", 404, "unknown-job"),
        ("GET", "/nowhere", 404, "unknown-route"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("GET", "/v1/jobs/%ff", 400, "malformed-path"),
        ("POST", "/v1/tasks/nope/jobs", 404, "unknown-task"),
    ] {
        let path = format!("/tenants/7/work{path}");
        let answer = server.send(method, &path, &[], b"").await;
        assert_eq!(answer.status, status, "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], format!("/tenants/7/work/problems/{slug}"));
        assert_eq!(problem["instance"], path);
        assert_eq!(
            server.get(problem["type"].as_str().unwrap()).await.status,
            200
        );
    }
}

#[tokio::test]
async fn the_root_is_at_the_prefix_itself() {
    let server = mounted().await;
    let root = server.get("/tenants/7/work").await;
    assert_eq!(root.status, 200, "{root:?}");
    assert_eq!(root.json()["links"]["jobs"], "/tenants/7/work/v1/jobs");
}
