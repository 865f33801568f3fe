//! Reading jobs, results, inputs, lists and tasks.

use crate::harness::{Server, within};
use anteroom::core::ShownState;
use anteroom_server::http::route_table;
use http::Method;
use serde_json::Value;
use std::time::Duration;

fn known(tag: &str) -> [(&str, &str); 1] {
    [("if-none-match", tag)]
}

#[tokio::test]
async fn a_job_has_a_strong_tag_and_says_when_to_come_back() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    server.reach(&id, ShownState::Running).await;
    let path = format!("/v1/jobs/{id}");
    let answer = server.get(&path).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("vary"), Some("Prefer"));
    answer.says_retry_after();
    let tag = answer.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");

    for list in [
        tag.to_owned(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let same = server.get_with(&path, &known(&list)).await;
        assert_eq!(same.status, 304, "{list}");
        assert_eq!(same.header("etag"), Some(tag));
        assert_eq!(same.header("cache-control"), Some("no-cache"));
        assert_eq!(same.header("vary"), Some("Prefer"));
        assert!(same.body.is_empty());
        same.says_retry_after();
    }
    server.gate.open();
    server.reach(&id, ShownState::Succeeded).await;
    let changed = server.get_with(&path, &known(tag)).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag));
    assert_eq!(changed.header("retry-after"), None, "it is done");
}

#[tokio::test]
async fn a_read_with_a_wait_is_answered_when_the_job_is_done() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    let mut waiting = server.connect().await;
    waiting
        .request(
            "GET",
            &format!("/v1/jobs/{id}"),
            &[("prefer", "wait=600")],
            b"",
        )
        .await;
    server.reach(&id, ShownState::Running).await;
    server.gate.open();
    let answer = waiting.answer(false).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), Some("wait=60"));
    assert_eq!(answer.json()["state"], "succeeded");
}

#[tokio::test]
async fn a_conditional_wait_ends_with_the_next_change() {
    let server = Server::by_hand().await;
    let id = server.submit("hold", "?delay=1m").await;
    let path = format!("/v1/jobs/{id}");
    let tag = server.get(&path).await.header("etag").unwrap().to_owned();
    let headers = [("if-none-match", tag.as_str()), ("prefer", "wait=60")];
    let answer = within(async {
        let mut waiting = server.connect().await;
        waiting.request("GET", &path, &headers, b"").await;
        // However early or late the wait begins, the time that it is about comes.
        let advance = async {
            loop {
                server
                    .hand
                    .as_ref()
                    .unwrap()
                    .advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = waiting.answer(false) => answer,
            () = advance => unreachable!(),
        }
    })
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(answer.header("etag"), Some(tag.as_str()));
    assert_ne!(answer.json()["state"], "scheduled");
}

#[tokio::test]
async fn a_conditional_wait_without_a_change_ends_with_304() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    server.reach(&id, ShownState::Running).await;
    let path = format!("/v1/jobs/{id}");
    let tag = server.get(&path).await.header("etag").unwrap().to_owned();
    let headers = [("if-none-match", tag.as_str()), ("prefer", "wait=1")];
    let answer = server.get_with(&path, &headers).await;
    assert_eq!(answer.status, 304);
    assert_eq!(answer.header("etag"), Some(tag.as_str()));
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
}

/// The passage is stored nowhere, and changes the state, the tag and the lists all the same.
#[tokio::test]
async fn scheduled_becomes_ready_by_the_clock() {
    let server = Server::by_hand().await;
    let id = server.submit("pulled", "?delay=10s").await;
    let path = format!("/v1/jobs/{id}");
    let before = server.get(&path).await;
    assert_eq!(before.json()["state"], "scheduled");
    assert_eq!(before.says_retry_after(), 10);
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(10));
    let after = server
        .get_with(&path, &known(before.header("etag").unwrap()))
        .await;
    assert_eq!(after.status, 200);
    assert_eq!(after.json()["state"], "ready");
    assert_eq!(ids(&server.get("/v1/jobs?state=ready").await.json()), [id]);
}

#[tokio::test]
async fn an_unknown_id_is_404_and_a_deleted_one_410() {
    let server = Server::start().await;
    for id in [
        "019aabbc-0000-7000-8000-000000000000",
        "019AABBC-0000-7000-8000-000000000000",
        "nope",
        "1",
        "%20",
    ] {
        for part in ["", "/result", "/input"] {
            let answer = server.get(&format!("/v1/jobs/{id}{part}")).await;
            answer.is_problem(404, "unknown-job");
        }
    }
    let id = server.done("echo", "").await;
    assert_eq!(
        server
            .send("DELETE", &format!("/v1/jobs/{id}"), &[], b"")
            .await
            .status,
        204
    );
    for part in ["", "/result", "/input"] {
        server
            .get(&format!("/v1/jobs/{id}{part}"))
            .await
            .is_problem(410, "job-expired");
    }
}

