//! The parts of a run, and the rounds in which they take turns.
//!
//! Each part of each round has a server process and a store of its own, and nothing else of this
//! program runs meanwhile. What is compared stands next to each other in the same round, so that
//! a machine that is slower for a while is slower for both.

use crate::bare::Answers;
use crate::cpu::Used;
use crate::life::{Life, Lived};
use crate::load::{Load, Measured, Pace, Turn, one_by_one};
use crate::process::Process;
use crate::requests::{READ, WAIT, check_succeeded, learn, submit_one};
use crate::server::{self, NOOP, PULL};
use crate::{Settings, disk};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use std::path::Path;
use std::time::Duration;

/// Appends that the quiet disk is timed with.
const QUIET_APPENDS: usize = 200;
/// Requests before an idle server's latency is measured.
const WARM_REQUESTS: usize = 50;

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The bare handler answers what a submit is answered.
    BareSubmit,
    /// Durable submits, one a request; nobody runs the jobs.
    Submit,
    /// The bare handler answers what a submit that waits is answered.
    BareWait,
    /// A submit that waits for its result.
    Wait,
    /// The bare handler answers submits and reads of results.
    BarePair,
    /// A submit, then the read of its result.
    Pair,
    /// The full life in bulk, in one process.
    Life,
    /// A submit that waits, on one connection to an idle server.
    Latency,
}

impl Part {
    /// All of them, those to be compared side by side.
    pub(crate) const ALL: [Self; 8] = [
        Self::BareSubmit,
        Self::Submit,
        Self::BareWait,
        Self::Wait,
        Self::BarePair,
        Self::Pair,
        Self::Life,
        Self::Latency,
    ];

    /// Tells whether the bare handler is under test.
    const fn is_bare(self) -> bool {
        matches!(self, Self::BareSubmit | Self::BareWait | Self::BarePair)
    }
}

/// What a part came to in one round.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Jobs a second.
    pub(crate) rate: f64,
    /// Microseconds from request to answer.
    pub(crate) latency: Option<Histogram<u64>>,
    /// CPU seconds of the process under test for 1,000 jobs.
    pub(crate) server_cpu: Option<f64>,
    /// CPU seconds of the load generator for 1,000 jobs.
    pub(crate) client_cpu: Option<f64>,
    /// What other programs used meanwhile, as a share of all cores.
    pub(crate) elsewhere: Option<f64>,
    /// Turns of an open loop that were never begun.
    pub(crate) never_begun: u64,
    /// The quiet disk, just before.
    pub(crate) disk_quiet: Histogram<u64>,
    /// The disk meanwhile.
    pub(crate) disk_loaded: Option<Histogram<u64>>,
}

impl Figures {
    /// CPU seconds of both sides for 1,000 jobs.
    pub(crate) fn cpu(&self) -> Option<f64> {
        Some(self.server_cpu? + self.client_cpu?)
    }
}

/// A part and its figures, round by round.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which part.
    pub(crate) part: Part,
    /// Its figures.
    pub(crate) rounds: Vec<Figures>,
}

/// Runs the parts in rounds.
pub(crate) fn run(settings: &Settings, parts: &[Part]) -> anyhow::Result<Vec<Row>> {
    let answers = learn_from_server(settings)?.to_line();
    let mut rows: Vec<Row> = parts
        .iter()
        .map(|part| Row {
            part: *part,
            rounds: Vec::new(),
        })
        .collect();
    for round in 0..settings.rounds {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        // Neither of two that are compared is always the one that comes later.
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let part = rows[index].part;
            eprintln!("round {} of {}: {part:?}", round + 1, settings.rounds);
            let figures = measure(settings, part, &answers);
            let figures = figures.with_context(|| format!("{part:?}, round {}", round + 1))?;
            rows[index].rounds.push(figures);
        }
    }
    Ok(rows)
}

fn learn_from_server(settings: &Settings) -> anyhow::Result<Answers> {
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let server = start_server(settings, folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(learn(server.address, settings.input_bytes));
    server.end()?;
    answers
}

fn measure(settings: &Settings, part: Part, answers: &str) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir_in(&settings.dir)?;
    let folder = folder.path();
    let disk_quiet = disk::quiet(folder, QUIET_APPENDS)?;
    match part {
        Part::Life => measure_life(settings, folder, disk_quiet),
        Part::Latency => measure_latency(settings, folder, disk_quiet),
        Part::BareSubmit
        | Part::Submit
        | Part::BareWait
        | Part::Wait
        | Part::BarePair
        | Part::Pair => measure_load(settings, part, answers, folder, disk_quiet),
    }
}

