//! Handing jobs in.

use crate::harness::{Server, Wanted, within};
use crate::trouble::Trouble;
use anteroom::core::ShownState;
use anteroom::{Options, Phase};
use serde_json::json;
use std::fmt::Write;
use std::time::Duration;

#[tokio::test]
async fn a_submit_is_202_with_the_job_and_where_it_is() {
    let server = Server::start().await;
    let headers = [("content-type", "text/plain; charset=utf-8")];
    let answer = server
        .send("POST", "/v1/tasks/hold/jobs", &headers, b"a b c")
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Prefer"));
    assert_eq!(answer.header("preference-applied"), None);
    answer.says_retry_after();
    let job = answer.json();
    let id = job["id"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        Some(format!("/v1/jobs/{id}").as_str())
    );
    assert_eq!(job["input"]["content_type"], "text/plain; charset=utf-8");
    assert_eq!(job["input"]["bytes"], 5);
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.status, 200);
}

/// The members and their order are the contract's, word for word.
#[tokio::test]
async fn the_job_has_every_member_in_its_order() {
    let server = Server::by_hand().await;
    let answer = server
        .send("POST", "/v1/tasks/pulled/jobs", &[], b"abc")
        .await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let at = "2025-11-22T12:00:00.000Z";
    let expected = format!(
        "{{\"id\":\"{id}\",\"task\":\"pulled\",\"queue\":\"default\",\"group\":null,\"priority\":5,\
         \"state\":\"ready\",\"done\":false,\"attempt\":0,\"max_attempts\":5,\"timeout\":\"5m\",\
         \"created_at\":\"{at}\",\"run_at\":\"{at}\",\"start_before\":null,\"started_at\":null,\
         \"finished_at\":null,\"expires_at\":null,\"unique_key\":null,\"callback_url\":null,\
         \"input\":{{\"content_type\":\"application/octet-stream\",\"bytes\":3}},\
         \"result\":null,\"error\":null,\"errors\":[],\"progress\":null,\"waiting\":{{\"position\":0,\"exact\":true,\"eta\":null,\
         \"reasons\":[\"no worker has asked for task pulled in the last minute\"]}},\
         \"cancel_requested\":false,\"tags\":{{}},\
         \"links\":{{\"self\":\"/v1/jobs/{id}\",\"result\":\"/v1/jobs/{id}/result\",\
         \"input\":\"/v1/jobs/{id}/input\",\"events\":\"/v1/jobs/{id}/events\",\
         \"cancel\":\"/v1/jobs/{id}/cancel\"}}}}"
    );
    assert_eq!(answer.text(), expected);
    let id_version = &id[14..15];
    assert_eq!(id_version, "7");
}

