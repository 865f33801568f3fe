//! `GET /metrics`: what was done is counted, exactly; and the page that explains it is true.

use crate::exposition::{Format, Scrape};
use crate::harness::{Connection, Server, Wanted, within};
use anteroom::core::ShownState;
use axum::Router;
use std::collections::{BTreeMap, BTreeSet};

const OPEN: (&str, &str) = ("accept", "application/openmetrics-text; version=1.0.0");

async fn scrape(server: &Server) -> Scrape {
    scrape_on(&mut server.connect().await).await
}

async fn scrape_on(connection: &mut Connection) -> Scrape {
    let answer = connection.send("GET", "/metrics", &[], b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Scrape::read(answer.text(), Format::Prometheus)
}

/// A series with two labels, and its value.
type Series<'a> = (&'a str, [(&'a str, &'a str); 2], u32);

/// Scrapes until these are so many, and fails if they are ever more: a job that is read just when it
/// ends may be ahead of the numbers by a moment. What is counted last is what to wait for.
async fn scrape_after(server: &Server, counted: &[Series<'_>]) -> Scrape {
    within(async {
        loop {
            let metrics = scrape(server).await;
            let is_there = |(name, of, count): &Series<'_>| {
                let (value, count) = (metrics.value(name, of), Some(f64::from(*count)));
                assert!(value <= count, "{name} {of:?} is {value:?}, not {count:?}");
                value == count
            };
            if counted.iter().all(is_there) {
                return metrics;
            }
        }
    })
    .await
}

/// How many jobs of a task have come to an end.
fn finished<'a>(task: &'a str, state: &'a str, count: u32) -> Series<'a> {
    let of = [("task", task), ("state", state)];
    ("anteroom_jobs_finished_total", of, count)
}

/// How many attempts of a task have ended so.
fn ended<'a>(task: &'a str, outcome: &'a str, count: u32) -> Series<'a> {
    let of = [("task", task), ("outcome", outcome)];
    ("anteroom_attempts_ended_total", of, count)
}

#[tokio::test]
async fn what_jobs_did_is_counted_exactly() {
    let server = Server::start().await;
    for _ in 0..3 {
        server
            .done(
                "echo",
                "?queue=fast&group=a-group-of-mine&tag.colour=a-tag-of-mine",
            )
            .await;
    }
    let failed = server.done("fail", "").await;
    server.done("fail", "").await;
    let again = server.submit("again", "").await;
    server.reach(&again, ShownState::Scheduled).await;
    server.submit("echo", "?delay=1h").await;
    let waiting = server.submit("pulled", "?queue=slow").await;
    let cancelled = server.post(&format!("/v1/jobs/{waiting}/cancel")).await;
    assert_eq!(cancelled.status, 200);
    server.submit("pulled", "?queue=slow").await;
    let held = server.submit("hold", "").await;
    server.gate.arrived().await;
    server
        .post("/v1/tasks/nobody/jobs")
        .await
        .is_problem(404, "unknown-task");

    let ends = [
        finished("echo", "succeeded", 3),
        finished("fail", "failed", 2),
        finished("pulled", "cancelled", 1),
        ended("again", "retried", 1),
    ];
    let metrics = scrape_after(&server, &ends).await;
    for (task, submitted, started) in [
        ("echo", 4, 3),
        ("fail", 2, 2),
        ("again", 1, 1),
        ("pulled", 2, 0),
        ("hold", 1, 1),
    ] {
        let of = [("task", task)];
        metrics.counts("anteroom_jobs_submitted_total", &of, submitted);
        metrics.counts("anteroom_attempts_started_total", &of, started);
        metrics.counts("anteroom_start_lateness_seconds_count", &of, started);
        metrics.counts("anteroom_job_wait_seconds_count", &of, started);
        let running = u32::from(task == "hold");
        // What workers run is not on this node.
        let is_here = task != "pulled";
        let running_here = is_here.then(|| f64::from(running));
        let shown = metrics.value("anteroom_attempts_running", &of);
        assert_eq!(shown, running_here, "{task}");
        metrics.counts(
            "anteroom_attempt_duration_seconds_count",
            &of,
            started - running,
        );
    }
    for (name, of, count) in [
        ended("echo", "succeeded", 3),
        ended("echo", "failed", 0),
        ended("fail", "failed", 2),
        ended("fail", "retried", 0),
        ended("again", "failed", 0),
        ended("hold", "succeeded", 0),
        finished("again", "failed", 0),
        finished("hold", "succeeded", 0),
    ] {
        metrics.counts(name, &of, count);
    }
    for (queue, state, count) in [
        ("default", "scheduled", 2),
        ("default", "running", 1),
        ("default", "ready", 0),
        ("slow", "ready", 1),
    ] {
        metrics.counts(
            "anteroom_queue_jobs",
            &[("queue", queue), ("state", state)],
            count,
        );
    }
    metrics.counts("anteroom_waiters", &[], 0);
    metrics.counts("anteroom_store_up", &[], 1);

    server.gate.open();
    let path = format!("/v1/jobs/{held}");
    server.get_with(&path, &[("prefer", "wait=60")]).await;
    let retried = server.post(&format!("/v1/jobs/{failed}/retry")).await;
    assert_eq!(retried.status, 202);
    let path = format!("/v1/jobs/{failed}");
    server.get_with(&path, &[("prefer", "wait=60")]).await;
    let ends = [
        finished("hold", "succeeded", 1),
        finished("fail", "failed", 3),
    ];
    let metrics = scrape_after(&server, &ends).await;
    metrics.counts("anteroom_jobs_submitted_total", &[("task", "fail")], 2);
}