fn measure_load(
    settings: &Settings,
    part: Part,
    answers: &str,
    folder: &Path,
    disk_quiet: Histogram<u64>,
) -> anyhow::Result<Figures> {
    let server = if part.is_bare() {
        Process::start(&["serve-bare"], answers)?
    } else {
        start_server(settings, folder)?
    };
    let load = Load {
        address: server.address,
        pid: server.pid(),
        turn: turn(settings, part),
        pace: settings.rate.map_or(Pace::Closed, Pace::Open),
        connections: settings.connections,
        threads: settings.threads,
        warm_up: Duration::from_secs_f64(settings.warm_up),
        measured: Duration::from_secs_f64(settings.seconds),
    };
    let measured = load.run(folder)?;
    let said = server.end()?;
    if !part.is_bare() {
        // What was acknowledged is there, all of it and no more.
        let expected = if part == Part::Submit {
            measured.turns_ever
        } else {
            0
        };
        let unfinished = said.trim().strip_prefix(server::UNFINISHED);
        let unfinished: u64 = unfinished.context("the server did not count")?.parse()?;
        ensure!(
            unfinished == expected,
            "{unfinished} jobs are unfinished, not {expected}"
        );
    }
    ensure!(measured.turns > 0, "not one request was answered");
    Ok(figures_of_load(measured, disk_quiet))
}

fn figures_of_load(measured: Measured, disk_quiet: Histogram<u64>) -> Figures {
    let turns = count(measured.turns);
    let thousand = turns / 1_000.0;
    Figures {
        rate: turns / measured.span.as_secs_f64(),
        latency: Some(measured.latency),
        server_cpu: Some(measured.used.process.as_secs_f64() / thousand),
        client_cpu: Some(measured.used.this.as_secs_f64() / thousand),
        elsewhere: Some(measured.used.elsewhere),
        never_begun: measured.never_begun,
        disk_quiet,
        disk_loaded: Some(measured.disk),
    }
}

fn measure_life(
    settings: &Settings,
    folder: &Path,
    disk_quiet: Histogram<u64>,
) -> anyhow::Result<Figures> {
    let life = Life {
        store: settings.store,
        jobs: settings.jobs,
        batch: settings.batch,
        submitters: settings.submitters,
        concurrency: settings.concurrency,
        input_bytes: settings.input_bytes,
    };
    let Lived {
        span, used, disk, ..
    } = life.run(folder)?;
    let Used {
        this, elsewhere, ..
    } = used;
    let jobs = count(u64::try_from(settings.jobs)?);
    Ok(Figures {
        rate: jobs / span.as_secs_f64(),
        latency: None,
        server_cpu: Some(this.as_secs_f64() * 1_000.0 / jobs),
        client_cpu: None,
        elsewhere: Some(elsewhere),
        never_begun: 0,
        disk_quiet,
        disk_loaded: Some(disk),
    })
}

fn measure_latency(
    settings: &Settings,
    folder: &Path,
    disk_quiet: Histogram<u64>,
) -> anyhow::Result<Figures> {
    let server = start_server(settings, folder)?;
    let turn = turn(settings, Part::Wait);
    one_by_one(server.address, &turn, WARM_REQUESTS, check_succeeded)?;
    let latency = one_by_one(server.address, &turn, settings.requests, check_succeeded)?;
    server.end()?;
    Ok(Figures {
        rate: 1_000_000.0 / latency.mean(),
        latency: Some(latency),
        server_cpu: None,
        client_cpu: None,
        elsewhere: None,
        never_begun: 0,
        disk_quiet,
        disk_loaded: None,
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 jobs, which no run reaches"
)]
fn count(jobs: u64) -> f64 {
    jobs as f64
}

fn start_server(settings: &Settings, folder: &Path) -> anyhow::Result<Process> {
    let folder = folder.to_str().context("the folder's name is not UTF-8")?;
    let concurrency = settings.concurrency.to_string();
    let arguments = [
        "serve",
        "--store",
        settings.store.word(),
        "--dir",
        folder,
        "--concurrency",
        &concurrency,
    ];
    Process::start(&arguments, "")
}

fn turn(settings: &Settings, part: Part) -> Turn {
    let one = |task, fields, status| Turn::One {
        request: submit_one(task, settings.input_bytes, fields),
        status,
    };
    match part {
        Part::BareSubmit | Part::Submit => one(PULL, "", 202),
        Part::BareWait | Part::Wait | Part::Latency | Part::Life => one(NOOP, WAIT, 200),
        Part::BarePair | Part::Pair => Turn::Pair {
            submit: submit_one(NOOP, settings.input_bytes, ""),
            read: READ,
        },
    }
}