#[tokio::test]
async fn every_option_is_read() {
    let server = Server::by_hand().await;
    let options = "?queue=fast&group=Customer%207&priority=0&delay=90s&max_attempts=3&timeout=PT1M\
                   &start_before=2025-11-23T13:00:00%2B01:00&retain=7d&tag.user=ann&tag.kind=a%26b";
    let answer = server.post(&format!("/v1/tasks/echo/jobs{options}")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = answer.json();
    for (member, value) in [
        ("queue", "fast"),
        ("group", "Customer 7"),
        ("state", "scheduled"),
        ("run_at", "2025-11-22T12:01:30.000Z"),
        ("start_before", "2025-11-23T12:00:00.000Z"),
        ("timeout", "1m"),
    ] {
        assert_eq!(job[member], value, "{job}");
    }
    assert_eq!(job["priority"], 0);
    assert_eq!(job["max_attempts"], 3);
    assert_eq!(
        job["tags"],
        serde_json::json!({"kind": "a&b", "user": "ann"})
    );
    assert_eq!(
        answer.says_retry_after(),
        60,
        "90 s ahead, and no longer than a minute"
    );
}

#[tokio::test]
async fn the_input_comes_back_byte_for_byte() {
    let server = Server::start().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let spaced =
        b"{ \"b\" : 1.50e+3,\n \"a\":\"\\u00e4\" , \"a\" : 12345678901234567890.0 }".to_vec();
    for (content_type, input) in [
        ("application/octet-stream", every_byte.clone()),
        ("image/png", every_byte),
        ("application/json", spaced),
        ("text/plain", Vec::new()),
    ] {
        let headers = [("content-type", content_type), ("prefer", "wait=60")];
        let answer = server
            .send("POST", "/v1/tasks/echo/jobs", &headers, &input)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        for part in ["input", "result"] {
            let raw = server.get(&format!("/v1/jobs/{id}/{part}")).await;
            assert_eq!(raw.status, 200, "{raw:?}");
            assert_eq!(raw.header("content-type"), Some(content_type));
            assert_eq!(
                raw.header("content-length"),
                Some(input.len().to_string().as_str())
            );
            assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(raw.header("content-security-policy"), Some("sandbox"));
            assert_eq!(raw.body, input);
        }
    }
}

#[tokio::test]
async fn a_wait_that_is_met_is_200_with_the_result() {
    let server = Server::start().await;
    let headers = [("prefer", "wait=100"), ("content-type", "application/json")];
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &headers, b"{\"a\": [1, 2]}")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("preference-applied"),
        Some("wait=60"),
        "the cap is shown"
    );
    assert_eq!(answer.header("location"), None);
    assert_eq!(answer.header("retry-after"), None);
    let job = answer.json();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["done"], true);
    assert_eq!(job["attempt"], 1);
    assert_eq!(
        job["result"],
        serde_json::json!({"content_type": "application/json", "bytes": 13, "json": {"a": [1, 2]}})
    );
    assert!(job["expires_at"].is_string());
    assert!(
        answer.text().contains("\"json\":{\"a\": [1, 2]}}"),
        "as it was written"
    );
}

#[tokio::test]
async fn a_wait_that_is_not_met_is_202() {
    let server = Server::start().await;
    let answer = server
        .send(
            "POST",
            "/v1/tasks/hold/jobs",
            &[("prefer", "respond-async, wait=1")],
            b"",
        )
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.header("preference-applied"),
        Some("respond-async, wait=1")
    );
    assert!(answer.header("location").is_some());
    answer.says_retry_after();
}

#[tokio::test]
async fn respond_async_alone_does_not_wait() {
    let server = Server::by_hand().await;
    for path in ["/v1/tasks/hold/jobs", "/v1/tasks/hold/call"] {
        let answer = server
            .send("POST", path, &[("prefer", "respond-async")], b"")
            .await;
        assert_eq!(answer.status, 202, "{path}");
        assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    }
}

#[tokio::test]
async fn json_is_shown_in_the_job_only_if_it_is_small_and_valid() {
    let server = Server::start().await;
    let fits = format!("\"{}\"", "x".repeat(65_534));
    let large = format!("\"{}\"", "x".repeat(65_535));
    for (content_type, input, shown) in [
        ("application/json", fits.as_str(), true),
        ("application/json", large.as_str(), false),
        ("application/vnd.thing+json; v=1", "{}", true),
        ("application/vnd.thing+json", "{", false),
        ("text/plain", "{}", false),
    ] {
        let headers = [("content-type", content_type), ("prefer", "wait=60")];
        let answer = server
            .send("POST", "/v1/tasks/echo/jobs", &headers, input.as_bytes())
            .await;
        assert_eq!(answer.status, 200);
        let result = answer.json()["result"].clone();
        assert_eq!(
            result.get("json").is_some(),
            shown,
            "{content_type} {}",
            input.len()
        );
        assert_eq!(result["bytes"], input.len());
    }
}

