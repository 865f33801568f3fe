//! Who is measured, each in a process of its own that is told its [`Order`]s.

use super::order::{Done, Order};
use anyhow::{Context, anyhow, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long a contender may take to make its tables, to look whether all is there, or to end.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long an order may take, before it counts as hung.
pub(crate) const ORDER_MAX: Duration = Duration::from_mins(10);

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

/// A contender under way. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Contender {
    /// What it says it is.
    pub(crate) version: String,
    who: Who,
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Contender {
    /// Starts one on an empty database, and waits until it can be used.
    pub(crate) fn start(programs: &Programs, who: Who, url: &str) -> anyhow::Result<Self> {
        let mut command = programs.command(who)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the process has no output")?;
        let (say, said) = channel();
        // Ends with the process, whose output it reads.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let mut contender = Self {
            version: String::new(),
            who,
            child,
            input,
            said,
        };
        contender.tell(url)?;
        let said = contender.hear(PATIENCE)?;
        let version = said.strip_prefix("ready");
        let version = version.with_context(|| format!("{} said {said:?}", who.name()))?;
        version.trim().clone_into(&mut contender.version);
        Ok(contender)
    }

    /// Returns the number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something on the way to what is measured.
    pub(crate) fn prepare(&mut self, order: Order) -> anyhow::Result<()> {
        self.order(order)?;
        self.done(ORDER_MAX)?;
        self.well()
    }

    /// Kills it, in the middle of whatever it does.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells it what to do.
    pub(crate) fn order(&mut self, order: Order) -> anyhow::Result<()> {
        self.tell(&order.to_string())
    }

    /// Waits until it has done it.
    pub(crate) fn done(&self, limit: Duration) -> anyhow::Result<Done> {
        Done::parse(&self.hear(limit)?).with_context(|| self.who.name())
    }

    /// Waits until it has looked whether all is there.
    pub(crate) fn well(&self) -> anyhow::Result<()> {
        match self.hear(PATIENCE)?.as_str() {
            "well" => Ok(()),
            said => bail!("{} said {said:?}", self.who.name()),
        }
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.input = None;
        // Its output ends with it.
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => bail!("{} said {said:?} at its end", self.who.name()),
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} did not end within {PATIENCE:?}", self.who.name())
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.who.name());
        Ok(())
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the process has no input")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended", self.who.name()))?;
        Ok(())
    }

    fn hear(&self, limit: Duration) -> anyhow::Result<String> {
        let name = self.who.name();
        self.said.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("{name} said nothing for {limit:?}"),
            RecvTimeoutError::Disconnected => anyhow!("{name} has ended; above it says why"),
        })
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
