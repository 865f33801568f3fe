//! Callbacks: a submit with `callback_url`, what it brings about, and who may see that.

use crate::harness::{Answer, Server, Wanted, within};
use anteroom::core::{Name, Payload};
use anteroom::run::{Attempt, Outcome, function};
use anteroom::{Callbacks, CheckTarget, Options};
use anteroom_server::http::{RouterOptions, Scope, Token, router};
use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceExt;

const URL: &str = "https://hooks.example/ended?a=b";
const OPTION: &str = "callback_url=https%3A%2F%2Fhooks.example%2Fended%3Fa%3Db";

/// Lets callbacks go anywhere but to one host, and counts how often it is asked.
#[derive(Debug, Default)]
struct Targets {
    asked: AtomicUsize,
}

#[async_trait]
impl CheckTarget for Targets {
    async fn check(&self, url: &str) -> Result<(), String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if url.contains("private.example") {
            return Err("10.0.0.1 is a private address".to_owned());
        }
        Ok(())
    }
}

/// A server whose callbacks are recorded instead of being sent.
struct Recorded {
    server: Server,
    targets: Arc<Targets>,
    sent: Mutex<UnboundedReceiver<(String, Value)>>,
}

impl Recorded {
    async fn start(tokens: Vec<Token>) -> Self {
        let (record, sent) = unbounded_channel();
        let runner = function::bytes(move |attempt: Attempt| {
            let event = serde_json::from_slice(&attempt.input.bytes).unwrap();
            let url = attempt.job.callback_url.as_deref().unwrap_or_default();
            record.send((url.to_owned(), event)).unwrap();
            async {
                Outcome::Succeeded(Payload {
                    content_type: "text/plain".into(),
                    bytes: "".into(),
                })
            }
        });
        let targets = Arc::new(Targets::default());
        let callbacks = Callbacks {
            runner,
            targets: targets.clone(),
        };
        let server = Server::wanted(Wanted {
            options: Options {
                callbacks: Some(callbacks),
                hold: false,
                ..Options::default()
            },
            router: RouterOptions {
                tokens,
                ..RouterOptions::default()
            },
            ..Wanted::default()
        })
        .await;
        Self {
            server,
            targets,
            sent: Mutex::new(sent),
        }
    }

    /// Waits for the next callback.
    async fn next(&self) -> (String, Value) {
        within(async { self.sent.lock().await.recv().await.unwrap() }).await
    }
}

#[tokio::test]
async fn who_asks_is_told_of_the_end_of_a_job() {
    let recorded = Recorded::start(Vec::new()).await;
    let server = &recorded.server;
    for (task, state) in [("echo", "succeeded"), ("fail", "failed")] {
        let id = server.done(task, &format!("?{OPTION}&tag.who=ann")).await;
        let (url, event) = recorded.next().await;
        assert_eq!(url, URL);
        let job = server.get(&format!("/v1/jobs/{id}")).await.json();
        assert_eq!(job["callback_url"], URL);
        let expected = json!({
            "type": format!("job.{state}"), "timestamp": job["finished_at"],
            "data": {
                "id": id, "task": task, "state": state, "tags": {"who": "ann"},
                "links": job["links"],
            },
        });
        assert_eq!(event, expected);
    }
    let id = server.submit("pulled", &format!("?{OPTION}")).await;
    server.post(&format!("/v1/jobs/{id}/cancel")).await;
    let (_, event) = recorded.next().await;
    assert_eq!(event["type"], "job.cancelled");
    // A second end after a retry, and one in bulk.
    server.post(&format!("/v1/jobs/{id}/retry")).await;
    let bulk = server.post("/v1/jobs/cancel?task=pulled").await;
    assert_eq!(bulk.json()["changed"], 1, "{bulk:?}");
    let (_, again) = recorded.next().await;
    assert_eq!(again["data"], event["data"]);
}