#[tokio::test]
async fn a_call_is_answered_with_the_raw_result() {
    let server = Server::start().await;
    let headers = [("content-type", "text/plain")];
    let answer = server
        .send("POST", "/v1/tasks/echo/call", &headers, b"a b c")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "a b c");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    let id = answer.header("anteroom-job").unwrap();
    assert_eq!(
        server.get(&format!("/v1/jobs/{id}")).await.json()["state"],
        "succeeded"
    );
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_202_with_the_job() {
    let server = Server::start().await;
    let answer = server
        .send("POST", "/v1/tasks/hold/call", &[("prefer", "wait=1")], b"")
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("anteroom-job"), answer.json()["id"].as_str());
    assert!(answer.header("location").is_some());
    answer.says_retry_after();
}

#[tokio::test]
async fn a_call_that_fails_says_so() {
    let server = Server::start().await;
    let answer = server.post("/v1/tasks/fail/call").await;
    let problem = answer.is_problem(502, "job-failed");
    assert_eq!(problem["error"]["kind"], "error");
    assert_eq!(problem["error"]["message"], "broken beyond repair");
    assert_eq!(problem["job"].as_str(), answer.header("anteroom-job"));
    assert_eq!(answer.header("vary"), Some("Prefer"));
    assert_eq!(answer.header("preference-applied"), None, "none was asked");

    let path = "/v1/tasks/hold/call?timeout=100ms&max_attempts=1";
    let late = server
        .send("POST", path, &[("prefer", "wait=90")], b"")
        .await;
    let problem = late.is_problem(504, "job-timed-out");
    assert_eq!(late.header("vary"), Some("Prefer"));
    assert_eq!(late.header("preference-applied"), Some("wait=60"));
    assert_eq!(problem["error"]["kind"], "timeout");
    assert!(late.header("anteroom-job").is_some());
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_409() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection
        .request(
            "POST",
            "/v1/tasks/pulled/call",
            &[("prefer", "wait=60")],
            b"",
        )
        .await;
    let id = server.first_job().await;
    assert_eq!(
        server.post(&format!("/v1/jobs/{id}/cancel")).await.status,
        200
    );
    let answer = connection.answer(false).await;
    answer.is_problem(409, "job-cancelled");
    assert_eq!(answer.header("anteroom-job"), Some(id.as_str()));
    assert_eq!(answer.header("vary"), Some("Prefer"));
    assert_eq!(answer.header("preference-applied"), Some("wait=60"));
}

#[tokio::test]
async fn a_client_that_goes_away_loses_nothing() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    connection
        .request(
            "POST",
            "/v1/tasks/hold/call",
            &[("prefer", "wait=60")],
            b"kept",
        )
        .await;
    let id = server.first_job().await;
    drop(connection);
    server.gate.open();
    server.reach(&id, ShownState::Succeeded).await;
    assert_eq!(
        server.get(&format!("/v1/jobs/{id}/result")).await.text(),
        "kept"
    );
}

#[tokio::test]
async fn an_unknown_task_is_404_and_so_is_a_reserved_name() {
    let server = Server::start().await;
    for task in ["nope", "anteroom.callback", "No%20Name", "%C3%A4"] {
        for call in ["jobs", "call"] {
            let answer = server.post(&format!("/v1/tasks/{task}/{call}")).await;
            answer.is_problem(404, "unknown-task");
        }
    }
    server
        .post("/v1/tasks/echo/jobs?queue=anteroom.x")
        .await
        .is_problem(404, "unknown-queue");
}

#[tokio::test]
async fn options_are_taken_up_to_their_bounds_and_no_further() {
    let server = Server::by_hand().await;
    let (long, wide) = ("x".repeat(255), "\u{e4}".repeat(127));
    for (option, bound, beyond) in [
        ("queue", "q".repeat(64), "q".repeat(65)),
        ("group", long.clone(), "x".repeat(256)),
        ("group", wide.clone(), format!("{wide}\u{e4}")),
        ("unique_key", long.clone(), "x".repeat(256)),
        ("tag.a", long, "x".repeat(256)),
        ("timeout", "100ms".to_owned(), "99ms".to_owned()),
        ("timeout", "P7D".to_owned(), "168h1ms".to_owned()),
        ("delay", "366d".to_owned(), "PT8784H0.001S".to_owned()),
        ("retain", "0s".to_owned(), "-0.001s".to_owned()),
        ("retain", "P90D".to_owned(), "2160h1ms".to_owned()),
        ("max_attempts", "100".to_owned(), "101".to_owned()),
        ("priority", "9".to_owned(), "10".to_owned()),
    ] {
        let submit = async |value: &str| {
            let mut path = format!("/v1/tasks/pulled/jobs?{option}=");
            for byte in value.bytes() {
                write!(path, "%{byte:02X}").unwrap();
            }
            server.post(&path).await
        };
        let taken = submit(&bound).await;
        assert_eq!(taken.status, 202, "{option} {bound}: {taken:?}");
        submit(&beyond).await.is_about_parameter(option);
    }
}

