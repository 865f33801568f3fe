//! What runs in a process of its own: this program once more, with a hidden command, which says its
//! figures as JSON in a line.

use super::{drain, life, purge, store};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What such a process does.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Fills a store with jobs that wait.
    Fill(store::Orders),
    /// Opens a store and lives through no-op jobs on it.
    Life(life::Orders),
    /// Runs all that waits.
    Drain(drain::Orders),
    /// Submits single jobs while kept results are forgotten, or none are.
    Purge(purge::Orders),
}

/// Is the process.
pub(crate) async fn part(part: Part) -> anyhow::Result<()> {
    let said = match part {
        Part::Fill(orders) => store::part(orders).await,
        Part::Life(orders) => life::part(orders).await,
        Part::Drain(orders) => drain::part(orders).await,
        Part::Purge(orders) => purge::part(orders).await,
    };
    println!("{}", said?);
    Ok(())
}

/// What a part said.
#[derive(Clone, Debug)]
pub(super) struct Figures(Value);

impl Figures {
    /// Has a process of its own do a part on the store in `folder`.
    pub(super) fn of(part: &str, folder: &Path, options: &[String]) -> anyhow::Result<Self> {
        let output = Command::new(std::env::current_exe()?)
            .args(["growth-part", part])
            .args([OsStr::new("--dir"), folder.as_os_str()])
            .args(options)
            .stderr(Stdio::inherit())
            .output()?;
        let status = output.status;
        ensure!(status.success(), "the part {part} {options:?}: {status}");
        let said = serde_json::from_slice(&output.stdout);
        Ok(Self(said.with_context(|| format!("what {part} said"))?))
    }

    /// Returns a figure.
    pub(super) fn number(&self, name: &str) -> anyhow::Result<f64> {
        let number = self.0[name].as_f64();
        number.with_context(|| format!("no {name} in {}", self.0))
    }

    /// Returns a list of figures.
    pub(super) fn numbers(&self, name: &str) -> anyhow::Result<Vec<f64>> {
        let list = self.0[name].as_array();
        let numbers = list.and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers.with_context(|| format!("no {name} in {}", self.0))
    }
}
