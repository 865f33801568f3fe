//! The curve over the size of an input: submits over HTTP whose jobs run, on many connections and on
//! one.

use super::{Section, Settings, Spread, float};
use crate::calls::Calls;
use crate::load::{Load, Measured, Pace, Turn, one_by_one};
use crate::process::Process;
use crate::report::grouped;
use crate::server::{self, NOOP};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long a load goes on before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Submits on one connection, each when the one before was answered.
const ALONE: usize = 200;
/// How long what was submitted may take to be done.
const DONE_MAX: Duration = Duration::from_mins(1);

/// What a size came to in one round.
#[derive(Debug)]
struct Figures {
    load: Measured,
    alone: Histogram<u64>,
}

/// Measures, and returns this part of the report.
pub(super) fn run(settings: &Settings) -> anyhow::Result<Section> {
    let sizes = settings.input_bytes.iter();
    let mut rows: Vec<(u32, Vec<Figures>)> = sizes.map(|bytes| (*bytes, Vec::new())).collect();
    for round in 0..settings.short_rounds {
        for (bytes, figures) in &mut rows {
            eprintln!(
                "round {} of {}: inputs of {bytes} bytes",
                round + 1,
                settings.short_rounds
            );
            figures.push(measure(settings, usize::try_from(*bytes)?)?);
        }
    }
    Ok(Section {
        text: report(settings, &rows)?,
        line: None,
    })
}

fn measure(settings: &Settings, bytes: usize) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let server = start(folder.path(), None)?;
    let turn = Turn::One {
        request: submit(NOOP, bytes),
        status: 202,
    };
    let alone = one_by_one(server.address, &turn, ALONE, |_| Ok(()))?;
    let load = load(settings, &server, turn).run(folder.path())?;
    ensure!(load.turns > 0, "not one request was answered");
    done(server.address, load.turns_ever + u64::try_from(ALONE)?)?;
    let said = server.end()?;
    let unfinished = said.trim().strip_prefix(server::UNFINISHED);
    ensure!(unfinished == Some("0"), "{said:?} in the end");
    Ok(Figures { load, alone })
}

/// Starts a server on a store in `folder`, which takes so many connections.
pub(super) fn start(folder: &Path, connections: Option<usize>) -> anyhow::Result<Process> {
    let path = folder.to_str().context("the folder's name is not UTF-8")?;
    let concurrency = super::SLOTS.to_string();
    let mut arguments = vec!["serve", "--store", "sqlite", "--dir", path];
    arguments.extend(["--concurrency", &concurrency]);
    let connections = connections.map(|connections| connections.to_string());
    arguments.extend(connections.iter().flat_map(|most| ["--connections", most]));
    Process::start(&arguments, "")
}

/// Returns a load whose connections take turns as fast as answers come.
pub(super) fn load(settings: &Settings, server: &Process, turn: Turn) -> Load {
    Load {
        address: server.address,
        pid: server.pid(),
        turn,
        pace: Pace::Closed,
        connections: settings.connections as usize,
        threads: 1,
        warm_up: WARM_UP,
        measured: Duration::from_secs_f64(settings.seconds),
    }
}

/// Returns a submit of a job with so many bytes of input.
pub(super) fn submit(task: &str, bytes: usize) -> Vec<u8> {
    let input = server::input(bytes).bytes;
    let head = format!(
        "POST /v1/tasks/{task}/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        input.len()
    );
    [head.as_bytes(), &input].concat()
}

/// Waits until all is done, and refuses another number of jobs than so many that have succeeded.
fn done(address: SocketAddr, jobs: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut calls = Calls::open(address).await?;
        let all = tokio::time::timeout(DONE_MAX, calls.until_done("default")).await;
        all.with_context(|| format!("{jobs} jobs were not done within {DONE_MAX:?}"))??;
        let succeeded = succeeded(&calls.get("/metrics").await?)?;
        ensure!(succeeded == jobs, "{succeeded} jobs of {jobs} succeeded");
        Ok(())
    })
}

/// Reads how many jobs of the no-op succeeded.
fn succeeded(metrics: &str) -> anyhow::Result<u64> {
    let task = format!("task=\"{NOOP}\"");
    let line = metrics.lines().find(|line| {
        line.starts_with("anteroom_jobs_finished_total{")
            && line.contains(&task)
            && line.contains("state=\"succeeded\"")
    });
    let (_, value) = line
        .and_then(|line| line.rsplit_once(' '))
        .context("the metrics do not say how many jobs succeeded")?;
    Ok(value.parse()?)
}

fn report(settings: &Settings, rows: &[(u32, Vec<Figures>)]) -> anyhow::Result<String> {
    let mut text = format!(
        "## Size of inputs\n\n`POST` of one job a request, answered 202, while all of them run; {} \
         connections, each as fast as answers come, for {} s, then one connection alone; {} rounds, \
         medians (lowest to highest).\n\n\
         | input bytes | jobs/s | MB/s | server CPU µs a job | generator CPU µs a job | p50 ms | p99 ms | \
         alone p50 ms | alone p99 ms | fdatasync meanwhile p99 ms | other programs' CPU |\n|{} --- |\n",
        settings.connections,
        settings.seconds,
        settings.short_rounds,
        " --- |".repeat(10),
    );
    for (bytes, figures) in rows {
        let of = |value: &dyn Fn(&Figures) -> f64| Spread::of(figures.iter().map(value));
        let rate = of(&|of| float(of.load.turns) / of.load.span.as_secs_f64());
        let per_job =
            |time: Duration, of: &Figures| time.as_secs_f64() * 1e6 / float(of.load.turns);
        let millis = |times: &Histogram<u64>, q| float(times.value_at_quantile(q)) / 1e3;
        writeln!(
            text,
            "| {} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} % |",
            grouped(u64::from(*bytes)),
            rate.median * f64::from(*bytes) / 1e6,
            of(&|of| per_job(of.load.used.process, of)),
            of(&|of| per_job(of.load.used.this, of)).median,
            of(&|of| millis(&of.load.latency, 0.5)).median,
            of(&|of| millis(&of.load.latency, 0.99)).median,
            of(&|of| millis(&of.alone, 0.5)).median,
            of(&|of| millis(&of.alone, 0.99)).median,
            of(&|of| millis(&of.load.disk, 0.99)).median,
            of(&|of| of.load.used.elsewhere).median * 100.0,
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeded_is_read_from_the_metrics() {
        let metrics = "anteroom_jobs_finished_total{task=\"noop\",state=\"failed\"} 2\n\
                       anteroom_jobs_finished_total{task=\"pull\",state=\"succeeded\"} 3\n\
                       anteroom_jobs_finished_total{task=\"noop\",state=\"succeeded\"} 41\n";
        assert_eq!(succeeded(metrics).unwrap(), 41);
        assert!(succeeded("").is_err());
    }
}
