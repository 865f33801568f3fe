//! Lists and bulk calls over many kept jobs: pages of each kind of filter, one after the other.
//!
//! The store is filled through the engine, half of the jobs done. Requests go to the router in
//! this process, answers are read to their end: JSON is part of what is measured, sockets are not.

use crate::clock::{micros, now};
use crate::machine;
use crate::server::input;
use anteroom::clock::Clock;
use anteroom::core::{
    ClaimNumber, Event, Failure, FailureKind, JobId, Label, Lease, Name, Payload, Retry,
};
use anteroom::store::sqlite::SqliteStore;
use anteroom::store::{Change, Store, Want};
use anteroom::{Engine, Options, StartAt, Submission, Task, TaskRunner};
use anteroom_server::http::{RouterOptions, router};
use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use hdrhistogram::Histogram;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// Jobs of one submit.
const BATCH: usize = 5_000;
/// Jobs of one claim.
const CLAIM: usize = 1_000;
/// Jobs that are running in the end.
const RUNNING: usize = 1_000;
/// Tasks, queues and groups that the jobs are spread over.
const TASKS: usize = 4;
const QUEUES: usize = 8;
const GROUPS: usize = 100;
/// Values of the tag `user`.
const USERS: usize = 1_000;
/// Jobs submitted before all others, with a tag of their own: as far away as can be.
const NEEDLES: usize = 10;
/// What each page is at most to take, in milliseconds.
const PAGE_MS_MAX: f64 = 50.0;

/// The filters, from the one that everything matches to those that nothing does.
const QUERIES: [&str; 25] = [
    "",
    "page_size=1000",
    "task=t1",
    "task=t1&page_size=1000",
    "task=needle",
    "queue=q3",
    "group=g7",
    "state=ready",
    "state=scheduled",
    "state=running",
    "state=succeeded",
    "state=succeeded&page_size=1000",
    "state=failed",
    "state=failed&page_size=1000",
    "state=cancelled",
    "state=running,failed",
    "state=ready,succeeded&tag.user=7",
    "tag.user=7",
    "tag.user=none",
    "tag.needle=1",
    "state=ready&tag.user=none",
    "state=succeeded&tag.user=none",
    "task=t1&queue=q3&group=g7&state=succeeded&tag.user=7",
    "created_before=2000-01-01T00:00:00Z",
    "created_after=2000-01-01T00:00:00Z&page_size=1000",
];

/// What is listed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// The folder whose disk is under test; the store has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Jobs in the store, 1,000 to 100,000,000; half of them are done.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    jobs: u32,
    /// Pages of each filter, up to 100,000; fewer where the list ends before.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pages: u32,
    /// Bytes of an input, 2 to 1,000,000.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    input_bytes: u32,
}

/// What the pages of one filter took.
struct Row {
    query: String,
    jobs: usize,
    empty: usize,
    /// In microseconds.
    pages: Histogram<u64>,
}

/// What a bulk call came to.
struct BulkRow {
    call: String,
    answer: Value,
    span: Duration,
}

/// Fills a store, measures, and returns the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    let machine = machine::describe(&settings.dir);
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let path = folder.path().join("anteroom.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, Clock::system())?);
        let tasks = (0..TASKS).map(|n| Task::new(&format!("t{n}"), TaskRunner::Pull));
        let mut tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        tasks.push(Task::new("needle", TaskRunner::Pull)?);
        let engine = Engine::start(store, tasks, Options::default()).await?;
        let begun = now();
        fill(&engine, settings).await?;
        let filled = begun.elapsed();
        let bytes = std::fs::metadata(&path)?.len();
        let routes = router(engine.clone(), &RouterOptions::default());
        let mut rows = Vec::new();
        for query in QUERIES.map(str::to_owned) {
            eprintln!("pages of {query:?}");
            rows.push(pages(&routes, query, settings.pages).await?);
        }
        let mut bulk = Vec::new();
        for (method, path) in [
            (Method::POST, "/v1/jobs/cancel?tag.needle=1"),
            (Method::POST, "/v1/jobs/retry?tag.needle=1"),
            (Method::POST, "/v1/jobs/cancel?task=needle"),
            (Method::DELETE, "/v1/jobs?tag.needle=1"),
            (Method::DELETE, "/v1/jobs?tag.needle=1"),
            (Method::POST, "/v1/jobs/cancel?tag.user=none"),
            (Method::POST, "/v1/jobs/retry?tag.user=none"),
            (Method::POST, "/v1/jobs/retry?state=failed"),
            (Method::POST, "/v1/jobs/cancel?queue=q1"),
            (Method::DELETE, "/v1/jobs?queue=q1"),
        ] {
            eprintln!("{method} {path}");
            bulk.push(bulk_call(&routes, method, path).await?);
        }
        engine.shutdown(Duration::ZERO).await;
        Ok(report(settings, &machine, filled, bytes, &rows, &bulk))
    })
}

