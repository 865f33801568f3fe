//! `anteroom store`: looks after the place where jobs are kept, without a server.
//!
//! Which store is said as for a server: `--store`, `ANTEROOM_STORE`, or the configuration. All but
//! `backup` have it for themselves, or see it as it was at one instant. Exit code 1 says that it was not done, or that damage was found.

use super::{CONFIG_HELP, Stopped, load};
use crate::config::{Environment, Flags, StoreUrl};
use anteroom::moving::{Content, MoveError};
use anteroom::store::archive::{Archive, RecordKind};
#[cfg(feature = "postgres")]
use anteroom::store::postgres::{PostgresArchive, PostgresOptions};
use anteroom::store::sqlite::{OpenError, SqliteArchive};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

mod backup;
mod export;
mod import;
mod migrate;
mod verify;

/// The stored states, in the order of their counts.
const STATES: [&str; 5] = ["waiting", "running", "succeeded", "failed", "cancelled"];

/// What to do with a store.
#[derive(Args, Debug)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Looks for damage in a store that no server has open, and prints what it holds.
    ///
    /// One on a database server (postgres://) is looked at as it is at one instant, while servers may work on it.
    ///
    /// Prints the counts of what the store holds, and a digest that is the same for two stores that
    /// hold the same. Each damage is a line on standard error, and makes the exit code 1. Nothing is
    /// changed, but that a database of an older version is brought forward.
    Verify(VerifyArgs),
    /// Copies a store (sqlite:PATH) into a new file, while a server may have it open.
    ///
    /// The copy holds all that was acknowledged before the command began, and is a store of its own.
    /// It is on the disk when the command ends; a file that is there already stays as it is.
    Backup(BackupArgs),
    /// Writes all that a store holds into a file: a line of JSON for each record.
    ///
    /// For a store that no server has open; of one that is open, export a backup. One on a database
    /// server (postgres://) is written as it is at one instant, while servers may work on it. The last
    /// line tells whether the file is whole and unaltered.
    Export(ExportArgs),
    /// Writes all that a file has into an empty store, or goes on with that.
    ///
    /// One that was interrupted goes on when it is run again with the same file; until it is
    /// complete no server opens the store. A store that holds anything else stays as it is.
    Import(ImportArgs),
    /// Brings the schema of a store forward to the version of this program, as a start does.
    ///
    /// For those whose servers may not make tables themselves: as the user that owns them, before
    /// the first server of a new version starts. Servers of the version before may go on meanwhile.
    Migrate(migrate::MigrateArgs),
}

/// Which store.
#[derive(Args, Debug)]
struct Which {
    #[arg(long, value_name = "FILE", help = CONFIG_HELP)]
    config: Option<PathBuf>,
    /// The store [default: that of the configuration, else sqlite:anteroom.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Prints what came of it as JSON
    #[arg(long)]
    json: bool,
}

/// Which store to look at.
#[derive(Args, Debug)]
struct VerifyArgs {
    #[command(flatten)]
    which: Which,
}

/// Where to copy which store.
#[derive(Args, Debug)]
struct BackupArgs {
    /// The file to make
    path: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Where to write which store.
#[derive(Args, Debug)]
struct ExportArgs {
    /// The file to make, or - for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// What to write into which store.
#[derive(Args, Debug)]
struct ImportArgs {
    /// The file to read, or - for standard input
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    input: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Does what is asked for.
pub(super) fn run(args: StoreArgs, environment: &Environment) -> Result<ExitCode, Stopped> {
    match args.command {
        StoreCommand::Verify(args) => verify::run(args, environment),
        StoreCommand::Backup(args) => backup::run(args, environment),
        StoreCommand::Export(args) => export::run(args, environment),
        StoreCommand::Import(args) => import::run(args, environment),
        StoreCommand::Migrate(args) => migrate::run(args, environment),
    }
}

impl Which {
    /// Returns where the store is.
    fn url(&self, environment: &Environment) -> Result<StoreUrl, Stopped> {
        let flags = Flags {
            config: self.config.clone(),
            store: self.store.clone(),
            ..Flags::default()
        };
        match load(&flags, environment)?.config.store {
            url @ StoreUrl::Memory => Err(keeps_nothing(&url)),
            url => Ok(url),
        }
    }

