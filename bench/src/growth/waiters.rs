//! The curve over long polls held open on one node, each on a job of its own: memory of each, what
//! other traffic costs meanwhile, and how soon all are answered once their jobs end.

use super::chart::Line;
use super::inputs::{load, start, submit};
use super::{Section, Settings, float};
use crate::calls::{Calls, instant_ms};
use crate::clock::{micros, now};
use crate::cpu::Usage;
use crate::disk;
use crate::load::{Measured, Turn};
use crate::memory;
use crate::process::Process;
use crate::report::grouped;
use crate::server::{self, NOOP, PULL};
use crate::wire::Connection;
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// KiB that a waiter may take.
const KIB_MAX: f64 = 20.0;
/// The queue of the jobs that are waited for: paused until all wait.
const QUEUE: &str = "awaited";
/// How long a poll waits, in seconds: as long as the server lets it.
const WAIT_SECONDS: u32 = 60;
/// Connections from one address. It has some 28,000 ports, of which Linux gives out the odd ones first:
/// once they are gone it goes through all of them for each connection.
const PER_ADDRESS: usize = 10_000;
/// Connections that are opened before the server has to have accepted them.
const PER_ROUND: usize = 500;
/// Files that both sides have open beside what waits and what the load has.
const FILES_BESIDE: usize = 200;
/// The server has taken all polls once it uses less than this share of a core for that long.
const QUIET: (Duration, f64) = (Duration::from_millis(200), 0.1);
/// Between two looks at whether all are connected.
const LOOK: Duration = Duration::from_millis(1);
/// How long it may take until then, and until all are answered.
const ALL_MAX: Duration = Duration::from_secs(50);

/// What so many waiters came to.
#[derive(Debug)]
struct Row {
    waiters: usize,
    /// Bytes of the server's memory with their jobs there, and with them waiting.
    before: u64,
    after: u64,
    traffic: Measured,
    /// Microseconds from when all jobs could start to an answer.
    answered: Histogram<u64>,
    /// Microseconds, in whole milliseconds, from the end of a job to its answer.
    told: Histogram<u64>,
}

/// Measures, and returns this part of the report.
pub(super) fn run(settings: &Settings) -> anyhow::Result<Section> {
    let files = memory::open_files_max()?;
    let most = most(files, settings.connections as usize);
    let mut sizes = vec![0];
    sizes.extend(
        settings
            .waiters
            .iter()
            .map(|waiters| most.min(*waiters as usize)),
    );
    sizes.dedup();
    let mut rows = Vec::new();
    // Those of one size leave ports that cannot be used again for a minute.
    let mut connected = 0;
    for waiters in sizes {
        eprintln!("{waiters} long polls");
        rows.push(measure(settings, waiters, connected)?);
        connected += waiters;
    }
    let none = rows.first().map_or(f64::NAN, Row::cpu_us);
    let points = rows.iter();
    let points = points.map(|row| (float(row.waiters.max(1) as u64), row.cpu_us() / none));
    let points = points.collect();
    Ok(Section {
        text: report(settings, files, most, &rows)?,
        line: Some(Line {
            name: "long polls",
            points,
        }),
    })
}

impl Row {
    /// CPU microseconds of the server for a submit of the traffic meanwhile.
    fn cpu_us(&self) -> f64 {
        self.traffic.used.process.as_secs_f64() * 1e6 / float(self.traffic.turns)
    }
}

/// Returns how many there can be where a process may have so many files open.
fn most(files: Option<usize>, connections: usize) -> usize {
    files.map_or(usize::MAX, |files| {
        files.saturating_sub(connections + FILES_BESIDE)
    })
}

fn measure(settings: &Settings, waiters: usize, connected: usize) -> anyhow::Result<Row> {
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let connections = waiters + settings.connections as usize + FILES_BESIDE;
    let server = start(folder.path(), Some(connections))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (mut calls, ids) = runtime.block_on(prepare(&server, waiters))?;
    let before = memory::resident(server.pid())?;
    let mut polls = runtime.block_on(poll(&server, &ids, connected))?;
    until_quiet(&server)?;
    let after = memory::resident(server.pid())?;
    let turn = Turn::One {
        request: submit(PULL, 200),
        status: 202,
    };
    let traffic = load(settings, &server, turn).run(folder.path())?;
    let (answered, told) = answers(&runtime, &mut calls, &mut polls, waiters)?;
    drop(calls);
    let said = server.end()?;
    let expected = traffic.turns_ever.to_string();
    let unfinished = said.trim().strip_prefix(server::UNFINISHED);
    ensure!(
        unfinished == Some(&*expected),
        "{said:?} in the end, not {expected}"
    );
    Ok(Row {
        waiters,
        before,
        after,
        traffic,
        answered,
        told,
    })
}