#[tokio::test]
async fn a_result_is_202_until_it_is_there() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    let path = format!("/v1/jobs/{id}/result");
    let early = server.get(&path).await;
    assert_eq!(early.status, 202);
    assert_eq!(early.json()["id"], id);
    assert_eq!(
        early.header("location"),
        Some(format!("/v1/jobs/{id}").as_str())
    );
    early.says_retry_after();

    let mut waiting = server.connect().await;
    waiting
        .request("GET", &path, &[("prefer", "wait=60")], b"")
        .await;
    server.gate.open();
    let answer = waiting.answer(false).await;
    assert_eq!((answer.status, answer.text()), (200, "input"));
    let tag = answer.header("etag").unwrap();
    let same = server.get_with(&path, &known(tag)).await;
    assert_eq!((same.status, same.header("etag")), (304, Some(tag)));
}

#[tokio::test]
async fn a_result_that_will_not_come_is_409_with_the_error() {
    let server = Server::start().await;
    let failed = server.done("fail", "").await;
    let answer = server.get(&format!("/v1/jobs/{failed}/result")).await;
    let problem = answer.is_problem(409, "job-failed");
    assert_eq!(problem["error"]["message"], "broken beyond repair");
    assert_eq!(problem["error"]["attempt"], 1);

    let cancelled = server.submit("pulled", "").await;
    server.post(&format!("/v1/jobs/{cancelled}/cancel")).await;
    let answer = server.get(&format!("/v1/jobs/{cancelled}/result")).await;
    answer.is_problem(409, "job-cancelled");
}

#[tokio::test]
async fn a_failed_job_shows_its_errors() {
    let server = Server::start().await;
    let id = server.done("fail", "").await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["errors"].as_array().unwrap().len(), 1);
    assert_eq!(job["error"], job["errors"][0]);
    let members: Vec<&String> = job["error"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["at", "attempt", "kind", "message"]);

    let id = server.submit("again", "").await;
    server.reach(&id, ShownState::Scheduled).await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(
        (job["error"].is_null(), &job["attempt"]),
        (true, &1.into()),
        "not its end: {job}"
    );
    assert_eq!(job["errors"][0]["message"], "not this time");
}

#[tokio::test]
async fn a_part_of_a_result_can_be_read() {
    let server = Server::start().await;
    let id = server.done("echo", "").await;
    let path = format!("/v1/jobs/{id}/result");
    let whole = server.get(&path).await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let part = server.get_with(&path, &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status, part.text()), (206, "npu"));
    assert_eq!(part.header("content-range"), Some("bytes 1-3/5"));
    assert_eq!(part.header("content-length"), Some("3"));
    assert_eq!(part.header("etag"), whole.header("etag"));
    assert_eq!(part.header("content-security-policy"), Some("sandbox"));
    let beyond = server.get_with(&path, &[("range", "bytes=5-")]).await;
    beyond.is_problem(416, "range-not-satisfiable");
    assert_eq!(beyond.header("content-range"), Some("bytes */5"));
    let stale = [("range", "bytes=1-3"), ("if-range", "\"other\"")];
    assert_eq!(server.get_with(&path, &stale).await.status, 200);
}

#[tokio::test]
async fn a_result_never_splits_the_answer() {
    let server = Server::start().await;
    let id = server.done("odd", "").await;
    let answer = server.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
}