#[tokio::test]
async fn wrong_options_are_400_and_named() {
    let server = Server::by_hand().await;
    for (query, parameter) in [
        ("priority=10", "priority"),
        ("priority=-1", "priority"),
        ("priority=high", "priority"),
        ("priority=5.0", "priority"),
        ("max_attempts=0", "max_attempts"),
        ("max_attempts=101", "max_attempts"),
        ("max_attempts=x", "max_attempts"),
        ("timeout=99ms", "timeout"),
        ("timeout=8d", "timeout"),
        ("timeout=30", "timeout"),
        ("timeout=-5s", "timeout"),
        ("delay=-1s", "delay"),
        ("delay=soon", "delay"),
        ("delay=400d", "delay"),
        ("run_at=tomorrow", "run_at"),
        ("run_at=2025-11-22", "run_at"),
        ("run_at=2025-11-22T23:59:60Z", "run_at"),
        ("run_at=2025-11-22T13:00Z", "run_at"),
        ("delay=1:30:00", "delay"),
        ("timeout=%2B30s", "timeout"),
        ("run_at=2099-01-01T00:00:00Z", "run_at"),
        ("delay=1s&run_at=2025-11-22T13:00:00Z", "delay"),
        ("delay=1s&run_at=2025-11-22T13:00:00Z", "run_at"),
        ("start_before=2025-11-22T11:00:00Z", "start_before"),
        ("retain=91d", "retain"),
        ("queue=Fast", "queue"),
        ("queue=", "queue"),
        ("group=", "group"),
        ("group=a%0Ab", "group"),
        ("tag.=x", "tag."),
        ("tag.A=x", "tag.A"),
        ("tag.a=1&tag.a=2", "tag.a"),
        ("priority=1&priority=2", "priority"),
        ("queue=a&queue=a", "queue"),
        ("colour=red", "colour"),
        ("Priority=1", "Priority"),
        ("queue=%zz", "queue"),
        ("queue=%ff", "queue"),
    ] {
        let answer = server.post(&format!("/v1/tasks/echo/jobs?{query}")).await;
        answer.is_about_parameter(parameter);
    }
    let long = format!("/v1/tasks/echo/jobs?tag.a={}", "x".repeat(256));
    server.post(&long).await.is_about_parameter("tag.a");
    let many: Vec<String> = (0..33).map(|index| format!("tag.t{index}=1")).collect();
    let answer = server
        .post(&format!("/v1/tasks/echo/jobs?{}", many.join("&")))
        .await;
    answer.is_about_parameter("tag.NAME");
    assert_eq!(
        server.get("/v1/jobs").await.json()["jobs"],
        serde_json::json!([])
    );
}

