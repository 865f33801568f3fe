//! Workers that pull: leases, what their holders say, and what a worker changes that holds none.

use crate::harness::{Answer, Server, Wanted, within};
use anteroom::Options;
use anteroom::core::{Name, ShownState, State};
use anteroom_server::http::{RouterOptions, Scope, Token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn say(server: &Server, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    server.send("POST", path, &[JSON], body.as_bytes()).await
}

/// Leases what `body` asks for.
async fn leases(server: &Server, body: &Value) -> Vec<Value> {
    let answer = say(server, "/v1/leases", body).await;
    if answer.status == 204 {
        assert!(answer.body.is_empty(), "{answer:?}");
        return Vec::new();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()["leases"].as_array().unwrap().clone()
}

/// Leases the one job that is there.
async fn lease(server: &Server) -> Value {
    let mut leases = leases(server, &json!({})).await;
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

fn token(lease: &Value) -> &str {
    lease["lease"].as_str().unwrap()
}

fn path(lease: &Value, call: &str) -> String {
    format!("/v1/leases/{}/{call}", token(lease))
}

async fn complete(server: &Server, lease: &Value, result: &[u8]) -> Answer {
    let headers = [("content-type", "text/plain")];
    let path = path(lease, "complete");
    server.send("POST", &path, &headers, result).await
}

/// Sees that nothing that the holder says is taken, and that it changes nothing.
async fn is_lost(server: &Server, lease: &Value) {
    let id = lease["job"]["id"].as_str().unwrap();
    let job = format!("/v1/jobs/{id}");
    let before = server.get(&job).await;
    let said = [
        complete(server, lease, b"late").await,
        say(server, &path(lease, "fail"), &json!({"error": "late"})).await,
        say(server, &path(lease, "extend"), &json!({"log": ["late"]})).await,
        server.post(&path(lease, "release")).await,
    ];
    for answer in said {
        answer.is_problem(409, "lease-lost");
    }
    let settles = ["complete", "fail", "extend", "release"].map(|action| {
        let error = (action == "fail").then_some("late");
        let mut settle = json!({"lease": token(lease), "action": action});
        if let Some(error) = error {
            settle["error"] = error.into();
        }
        settle
    });
    let answer = say(server, "/v1/leases/settle", &json!(settles)).await;
    for result in answer.json()["results"].as_array().unwrap() {
        assert_eq!(result["status"], 409, "{result}");
        assert_eq!(result["problem"]["type"], "/problems/lease-lost");
    }
    let after = server.get(&job).await;
    assert_eq!(after.body, before.body, "a lost lease changed something");
    assert_eq!(after.header("etag"), before.header("etag"));
}

/// Lets time go by, second by second, until upkeep has taken a running job back.
async fn upkeep(server: &Server, id: &str) {
    let id = id.parse().unwrap();
    within(async {
        loop {
            let job = server.engine.store().get(id).await.unwrap().here().unwrap();
            if job.status.state != State::Running {
                return;
            }
            server
                .hand
                .as_ref()
                .unwrap()
                .advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lease_has_the_job_and_its_input() {
    let server = Server::start().await;
    let json = [JSON];
    let submit = "/v1/tasks/pulled/jobs";
    let input = b"{ \"a\" : 1.0 }";
    server.send("POST", submit, &json, input).await;
    server.send("POST", submit, &[], b"\x00\xff").await;
    let asked = json!({"tasks": ["pulled"], "max": 5, "lease": "45s", "worker": "w1"});
    let leased = leases(&server, &asked).await;
    assert_eq!(leased.len(), 2);
    let [first, second] = &leased[..] else {
        unreachable!()
    };
    assert_eq!(first["job"]["state"], "running");
    assert_eq!(first["job"]["attempt"], 1);
    assert_eq!(first["content_type"], "application/json");
    assert_eq!(first["input"], json!({"a": 1.0}));
    assert_eq!(first.get("input_base64"), None);
    assert_eq!(second["content_type"], "application/octet-stream");
    assert_eq!(second["input_base64"], "AP8=");
    assert_eq!(second.get("input"), None);
    assert!(first["claim"].as_u64() < second["claim"].as_u64());
    assert!(first["expires_at"].as_str().unwrap() > first["job"]["started_at"].as_str().unwrap());
    assert_ne!(token(first), token(second));
    assert!(
        leases(&server, &asked).await.is_empty(),
        "no job is leased twice"
    );
}

#[tokio::test]
async fn json_is_handed_on_as_the_bytes_that_it_was() {
    let server = Server::start().await;
    let input = br#"{ "a" : 1.0e0, "a":  [ ]  }"#;
    let submit = "/v1/tasks/pulled/jobs";
    server.send("POST", submit, &[JSON], input).await;
    let answer = say(&server, "/v1/leases", &json!({})).await;
    let text = answer.text();
    assert!(text.contains(std::str::from_utf8(input).unwrap()), "{text}");
}

#[tokio::test]
async fn without_a_job_there_is_no_content() {
    let server = Server::start().await;
    let answer = server.post("/v1/leases").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("vary"), Some("Prefer"));
    let wait = [("prefer", "wait=1")];
    let answer = server.send("POST", "/v1/leases", &wait, b"").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
}

#[tokio::test]
async fn a_wait_ends_with_the_first_job() {
    let server = Server::start().await;
    let mut worker = server.connect().await;
    let wait = [("prefer", "wait=60")];
    worker.request("POST", "/v1/leases", &wait, b"").await;
    let id = server.submit("pulled", "").await;
    let answer = worker.answer(false).await;
    assert_eq!(answer.json()["leases"][0]["job"]["id"], id);
}

#[tokio::test]
async fn a_worker_that_goes_away_while_it_waits_takes_nothing() {
    let server = Server::start().await;
    let mut gone = server.connect().await;
    let wait = [("prefer", "wait=60")];
    gone.request("POST", "/v1/leases", &wait, b"").await;
    drop(gone);
    let id = server.submit("pulled", "").await;
    // Taken by the one that is there, at once or as soon as it is handed back.
    let answer = server.send("POST", "/v1/leases", &wait, b"").await;
    let leased = answer.json()["leases"][0].clone();
    assert_eq!(leased["job"]["id"], id);
    assert_eq!(leased["job"]["attempt"], 1, "it cost no attempt");
}

#[tokio::test]
async fn leases_are_of_the_tasks_and_queues_that_were_asked_for() {
    let server = Server::start().await;
    for queue in ["a", "b", "c"] {
        server.submit("pulled", &format!("?queue={queue}")).await;
    }
    let asked = json!({"queues": ["a", "c"], "max": 9, "tasks": null});
    let leased = leases(&server, &asked).await;
    let queues: Vec<_> = leased
        .iter()
        .map(|one| one["job"]["queue"].clone())
        .collect();
    assert_eq!(queues, ["a", "c"]);
    assert!(leases(&server, &json!({"queues": ["d"]})).await.is_empty());
}

#[tokio::test]
async fn only_tasks_that_are_left_to_workers_are_leased() {
    let server = Server::start().await;
    for task in ["echo", "nothing"] {
        let answer = say(&server, "/v1/leases", &json!({"tasks": ["pulled", task]})).await;
        let problem = answer.is_problem(422, "not-a-pull-task");
        assert!(problem["detail"].as_str().unwrap().contains(task));
    }
    let asked = json!({"tasks": ["anteroom.callback"]});
    let answer = say(&server, "/v1/leases", &asked).await;
    answer.is_problem(404, "unknown-task");
    let asked = json!({"queues": ["anteroom.callback"]});
    let answer = say(&server, "/v1/leases", &asked).await;
    answer.is_problem(404, "unknown-queue");
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told_and_nothing_is_leased() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    for body in [
        json!([]),
        json!({"max": 0}),
        json!({"max": 1_001}),
        json!({"lease": "2h"}),
        json!({"queues": vec!["default"; 1_001]}),
        json!({"task": "pulled"}),
        json!({"worker": ""}),
    ] {
        let answer = say(&server, "/v1/leases", &body).await;
        let problem = answer.is_problem(422, "invalid-body");
        assert!(problem["errors"][0]["pointer"].is_string(), "{problem}");
    }
    let answer = server.send("POST", "/v1/leases", &[JSON], b"{").await;
    answer.is_problem(400, "malformed-json");
    let answer = server.send("POST", "/v1/leases", &[], b"{}").await;
    answer.is_problem(415, "unsupported-media-type");
    server
        .post("/v1/leases?max=1")
        .await
        .is_about_parameter("max");
    server.reach(&id, ShownState::Ready).await;
}

#[tokio::test]
async fn a_completed_job_has_the_result_byte_for_byte() {
    let server = Server::start().await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let answer = complete(&server, &leased, b"\x00done\xff").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let job = answer.json();
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    assert_eq!(
        job["result"],
        json!({"content_type": "text/plain", "bytes": 6})
    );
    let result = job["links"]["result"].as_str().unwrap();
    let answer = server.get(result).await;
    assert_eq!(answer.body, b"\x00done\xff");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn a_job_waits_for_its_end_also_where_a_worker_brings_it() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let mut client = server.connect().await;
    let wait = [("prefer", "wait=60")];
    let result = format!("/v1/jobs/{id}/result");
    client.request("GET", &result, &wait, b"").await;
    complete(&server, &leased, b"done").await;
    assert_eq!(client.answer(false).await.body, b"done");
}

#[tokio::test]
async fn the_same_settle_again_is_answered_as_the_first_time() {
    let server = Server::start().await;
    for call in ["complete", "fail", "release"] {
        server.submit("pulled", "").await;
        let leased = lease(&server).await;
        let path = path(&leased, call);
        let body: &[u8] = match call {
            "fail" => br#"{"error": "broken", "retry": false}"#,
            "complete" => br#"{"n": 1}"#,
            _ => b"",
        };
        let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
        let first = server.send("POST", &path, headers, body).await;
        let again = server.send("POST", &path, headers, body).await;
        assert_eq!(again.status, first.status, "{call}: {again:?}");
        assert_eq!(again.body, first.body, "{call}");
        // Otherwise it is late.
        let other = complete(&server, &leased, b"other").await;
        other.is_problem(409, "lease-lost");
        let other = json!({"error": "another"});
        let other = say(&server, &self::path(&leased, "fail"), &other).await;
        other.is_problem(409, "lease-lost");
        let id = leased["job"]["id"].as_str().unwrap();
        server.post(&format!("/v1/jobs/{id}/cancel")).await;
    }
}

#[tokio::test]
async fn a_settle_is_known_again_until_another_attempt_begins() {
    let server = Server::start().await;
    server.submit("pulled", "").await;
    let first = lease(&server).await;
    let failed = json!({"error": "broken", "retry_after": "0s"});
    let fail = path(&first, "fail");
    assert_eq!(say(&server, &fail, &failed).await.status, 200);
    assert_eq!(say(&server, &fail, &failed).await.status, 200);
    let second = lease(&server).await;
    assert!(second["claim"].as_u64() > first["claim"].as_u64());
    assert_eq!(second["job"]["attempt"], 2);
    say(&server, &fail, &failed)
        .await
        .is_problem(409, "lease-lost");
    is_lost(&server, &first).await;
    assert_eq!(complete(&server, &second, b"done").await.status, 200);
    is_lost(&server, &first).await;
}

#[tokio::test]
async fn a_failure_is_tried_again_as_the_worker_says() {
    let server = Server::by_hand().await;
    let started = server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let body = json!({"error": "not yet", "retry_after": "10s"});
    let job = say(&server, &path(&leased, "fail"), &body).await.json();
    assert_eq!(
        (&job["id"], &job["state"]),
        (&json!(started), &json!("scheduled"))
    );
    let error = &job["errors"][0];
    assert_eq!(error["kind"], "error");
    assert_eq!(
        (&error["message"], &error["attempt"]),
        (&json!("not yet"), &json!(1))
    );
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_millis(9_999));
    assert!(leases(&server, &json!({})).await.is_empty(), "never early");
    hand.advance(Duration::from_millis(1));
    let leased = lease(&server).await;
    // By the task's policy: a second, and up to a tenth more or less.
    let body = json!({"error": "still not"});
    let job = say(&server, &path(&leased, "fail"), &body).await.json();
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&json!("scheduled"), &json!(2))
    );
    hand.advance(Duration::from_secs(3));
    let leased = lease(&server).await;
    let body = json!({"error": "never", "retry": false});
    let job = say(&server, &path(&leased, "fail"), &body).await.json();
    assert_eq!(
        (&job["state"], &job["done"]),
        (&json!("failed"), &json!(true))
    );
    assert_eq!(job["error"]["message"], "never");
}

#[tokio::test]
async fn an_extended_lease_is_held_for_longer() {
    let server = Server::by_hand().await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_secs(29));
    let extend = path(&leased, "extend");
    let held = say(&server, &extend, &json!({"lease": "1m"})).await;
    assert_eq!(held.status, 200, "{held:?}");
    let held = held.json();
    assert_eq!(held["cancel_requested"], false);
    assert!(held["expires_at"].as_str() > leased["expires_at"].as_str());
    hand.advance(Duration::from_secs(59));
    // A shorter one takes nothing away.
    let again = say(&server, &extend, &json!({"lease": "1s"})).await.json();
    assert_eq!(again["expires_at"], held["expires_at"]);
    assert_eq!(complete(&server, &leased, b"done").await.status, 200);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_lost_and_its_job_goes_to_another() {
    let server = Server::by_hand().await;
    server.submit("pulled", "").await;
    let late = lease(&server).await;
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_secs(30));
    is_lost(&server, &late).await;
    // Upkeep gives it back, for after the wait of the policy.
    let id = late["job"]["id"].as_str().unwrap().to_owned();
    upkeep(&server, &id).await;
    hand.advance(Duration::from_secs(2));
    let current = lease(&server).await;
    assert!(current["claim"].as_u64() > late["claim"].as_u64());
    assert_eq!(current["job"]["attempt"], 2);
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["errors"][0]["kind"], "lease_expired");
    is_lost(&server, &late).await;
    assert_eq!(complete(&server, &current, b"done").await.status, 200);
}

#[tokio::test]
async fn a_timeout_bounds_a_pulled_attempt() {
    let server = Server::by_hand().await;
    let id = server.submit("pulled", "?timeout=45s&max_attempts=1").await;
    let leased = lease(&server).await;
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_secs(20));
    let extend = path(&leased, "extend");
    let held = say(&server, &extend, &json!({"lease": "1h"})).await.json();
    let started_at = leased["job"]["started_at"].as_str().unwrap();
    let parse = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let until = parse(held["expires_at"].as_str().unwrap());
    assert_eq!(until.as_second() - parse(started_at).as_second(), 45);
    hand.advance(Duration::from_secs(25));
    is_lost(&server, &leased).await;
    upkeep(&server, &id).await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["error"]["kind"], "timeout");
}

