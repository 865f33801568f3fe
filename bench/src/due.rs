//! Many jobs that come due in the same instant: none early, all soon, and nobody held up.

use crate::calls::{Calls, get, instant_ms, post};
use crate::clock::{micros, now};
use crate::process::Process;
use crate::server::{Kind, NOOP};
use crate::wire::Connection;
use crate::{disk, machine};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// The queue of the jobs that come due.
const QUEUE: &str = "due";
/// How long everything may take once it is due.
const DONE_MAX: Duration = Duration::from_mins(5);
/// How much of the time ahead has to be left when all are submitted: that long the quiet server is
/// measured.
const QUIET: Duration = Duration::from_secs(1);
/// Between two requests of each of those that ask meanwhile.
const BETWEEN: Duration = Duration::from_millis(2);

/// What comes due.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// The folder whose disk is under test; the store has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// The store under test.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Kind,
    /// Jobs with the same `run_at`, 1 to 1,000,000.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,
    /// Seconds from the first submit to that instant, 2 to 600.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=600))]
    ahead: u32,
    /// No-op functions at once, up to 10,000.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
}

/// How the jobs that came due ran, in milliseconds from the instant.
#[derive(Debug)]
struct Ran {
    first_start: i64,
    last_start: i64,
    last_end: i64,
}

/// What somebody was answered who asked all the time.
#[derive(Debug)]
struct Asked {
    /// Times of answers in microseconds, before the instant and from it on.
    quiet: Histogram<u64>,
    due: Histogram<u64>,
    /// The longest time between two answers from the instant on, in microseconds.
    gap: u64,
}

/// The parts of a run, for those who ask meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Quiet,
    Due,
    Over,
}

/// Submits, waits, measures, and returns the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    let machine = machine::describe(&settings.dir);
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let path = folder.path().to_str();
    let concurrency = settings.concurrency.to_string();
    let arguments = [
        "serve",
        "--store",
        settings.store.word(),
        "--dir",
        path.context("the folder's name is not UTF-8")?,
        "--concurrency",
        &concurrency,
    ];
    let server = Process::start(&arguments, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(settings, server.address))?;
    server.end()?;
    Ok(format!("{machine}\n\n{report}"))
}

