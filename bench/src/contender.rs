//! A process that is measured, and is told its [`Order`]s.

use crate::order::{Done, Order};
use crate::process::spawn;
use anyhow::{Context, anyhow, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long a contender may take to make its tables, to look whether all is there, or to end.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long an order may take, before it counts as hung.
pub(crate) const ORDER_MAX: Duration = Duration::from_mins(10);

/// A contender under way. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Contender {
    /// What it says it is.
    pub(crate) version: String,
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Contender {
    /// Starts one, tells it where to work, and waits until it can be used.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        place: &str,
    ) -> anyhow::Result<Self> {
        let (child, input, output) = spawn(&mut command)?;
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
            name,
            child,
            input,
            said,
        };
        contender.tell(place)?;
        let said = contender.hear(PATIENCE)?;
        let version = said.strip_prefix("ready");
        let version = version.with_context(|| format!("{name} said {said:?}"))?;
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
        Done::parse(&self.hear(limit)?).with_context(|| self.name)
    }

    /// Waits until it has looked whether all is there.
    pub(crate) fn well(&self) -> anyhow::Result<()> {
        match self.hear(PATIENCE)?.as_str() {
            "well" => Ok(()),
            said => bail!("{} said {said:?}", self.name),
        }
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.input = None;
        // Its output ends with it.
        match self.said.recv_timeout(PATIENCE) {
            Ok(said) => bail!("{} said {said:?} at its end", self.name),
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} did not end within {PATIENCE:?}", self.name)
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the process has no input")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended", self.name))?;
        Ok(())
    }

    fn hear(&self, limit: Duration) -> anyhow::Result<String> {
        let name = self.name;
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
