//! A process under test: this program once more, with a hidden command, or a server of another make
//! that keeps to the same rules.
//!
//! It says on its standard output where it listens, and ends when its standard input does, so that
//! none is left behind whatever becomes of the one that started it.

use crate::clock::now;
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// What a process says before its address.
const LISTENING: &str = "listening on http://";
/// How long a process may take to end.
const END_MAX: Duration = Duration::from_secs(30);

/// A process under test. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Starts a process whose input and output are ours.
pub(crate) fn spawn(
    command: &mut Command,
) -> anyhow::Result<(Child, Option<ChildStdin>, ChildStdout)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let input = child.stdin.take();
    let output = child.stdout.take().context("the process has no output")?;
    Ok((child, input, output))
}

impl Process {
    /// Starts this program with `arguments`, tells it `line`, and waits until it listens.
    pub(crate) fn start(arguments: &[&str], line: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::start_command(command.args(arguments), line)
    }

    /// Starts another program in the same way.
    pub(crate) fn start_command(command: &mut Command, line: &str) -> anyhow::Result<Self> {
        let (child, input, output) = spawn(command)?;
        let mut process = Self {
            address: SocketAddr::from(([0; 4], 0)),
            child,
            input,
            output: BufReader::new(output),
        };
        let input = process.input.as_mut().context("the process has no input")?;
        writeln!(input, "{line}")?;
        let mut said = String::new();
        process.output.read_line(&mut said)?;
        let address = said.trim_end().strip_prefix(LISTENING);
        let address = address.with_context(|| format!("{command:?} did not start: {said:?}"))?;
        process.address = address.parse()?;
        ensure!(
            process.address.ip().is_loopback(),
            "{address} is no loopback address"
        );
        Ok(process)
    }

    /// Returns its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it end, and returns what else it said.
    pub(crate) fn end(mut self) -> anyhow::Result<String> {
        self.input = None;
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        let asked = now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "a process under test ended with {status}");
                return Ok(said);
            }
            ensure!(
                asked.elapsed() < END_MAX,
                "a process under test did not end within {END_MAX:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Is the other side: says where the process listens.
pub(crate) fn say_listening(address: SocketAddr) {
    println!("{LISTENING}{address}");
}

/// Is the other side: returns the line that the process was told.
pub(crate) fn told() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    ensure!(line.ends_with('\n'), "standard input ended before a line");
    Ok(line)
}

/// Is the other side: waits for the end of standard input.
pub(crate) async fn asked_to_end() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // An error is an end, too; and nobody listens any more only when the process is ending.
        let _end = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ending = ended.send(());
    });
    let _end = end.await;
}