/// Ranges used to be checked by the engine alone: only where all was well formed, up to the first.
#[tokio::test]
async fn everything_wrong_with_the_options_is_told_at_once() {
    let server = Server::by_hand().await;
    let path = "/v1/tasks/echo/jobs?priority=11&max_attempts=0&bogus=1&timeout=1ms&retain=91d\
                &delay=400d&run_at=2099-01-01T00:00:00Z&start_before=2025-11-22T12:00:00Z&tag.A=1\
                &queue=Q&group=";
    let problem = server.post(path).await.is_problem(400, "invalid-parameter");
    let errors = problem["errors"].as_array().unwrap();
    let mut named: Vec<&str> = errors
        .iter()
        .map(|error| error["parameter"].as_str().unwrap())
        .collect();
    named.sort_unstable();
    let expected = [
        "bogus",
        "delay",
        "delay",
        "group",
        "max_attempts",
        "priority",
        "queue",
        "retain",
        "run_at",
        "run_at",
        "start_before",
        "tag.A",
        "timeout",
    ];
    assert_eq!(named, expected, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    for said in [
        "max_attempts is 0; it is from 1 to 100",
        "timeout is 1ms; it is from 100ms to 168h",
        "retain is 91d; it is from 0s to 2160h",
        "delay is 400d; it is from 0s to 8784h",
    ] {
        assert!(detail.contains(said), "{said:?} in {detail:?}");
    }
}

#[tokio::test]
async fn what_this_version_cannot_do_is_501_and_stores_nothing() {
    let server = Server::start().await;
    for call in ["jobs", "call"] {
        let path = format!("/v1/tasks/echo/{call}?callback_url=http://localhost/");
        let answer = server.post(&path).await;
        answer.is_problem(501, "not-supported");
    }
    assert_eq!(
        server.get("/v1/jobs").await.json()["jobs"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_body_that_is_said_to_be_json_is_checked() {
    let server = Server::start().await;
    let json = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &json, b"{\n \"a\": nope}")
        .await;
    let problem = answer.is_problem(400, "malformed-json");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&2.into(), &8.into()),
        "{problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 2 column 8"),
        "{problem}"
    );
    for body in [
        &b""[..],
        b"{} {}",
        b"\"\xff\"",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"'a'",
    ] {
        let answer = server
            .send("POST", "/v1/tasks/echo/jobs", &json, body)
            .await;
        answer.is_problem(400, "malformed-json");
    }
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &json, &deep(128))
        .await;
    assert_eq!(answer.status, 202);
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &json, &deep(129))
        .await;
    answer.is_problem(400, "malformed-json");
    let other = [("content-type", "application/x-json")];
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &other, b"{")
        .await;
    assert_eq!(answer.status, 202, "only application/json is checked");
}

#[tokio::test]
async fn a_task_may_insist_on_its_content_type() {
    let server = Server::start().await;
    for (content_type, status) in [
        ("text/plain", 202),
        ("Text/Plain; charset=utf-8", 202),
        ("text/html", 415),
        ("application/octet-stream", 415),
    ] {
        let headers = [("content-type", content_type)];
        let answer = server
            .send("POST", "/v1/tasks/typed/jobs", &headers, b"x")
            .await;
        assert_eq!(answer.status, status, "{content_type}");
    }
    server
        .post("/v1/tasks/typed/jobs")
        .await
        .is_problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn what_is_no_content_type_is_415() {
    let server = Server::start().await;
    let long = format!("text/{}", "x".repeat(251));
    for headers in [
        &[("content-type", "nonsense")][..],
        &[("content-type", "a/b"), ("content-type", "c/d")],
        &[("content-type", &long)],
        &[("content-encoding", "gzip")],
    ] {
        let answer = server
            .send("POST", "/v1/tasks/echo/jobs", headers, b"x")
            .await;
        answer.is_problem(415, "unsupported-media-type");
    }
}

#[tokio::test]
async fn an_input_has_a_limit() {
    let options = Options {
        input_bytes_max: 1_000,
        ..Options::default()
    };
    let server = Server::wanted(Wanted {
        options,
        ..Wanted::default()
    })
    .await;
    let fits = server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 1_000])
        .await;
    assert_eq!(fits.status, 202);
    let answer = server
        .send("POST", "/v1/tasks/echo/jobs", &[], &[b'x'; 1_001])
        .await;
    let problem = answer.is_problem(413, "payload-too-large");
    assert!(
        problem["detail"].as_str().unwrap().contains("1000"),
        "{problem}"
    );
}