#[tokio::test]
async fn a_released_job_costs_no_attempt() {
    let server = Server::start().await;
    let id = server.submit("pulled", "?max_attempts=1").await;
    for _ in 0..3 {
        let leased = lease(&server).await;
        assert_eq!(leased["job"]["attempt"], 1);
        let answer = server.post(&path(&leased, "release")).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        let job = server.get(&format!("/v1/jobs/{id}")).await.json();
        assert_eq!(
            (&job["state"], &job["attempt"]),
            (&json!("ready"), &json!(0))
        );
    }
}

#[tokio::test]
async fn a_worker_learns_of_a_cancel_when_it_extends() {
    let server = Server::start().await;
    for (call, state) in [
        ("complete", "succeeded"),
        ("fail", "cancelled"),
        ("release", ""),
    ] {
        let id = server.submit("pulled", "").await;
        let leased = lease(&server).await;
        let answer = server.post(&format!("/v1/jobs/{id}/cancel")).await;
        assert_eq!(answer.status, 202, "the attempt is told");
        let extend = path(&leased, "extend");
        let held = say(&server, &extend, &json!({})).await.json();
        assert_eq!(held["cancel_requested"], true);
        let ended = match call {
            "complete" => complete(&server, &leased, b"done").await,
            "fail" => {
                say(
                    &server,
                    &path(&leased, "fail"),
                    &json!({"error": "stopped"}),
                )
                .await
            }
            _ => server.post(&path(&leased, "release")).await,
        };
        let job = server.get(&format!("/v1/jobs/{id}")).await.json();
        let state = if state.is_empty() { "cancelled" } else { state };
        assert_eq!(job["state"], state, "{call}: {ended:?}");
    }
}