/// Pauses the queue, and submits so many jobs into it.
async fn prepare(server: &Process, waiters: usize) -> anyhow::Result<(Calls, Vec<String>)> {
    let mut calls = Calls::open(server.address).await?;
    set_paused(&mut calls, true).await?;
    let envelope = format!(r#"{{"task":"{NOOP}","queue":"{QUEUE}","input":"awaited"}}"#);
    let ids = calls.submit(waiters, &envelope).await?;
    Ok((calls, ids))
}

async fn set_paused(calls: &mut Calls, paused: bool) -> anyhow::Result<()> {
    let path = format!("/v1/queues/{QUEUE}");
    calls
        .patch(&path, &format!(r#"{{"paused":{paused}}}"#))
        .await
}

/// An answer: when it came, by both clocks, and what it says.
struct Answered {
    at: Instant,
    at_ms: i64,
    job: Value,
}

type Polls = JoinSet<anyhow::Result<Answered>>;

/// Has a connection wait for each job.
async fn poll(server: &Process, ids: &[String], connected: usize) -> anyhow::Result<Polls> {
    let mut polls = JoinSet::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for (number, id) in ids.iter().enumerate() {
        let (source, address) = (source(connected + number)?, server.address);
        let asked = asked.clone();
        let request = format!(
            "GET /v1/jobs/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait={WAIT_SECONDS}\r\n\r\n"
        );
        polls.spawn(async move {
            let mut connection = Connection::open_from(source, address).await?;
            asked.fetch_add(1, Ordering::Relaxed);
            loop {
                let answer = connection.exchange(request.as_bytes()).await?;
                let at = now();
                let at_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?;
                answer.expect(200)?;
                let job: Value = serde_json::from_slice(answer.body)?;
                // Where the wait was over before all was measured, it asks again as any client does.
                if job["done"] == true {
                    return Ok(Answered { at, at_ms, job });
                }
            }
        });
        if number % PER_ROUND == 0 {
            // It is answered once all before it are accepted: what waits for that has a bound, too,
            // and beyond it connections are tried again after a second.
            Calls::open(server.address).await?.get("/livez").await?;
        }
    }
    let all = async {
        while asked.load(Ordering::Relaxed) < ids.len() {
            if let Some(ended) = polls.try_join_next() {
                let _answered = ended??;
                anyhow::bail!("a poll was answered before all were sent");
            }
            tokio::time::sleep_until((now() + LOOK).into()).await;
        }
        Ok(())
    };
    let limited = tokio::time::timeout(ALL_MAX, all).await;
    limited.with_context(|| format!("not all were connected within {ALL_MAX:?}"))??;
    Ok(polls)
}

/// Returns the address that a connection comes from: all of 127.0.0.0/8 is this machine. Another run
/// has others, since this one's ports cannot be used again for a minute.
fn source(number: usize) -> anyhow::Result<IpAddr> {
    let address = u8::try_from(1 + number / PER_ADDRESS).context("too many connections")?;
    let [.., run] = std::process::id().to_be_bytes();
    Ok(IpAddr::V4(Ipv4Addr::new(127, 1, run, address)))
}

/// Waits until the server has taken all that it was sent.
fn until_quiet(server: &Process) -> anyhow::Result<()> {
    let begun = now();
    loop {
        let before = Usage::read(server.pid())?;
        std::thread::sleep(QUIET.0);
        let used = Usage::read(server.pid())?.since(before, true).process;
        if used < QUIET.0.mul_f64(QUIET.1) {
            return Ok(());
        }
        ensure!(begun.elapsed() < ALL_MAX, "the server did not come to rest");
    }
}

/// Lets the jobs go, and returns how soon their waiters were answered, from then and from the end of
/// each job.
fn answers(
    runtime: &Runtime,
    calls: &mut Calls,
    polls: &mut Polls,
    waiters: usize,
) -> anyhow::Result<(Histogram<u64>, Histogram<u64>)> {
    let (mut answered, mut told) = (disk::histogram(), disk::histogram());
    let all = async {
        ensure!(polls.try_join_next().is_none(), "a poll was answered early");
        let released = now();
        set_paused(calls, false).await?;
        let mut came = Vec::with_capacity(waiters);
        while let Some(ended) = polls.join_next().await {
            came.push(ended??);
        }
        for Answered { at, at_ms, job } in &came {
            ensure!(job["state"] == "succeeded", "an answer says {job}");
            answered.record(micros(*at - released))?;
            let late = (at_ms - instant_ms(job, "finished_at")?).max(0);
            told.record(u64::try_from(late)? * 1_000)?;
        }
        ensure!(came.len() == waiters, "{} of {waiters} answers", came.len());
        anyhow::Ok(())
    };
    let limited = runtime.block_on(async { tokio::time::timeout(ALL_MAX, all).await });
    limited.with_context(|| format!("not all were answered within {ALL_MAX:?}"))??;
    Ok((answered, told))
}

fn report(
    settings: &Settings,
    files: Option<usize>,
    most: usize,
    rows: &[Row],
) -> anyhow::Result<String> {
    let files = files.map_or("no limit".to_owned(), |files| grouped(files as u64));
    let mut text = format!(
        "## Long polls\n\n`GET /v1/jobs/{{id}}` with `Prefer: wait={WAIT_SECONDS}`, each on a connection and \
         a job of its own, whose queue is paused. Meanwhile {} connections submit jobs that nobody runs for \
         {} s; then the queue is resumed: *answered* counts from there, *told* from the end of each job, in \
         whole milliseconds. Memory is the server's, beyond what it had with their jobs and before the \
         polls, the system's buffers apart. A process may have so many files open here: {files}",
        settings.connections, settings.seconds,
    );
    if settings
        .waiters
        .iter()
        .any(|waiters| *waiters as usize > most)
    {
        write!(
            text,
            ", so that {} polls are the most; a shell with another `ulimit -n` can start a run with more",
            grouped(most as u64)
        )?;
    }
    writeln!(
        text,
        ".\n\n\
         | polls | server MiB | KiB a poll | submits/s | server CPU µs a submit | : none | submit p50 ms | \
         p99 ms | answered p50 ms | p99 ms | max ms | told p50 ms | p99 ms | max ms | other programs' CPU \
         |\n|{} --- |",
        " --- |".repeat(14),
    )?;
    let none = rows.first().map_or(f64::NAN, Row::cpu_us);
    for row in rows {
        let traffic = &row.traffic;
        let millis = |times: &Histogram<u64>, q| match times.len() {
            0 => crate::report::NONE.to_owned(),
            _ => format!("{:.1}", float(times.value_at_quantile(q)) / 1e3),
        };
        let kib = float(row.after.saturating_sub(row.before)) / 1024.0 / float(row.waiters as u64);
        writeln!(
            text,
            "| {} | {:.1} | {} | {:.0} | {:.1} | {:.3} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} % |",
            grouped(row.waiters as u64),
            float(row.after) / f64::from(1 << 20),
            if row.waiters == 0 {
                crate::report::NONE.to_owned()
            } else {
                format!("{kib:.1}")
            },
            float(traffic.turns) / traffic.span.as_secs_f64(),
            row.cpu_us(),
            row.cpu_us() / none,
            millis(&traffic.latency, 0.5),
            millis(&traffic.latency, 0.99),
            millis(&row.answered, 0.5),
            millis(&row.answered, 0.99),
            millis(&row.answered, 1.0),
            millis(&row.told, 0.5),
            millis(&row.told, 0.99),
            millis(&row.told, 1.0),
            traffic.used.elsewhere * 100.0,
        )?;
    }
    writeln!(text, "\nTarget: ≤ {KIB_MAX} KiB a poll.")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_from_addresses_that_have_ports_left() {
        let last = |number| {
            source(number)
                .unwrap()
                .to_string()
                .rsplit_once('.')
                .unwrap()
                .1
                .to_owned()
        };
        assert_eq!(last(PER_ADDRESS - 1), "1");
        assert_eq!(last(PER_ADDRESS * 2), "3");
        assert!(source(PER_ADDRESS * 255).is_err());
    }

    #[test]
    fn the_limit_of_open_files_bounds_the_polls() {
        assert_eq!(most(Some(20_000), 64), 20_000 - 64 - FILES_BESIDE);
        assert_eq!(most(Some(10), 64), 0);
        assert_eq!(most(None, 64), usize::MAX);
    }
}