/// It once drained when the job's claim was committed and its attempt not begun: such a job is handed
/// back, and its result was waited for in vain.
#[tokio::test]
async fn a_draining_server_takes_no_jobs_and_answers_reads() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    server.gate.arrived().await;
    let mut waiting = server.connect().await;
    waiting
        .request(
            "GET",
            &format!("/v1/jobs/{id}"),
            &[("prefer", "wait=60")],
            b"",
        )
        .await;
    server.engine.drain();
    assert_eq!(server.engine.phase(), Phase::Draining);
    for call in ["jobs", "call"] {
        let answer = server.post(&format!("/v1/tasks/echo/{call}")).await;
        answer.is_problem(503, "draining");
        answer.says_retry_after();
    }
    let ready = server.get("/readyz").await;
    assert!(ready.is_problem(503, "draining")["reasons"][0].is_string());
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.status, 200);
    server.gate.open();
    assert_eq!(waiting.answer(false).await.json()["state"], "succeeded");
}

#[tokio::test]
async fn a_store_that_is_gone_is_503_without_internals() {
    let server = Server::start().await;
    within(server.engine.stop(Duration::ZERO)).await;
    within(server.engine.close()).await;
    let id = "019aabbc-0000-7000-8000-000000000000";
    for path in [
        format!("/v1/jobs/{id}"),
        "/v1/jobs".to_owned(),
        "/v1/tasks".to_owned(),
    ] {
        let answer = server.get(&path).await;
        answer.is_problem(503, "store-unavailable");
        answer.says_retry_after();
    }
    let ready = server.get("/readyz").await.is_problem(503, "draining");
    assert_eq!(ready["reasons"].as_array().unwrap().len(), 2, "{ready}");
}

/// A submit that had to wait was once 503 when its result could not be read, though the job is there.
#[tokio::test]
async fn a_job_that_is_there_is_told_of_though_its_result_cannot_be_read() {
    let trouble = Trouble::default();
    let server = Server::wanted(Wanted {
        trouble: trouble.clone(),
        ..Wanted::default()
    })
    .await;
    trouble.fail_results();
    let send = async |call: &str, key: &str| {
        let headers = [
            ("prefer", "wait=60"),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        let path = format!("/v1/tasks/echo/{call}");
        server.send("POST", &path, &headers, b"[1]").await
    };
    // What was stored while it was waited for is not read again.
    let submitted = send("jobs", "\"submit\"").await;
    assert_eq!(submitted.status, 200, "{submitted:?}");
    assert_eq!(submitted.json()["result"]["json"], json!([1]));
    assert_eq!(send("call", "\"call\"").await.text(), "[1]");
    let submitted = send("jobs", "\"submit\"").await;
    assert_eq!(submitted.status, 200, "{submitted:?}");
    let job = submitted.json();
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"]["bytes"], 3, "{job}");
    assert_eq!(job["result"].get("json"), None, "{job}");
    let called = send("call", "\"call\"").await;
    called.is_problem(503, "store-unavailable");
    let id = called.header("anteroom-job").unwrap();
    let read = server.get(&format!("/v1/jobs/{id}/input")).await;
    assert_eq!(read.text(), "[1]");
}

#[tokio::test]
async fn a_job_whose_time_goes_by_before_it_is_stored_is_refused() {
    let trouble = crate::trouble::Trouble::default();
    let server = Server::wanted(Wanted {
        trouble: trouble.clone(),
        by_hand: true,
        ..Wanted::default()
    })
    .await;
    trouble.stall();
    let mut client = server.connect().await;
    let deadline = "2025-11-22T12:00:01.000Z";
    let path = format!("/v1/tasks/echo/jobs?start_before={deadline}");
    client.request("POST", &path, &[], b"x").await;
    trouble.stalls_one().await;
    let hand = server.hand.as_ref().unwrap();
    hand.advance(Duration::from_secs(2));
    trouble.go_on();
    let answer = client.answer(false).await;
    answer.is_problem(503, "too-late");
    answer.says_retry_after();
    assert_eq!(server.count().await, 0);
}