#[tokio::test]
async fn head_works_wherever_get_does() {
    let server = Server::start().await;
    let id = server.done("echo", "").await;
    let json = [("content-type", "application/json")];
    let daily = br#"{"task": "echo", "cron": "0 3 * * *"}"#;
    server.send("PUT", "/v1/schedules/s", &json, daily).await;
    // The stream of all jobs has no end to compare; its head has a test of its own.
    let routes = route_table().into_iter().filter(|route| {
        let is_read = route.method == Method::GET;
        is_read && route.path != "/v1/events"
    });
    let paths = routes.map(|route| {
        let path = route.path.replace("{id}", &id).replace("{task}", "echo");
        let path = path
            .replace("{queue}", "default")
            .replace("{schedule}", "s");
        path.replace("{slug}", "unknown-job")
    });
    for path in paths.chain(["/nowhere".to_owned()]) {
        let got = server.get(&path).await;
        let head = server.send("HEAD", &path, &[], b"").await;
        assert_eq!(head.status, got.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        for name in ["content-type", "etag", "vary", "cache-control"] {
            assert_eq!(head.header(name), got.header(name), "{path} {name}");
        }
        // What is counted meanwhile changes how long it is.
        if path != "/metrics" && !path.starts_with("/v1/queues") {
            let length = "content-length";
            assert_eq!(head.header(length), got.header(length), "{path}");
        }
    }
}

fn ids(page: &Value) -> Vec<String> {
    let jobs = page["jobs"].as_array().unwrap();
    jobs.iter()
        .map(|job| job["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_is_newest_first_and_comes_in_pages() {
    let server = Server::start().await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(server.submit("pulled", "").await);
    }
    submitted.reverse();
    let all = server.get("/v1/jobs").await;
    assert_eq!(all.header("cache-control"), Some("no-store"));
    let all = all.json();
    assert_eq!(ids(&all), submitted);
    assert!(all["next_page_token"].is_null());

    let first = server.get("/v1/jobs?page_size=2").await.json();
    assert_eq!(ids(&first), submitted[..2]);
    let token = first["next_page_token"].as_str().unwrap();
    server.submit("pulled", "").await;
    let second = server
        .get(&format!("/v1/jobs?page_size=2&page_token={token}"))
        .await
        .json();
    assert_eq!(ids(&second), submitted[2..4], "stable under inserts");
    let token = second["next_page_token"].as_str().unwrap();
    let third = server
        .get(&format!("/v1/jobs?page_size=2&page_token={token}"))
        .await
        .json();
    assert_eq!(ids(&third), submitted[4..]);
}

#[tokio::test]
async fn a_list_can_be_filtered() {
    let server = Server::by_hand().await;
    let plain = server.submit("pulled", "?tag.user=ann").await;
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(1));
    let other = server
        .submit("hold", "?queue=fast&group=g&delay=1h&tag.user=ann&tag.x=1")
        .await;
    server
        .hand
        .as_ref()
        .unwrap()
        .advance(Duration::from_secs(1));
    let gone = server.submit("pulled", "").await;
    server.post(&format!("/v1/jobs/{gone}/cancel")).await;
    for (filter, expected) in [
        ("task=pulled", vec![&gone, &plain]),
        ("queue=fast", vec![&other]),
        ("group=g", vec![&other]),
        ("state=ready", vec![&plain]),
        ("state=ready,scheduled", vec![&other, &plain]),
        ("state=ready&state=cancelled", vec![&gone, &plain]),
        ("tag.user=ann", vec![&other, &plain]),
        ("tag.user=ann&tag.x=1", vec![&other]),
        ("tag.user=bob", vec![]),
        ("created_after=2025-11-22T12:00:00Z", vec![&gone, &other]),
        ("created_before=2025-11-22T12:00:02Z", vec![&other, &plain]),
        ("task=nobody", vec![]),
    ] {
        let page = server.get(&format!("/v1/jobs?{filter}")).await.json();
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), expected, "{filter}");
    }
}

#[tokio::test]
async fn a_listed_job_goes_without_what_is_long() {
    let server = Server::start().await;
    let headers = [("content-type", "application/json"), ("prefer", "wait=60")];
    server
        .send("POST", "/v1/tasks/echo/jobs", &headers, b"{}")
        .await;
    let failed = server.done("fail", "").await;
    let page = server.get("/v1/jobs").await.json();
    let [latest, first] = page["jobs"].as_array().unwrap().as_slice() else {
        panic!("{page}");
    };
    for job in [latest, first] {
        assert_eq!(job.get("errors"), None, "{job}");
        assert_eq!(job.get("waiting"), None, "{job}");
    }
    assert_eq!(latest["id"], failed);
    assert_eq!(latest["error"]["message"], "broken beyond repair");
    assert_eq!(
        first["result"],
        serde_json::json!({"content_type": "application/json", "bytes": 2})
    );
}

#[tokio::test]
async fn a_wrong_filter_is_400_and_named() {
    let server = Server::start().await;
    for (query, parameter) in [
        ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"),
        ("page_size=ten", "page_size"),
        ("page_token=garbage", "page_token"),
        ("page_token=", "page_token"),
        ("state=done", "state"),
        ("state=", "state"),
        ("state=ready,,running", "state"),
        ("task=No", "task"),
        ("task=a&task=b", "task"),
        ("created_after=yesterday", "created_after"),
        ("limit=5", "limit"),
        ("tag.A=1", "tag.A"),
    ] {
        server
            .get(&format!("/v1/jobs?{query}"))
            .await
            .is_about_parameter(parameter);
    }
    assert_eq!(server.get("/v1/jobs?page_size=1000").await.status, 200);
}