#[tokio::test]
async fn progress_and_lines_of_a_log_are_kept_with_the_job() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let body = json!({"progress": {"fraction": 0.5, "message": "half"}, "log": ["one\ntwo"]});
    let answer = say(&server, &path(&leased, "extend"), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["progress"], json!({"fraction": 0.5, "message": "half"}));
    complete(&server, &leased, b"done").await;
    let mut stream = server.connect().await;
    stream
        .request("GET", &format!("/v1/jobs/{id}/events"), &[], b"")
        .await;
    let _head = stream.answer(false).await;
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let kinds: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(kinds, ["state", "state", "log", "log", "progress", "state"]);
    assert!(text.contains(r#""stream":"log","line":"two""#), "{text}");
}

#[tokio::test]
async fn a_result_that_is_too_large_is_refused_and_the_lease_is_kept() {
    let server = Server::wanted(Wanted {
        options: Options {
            result_bytes_max: 4,
            ..Options::default()
        },
        ..Wanted::default()
    })
    .await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let answer = complete(&server, &leased, b"12345").await;
    answer.is_problem(413, "payload-too-large");
    let body = json!([{"lease": token(&leased), "action": "complete", "result": 12_345}]);
    let answer = say(&server, "/v1/leases/settle", &body).await;
    assert_eq!(answer.json()["results"][0]["status"], 413);
    assert_eq!(complete(&server, &leased, b"1234").await.status, 200);
}

#[tokio::test]
async fn many_settles_are_made_each_on_its_own() {
    let server = Server::start().await;
    for _ in 0..5 {
        server.submit("pulled", "").await;
    }
    let leased = leases(&server, &json!({"max": 5})).await;
    let body = json!([
        {"lease": token(&leased[0]), "action": "complete", "result": {"n": 1}},
        {"lease": token(&leased[1]), "action": "complete", "result_base64": "AP8=",
         "content_type": "image/x"},
        {"lease": token(&leased[2]), "action": "fail", "error": "broken", "retry": false},
        {"lease": "nonsense", "action": "release"},
        {"lease": token(&leased[3]), "action": "extend", "extend_by": "1m",
         "progress": {"fraction": 0.5}},
        {"lease": token(&leased[3]), "action": "done"},
        {"lease": token(&leased[4]), "action": "release"},
        {"lease": token(&leased[0]), "action": "complete", "result": {"n": 1}},
        {"lease": token(&leased[0]), "action": "fail", "error": "no"},
        7,
    ]);
    let answer = say(&server, "/v1/leases/settle", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].as_array().unwrap().clone();
    let statuses: Vec<_> = results
        .iter()
        .map(|one| one["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 200, 200, 409, 200, 422, 200, 200, 409, 422]);
    for (result, settle) in results.iter().zip(body.as_array().unwrap()) {
        assert_eq!(result["lease"], settle["lease"], "{result}");
        assert_eq!(result.get("problem").is_some(), result["status"] != 200);
    }
    assert_eq!(results[4]["cancel_requested"], false);
    assert!(results[4]["expires_at"].is_string());
    assert_eq!(results[5]["problem"]["errors"][0]["pointer"], "#/5/action");
    let mut states = Vec::new();
    for one in &leased {
        let id = one["job"]["id"].as_str().unwrap();
        let job = server.get(&format!("/v1/jobs/{id}")).await.json();
        states.push(job["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        states,
        ["succeeded", "succeeded", "failed", "running", "ready"]
    );
    let result = leased[1]["job"]["links"]["result"].as_str().unwrap();
    let answer = server.get(result).await;
    assert_eq!((answer.body, answer.status), (b"\x00\xff".to_vec(), 200));
}

#[tokio::test]
async fn a_body_of_settles_is_an_array_of_a_thousand_at_most() {
    let server = Server::start().await;
    let many = vec![json!({"lease": "x", "action": "release"}); 1_001];
    for body in [json!({}), json!(many)] {
        let answer = say(&server, "/v1/leases/settle", &body).await;
        answer.is_problem(422, "invalid-body");
    }
    let answer = server
        .send("POST", "/v1/leases/settle", &[JSON], b"[")
        .await;
    answer.is_problem(400, "malformed-json");
    let answer = server.send("POST", "/v1/leases/settle", &[], b"[]").await;
    answer.is_problem(415, "unsupported-media-type");
    let answer = say(&server, "/v1/leases/settle", &json!([])).await;
    assert_eq!(answer.json(), json!({"results": []}));
    let answer = say(&server, "/v1/leases/settle", &json!(many[..1_000])).await;
    assert_eq!(answer.json()["results"].as_array().unwrap().len(), 1_000);
}

fn work(name: &str, tasks: Option<&[&str]>) -> Token {
    Token {
        name: Name::new(name).unwrap(),
        sha256: vec![Sha256::digest(name).into()],
        scopes: vec![Scope::Work, Scope::Submit],
        tasks: tasks.map(|tasks| tasks.iter().map(|it| Name::new(it).unwrap()).collect()),
        rate_limit: None,
    }
}

#[tokio::test]
async fn a_lease_is_its_tokens_alone() {
    let server = Server::wanted(Wanted {
        router: RouterOptions {
            tokens: vec![
                work("one", None),
                work("two", None),
                work("few", Some(&["hold"])),
            ],
            ..RouterOptions::default()
        },
        ..Wanted::default()
    })
    .await;
    let ask = async |token: &str, path: &str, body: &Value| {
        let authorization = format!("Bearer {token}");
        let headers = [JSON, ("authorization", authorization.as_str())];
        let body = body.to_string();
        server.send("POST", path, &headers, body.as_bytes()).await
    };
    ask("one", "/v1/tasks/pulled/jobs", &json!(1)).await;
    let answer = ask("few", "/v1/leases", &json!({"tasks": ["pulled"]})).await;
    answer.is_problem(403, "forbidden");
    // It is for no task that is left to workers: there is nothing to do.
    let answer = ask("few", "/v1/leases", &json!({})).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let answer = ask("one", "/v1/leases", &json!({})).await;
    let leased = answer.json()["leases"][0].clone();
    for other in ["two", "few"] {
        let answer = ask(other, &path(&leased, "complete"), &json!(2)).await;
        answer.is_problem(409, "lease-lost");
        let answer = ask(other, &path(&leased, "extend"), &json!({})).await;
        answer.is_problem(409, "lease-lost");
    }
    let answer = ask("one", &path(&leased, "complete"), &json!(2)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_token_that_was_altered_is_no_lease() {
    let server = Server::start().await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let good = token(&leased).to_owned();
    let mut altered = good.clone();
    let last = altered.pop().unwrap();
    altered.push(if last == 'A' { 'B' } else { 'A' });
    let long = "A".repeat(4_000);
    for text in [altered.as_str(), "x", "%20", "é", &good[1..], &long] {
        let forged = json!({"lease": text, "job": leased["job"]});
        let forged_path = path(&forged, "complete");
        let answer = server.send("POST", &forged_path, &[], b"forged").await;
        answer.is_problem(409, "lease-lost");
    }
    assert_eq!(complete(&server, &leased, b"done").await.status, 200);
}

#[tokio::test]
async fn a_draining_server_gives_no_leases_and_takes_settles() {
    let server = Server::start().await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let mut waiting = server.connect().await;
    let wait = [("prefer", "wait=60")];
    waiting.request("POST", "/v1/leases", &wait, b"").await;
    server.engine.drain();
    let answer = waiting.answer(false).await;
    answer.is_problem(503, "draining");
    answer.says_retry_after();
    let answer = server.post("/v1/leases").await;
    answer.is_problem(503, "draining");
    let held = say(&server, &path(&leased, "extend"), &json!({})).await;
    assert_eq!(held.status, 200, "{held:?}");
    assert_eq!(complete(&server, &leased, b"done").await.status, 200);
}

#[tokio::test]
async fn a_paused_queue_gives_no_leases_and_takes_settles() {
    let server = Server::start().await;
    server.submit("pulled", "").await;
    let leased = lease(&server).await;
    let paused = json!({"paused": true}).to_string();
    server
        .send("PATCH", "/v1/queues/default", &[JSON], paused.as_bytes())
        .await;
    server.submit("pulled", "").await;
    assert!(leases(&server, &json!({})).await.is_empty());
    assert_eq!(complete(&server, &leased, b"done").await.status, 200);
}
