//! Counts what a submit, a claim, a settle, a read and a request cost in instructions, and compares
//! that with what they cost before a change.
//!
//! `../../README.md` says what the counts cover, `../../budgets` has the commit before built and
//! starts this. The [`work`] is done by processes of this program under Valgrind, which [`count`]s
//! their instructions; [`verdict`] says what grew and whether the commit says why.

mod count;
mod verdict;
mod work;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use verdict::{Count, Reasons};
use work::{STEPS, Work};

/// What the binary `anteroom` allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts instructions, and compares them with those of another build.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts, and fails where a count grew too much without a reason.
    Compare {
        /// This program as it was built before the change; without it there is no comparison.
        #[arg(long)]
        before: Option<PathBuf>,
        /// A file with the message of the commit, which may say why a count grew.
        #[arg(long)]
        message: Option<PathBuf>,
        /// `seeds.c` as a library: what is counted gets no randomness but its.
        #[arg(long)]
        seeds: PathBuf,
        /// A folder for the profiles, which `callgrind_annotate` reads.
        #[arg(long)]
        profiles: PathBuf,
    },
    /// Does the work that is counted.
    #[command(hide = true)]
    Work {
        #[arg(value_enum)]
        work: Work,
        /// An empty folder for the database.
        #[arg(long)]
        dir: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Compare {
            before,
            message,
            seeds,
            profiles,
        } => {
            let message = match message {
                Some(path) => std::fs::read_to_string(&path)
                    .with_context(|| format!("the message in {}", path.display()))?,
                None => String::new(),
            };
            compare(before.as_deref(), &message, &seeds, &profiles)
        }
        Command::Work { work, dir } => {
            work.run(&dir)?;
            // Without an orderly end: merging the log is none of the work.
            std::process::exit(0)
        }
    }
}

fn compare(
    before: Option<&Path>,
    message: &str,
    seeds: &Path,
    profiles: &Path,
) -> anyhow::Result<ExitCode> {
    let this = std::env::current_exe()?;
    let all = |program: &Path, folder| count::all(program, seeds, &profiles.join(folder));
    // One beside the other: instructions are counted, not time.
    let (before, after) = std::thread::scope(|scope| {
        let before = before.map(|before| scope.spawn(|| all(before, "before")));
        let after = all(&this, "after");
        (before.map(std::thread::ScopedJoinHandle::join), after)
    });
    let before = match before {
        Some(joined) => joined.map_err(|_| anyhow!("counting what was before panicked"))??,
        None => [None; STEPS.len()],
    };
    let mut counts = Vec::new();
    for ((before, after), (name, ..)) in before.into_iter().zip(after?).zip(STEPS) {
        let after = after.with_context(|| format!("{name} was not counted"))?;
        counts.push(Count {
            name,
            before,
            after,
        });
    }
    let (report, grew) = verdict::report(&counts, &Reasons::read(message));
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(ExitCode::from(u8::from(grew)))
}
