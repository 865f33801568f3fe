//! Tokens: who is let in where, which jobs a token is for, and how often it may submit.

use crate::harness::{Answer, Server, Wanted};
use anteroom::core::Name;
use anteroom_server::http::{Needs, RateLimit, Route, RouterOptions, Scope, Token, route_table};
use axum::Router;
use http::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::num::NonZeroU32;
use std::time::Duration;

/// The task of the jobs in these tests: nobody takes them, so that they stay as they are.
const TASK: &str = "pulled";

/// Returns a token whose text is its name with `-secret` after it.
fn token(name: &str, scopes: &[Scope], tasks: Option<&[&str]>) -> Token {
    Token {
        name: Name::new(name).unwrap(),
        sha256: vec![Sha256::digest(format!("{name}-secret")).into()],
        scopes: scopes.to_vec(),
        tasks: tasks.map(|tasks| tasks.iter().map(|task| Name::new(task).unwrap()).collect()),
        rate_limit: None,
    }
}

/// A token for each scope, and of those for all of them one for all tasks, for the tests' task,
/// and for another one.
fn tokens() -> Vec<Token> {
    let mut tokens: Vec<Token> = Scope::ALL
        .into_iter()
        .map(|scope| token(scope.as_str(), &[scope], None))
        .collect();
    tokens.push(token("same-task", &[Scope::Admin], Some(&["hold", TASK])));
    tokens.push(token("other-task", &[Scope::Admin], Some(&["hold"])));
    tokens
}

async fn with_tokens(tokens: Vec<Token>) -> Server {
    Server::wanted(Wanted {
        router: RouterOptions {
            tokens,
            ..RouterOptions::default()
        },
        by_hand: true,
        ..Wanted::default()
    })
    .await
}

/// Makes a call with the token of this name, and without waiting.
async fn ask(server: &Server, token: &str, method: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}-secret");
    let headers = [
        ("authorization", authorization.as_str()),
        ("prefer", "respond-async"),
    ];
    server.send(method, path, &headers, b"").await
}