/// Submits all jobs, and has half of them done, in the order of their claims: the oldest.
async fn fill(engine: &Engine, settings: &Settings) -> anyhow::Result<()> {
    let count = usize::try_from(settings.jobs)?;
    let payload = input(usize::try_from(settings.input_bytes)?);
    let needles = (0..NEEDLES).map(|_| {
        let mut needle = submission("needle", &payload)?;
        needle.tags.insert(Name::new("needle")?, "1".to_owned());
        anyhow::Ok(needle)
    });
    let needles = needles.collect::<Result<Vec<_>, _>>()?;
    engine.submit_all(needles).await?;
    let mut submitted = NEEDLES;
    while submitted < count {
        let some = BATCH.min(count - submitted);
        let jobs = (submitted..submitted + some).map(|n| usual(n, &payload));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        engine.submit_all(jobs).await?;
        submitted += some;
        if submitted % 100_000 < BATCH {
            eprintln!("{submitted} jobs submitted");
        }
    }
    let mut done = 0;
    while done < count / 2 {
        let claimed = claim(engine).await?;
        ensure!(!claimed.is_empty(), "there is nothing left to claim");
        let changes = claimed.iter().enumerate();
        let changes = changes.map(|(n, (id, claim))| end(*id, *claim, n));
        for applied in engine.store().apply(changes.collect()).await? {
            ensure!(applied.is_ok(), "an end was refused: {applied:?}");
        }
        done += claimed.len();
    }
    let mut running = 0;
    while running < RUNNING.min(count / 10) {
        running += claim(engine).await?.len();
    }
    eprintln!("{done} jobs done, {running} running");
    Ok(())
}

fn submission(task: &str, payload: &Payload) -> anyhow::Result<Submission> {
    Ok(Submission::new(Name::new(task)?, payload.clone()))
}

fn usual(n: usize, payload: &Payload) -> anyhow::Result<Submission> {
    let mut job = submission(&format!("t{}", n % TASKS), payload)?;
    job.queue = Some(Name::new(&format!("q{}", n / TASKS % QUEUES))?);
    job.group = Some(Label::new(&format!("g{}", n % GROUPS))?);
    job.tags.insert(Name::new("user")?, (n % USERS).to_string());
    job.tags.insert(Name::new("source")?, "import".to_owned());
    if n % 50 == 49 {
        job.start = Some(StartAt::In(Duration::from_hours(100)));
    }
    Ok(job)
}

async fn claim(engine: &Engine) -> anyhow::Result<Vec<(JobId, ClaimNumber)>> {
    let tasks = (0..TASKS).map(|n| Name::new(&format!("t{n}")));
    let want = Want {
        tasks: tasks.collect::<Result<_, _>>()?,
        queues: None,
        limit: CLAIM,
        lease: Lease::Pulled,
        lease_for: Duration::from_hours(1),
        wait: Duration::ZERO,
    };
    let claimed = engine.store().claim(want).await?;
    let held = claimed.iter();
    Ok(held
        .map(|held| (held.job.spec.id, held.job.status.claim))
        .collect())
}

/// Of a hundred, ninety succeed and ten fail.
fn end(id: JobId, claim: ClaimNumber, n: usize) -> Change {
    let failure = Failure::new(FailureKind::Error, "no such file or directory: input.png");
    match n % 100 {
        0..90 => Change {
            result: Some(input(100)),
            ..Change::new(id, Event::Succeeded { claim })
        },
        _ => Change::new(
            id,
            Event::Failed {
                claim,
                failure,
                retry: Retry::Never,
            },
        ),
    }
}

async fn ask(routes: &Router, method: Method, path: &str) -> anyhow::Result<(Value, Duration)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())?;
    let begun = now();
    let answer = routes.clone().oneshot(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let span = begun.elapsed();
    ensure!(status == 200, "{path}: {status} {body:?}");
    Ok((serde_json::from_slice(&body)?, span))
}

async fn pages(routes: &Router, query: String, most: u32) -> anyhow::Result<Row> {
    let mut row = Row {
        query,
        jobs: 0,
        empty: 0,
        pages: Histogram::new(3)?,
    };
    let mut token = String::new();
    for _ in 0..most {
        let path = format!("/v1/jobs?{}{token}", row.query);
        let (page, span) = ask(routes, Method::GET, &path).await?;
        row.pages.record(micros(span))?;
        let jobs = page["jobs"].as_array().context("a page has jobs")?.len();
        row.jobs += jobs;
        row.empty += usize::from(jobs == 0);
        match page["next_page_token"].as_str() {
            Some(next) => token = format!("&page_token={next}"),
            None => break,
        }
    }
    Ok(row)
}

async fn bulk_call(routes: &Router, method: Method, path: &str) -> anyhow::Result<BulkRow> {
    let call = format!("{method} {path}");
    let (answer, span) = ask(routes, method, path).await?;
    Ok(BulkRow { call, answer, span })
}

fn report(
    settings: &Settings,
    machine: &str,
    filled: Duration,
    bytes: u64,
    rows: &[Row],
    bulk: &[BulkRow],
) -> String {
    let mut text = format!(
        "{machine}\n\n{} jobs in {} MB, half of them done, inputs of {} bytes, filled in {:.0} s; at \
         most {} pages of each filter\n\n\
         | filter | pages | empty | jobs | p50 ms | p99 ms | max ms |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        settings.jobs,
        bytes / 1_000_000,
        settings.input_bytes,
        filled.as_secs_f64(),
        settings.pages,
    );
    let mut worst = 0.0_f64;
    for row in rows {
        let millis = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1_000.0;
        let [p50, p99] = [0.5, 0.99].map(|q| millis(row.pages.value_at_quantile(q)));
        worst = worst.max(p99);
        let name = if row.query.is_empty() {
            "none"
        } else {
            &row.query
        };
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "| {name} | {} | {} | {} | {p50:.2} | {p99:.2} | {:.2} |",
            row.pages.len(),
            row.empty,
            row.jobs,
            millis(row.pages.max()),
        );
    }
    let _never = write!(
        text,
        "\nworst p99 of a page: {worst:.1} ms; target ≤ {PAGE_MS_MAX} ms\n\n\
         | call | answer | s |\n| --- | --- | --- |\n"
    );
    for BulkRow { call, answer, span } in bulk {
        let _never = writeln!(text, "| {call} | {answer} | {:.2} |", span.as_secs_f64());
    }
    text
}
