//! The command line of the fault campaigns.

use anteroom_faults::campaign::{
    damage, disk_full, drain, fsync_error, kill, limits, moving, naps, nodes, overload, poison,
    power, pull, slow,
};
use anteroom_faults::history::{Bounds, check};
use anyhow::bail;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Breaks a running server on purpose and checks the history of what it acknowledged.
///
/// Each campaign ends with a line that says what was hurt and what came of it, and with a status
/// other than 0 if a promise was broken. "COULD NOT RUN" says that this machine cannot do it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Holds a history to the rules.
    Check(CheckArguments),
    /// Kills the server under load, while it starts, purges and drains.
    Kill(kill::Arguments),
    /// Cuts the power of the machine under load.
    Power(power::Arguments),
    /// Shows that a cut of the power loses what was not synced.
    TeethNosync(power::TeethArguments),
    /// Fills the disk, and makes room again.
    DiskFull(disk_full::Arguments),
    /// Lets a sync fail.
    FsyncError(fsync_error::Arguments),
    /// Runs many jobs that only wait.
    Naps(naps::Arguments),
    /// Kills nodes that share a database, crashes it, and cuts connections to it.
    Nodes(nodes::Arguments),
    /// Shows that a lost commit is seen.
    TeethNodes(nodes::TeethArguments),
    /// Pauses a node, and cuts another one off from the database.
    CutOff(nodes::cut_off::Arguments),
    /// Holds a transaction open, and crashes the database, under a paced load.
    Held(nodes::held::Arguments),
    /// Stops the server with jobs running.
    Drain(drain::Arguments),
    /// Kills and pauses workers that pull, and the server under them.
    Pull(pull::Arguments),
    /// Submits ten times as much as the server can run.
    Overload(overload::Arguments),
    /// Counts from outside what limits of queues let through.
    Limits(limits::Arguments),
    /// Runs jobs that kill what runs them.
    Poison(poison::Arguments),
    /// Damages the database.
    Damage(damage::Arguments),
    /// Moves what several servers took from one store to the next.
    Moving(moving::Arguments),
    /// Opens thousands of slow sockets.
    Slow(slow::Arguments),
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// The files of the history, a JSON line an event.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The history ends before all is done.
    #[arg(long)]
    not_drained: bool,
    /// The handlers wrote nothing down.
    #[arg(long)]
    no_handlers: bool,
    /// The longest wait for a first start, in milliseconds.
    #[arg(long)]
    wait_ms_max: Option<u64>,
    /// Acknowledgements a second that the server can take during overload.
    #[arg(long)]
    capacity: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Check(arguments) => check_history(&arguments),
        Command::Kill(arguments) => kill::run(&arguments).await,
        Command::Power(arguments) => power::run(&arguments).await,
        Command::TeethNosync(arguments) => power::teeth(&arguments).await,
        Command::DiskFull(arguments) => disk_full::run(&arguments).await,
        Command::FsyncError(arguments) => fsync_error::run(&arguments).await,
        Command::Naps(arguments) => naps::run(&arguments).await,
        Command::Nodes(arguments) => nodes::run(&arguments).await,
        Command::TeethNodes(arguments) => nodes::teeth(&arguments).await,
        Command::CutOff(arguments) => nodes::cut_off::run(&arguments).await,
        Command::Held(arguments) => nodes::held::run(&arguments).await,
        Command::Drain(arguments) => drain::run(&arguments).await,
        Command::Pull(arguments) => pull::run(&arguments).await,
        Command::Overload(arguments) => overload::run(&arguments).await,
        Command::Limits(arguments) => limits::run(&arguments).await,
        Command::Poison(arguments) => poison::run(&arguments).await,
        Command::Damage(arguments) => damage::run(&arguments).await,
        Command::Moving(arguments) => moving::run(&arguments).await,
        Command::Slow(arguments) => slow::run(&arguments).await,
    }
}

fn check_history(arguments: &CheckArguments) -> anyhow::Result<()> {
    let bounds = Bounds {
        drained: !arguments.not_drained,
        handlers: !arguments.no_handlers,
        wait_us_max_default: arguments.wait_ms_max.map(|ms| ms * 1_000),
        capacity_per_s: arguments.capacity,
        ..Bounds::default()
    };
    let report = check::check_files(&arguments.files, &bounds)?;
    println!("{report}");
    if !report.is_clean() {
        bail!("the history breaks its rules");
    }
    Ok(())
}
