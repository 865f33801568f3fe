//! What it takes to tell a job's place in line, at the head, in the middle and at the end of many.

use crate::calls::{Calls, get};
use crate::clock::now;
use crate::load::{Turn, one_by_one};
use crate::process::Process;
use crate::server::PULL;
use crate::{machine, server};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Requests before any is timed.
const WARM_REQUESTS: usize = 20;

/// What waits.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// The folder whose disk is under test; the store has a folder in it that is gone afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Jobs that wait in one queue, 3 to 100,000,000.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(3..=100_000_000))]
    jobs: u32,
    /// Requests of each kind for each job, up to 100,000.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
}

/// What one job's place took to tell.
#[derive(Debug)]
struct Row {
    name: &'static str,
    ahead: usize,
    plain: Histogram<u64>,
    /// With its place, and what the answer said; none where this build does not tell it.
    told: Option<(Histogram<u64>, Value)>,
}

/// Fills a queue, measures, and returns the report.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<String> {
    let machine = machine::describe(&settings.dir);
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let path = folder.path().to_str();
    let path = path.context("the folder's name is not UTF-8")?;
    let arguments = [
        "serve",
        "--store",
        "sqlite",
        "--concurrency",
        "1",
        "--dir",
        path,
    ];
    let process = Process::start(&arguments, "")?;
    let jobs = usize::try_from(settings.jobs)?;
    let begun = now();
    let ids = fill(process.address, jobs)?;
    let filled = begun.elapsed();
    let mut rows = Vec::new();
    for (name, ahead) in [("head", 0), ("middle", jobs / 2), ("end", jobs - 1)] {
        eprintln!("the {name} of {jobs} jobs");
        rows.push(measure(
            settings,
            process.address,
            name,
            ahead,
            &ids[ahead],
        )?);
    }
    let said = process.end()?;
    let unfinished = said.trim().strip_prefix(server::UNFINISHED);
    ensure!(
        unfinished == Some(&*jobs.to_string()),
        "{said:?} of {jobs} jobs in the end"
    );
    Ok(report(&machine, jobs, filled, &rows))
}

/// Submits all jobs, and returns their ids in order.
fn fill(address: SocketAddr, jobs: usize) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let envelope = format!(r#"{{"task":"{PULL}","input":"{}"}}"#, "x".repeat(198));
    runtime.block_on(async { Calls::open(address).await?.submit(jobs, &envelope).await })
}

fn measure(
    settings: &Settings,
    address: SocketAddr,
    name: &'static str,
    ahead: usize,
    id: &str,
) -> anyhow::Result<Row> {
    let requests = usize::try_from(settings.requests)?;
    let time = |path: &str, count: usize| {
        let turn = Turn::One {
            request: get(path).into_bytes(),
            status: 200,
        };
        one_by_one(address, &turn, count, |_| Ok(()))
    };
    let plain = format!("/v1/jobs/{id}");
    let with_place = format!("{plain}?include=waiting");
    let (status, body) = ask(address, &with_place)?;
    time(&plain, WARM_REQUESTS)?;
    let told = match status {
        // To come: this build says so.
        501 => None,
        200 => {
            time(&with_place, WARM_REQUESTS)?;
            let job: Value = serde_json::from_slice(&body)?;
            let waiting = job["waiting"].clone();
            check(&waiting, ahead)?;
            Some((time(&with_place, requests)?, waiting))
        }
        _ => anyhow::bail!("GET {with_place} is answered {status}"),
    };
    Ok(Row {
        name,
        ahead,
        plain: time(&plain, requests)?,
        told,
    })
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { Calls::open(address).await?.ask(path).await })
}

/// A place that is said to be exact is the number of jobs ahead.
fn check(waiting: &Value, ahead: usize) -> anyhow::Result<()> {
    let position = waiting["position"].as_u64();
    let position = position.with_context(|| format!("a waiting job is told {waiting}"))?;
    ensure!(
        waiting["exact"] != true || usize::try_from(position)? == ahead,
        "{ahead} jobs are ahead, and it is told {waiting}"
    );
    Ok(())
}

fn report(machine: &str, jobs: usize, filled: Duration, rows: &[Row]) -> String {
    let mut text = format!(
        "{machine}\n\n{jobs} jobs wait in one queue, filled in {:.0} s; requests one after the \
         other on one connection\n\n\
         | job | ahead of it | asked | p50 ms | p99 ms | max ms | told |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        filled.as_secs_f64()
    );
    for Row {
        name,
        ahead,
        plain,
        told,
    } in rows
    {
        row(&mut text, name, *ahead, "plain", plain, "–");
        match told {
            Some((times, waiting)) => {
                let told = format!(
                    "position {}, exact {}",
                    waiting["position"], waiting["exact"]
                );
                row(&mut text, name, *ahead, "include=waiting", times, &told);
            }
            None => text.push_str("| | | include=waiting | – | – | – | 501: not by this build |\n"),
        }
    }
    text
}

fn row(
    text: &mut String,
    name: &str,
    ahead: usize,
    asked: &str,
    times: &Histogram<u64>,
    told: &str,
) {
    let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1_000.0;
    let [p50, p99] = [0.5, 0.99].map(|q| ms(times.value_at_quantile(q)));
    // Writing to a string does not fail.
    let _never = writeln!(
        text,
        "| {name} | {ahead} | {asked} | {p50:.3} | {p99:.3} | {:.3} | {told} |",
        ms(times.max())
    );
}