#[tokio::test]
async fn no_job_group_or_tag_has_a_series() {
    let server = Server::start().await;
    let options = "?group=a-group-of-mine&tag.colour=a-tag-of-mine";
    let id = server.done("echo", options).await;
    server
        .get(&format!("/v1/jobs/{id}?nonsense=a-value-of-mine"))
        .await;
    server.get("/a-path-of-mine").await;
    server.send("BREW", "/v1/jobs", &[], b"").await;
    for headers in [&[][..], &[OPEN]] {
        let page = server.get_with("/metrics", headers).await;
        for secret in [&*id, "-of-mine", "colour", "BREW"] {
            assert!(!page.text().contains(secret), "{secret} in {}", page.text());
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_method_route_and_class() {
    let server = Server::start().await;
    let id = server.submit("pulled", "").await;
    for _ in 0..2 {
        server.get(&format!("/v1/jobs/{id}")).await;
    }
    server
        .send("HEAD", &format!("/v1/jobs/{id}"), &[], b"")
        .await;
    server
        .get("/v1/jobs/nope")
        .await
        .is_problem(404, "unknown-job");
    server
        .get("/v1/jobs/%ff")
        .await
        .is_problem(400, "malformed-path");
    server
        .get("/nowhere")
        .await
        .is_problem(404, "unknown-route");
    let put = server.send("PUT", "/v1/jobs", &[], b"").await;
    put.is_problem(405, "method-not-allowed");
    let brew = server.send("BREW", "/v1/jobs", &[], b"").await;
    brew.is_problem(405, "method-not-allowed");
    scrape(&server).await;
    let metrics = scrape(&server).await;
    for (method, route, status, count) in [
        ("POST", "/v1/tasks/{task}/jobs", "2xx", 1),
        ("GET", "/v1/jobs/{id}", "2xx", 2),
        ("HEAD", "/v1/jobs/{id}", "2xx", 1),
        ("GET", "/v1/jobs/{id}", "4xx", 2),
        ("GET", "none", "4xx", 1),
        ("PUT", "/v1/jobs", "4xx", 1),
        ("other", "/v1/jobs", "4xx", 1),
        ("GET", "/metrics", "2xx", 1),
    ] {
        let of = [("method", method), ("route", route), ("status", status)];
        metrics.counts("anteroom_http_requests_total", &of, count);
    }
    let requests = &metrics.0["anteroom_http_requests_total"];
    assert_eq!(requests.samples.len(), 8, "{requests:#?}");
}

#[tokio::test]
async fn a_mounted_router_counts_by_its_own_routes() {
    let server = Server::wanted(Wanted {
        around: |router| Router::new().nest("/of/{tenant}/work", router),
        ..Wanted::default()
    })
    .await;
    for path in ["", "/v1/jobs", "/v1/jobs/nope", "/nowhere"] {
        server.get(&format!("/of/7/work{path}")).await;
    }
    let answer = server.get("/of/8/work/metrics").await;
    let metrics = Scrape::read(answer.text(), Format::Prometheus);
    let requests = &metrics.0["anteroom_http_requests_total"];
    let routes = requests
        .samples
        .iter()
        .map(|sample| sample.labels["route"].as_str());
    let routes: BTreeSet<&str> = routes.collect();
    assert_eq!(
        routes,
        BTreeSet::from(["/", "/v1/jobs", "/v1/jobs/{id}", "none"])
    );
}

#[tokio::test]
async fn connections_are_counted() {
    let server = Server::start().await;
    let mut mine = server.connect().await;
    let mut others = vec![server.connect().await, server.connect().await];
    for other in &mut others {
        other.send("GET", "/livez", &[], b"").await;
    }
    let metrics = scrape_on(&mut mine).await;
    metrics.counts("anteroom_http_connections_accepted_total", &[], 3);
    metrics.counts("anteroom_http_connections", &[], 3);
    metrics.counts("anteroom_http_connections_limit", &[], 10_000);
    metrics.counts("anteroom_http_heads_refused_total", &[], 0);
    metrics.counts("anteroom_http_accepts_failed_total", &[], 0);
    others[0].write("nonsense\r\n\r\n").await;
    others[1].write("GET /livez HTTP/1.1\r\n\r\n").await;
    assert!(others[0].closed().await.starts_with(b"HTTP/1.1 400"));
    assert_eq!(others[1].answer(false).await.status, 400);
    drop(others);
    let of = ("anteroom_http_connections", &[][..]);
    within(async { while scrape_on(&mut mine).await.value(of.0, of.1) != Some(1.0) {} }).await;
    let metrics = scrape_on(&mut mine).await;
    metrics.counts("anteroom_http_heads_refused_total", &[], 2);
    metrics.counts("anteroom_http_connections_accepted_total", &[], 3);
}

#[tokio::test]
async fn who_waits_is_counted_while_he_waits() {
    let server = Server::start().await;
    let id = server.submit("hold", "").await;
    let mut waiting = server.connect().await;
    let path = format!("/v1/jobs/{id}");
    waiting
        .request("GET", &path, &[("prefer", "wait=60")], b"")
        .await;
    within(async { while scrape(&server).await.value("anteroom_waiters", &[]) != Some(1.0) {} })
        .await;
    server.gate.open();
    assert_eq!(waiting.answer(false).await.json()["done"], true);
    scrape(&server).await.counts("anteroom_waiters", &[], 0);
}

#[tokio::test]
async fn commits_are_counted_where_there_are_any() {
    let server = Server::start().await;
    for _ in 0..3 {
        let answer = server
            .send("POST", "/v1/tasks/pulled/jobs", &[], &[b'x'; 1_000])
            .await;
        assert_eq!(answer.status, 202);
    }
    let metrics = scrape(&server).await;
    if !crate::store::COMMITS {
        assert!(!metrics.0.contains_key("anteroom_store_commit_operations"));
        return;
    }
    // One after the other, so that each was a commit of its own; and one before, of the key of leases.
    metrics.counts("anteroom_store_commit_operations_count", &[], 4);
    metrics.counts("anteroom_store_commit_operations_sum", &[], 4);
    metrics.counts("anteroom_store_commit_size_bytes_sum", &[], 3_032);
    metrics.counts("anteroom_store_commit_duration_seconds_count", &[], 4);
    metrics.counts("anteroom_store_transaction_duration_seconds_count", &[], 4);
    for kind in ["unavailable", "overloaded", "unknown", "failed"] {
        metrics.counts("anteroom_store_errors_total", &[("kind", kind)], 0);
    }
}

#[tokio::test]
async fn what_workers_do_is_counted_where_they_say_it() {
    let server = Server::start().await;
    let json = [("content-type", "application/json")];
    let lease = async || {
        server.submit("pulled", "").await;
        let answer = server.post("/v1/leases").await.json();
        answer["leases"][0]["lease"].as_str().unwrap().to_owned()
    };
    let say = async |lease: &str, call: &str, body: &str| {
        let path = format!("/v1/leases/{lease}/{call}");
        let answer = server.send("POST", &path, &json, body.as_bytes()).await;
        answer.status
    };
    let first = lease().await;
    assert_eq!(say(&first, "complete", "1").await, 200);
    assert_eq!(say(&first, "complete", "1").await, 200, "no second end");
    assert_eq!(say(&first, "complete", "2").await, 409);
    let second = lease().await;
    assert_eq!(say(&second, "extend", "{}").await, 200, "no end");
    let failed = r#"{"error": "x", "retry": false}"#;
    assert_eq!(say(&second, "fail", failed).await, 200);
    let third = lease().await;
    assert_eq!(say(&third, "release", "").await, 204);
    let metrics = scrape(&server).await;
    let of = [("task", "pulled")];
    metrics.counts("anteroom_attempts_started_total", &of, 3);
    metrics.counts("anteroom_attempt_duration_seconds_count", &of, 4);
    for (outcome, count) in [
        ("succeeded", 1),
        ("lost", 1),
        ("failed", 1),
        ("handed_back", 1),
        ("retried", 0),
    ] {
        let of = [("task", "pulled"), ("outcome", outcome)];
        metrics.counts("anteroom_attempts_ended_total", &of, count);
    }
}

#[tokio::test]
async fn a_scrape_does_without_the_store() {
    let server = Server::start().await;
    server.done("echo", "").await;
    scrape(&server).await.counts("anteroom_store_up", &[], 1);
    server.engine.close().await;
    let metrics = scrape(&server).await;
    metrics.counts("anteroom_store_up", &[], 0);
    metrics.counts("anteroom_jobs_submitted_total", &[("task", "echo")], 1);
    assert!(metrics.0["anteroom_queue_jobs"].samples.is_empty());
}

#[tokio::test]
async fn both_formats_say_the_same_and_head_says_how_much() {
    let server = Server::start().await;
    server.done("echo", "").await;
    let mut connection = server.connect().await;
    let plain = connection.send("GET", "/metrics", &[], b"").await;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(plain.header("content-type"), Some(kind));
    assert_eq!(plain.header("vary"), Some("Accept"));
    assert_eq!(plain.header("cache-control"), Some("no-store"));
    let open = connection.send("GET", "/metrics", &[OPEN], b"").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(kind));
    let plain = Scrape::read(plain.text(), Format::Prometheus);
    let open = Scrape::read(open.text(), Format::OpenMetrics);
    let kinds = |scrape: &Scrape| -> BTreeMap<String, (String, usize)> {
        let families = scrape.0.iter().filter(|(name, _)| !name.contains("_http_"));
        families
            .map(|(name, family)| (name.clone(), (family.kind.clone(), family.samples.len())))
            .collect()
    };
    assert_eq!(kinds(&plain), kinds(&open));
    let head = connection.send("HEAD", "/metrics", &[], b"").await;
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
    let wrong = connection.send("GET", "/metrics?name=x", &[], b"").await;
    wrong.is_about_parameter("name");
}

/// Every metric is on the page, with its type and its labels, and nothing else is.
#[tokio::test]
async fn the_page_about_metrics_is_true() {
    let page = include_str!("../../../../docs/metrics.md");
    let mut documented = BTreeMap::new();
    let mut is_of_sqlite = false;
    for line in page.lines() {
        if line.starts_with("## ") {
            is_of_sqlite = line == "## The SQLite store";
        }
        let Some(row) = line.strip_prefix("| `anteroom_") else {
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("anteroom_{}", cells[0].trim_end_matches('`'));
        let labels = cells[2]
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        assert!(!cells[3].is_empty(), "{name} has a meaning");
        if !is_of_sqlite || crate::store::COMMITS {
            let twice = documented.insert(name.clone(), (cells[1].to_owned(), labels));
            assert!(twice.is_none(), "{name} twice");
        }
    }
    let server = Server::start().await;
    server.done("echo", "").await;
    let scraped = scrape(&server).await;
    let live = scraped.0.iter().map(|(name, family)| {
        let labels = family.samples.iter().map(|sample| {
            let labels = sample.labels.keys().filter(|label| *label != "le");
            labels.cloned().collect::<BTreeSet<String>>()
        });
        let all: BTreeSet<BTreeSet<String>> = labels.collect();
        assert_eq!(all.len(), 1, "{name}: all series have the same labels");
        let labels = all.into_iter().next().unwrap();
        (name.clone(), (family.kind.clone(), labels))
    });
    assert_eq!(live.collect::<BTreeMap<_, _>>(), documented);
}