async fn measure(settings: &Settings, address: SocketAddr) -> anyhow::Result<String> {
    let mut calls = Calls::open(address).await?;
    let ahead = Duration::from_secs(u64::from(settings.ahead));
    let run_at = Timestamp::from_millisecond(wall_ms()?)? + ahead;
    let run_at_ms = run_at.as_millisecond();
    let envelope =
        format!(r#"{{"task":"{NOOP}","queue":"{QUEUE}","run_at":"{run_at}","input":"due"}}"#);
    let begun = now();
    let jobs = usize::try_from(settings.jobs)?;
    calls.submit(jobs, &envelope).await?;
    let submitted = begun.elapsed();
    ensure!(
        submitted + QUIET < ahead,
        "{jobs} submits took {submitted:.1?}: more than --ahead {} leaves room for",
        settings.ahead
    );

    let phase = Arc::new(AtomicU8::new(Phase::Quiet as u8));
    let mut asking = JoinSet::new();
    for request in [get("/livez").into_bytes(), post(SINGLE, r#""single""#)] {
        let connection = Connection::open(address).await?;
        asking.spawn(ask(connection, request, phase.clone()));
    }
    pause_until_ms(run_at_ms).await?;
    phase.store(Phase::Due as u8, Ordering::Relaxed);
    let all = calls.until_done(QUEUE);
    let done = tokio::time::timeout(DONE_MAX, all).await;
    done.with_context(|| format!("{jobs} jobs took more than {DONE_MAX:?}"))??;
    phase.store(Phase::Over as u8, Ordering::Relaxed);
    let mut asked = Vec::new();
    while let Some(ended) = asking.join_next().await {
        asked.push(ended??);
    }
    asked.sort_by_key(|(is_submit, _)| *is_submit);
    let asked: Vec<_> = asked.into_iter().map(|(_, asked)| asked).collect();

    let ran = check(&mut calls, jobs, run_at_ms).await?;
    let lateness = Lateness::read(&calls.get("/metrics").await?)?;
    Ok(report(settings, submitted, &ran, &asked, &lateness))
}

const SINGLE: &str = "/v1/tasks/noop/jobs";

fn wall_ms() -> anyhow::Result<i64> {
    let since = std::time::UNIX_EPOCH.elapsed();
    Ok(i64::try_from(since?.as_millis())?)
}

/// Waits for an instant by the machine's clock, which is the store's.
async fn pause_until_ms(instant_ms: i64) -> anyhow::Result<()> {
    let left = u64::try_from(instant_ms - wall_ms()?).unwrap_or_default();
    pause(Duration::from_millis(left)).await;
    Ok(())
}

async fn pause(span: Duration) {
    tokio::time::sleep_until((now() + span).into()).await;
}

/// Asks one thing all the time, and returns whether it was a submit, and what it was answered.
async fn ask(
    mut connection: Connection,
    request: Vec<u8>,
    phase: Arc<AtomicU8>,
) -> anyhow::Result<(bool, Asked)> {
    let is_submit = request.starts_with(b"POST");
    let mut asked = Asked {
        quiet: disk::histogram(),
        due: disk::histogram(),
        gap: 0,
    };
    let mut last = now();
    loop {
        let in_phase = phase.load(Ordering::Relaxed);
        let begun = now();
        let answer = connection.exchange(&request).await?;
        answer.expect(if is_submit { 202 } else { 200 })?;
        let answered = now();
        let took = micros(answered - begun);
        if in_phase == Phase::Quiet as u8 {
            asked.quiet.record(took)?;
        } else {
            asked.due.record(took)?;
            asked.gap = asked.gap.max(micros(answered - last));
        }
        last = answered;
        if in_phase == Phase::Over as u8 {
            return Ok((is_submit, asked));
        }
        pause(BETWEEN).await;
    }
}

/// Waits until no job of the queue is unfinished.
/// Looks at every job through the list: it has succeeded, in its first attempt, and not early.
async fn check(calls: &mut Calls, jobs: usize, run_at_ms: i64) -> anyhow::Result<Ran> {
    let listed = calls.list(&format!("queue={QUEUE}")).await?;
    ensure!(
        listed.len() == jobs,
        "{} jobs of {jobs} are there",
        listed.len()
    );
    let mut ran = Ran {
        first_start: i64::MAX,
        last_start: 0,
        last_end: 0,
    };
    for job in &listed {
        let right = job["state"] == "succeeded" && job["attempt"] == 1;
        ensure!(right, "a job has not succeeded at once: {job}");
        ensure!(
            instant_ms(job, "run_at")? == run_at_ms,
            "another run_at: {job}"
        );
        let started = instant_ms(job, "started_at")? - run_at_ms;
        let finished = instant_ms(job, "finished_at")? - run_at_ms;
        ensure!(started >= 0, "a job started early: {job}");
        ran.first_start = ran.first_start.min(started);
        ran.last_start = ran.last_start.max(started);
        ran.last_end = ran.last_end.max(finished);
    }
    Ok(ran)
}

/// What `/metrics` tells of `anteroom_start_lateness_seconds` of the task.
#[derive(Debug, PartialEq)]
struct Lateness {
    starts: f64,
    mean_s: f64,
    /// The bound that 99 % of the starts lie within, and that all do.
    within_99: String,
    within_all: String,
}

impl Lateness {
    fn read(metrics: &str) -> anyhow::Result<Self> {
        let of = |name: &str| {
            let start = format!("anteroom_start_lateness_seconds{name}{{");
            let task = format!(r#"task="{NOOP}""#);
            let lines = metrics.lines();
            lines.filter(move |line| line.starts_with(&start) && line.contains(&task))
        };
        let value = |line: &str| {
            line.rsplit(' ')
                .next()
                .and_then(|it| it.parse::<f64>().ok())
        };
        let one = |name| of(name).next().and_then(value);
        let starts = one("_count").context("/metrics has no lateness")?;
        let sum = one("_sum").context("/metrics has no sum of lateness")?;
        let within = |share: f64| {
            let mut buckets = of("_bucket");
            let bucket = buckets.find(|line| value(line).is_some_and(|it| it >= starts * share))?;
            let (_, bound) = bucket.split_once(r#"le=""#)?;
            Some(bound.split('"').next()?.to_owned())
        };
        Ok(Self {
            starts,
            mean_s: sum / starts.max(1.0),
            within_99: within(0.99).context("/metrics has no buckets of lateness")?,
            within_all: within(1.0).context("/metrics has no last bucket of lateness")?,
        })
    }
}

fn report(
    settings: &Settings,
    submitted: Duration,
    ran: &Ran,
    asked: &[Asked],
    lateness: &Lateness,
) -> String {
    let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1_000.0;
    let mut text = format!(
        "{} jobs of one run_at ({} store, {} at once), submitted in bulk in {:.1} s; all succeeded \
         in their first attempt, none started early\n\n\
         | measured | ms |\n| --- | --- |\n\
         | from the instant to the first start | {} |\n\
         | to the last start | {} |\n\
         | to the last end | {} |\n\n\
         | asked all the while | p50 ms | p99 ms | max ms | longest without an answer, ms |\n\
         | --- | --- | --- | --- | --- |\n",
        settings.jobs,
        settings.store.word(),
        settings.concurrency,
        submitted.as_secs_f64(),
        ran.first_start,
        ran.last_start,
        ran.last_end,
    );
    for (name, Asked { quiet, due, gap }) in ["`GET /livez`", "a submit"].iter().zip(asked) {
        for (when, times, gap) in [("before", quiet, None), ("while due", due, Some(*gap))] {
            let [p50, p99] = [0.5, 0.99].map(|q| ms(times.value_at_quantile(q)));
            let gap = gap.map_or_else(|| "–".to_owned(), |gap| format!("{:.2}", ms(gap)));
            // Writing to a string does not fail.
            let _never = writeln!(
                text,
                "| {name}, {when} | {p50:.2} | {p99:.2} | {:.2} | {gap} |",
                ms(times.max())
            );
        }
    }
    let _never = writeln!(
        text,
        "\n`anteroom_start_lateness_seconds` of {} starts, the single ones included: {:.3} on \
         average, 99 % within {}, all within {}",
        lateness.starts, lateness.mean_s, lateness.within_99, lateness.within_all,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_read_from_metrics() {
        let metrics = r#"
# TYPE anteroom_start_lateness_seconds histogram
anteroom_start_lateness_seconds_sum{task="noop"} 2.5
anteroom_start_lateness_seconds_count{task="noop"} 100
anteroom_start_lateness_seconds_bucket{le="0.01",task="noop"} 90
anteroom_start_lateness_seconds_bucket{le="0.1",task="noop"} 99
anteroom_start_lateness_seconds_bucket{le="+Inf",task="noop"} 100
anteroom_start_lateness_seconds_count{task="pull"} 0
"#;
        let read = Lateness::read(metrics).unwrap();
        let expected = Lateness {
            starts: 100.0,
            mean_s: 0.025,
            within_99: "0.1".to_owned(),
            within_all: "+Inf".to_owned(),
        };
        assert_eq!(read, expected);
        assert!(Lateness::read("").is_err());
    }
}