#[tokio::test]
async fn an_envelope_and_a_line_and_a_call_take_a_callback_url_too() {
    let recorded = Recorded::start(Vec::new()).await;
    let server = &recorded.server;
    let envelope = json!({"task": "echo", "input": 1, "callback_url": URL}).to_string();
    for (content_type, status) in [("application/json", 202), ("application/x-ndjson", 200)] {
        let headers = [("content-type", content_type)];
        let answer = server
            .send("POST", "/v1/jobs", &headers, envelope.as_bytes())
            .await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(recorded.next().await.0, URL);
    }
    let answer = server.post(&format!("/v1/tasks/echo/call?{OPTION}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(recorded.next().await.0, URL);
}

#[tokio::test]
async fn a_target_that_is_refused_is_422_and_stores_nothing() {
    let recorded = Recorded::start(Vec::new()).await;
    let server = &recorded.server;
    let option = "callback_url=http://private.example/";
    for call in ["jobs", "call"] {
        let answer = server
            .post(&format!("/v1/tasks/echo/{call}?{option}"))
            .await;
        let problem = answer.is_problem(422, "callback-refused");
        assert_eq!(
            problem["errors"][0]["parameter"], "callback_url",
            "{problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("10.0.0.1 is a private address"),
            "{problem}"
        );
    }
    let of = |url| json!({"task": "echo", "callback_url": url});
    let good = of(URL);
    let bad = of("http://private.example/");
    let json = [("content-type", "application/json")];
    let before = recorded.targets.asked.load(Ordering::SeqCst);
    let body = json!([good, bad, bad, good]).to_string();
    let answer = server
        .send("POST", "/v1/jobs", &json, body.as_bytes())
        .await;
    let problem = answer.is_problem(422, "callback-refused");
    assert_eq!(
        problem["errors"][0]["pointer"], "#/1/callback_url",
        "{problem}"
    );
    let asked = recorded.targets.asked.load(Ordering::SeqCst) - before;
    assert_eq!(asked, 2, "each target once");
    assert_eq!(server.count().await, 0);
    // A line is refused by itself.
    let lines = format!("{good}\n{bad}\n");
    let request = Request::post("/v1/jobs")
        .header("content-type", "application/x-ndjson")
        .body(Body::from(lines));
    let router = router(server.engine.clone(), &RouterOptions::default());
    let response = router.oneshot(request.unwrap()).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("\"id\""), "{text}");
    assert!(lines[1].contains("/problems/callback-refused"), "{text}");
    assert_eq!(server.count().await, 1);
}

#[tokio::test]
async fn what_is_no_callback_url_is_named() {
    let recorded = Recorded::start(Vec::new()).await;
    let server = &recorded.server;
    for url in [
        "x",
        "ftp://a/",
        "http://u:p@a/",
        "http://a/%23",
        "http://a/%20b",
    ] {
        let answer = server
            .post(&format!("/v1/tasks/echo/jobs?callback_url={url}"))
            .await;
        let problem = answer.is_problem(400, "invalid-parameter");
        assert_eq!(
            problem["errors"][0]["parameter"], "callback_url",
            "{problem}"
        );
    }
    let json = [("content-type", "application/json")];
    let answer = server
        .send(
            "POST",
            "/v1/jobs",
            &json,
            br#"{"task": "echo", "callback_url": "x"}"#,
        )
        .await;
    let problem = answer.is_problem(422, "invalid-body");
    assert_eq!(
        problem["errors"][0]["pointer"], "#/callback_url",
        "{problem}"
    );
}

#[tokio::test]
async fn another_callback_url_is_another_submit() {
    let recorded = Recorded::start(Vec::new()).await;
    let server = &recorded.server;
    let key = [("idempotency-key", "one")];
    let submit = async |options: &str| {
        let path = format!("/v1/tasks/pulled/jobs{options}");
        server.send("POST", &path, &key, b"").await
    };
    let first = submit(&format!("?{OPTION}")).await;
    let again = submit(&format!("?{OPTION}")).await;
    assert_eq!(first.json()["id"], again.json()["id"]);
    for options in ["", "?callback_url=https://hooks.example/other"] {
        let answer = submit(options).await;
        answer.is_problem(422, "idempotency-key-reused");
    }
}

fn token(name: &str, scopes: &[Scope], tasks: Option<&[&str]>) -> Token {
    Token {
        name: Name::new(name).unwrap(),
        sha256: vec![Sha256::digest(format!("{name}-secret")).into()],
        scopes: scopes.to_vec(),
        tasks: tasks.map(|tasks| tasks.iter().map(|task| Name::new(task).unwrap()).collect()),
        rate_limit: None,
    }
}

async fn ask(server: &Server, token: &str, method: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}-secret");
    let headers = [("authorization", authorization.as_str())];
    server.send(method, path, &headers, b"").await
}