/// Submits a job as the administrator, and returns its id.
async fn submitted(server: &Server) -> String {
    let path = format!("/v1/tasks/{TASK}/jobs");
    let answer = ask(server, "admin", "POST", &path).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// What the contract says of each method and path, of those to come too.
#[test]
fn every_route_needs_what_the_contract_says() {
    let table = route_table();
    assert!(table.len() > 10, "{table:?}");
    for Route {
        method,
        path,
        needs,
    } in table
    {
        let is_read = method == Method::GET && (path.starts_with("/v1/") || path == "/metrics");
        let is_open = ["/", "/livez", "/readyz", "/openapi.json", "/docs"].contains(&path)
            || path.starts_with("/problems/")
            || path.starts_with("/docs/");
        let fits = match (&method, path) {
            _ if is_read => matches!(needs, Needs::Read | Needs::ReadAll),
            (&Method::GET, _) if is_open => needs == Needs::Nothing,
            (&Method::POST, "/v1/tasks/{task}/jobs" | "/v1/tasks/{task}/call") => {
                needs == Needs::Submit
            }
            (&Method::POST, "/v1/jobs") => needs == Needs::SubmitMany,
            (&Method::POST, "/v1/jobs/{id}/cancel") => needs == Needs::Cancel,
            (&Method::POST, _) if path.starts_with("/v1/leases") => needs == Needs::Work,
            _ => matches!(needs, Needs::Admin | Needs::AdminAll),
        };
        assert!(fits, "{method} {path} needs {needs:?}");
    }
}

/// What a caller meets at a route.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// Whatever the handler says.
    LetIn,
    Refused(u16, &'static str),
}

fn expected(route: &Route, caller: &str) -> Met {
    let scope = match route.needs {
        Needs::Nothing => return Met::LetIn,
        Needs::Submit | Needs::SubmitMany | Needs::Cancel => "submit",
        Needs::Read | Needs::ReadAll => "read",
        Needs::Work => "work",
        Needs::Admin | Needs::AdminAll => "admin",
    };
    let is_of_all = matches!(route.needs, Needs::ReadAll | Needs::AdminAll);
    match caller {
        "nobody" | "unknown" => Met::Refused(401, "unauthorized"),
        "admin" => Met::LetIn,
        "same-task" | "other-task" if is_of_all => Met::Refused(403, "forbidden"),
        "same-task" => Met::LetIn,
        "other-task" if route.path.starts_with("/v1/jobs/{id}") => Met::Refused(404, "unknown-job"),
        "other-task" if route.path.starts_with("/v1/tasks/{task}") => match route.needs {
            Needs::Submit => Met::Refused(403, "forbidden"),
            _ => Met::Refused(404, "unknown-task"),
        },
        "other-task" => Met::LetIn,
        scope_of_caller if scope_of_caller == scope => Met::LetIn,
        _ => Met::Refused(403, "forbidden"),
    }
}

/// Every route, from the table that they are made of, with every kind of caller.
#[tokio::test]
async fn the_access_matrix() {
    let server = with_tokens(tokens()).await;
    let callers = [
        "nobody",
        "unknown",
        "submit",
        "read",
        "work",
        "admin",
        "same-task",
        "other-task",
    ];
    for route in route_table() {
        for caller in callers {
            let id = submitted(&server).await;
            let path = route.path.replace("{id}", &id).replace("{task}", TASK);
            let path = path
                .replace("{slug}", "unknown-job")
                .replace(['{', '}'], "");
            let expected = expected(&route, caller);
            let mut methods = vec![route.method.as_str()];
            if route.method == Method::GET {
                methods.push("HEAD");
            }
            for method in methods {
                let answer = match caller {
                    "nobody" => server.send(method, &path, &[], b"").await,
                    _ => ask(&server, caller, method, &path).await,
                };
                let context = format!("{method} {path} by {caller}: {answer:?}");
                match expected {
                    Met::Refused(status, _) if method == "HEAD" => {
                        assert_eq!(answer.status, status, "{context}");
                    }
                    Met::Refused(status, slug) => {
                        answer.is_problem(status, slug);
                    }
                    Met::LetIn => {
                        assert!(![401, 403].contains(&answer.status), "{context}");
                        assert!(answer.status < 500, "{context}");
                    }
                }
                let challenge = answer.header("www-authenticate");
                assert_eq!(
                    challenge.is_some(),
                    matches!(expected, Met::Refused(401 | 403, _)),
                    "{context}"
                );
            }
            if !matches!(expected, Met::LetIn) {
                let job = ask(&server, "admin", "GET", &format!("/v1/jobs/{id}")).await;
                assert_eq!(job.json()["state"], "ready", "{caller} changed a job");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_sent_as_the_rfc_says_and_in_no_other_way() {
    let server = with_tokens(tokens()).await;
    for field in [
        "Bearer read-secret",
        "bearer read-secret",
        "BEARER   read-secret",
    ] {
        let answer = server
            .get_with("/v1/jobs", &[("authorization", field)])
            .await;
        assert_eq!(answer.status, 200, "{field}: {answer:?}");
    }
    let bare = "Bearer realm=\"anteroom\"";
    let invalid = "Bearer realm=\"anteroom\", error=\"invalid_token\"";
    for (fields, challenge) in [
        (&[][..], bare),
        (&["Basic cmVhZDpyZWFkLXNlY3JldA=="], bare),
        (&["Bearer"], bare),
        (&["Bearer "], bare),
        (&["read-secret"], bare),
        (&["Bearerread-secret"], bare),
        (&["Bearer nonsense"], invalid),
        (&["Bearer read-secre"], invalid),
        (&["Bearer read-secrets"], invalid),
        (&["Bearer Read-Secret"], invalid),
        (&["Bearer read-secret", "Bearer read-secret"], invalid),
    ] {
        let headers: Vec<_> = fields
            .iter()
            .map(|field| ("authorization", *field))
            .collect();
        let answer = server.get_with("/v1/jobs", &headers).await;
        let problem = answer.is_problem(401, "unauthorized");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(challenge),
            "{fields:?}"
        );
        assert!(!problem.to_string().contains("secre"), "{problem}");
    }
    for query in ["access_token=read-secret", "token=read-secret"] {
        let answer = server.get(&format!("/v1/jobs?{query}")).await;
        answer.is_problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_refusal_names_the_scope_that_is_needed() {
    let server = with_tokens(tokens()).await;
    let answer = ask(&server, "read", "POST", "/v1/tasks/echo/jobs").await;
    let problem = answer.is_problem(403, "forbidden");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"anteroom\", error=\"insufficient_scope\", scope=\"submit\"")
    );
    assert_eq!(
        problem["detail"],
        "the token read covers read; this needs submit"
    );
}

/// The head alone is sent: an answer comes only if nobody waits for the body.
#[tokio::test]
async fn the_token_is_looked_at_before_the_body_and_before_all_else() {
    let mut tokens = tokens();
    tokens[0].rate_limit = Some(rate(1, Duration::from_mins(1)));
    let server = with_tokens(tokens).await;
    let head_alone = async |path: &str, authorization: &str| {
        let mut connection = server.connect().await;
        let headers = [("authorization", authorization), ("content-length", "5")];
        connection.request("POST", path, &headers, b"").await;
        connection.answer(false).await
    };
    for path in ["/v1/tasks/echo/jobs?priority=99", "/v1/tasks/nope/call"] {
        let answer = head_alone(path, "Bearer nonsense").await;
        answer.is_problem(401, "unauthorized");
        let answer = head_alone(path, "Bearer read-secret").await;
        answer.is_problem(403, "forbidden");
    }
    let path = format!("/v1/tasks/{TASK}/jobs");
    assert_eq!(ask(&server, "submit", "POST", &path).await.status, 202);
    let answer = head_alone(&path, "Bearer submit-secret").await;
    answer.is_problem(429, "rate-limited");
}

#[tokio::test]
async fn under_v1_only_tokens_learn_what_is_not_there() {
    let server = with_tokens(tokens()).await;
    for (method, path) in [
        ("GET", "/v1"),
        ("GET", "/v1/"),
        ("GET", "/v1/nowhere"),
        ("PUT", "/v1/jobs"),
        ("OPTIONS", "/v1/jobs"),
    ] {
        let answer = server.send(method, path, &[], b"").await;
        answer.is_problem(401, "unauthorized");
        let answer = ask(&server, "work", method, path).await;
        assert!([404, 405].contains(&answer.status), "{answer:?}");
    }
    server
        .get("/nowhere")
        .await
        .is_problem(404, "unknown-route");
    server
        .get("/v1nowhere")
        .await
        .is_problem(404, "unknown-route");
    let answer = server.post("/livez").await;
    answer.is_problem(405, "method-not-allowed");
}

#[tokio::test]
async fn while_a_token_is_replaced_both_are_taken() {
    let mut replaced = token("web", &[Scope::Read], None);
    replaced.sha256.push(Sha256::digest("new").into());
    let server = with_tokens(vec![token("other", &[Scope::Work], None), replaced]).await;
    for text in ["web-secret", "new"] {
        let field = format!("Bearer {text}");
        let headers = [("authorization", field.as_str())];
        let answer = server.get_with("/v1/tasks", &headers).await;
        assert_eq!(answer.status, 200, "{text}");
    }
}

#[tokio::test]
async fn a_token_that_submits_sees_its_job_in_the_answer_and_nowhere_else() {
    let server = with_tokens(tokens()).await;
    let headers = [
        ("authorization", "Bearer submit-secret"),
        ("prefer", "wait=30"),
    ];
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &headers, b"x")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["state"], "succeeded");
    let path = answer.json()["links"]["self"].as_str().unwrap().to_owned();
    let answer = ask(&server, "submit", "GET", &path).await;
    answer.is_problem(403, "forbidden");
    let answer = server
        .send("POST", "/v1/tasks/echo/call", &headers, b"x")
        .await;
    assert_eq!((answer.status, answer.text()), (200, "x"));
    let id = submitted(&server).await;
    let answer = ask(&server, "submit", "POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.json()["state"], "cancelled");
}

#[tokio::test]
async fn jobs_of_other_tasks_are_not_there() {
    let server = with_tokens(tokens()).await;
    let (foreign, gone) = (submitted(&server).await, submitted(&server).await);
    let path = format!("/v1/jobs/{gone}");
    ask(&server, "admin", "POST", &format!("{path}/cancel")).await;
    assert_eq!(ask(&server, "admin", "DELETE", &path).await.status, 204);
    ask(&server, "admin", "GET", &path)
        .await
        .is_problem(410, "job-expired");
    let never = "019abc00-0000-7000-8000-000000000000";
    for (method, rest) in [
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/input"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ] {
        let mut said = Vec::new();
        for id in [&foreign, &gone, never] {
            let path = format!("/v1/jobs/{id}{rest}");
            let answer = ask(&server, "other-task", method, &path).await;
            answer.is_problem(404, "unknown-job");
            assert_eq!(answer.header("etag"), None);
            said.push(answer.text().replace(id, "ID"));
        }
        assert!(said.iter().all(|one| *one == said[0]), "{said:#?}");
    }
    let job = ask(&server, "same-task", "GET", &format!("/v1/jobs/{foreign}")).await;
    assert_eq!(job.json()["state"], "ready", "nobody touched it");
}

#[tokio::test]
async fn tasks_and_lists_are_of_what_a_token_is_for() {
    let server = with_tokens(tokens()).await;
    let id = submitted(&server).await;
    let mine = ask(&server, "other-task", "POST", "/v1/tasks/hold/jobs").await;
    let mine = mine.json()["id"].clone();
    let ids = async |token: &str, query: &str| {
        let list = ask(&server, token, "GET", &format!("/v1/jobs{query}")).await;
        let list = list.json();
        let jobs = list["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("read", "").await, [mine.clone(), json!(id)]);
    assert_eq!(ids("same-task", "").await, [mine.clone(), json!(id)]);
    assert_eq!(ids("other-task", "").await, [mine]);
    assert!(ids("other-task", "?task=pulled").await.is_empty());
    let names = async |token: &str| {
        let tasks = ask(&server, token, "GET", "/v1/tasks").await.json();
        let tasks = tasks["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("same-task").await, [json!("hold"), json!("pulled")]);
    assert_eq!(names("other-task").await, [json!("hold")]);
    assert!(names("read").await.len() > 2);
    let mut said = Vec::new();
    for task in ["pulled", "nope"] {
        let answer = ask(&server, "other-task", "GET", &format!("/v1/tasks/{task}")).await;
        answer.is_problem(404, "unknown-task");
        said.push(answer.text().replace(task, "TASK"));
        let path = format!("/v1/tasks/{task}/jobs");
        let answer = ask(&server, "other-task", "POST", &path).await;
        answer.is_problem(403, "forbidden");
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn calls_for_many_jobs_reach_those_of_its_tasks_alone() {
    let server = with_tokens(tokens()).await;
    let foreign = submitted(&server).await;
    let mine = submit_to(&server, "other-task", "hold/jobs?delay=1h", &[]).await;
    for (method, path, matched) in [
        ("POST", "/v1/jobs/cancel?task=pulled", 0),
        ("POST", "/v1/jobs/cancel?queue=default", 1),
        ("POST", "/v1/jobs/retry?task=pulled", 0),
        ("DELETE", "/v1/jobs?queue=default", 1),
    ] {
        let answer = ask(&server, "other-task", method, path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["matched"], matched, "{method} {path}");
    }
    // What the token allows is no filter of the client's own.
    let answer = ask(&server, "other-task", "POST", "/v1/jobs/cancel").await;
    answer.is_problem(400, "invalid-parameter");
    let job = ask(&server, "admin", "GET", &format!("/v1/jobs/{mine}")).await;
    job.is_problem(410, "job-expired");
    let job = ask(&server, "admin", "GET", &format!("/v1/jobs/{foreign}")).await;
    assert_eq!(job.json()["state"], "ready");
}

#[tokio::test]
async fn the_stream_of_all_jobs_is_of_its_tasks_alone() {
    let server = with_tokens(tokens()).await;
    let mut stream = server.connect().await;
    let headers = [("authorization", "Bearer other-task-secret")];
    let answer = stream.send("GET", "/v1/events", &headers, b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let foreign = submitted(&server).await;
    let mine = submit_to(&server, "other-task", "hold/jobs?delay=1h", &[]).await;
    let mut text = String::new();
    while !text.contains(&mine) {
        let chunk = stream.chunk().await.unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(!text.contains(&foreign), "{text}");
}

/// Submits a job with the token of this name, and returns its id.
async fn submit_to(server: &Server, token: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let authorization = format!("Bearer {token}-secret");
    let headers = [&[("authorization", authorization.as_str())], headers].concat();
    let path = format!("/v1/tasks/{target}");
    let answer = server.send("POST", &path, &headers, b"x").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_keys_of_two_tokens_are_two_keys() {
    let server = with_tokens(tokens()).await;
    let key = [("idempotency-key", "\"same\"")];
    let one = submit_to(&server, "submit", "pulled/jobs", &key).await;
    assert_eq!(submit_to(&server, "submit", "pulled/jobs", &key).await, one);
    assert_ne!(submit_to(&server, "admin", "pulled/jobs", &key).await, one);
}

fn rate(limit: u32, period: Duration) -> RateLimit {
    let limit = NonZeroU32::new(limit).unwrap();
    RateLimit { limit, period }
}

#[tokio::test]
async fn a_token_submits_at_its_rate() {
    let mut web = token("web", &[Scope::Submit, Scope::Read], None);
    web.rate_limit = Some(rate(3, Duration::from_mins(1)));
    let other = token("other", &[Scope::Submit], None);
    let server = with_tokens(vec![web, other]).await;
    let policy = Some("\"submit\";q=3;w=60");
    let mut id = String::new();
    for (path, status, rest) in [
        ("/v1/tasks/pulled/jobs", 202, "\"submit\";r=2;t=20"),
        ("/v1/tasks/pulled/call", 202, "\"submit\";r=1;t=40"),
        // What is refused for another reason has come in, too.
        ("/v1/tasks/nope/jobs", 404, "\"submit\";r=0;t=60"),
    ] {
        let answer = ask(&server, "web", "POST", path).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("ratelimit"), Some(rest));
        assert_eq!(answer.header("ratelimit-policy"), policy);
        if status == 202 {
            answer.json()["id"].as_str().unwrap().clone_into(&mut id);
        }
    }
    let answer = ask(&server, "web", "POST", "/v1/tasks/pulled/jobs").await;
    answer.is_problem(429, "rate-limited");
    assert_eq!(answer.header("retry-after"), Some("20"));
    assert_eq!(answer.header("ratelimit"), Some("\"submit\";r=0;t=60"));
    assert_eq!(answer.header("ratelimit-policy"), policy);

    let answer = ask(&server, "web", "GET", "/v1/jobs").await;
    assert_eq!(answer.json()["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(answer.header("ratelimit"), None, "reading has no rate");
    let answer = ask(&server, "web", "POST", &format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(answer.status, 200, "a cancel has none either: {answer:?}");
    let answer = ask(&server, "other", "POST", "/v1/tasks/pulled/jobs").await;
    assert_eq!(answer.status, 202, "another token has its own");
    assert_eq!(answer.header("ratelimit"), None);

    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_millis(19_500));
    let answer = ask(&server, "web", "POST", "/v1/tasks/pulled/jobs").await;
    answer.is_problem(429, "rate-limited");
    assert_eq!(answer.header("retry-after"), Some("1"), "rounded up");
    hand.advance(Duration::from_millis(500));
    let answer = ask(&server, "web", "POST", "/v1/tasks/pulled/jobs").await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("ratelimit"), Some("\"submit\";r=0;t=60"));
}

#[tokio::test]
async fn a_mounted_router_has_tokens_too() {
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            tokens: tokens(),
            ..RouterOptions::default()
        },
        around: |router| Router::new().nest("/work", router),
        ..Wanted::default()
    })
    .await;
    for path in ["/work/v1/jobs", "/work/v1/nowhere", "/work/v1"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.json()["type"], "/work/problems/unauthorized");
        let page = server.get("/work/problems/unauthorized").await;
        assert_eq!(page.status, 200);
    }
    assert_eq!(server.get("/work/livez").await.status, 200);
    let answer = ask(&server, "read", "GET", "/work/v1/jobs").await;
    assert_eq!(answer.status, 200);
}
