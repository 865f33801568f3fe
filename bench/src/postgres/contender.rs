//! Who is measured on `PostgreSQL`, and how each is started.

use crate::contender::Contender;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Who {
    /// Hand-written SQL.
    Raw,
    /// Anteroom's engine in the process that submits.
    Embedded,
    /// Anteroom's server over HTTP.
    Http,
    /// graphile-worker.
    Graphile,
    /// pg-boss.
    Boss,
}

impl Who {
    /// All of them, in the order of a table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Raw,
        Self::Embedded,
        Self::Http,
        Self::Graphile,
        Self::Boss,
    ];

    /// Returns what it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw SQL loop",
            Self::Embedded => "Anteroom, embedded",
            Self::Http => "Anteroom, HTTP",
            Self::Graphile => "graphile-worker",
            Self::Boss => "pg-boss",
        }
    }

    /// Returns the word on the command line of the contender that this program is.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Embedded => "embedded",
            Self::Http => "http",
            Self::Graphile => "graphile",
            Self::Boss => "boss",
        }
    }

    /// Returns the program of one that runs on Node.js.
    const fn script(self) -> Option<&'static str> {
        match self {
            Self::Raw | Self::Embedded | Self::Http => None,
            Self::Graphile => Some("graphile-worker.mjs"),
            Self::Boss => Some("pg-boss.mjs"),
        }
    }
}

/// How contenders are started.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Node.js.
    pub(crate) node: PathBuf,
    /// The folder with the programs for Node.js and what they need.
    pub(crate) peers: PathBuf,
    /// No-ops at once of Anteroom.
    pub(crate) concurrency: usize,
}

impl Programs {
    /// Says why one cannot be started; none where it can.
    pub(crate) fn missing(&self, who: Who) -> Option<String> {
        let script = who.script()?;
        let path = self.peers.join(script);
        if !path.is_file() {
            return Some(format!("there is no {}", path.display()));
        }
        if !self.peers.join("node_modules").is_dir() {
            let peers = self.peers.display();
            return Some(format!(
                "nothing is installed in {peers}: run npm install there"
            ));
        }
        let version = Command::new(&self.node).arg("--version").output();
        match version {
            Ok(said) if said.status.success() => None,
            Ok(said) => Some(format!("{}: {}", self.node.display(), said.status)),
            Err(error) => Some(format!("{}: {error}", self.node.display())),
        }
    }

    /// Starts one on an empty database, and waits until it can be used.
    pub(crate) fn start(&self, who: Who, url: &str) -> anyhow::Result<Contender> {
        Contender::start(who.name(), self.command(who)?, url)
    }

    fn command(&self, who: Who) -> anyhow::Result<Command> {
        if let Some(script) = who.script() {
            let mut command = Command::new(&self.node);
            command.arg(script).current_dir(absolute(&self.peers)?);
            return Ok(command);
        }
        let mut command = Command::new(std::env::current_exe()?);
        let concurrency = self.concurrency.to_string();
        command.args([
            "postgres-contender",
            who.word(),
            "--concurrency",
            &concurrency,
        ]);
        Ok(command)
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let found = path.canonicalize();
    found.with_context(|| format!("cannot find {}", path.display()))
}