/// Which callbacks a token is shown, and what it can do with one.
#[tokio::test]
async fn callbacks_are_an_administrators_who_asks_for_them_by_name() {
    let tokens = vec![
        token("admin", &[Scope::Admin], None),
        token("user", &[Scope::Submit, Scope::Read], None),
        token("worker", &[Scope::Read, Scope::Work], Some(&["echo"])),
        token("some", &[Scope::Admin], Some(&["echo"])),
    ];
    let recorded = Recorded::start(tokens).await;
    let server = &recorded.server;
    let submitted = ask(
        server,
        "admin",
        "POST",
        &format!("/v1/tasks/echo/jobs?{OPTION}"),
    )
    .await;
    let of = submitted.json()["id"].as_str().unwrap().to_owned();
    recorded.next().await;
    let named = "/v1/jobs?task=anteroom.callback";
    let count = |answer: &Answer| answer.json()["jobs"].as_array().unwrap().len();
    for (token, shown) in [("admin", 1), ("user", 0), ("worker", 0), ("some", 0)] {
        let answer = ask(server, token, "GET", named).await;
        assert_eq!(count(&answer), shown, "{token}: {answer:?}");
        let answer = ask(server, token, "GET", "/v1/jobs").await;
        assert_eq!(answer.json()["jobs"][0]["id"], of.as_str(), "{token}");
        assert_eq!(count(&answer), 1, "{token}: {answer:?}");
        let answer = ask(server, token, "GET", "/v1/jobs?queue=anteroom.callback").await;
        assert_eq!(count(&answer), 0, "{token}");
    }
    let listed = ask(server, "admin", "GET", named).await.json();
    let id = listed["jobs"][0]["id"].as_str().unwrap().to_owned();
    let job = format!("/v1/jobs/{id}");
    for path in [&job, &format!("{job}/input"), &format!("{job}/events")] {
        let answer = ask(server, "admin", "GET", path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        for token in ["user", "worker", "some"] {
            let answer = ask(server, token, "GET", path).await;
            answer.is_problem(404, "unknown-job");
        }
    }
    let answer = ask(server, "user", "POST", &format!("{job}/cancel")).await;
    answer.is_problem(404, "unknown-job");
    let patched = server
        .send(
            "PATCH",
            &job,
            &[
                ("authorization", "Bearer admin-secret"),
                ("content-type", "application/json"),
            ],
            br#"{"priority": 1}"#,
        )
        .await;
    patched.is_problem(404, "unknown-job");
    nothing_else_shows_them(server).await;
    let bulk = ask(
        server,
        "admin",
        "DELETE",
        "/v1/jobs?queue=anteroom.callback",
    )
    .await;
    assert_eq!(bulk.json()["matched"], 0, "{bulk:?}");
    let bulk = ask(server, "some", "DELETE", named).await;
    assert_eq!(bulk.json()["matched"], 0, "{bulk:?}");
    let waited = format!("Bearer {}-secret", "admin");
    let headers = [("authorization", waited.as_str()), ("prefer", "wait=30")];
    let ended = server.get_with(&job, &headers).await;
    assert_eq!(ended.json()["state"], "succeeded", "{ended:?}");
    let answer = ask(server, "admin", "DELETE", &job).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Tasks, queues and metrics say nothing of callbacks, and nobody submits to their task.
async fn nothing_else_shows_them(server: &Server) {
    for path in ["/v1/tasks", "/v1/queues", "/metrics"] {
        let answer = ask(server, "admin", "GET", path).await;
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert!(!text.contains("anteroom.callback"), "{path}: {text}");
        assert!(!text.contains("anteroom.other"), "{path}: {text}");
    }
    for (method, path, slug) in [
        ("GET", "/v1/tasks/anteroom.callback", "unknown-task"),
        ("GET", "/v1/queues/anteroom.callback", "unknown-queue"),
        ("POST", "/v1/tasks/anteroom.callback/jobs", "unknown-task"),
    ] {
        let answer = ask(server, "admin", method, path).await;
        answer.is_problem(404, slug);
    }
    let answer = ask(server, "user", "POST", "/v1/tasks/anteroom.callback/jobs").await;
    answer.is_problem(404, "unknown-task");
}