#[tokio::test]
async fn calls_that_take_no_parameters_say_so() {
    let server = Server::start().await;
    let id = server.done("echo", "").await;
    for path in [
        format!("/v1/jobs/{id}?a=1"),
        format!("/v1/jobs/{id}/result?a=1"),
        format!("/v1/jobs/{id}/input?a=1"),
        "/v1/tasks?a=1".to_owned(),
        "/v1/tasks/echo?a=1".to_owned(),
        format!("/v1/jobs/{id}/events?a=1"),
        "/v1/queues?a=1".to_owned(),
        "/v1/queues/default?a=1".to_owned(),
        "/?a=1".to_owned(),
        "/livez?a=1".to_owned(),
        "/readyz?a=1".to_owned(),
        "/metrics?a=1".to_owned(),
        "/problems/unknown-job?a=1".to_owned(),
    ] {
        server.get(&path).await.is_about_parameter("a");
    }
    for call in ["cancel", "retry"] {
        server
            .post(&format!("/v1/jobs/{id}/{call}?a=1"))
            .await
            .is_about_parameter("a");
    }
    for wrong in [
        "include=",
        "include=errors",
        "include=waiting,errors",
        "include=waiting&include=waiting",
    ] {
        let answer = server.get(&format!("/v1/jobs/{id}?{wrong}")).await;
        answer.is_about_parameter("include");
    }
}

#[tokio::test]
async fn tasks_are_listed_by_name() {
    let server = Server::start().await;
    let id = server.submit("pulled", "?delay=1h").await;
    let answer = server.get("/v1/tasks").await;
    assert_eq!(answer.status, 200);
    let list = answer.json();
    let names: Vec<&str> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "again", "checked", "echo", "fail", "flood", "hold", "odd", "pulled", "talk", "typed"
        ]
    );

    let task = server.get("/v1/tasks/pulled").await.json();
    assert_eq!(task["runner"], "pull");
    assert_eq!(task["queue"], "default");
    assert_eq!(task["timeout"], "5m");
    assert_eq!(task["max_attempts"], 5);
    let backoff = serde_json::json!({"initial": "1s", "factor": 2.0, "max": "1h", "jitter": 0.1});
    assert_eq!(task["backoff"], backoff);
    assert_eq!(
        task["counts"],
        serde_json::json!({"scheduled": 1, "ready": 0, "running": 0})
    );
    assert_eq!(
        server.get("/v1/tasks/typed").await.json()["content_type"],
        "text/plain"
    );
    server
        .get("/v1/tasks/nope")
        .await
        .is_problem(404, "unknown-task");
    assert!(!id.is_empty());
}

#[tokio::test]
async fn the_root_is_json_unless_a_browser_asks() {
    let server = Server::start().await;
    for headers in [
        &[][..],
        &[("accept", "*/*")],
        &[("accept", "application/json")],
    ] {
        let answer = server.get_with("/", headers).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let root = answer.json();
        assert!(
            root["message"].is_string() && root["version"].is_string(),
            "{root}"
        );
        assert_eq!(root["links"]["jobs"], "/v1/jobs");
    }
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for path in ["/", "/problems/unknown-job"] {
        let page = server.get_with(path, &browser).await;
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.text().starts_with("<!doctype html>"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("vary"), Some("Accept"));
    }
}

#[tokio::test]
async fn a_healthy_server_says_so() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn head_knows_no_range() {
    let server = Server::start().await;
    let id = server.done("echo", "").await;
    for part in ["result", "input"] {
        let path = format!("/v1/jobs/{id}/{part}");
        for range in ["bytes=1-2", "bytes=99-"] {
            let answer = server.send("HEAD", &path, &[("range", range)], b"").await;
            assert_eq!(answer.status, 200, "{path} {range}");
            assert_eq!(answer.header("content-length"), Some("5"), "{path}");
            assert_eq!(answer.header("content-range"), None, "{path}");
        }
    }
}

#[tokio::test]
async fn a_job_that_goes_wrong_during_a_wait_says_what_was_applied() {
    let server = Server::start().await;
    let wait = [("prefer", "wait=90")];
    let id = server.submit("pulled", "").await;
    let mut waiting = server.connect().await;
    let path = format!("/v1/jobs/{id}/result");
    waiting.request("GET", &path, &wait, b"").await;
    let cancelled = server.post(&format!("/v1/jobs/{id}/cancel")).await;
    assert_eq!(cancelled.status, 200);
    let failed = server.done("fail", "").await;
    let failed = format!("/v1/jobs/{failed}/result");
    let unknown = "/v1/jobs/019aabbc-0000-7000-8000-000000000000";
    for (answer, status) in [
        (waiting.answer(false).await, 409),
        (server.get_with(&failed, &wait).await, 409),
        (server.get_with(unknown, &wait).await, 404),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("vary"), Some("Prefer"));
        assert_eq!(answer.header("preference-applied"), Some("wait=60"));
    }
}
