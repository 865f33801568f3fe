//! What Anteroom does in a second on `PostgreSQL`, beside other queues there and beside hand-written
//! SQL, in one run on one server that is set up alike for everybody.
//!
//! One file for each thing: the server ([`cluster`]), who is measured ([`contender`]; [`follow`] is its
//! other side: [`raw`], [`embedded`], [`over_http`]), what it is told ([`Order`]), and what comes of it
//! ([`parts`]; [`alone`], where nobody else does it; [`table`], all of it in rounds).

mod alone;
mod cluster;
mod contender;
mod embedded;
mod follow;
mod over_http;
mod parts;
mod raw;
mod table;

pub(crate) use cluster::{Server, settings};
pub(crate) use contender::Who;
pub(crate) use follow::run as contend;
pub(crate) use over_http::answer as serve;

use crate::order::Order;
use crate::{machine, within};
use clap::{Args, Subcommand};
use contender::Programs;
use parts::{Figures, Part};
use std::fmt::Write;
use std::path::PathBuf;

/// Statements that `--statements` shows.
const SHOWN: u32 = 20;

/// What is measured on `PostgreSQL`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// The full life of no-op jobs in bulk, once for each contender and round.
    Life(LifeSettings),
    /// Everything, in rounds.
    Table(table::Settings),
}

/// How contenders are started.
#[derive(Clone, Debug, Args)]
struct ProgramSettings {
    /// No-ops at once of Anteroom, up to 10,000.
    #[arg(long, default_value_t = 2_000, value_parser = within::<10_000>)]
    concurrency: usize,
    /// The folder with the programs for Node.js.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"))]
    peers: PathBuf,
    /// Node.js, 22 or later.
    #[arg(long, default_value = "node")]
    node: PathBuf,
}

impl ProgramSettings {
    fn programs(&self) -> Programs {
        Programs {
            node: self.node.clone(),
            peers: self.peers.clone(),
            concurrency: self.concurrency,
        }
    }
}

/// How long a life is, and whose.
#[derive(Clone, Debug, Args)]
pub(crate) struct LifeSettings {
    /// Who: `raw`, `embedded`, `http`, `graphile`, `boss`; one after the other.
    #[arg(long, value_delimiter = ',', default_value = "embedded")]
    who: Vec<Who>,
    /// Jobs, up to 10,000,000.
    #[arg(long, default_value_t = 100_000, value_parser = within::<10_000_000>)]
    jobs: usize,
    /// Jobs of one submit, up to 10,000.
    #[arg(long, default_value_t = 500, value_parser = within::<10_000>)]
    batch: usize,
    /// Jobs that wait already, up to 20,000,000.
    #[arg(long, default_value_t = 0, value_parser = backlog)]
    backlog: u64,
    /// Keeps a transaction open all the while.
    #[arg(long)]
    held: bool,
    /// Rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Ends each after so many seconds, whatever is done by then.
    #[arg(long, default_value_t = 120.0, value_parser = crate::seconds)]
    seconds: f64,
    /// Shows the statements that took the longest: costs a little.
    #[arg(long)]
    statements: bool,
    #[command(flatten)]
    programs: ProgramSettings,
}

fn backlog(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(jobs) if jobs <= 20_000_000 => Ok(jobs),
        Ok(_) | Err(_) => Err("is not a whole number up to 20,000,000".to_owned()),
    }
}

/// Measures, and prints the report.
///
/// # Errors
///
/// When a server or a contender cannot be started, or one fails; of a table the report is printed
/// before.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Life(settings) => print!("{}", life(settings)?),
        Command::Table(settings) => {
            let report = table::run(settings)?;
            print!("{}", report.text);
            let failures = report.failures.len();
            anyhow::ensure!(failures == 0, "{failures} figures could not be had");
        }
    }
    Ok(())
}

fn life(settings: &LifeSettings) -> anyhow::Result<String> {
    let programs = settings.programs.programs();
    for who in &settings.who {
        if let Some(why) = programs.missing(*who) {
            anyhow::bail!("{} cannot be measured: {why}", who.name());
        }
    }
    let server = Server::start()?;
    let part = Part {
        order: Order::Life {
            jobs: u64::try_from(settings.jobs)?,
            batch: u64::try_from(settings.batch)?,
            seconds: settings.seconds,
            is_backlog: settings.backlog > 0 || settings.held,
        },
        backlog: settings.backlog,
        is_held: settings.held,
    };
    let mut text = format!(
        "{}; {}\n\n| who | jobs | jobs/s | database µs/job | own µs/job | WAL B/job | \
         other programs' CPU % | fdatasync p50 ms |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        machine::describe(server.folder()),
        server.describe(),
    );
    for round in 0..settings.rounds {
        for who in &settings.who {
            eprintln!("round {} of {}: {}", round + 1, settings.rounds, who.name());
            let shown = settings.statements.then_some(SHOWN);
            let figures = part.measure(&server, &programs, *who, shown)?;
            text.push_str(&line(*who, &figures));
            if let Some(statements) = figures.statements {
                // What is printed at once is not lost with a later round.
                eprintln!("calls|ms|rows|WAL B|statement\n{statements}");
            }
        }
    }
    Ok(text)
}

fn line(who: Who, figures: &Figures) -> String {
    let mut line = String::new();
    // Writing to a string does not fail.
    let _never = writeln!(
        line,
        "| {} | {} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} |",
        format!("{} {}", who.name(), figures.version).trim_end(),
        figures.jobs,
        figures.rate(),
        figures.database_us(),
        figures.own_us(),
        figures.wal_bytes(),
        figures.elsewhere * 100.0,
        figures.fdatasync_ms(),
    );
    line
}
