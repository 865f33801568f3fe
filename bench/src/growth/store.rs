//! Stores that are filled once and measured in several rounds.

use super::part::Figures;
use crate::held::Held;
use crate::server::PULL;
use anyhow::Context;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The database in a store's folder.
const FILE: &str = "anteroom.db";
/// A store that all rounds together make larger by less than one part in so many is measured itself;
/// of a smaller one each round gets a copy.
const GROWN_BY_MAX: u64 = 10;

/// With what a store is filled.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Orders {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    jobs: usize,
}

/// Is the process that fills a store with jobs that wait: they are of the task that nobody runs.
pub(super) async fn part(orders: Orders) -> anyhow::Result<Value> {
    let held = Held::start(&orders.dir, PULL, 1, false).await?;
    held.submit(orders.jobs, |_| None).await?;
    held.end().await;
    Ok(json!({}))
}

/// A store that was filled, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Filled {
    folder: TempDir,
    /// Jobs in it.
    jobs: u64,
    /// Of them those that wait.
    waiting: u64,
}

/// What a round is measured on.
#[derive(Debug)]
pub(super) enum Round<'f> {
    /// The filled store itself.
    Itself(&'f Path),
    /// A copy of it, gone when it is dropped.
    Copy(TempDir),
}

impl Round<'_> {
    /// Returns the folder of its store.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Itself(folder) => folder,
            Self::Copy(folder) => folder.path(),
        }
    }
}

impl Filled {
    /// Has a store in `dir` filled with so many jobs that wait.
    pub(super) fn waiting(dir: &Path, jobs: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(dir)?;
        Figures::of("fill", folder.path(), &[format!("--jobs={jobs}")])?;
        Ok(Self {
            folder,
            jobs,
            waiting: jobs,
        })
    }

    /// Takes over a folder whose store holds so many jobs, all done.
    pub(super) fn done(folder: TempDir, jobs: u64) -> Self {
        Self {
            folder,
            jobs,
            waiting: 0,
        }
    }

    /// Returns its folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns how many jobs wait in it.
    pub(super) const fn waits(&self) -> u64 {
        self.waiting
    }

    /// Returns the bytes of its database.
    pub(super) fn bytes(&self) -> anyhow::Result<u64> {
        let path = self.folder.path().join(FILE);
        let found = std::fs::metadata(&path);
        Ok(found
            .with_context(|| format!("no {}", path.display()))?
            .len())
    }

    /// Returns what the next of several rounds is measured on that in all add so many jobs, each of
    /// them `singles` that wait; and how many jobs wait in it now.
    pub(super) fn round(&mut self, added: u64, singles: u64) -> anyhow::Result<(Round<'_>, u64)> {
        let waiting = self.waiting;
        if added.saturating_mul(GROWN_BY_MAX) <= self.jobs {
            self.waiting += singles;
            return Ok((Round::Itself(self.folder.path()), waiting));
        }
        let copy = tempfile::tempdir_in(self.folder.path().parent().context("a folder in none")?)?;
        let to = copy.path().join(FILE);
        std::fs::copy(self.folder.path().join(FILE), &to)?;
        // Or the disk is still busy with it while something is measured.
        std::fs::File::open(to)?.sync_all()?;
        Ok((Round::Copy(copy), waiting))
    }
}
