//! The command line of the fault campaigns.

use anteroom_faults::history::{Bounds, check};
use anyhow::bail;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Breaks a running server on purpose and checks the history of what it acknowledged.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Holds a history to the rules.
    Check(CheckArguments),
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

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Check(arguments) => check_history(&arguments),
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