    /// Prints what came of it: a line for people and what the store holds, or all of it as JSON.
    fn report(&self, done: &str, view: &Value, content: &Content) -> String {
        if self.json {
            let mut all = in_json(content);
            if let (Some(all), Some(view)) = (all.as_object_mut(), view.as_object()) {
                all.extend(view.clone());
            }
            return format!("{all:#}\n");
        }
        format!("{done}\n{}", in_words(content))
    }
}

/// Opens the content of a store that is there.
async fn open(url: &StoreUrl) -> Result<Box<dyn Archive>, Stopped> {
    let path = match url {
        StoreUrl::Sqlite(path) => path,
        StoreUrl::Memory => return Err(keeps_nothing(url)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(to) => {
            let archive = PostgresArchive::open((**to).clone(), PostgresOptions::default()).await;
            return opened(url, archive);
        }
    };
    match SqliteArchive::open(path) {
        Err(error @ OpenError::InUse { .. }) => Err(Stopped::Failure(format!(
            "cannot open {url}: {error}; stop the server, or make a copy with \
             `anteroom store backup` and take that"
        ))),
        archive => opened(url, archive),
    }
}

/// Opens the content of a store, or makes it.
async fn open_or_make(url: &StoreUrl) -> Result<Box<dyn Archive>, Stopped> {
    match url {
        StoreUrl::Sqlite(path) => opened(url, SqliteArchive::open_or_make(path)),
        StoreUrl::Memory => Err(keeps_nothing(url)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(to) => {
            let options = PostgresOptions::default();
            let archive = PostgresArchive::open_or_make((**to).clone(), options).await;
            opened(url, archive)
        }
    }
}

fn opened<A: Archive + 'static>(
    url: &StoreUrl,
    archive: Result<A, impl std::error::Error>,
) -> Result<Box<dyn Archive>, Stopped> {
    match archive {
        Ok(archive) => Ok(Box::new(archive)),
        Err(error) => {
            let error = whole(&error);
            Err(Stopped::Failure(format!("cannot open {url}: {error}")))
        }
    }
}

fn keeps_nothing(url: &StoreUrl) -> Stopped {
    Stopped::Refused(format!(
        "the store {url} is gone with its server; name another with --store"
    ))
}

/// Returns what an error says, with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some say it themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` hands over the error"
)]
fn cannot_print(error: io::Error) -> Stopped {
    if error.kind() == ErrorKind::BrokenPipe {
        return Stopped::ReaderGone;
    }
    Stopped::Failure(format!("cannot write to standard output: {error}"))
}

fn runtime() -> Result<Runtime, Stopped> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Stopped::Failure(format!("cannot start: {error}")))
}

/// Lets go of a store, whatever came of what was done with it.
async fn close<T>(
    url: &StoreUrl,
    archive: &dyn Archive,
    done: Result<T, Stopped>,
) -> Result<T, Stopped> {
    let closed = archive.close().await;
    let done = done?;
    closed.map_err(|error| Stopped::Failure(format!("cannot close {url}: {error}")))?;
    Ok(done)
}

/// Tells whether an error is about the file and not about the store.
const fn is_about_file(error: &MoveError) -> bool {
    matches!(
        error,
        MoveError::Read(_)
            | MoveError::Write(_)
            | MoveError::Line { .. }
            | MoveError::Cut { .. }
            | MoveError::Altered { .. }
    )
}

fn in_json(content: &Content) -> Value {
    let counts = RecordKind::ALL.map(|kind| (kind.as_str().to_owned(), content.count(kind).into()));
    let states = STATES.into_iter().zip(content.states);
    let states = states.map(|(state, count)| (state.to_owned(), count.into()));
    json!({
        "counts": counts.into_iter().collect::<serde_json::Map<_, Value>>(),
        "states": states.collect::<serde_json::Map<_, Value>>(),
        "digest": content.digest,
    })
}

fn in_words(content: &Content) -> String {
    let states = STATES.into_iter().zip(content.states);
    let states = states.map(|(state, count)| format!("{count} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    let count = |kind| content.count(kind);
    format!(
        "  jobs         {} ({states})\n  \
           keys         {}\n  \
           gone         {}\n  \
           queues       {} set, {} with a rate\n  \
           documents    {}\n  \
           digest       {}\n",
        count(RecordKind::Job),
        count(RecordKind::Submit),
        count(RecordKind::Gone),
        count(RecordKind::Queue),
        count(RecordKind::Pace),
        count(RecordKind::Document),
        content.digest,
    )
}
