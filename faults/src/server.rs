//! A server process: started, watched, hurt.

use crate::history::now_us;
use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a server that was told to stop may take, its own grace apart.
const STOP_MAX: Duration = Duration::from_secs(30);
/// What it says once it listens.
const LISTENING: &str = "listening on ";

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// A program with arguments that starts it and lets it be its own direct child, such as
    /// `strace -D`.
    pub wrapper: Vec<String>,
    /// Where what it says goes, at the end.
    pub log: PathBuf,
}

/// A server that was started and need not listen yet.
#[derive(Debug)]
pub struct Starting {
    server: Server,
    listening: oneshot::Receiver<String>,
}

/// A server process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: Pid,
    address: String,
    started_us: u64,
    log: PathBuf,
    /// Reads what it says.
    reader: JoinSet<()>,
}

impl Launch {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When it cannot be started at all.
    pub fn spawn(&self) -> anyhow::Result<Starting> {
        let mut words = self.wrapper.clone();
        words.push(self.binary.display().to_string());
        words.extend_from_slice(&self.arguments);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", words.join(" ")))?;
        let pid = child.id().context("a process without an id")?;
        let errors = child.stderr.take().context("a process without stderr")?;
        let (tell, listening) = oneshot::channel();
        let mut reader = JoinSet::new();
        reader.spawn(read(errors, self.log.clone(), tell));
        let server = Server {
            child,
            pid: Pid::from_raw(i32::try_from(pid)?),
            address: String::new(),
            started_us: now_us().1,
            log: self.log.clone(),
            reader,
        };
        Ok(Starting { server, listening })
    }

    /// Starts the process and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it ends instead, or does not listen in time.
    pub async fn start(&self) -> anyhow::Result<Server> {
        self.spawn()?.listening().await
    }
}

impl Starting {
    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// When it ends instead, or does not listen in time.
    pub async fn listening(self) -> anyhow::Result<Server> {
        match self.listening_or_ended().await? {
            (server, None) => Ok(server),
            (server, Some(status)) => {
                let said = server.last_words();
                bail!("the server ended with {status} before it listened: {said}")
            }
        }
    }

    /// Waits until it listens or has ended, and returns how it ended if it has.
    ///
    /// # Errors
    ///
    /// When it does neither in time.
    pub async fn listening_or_ended(mut self) -> anyhow::Result<(Server, Option<ExitStatus>)> {
        match tokio::time::timeout(START_MAX, self.listening).await {
            Ok(Ok(address)) => {
                self.server.address = address;
                Ok((self.server, None))
            }
            Ok(Err(_)) => {
                let status = self.server.ended().await?;
                Ok((self.server, Some(status)))
            }
            Err(_) => bail!("the server did not listen within {START_MAX:?}"),
        }
    }

    /// Returns it without waiting until it listens.
    pub fn not_listening(self) -> Server {
        self.server
    }
}

impl Server {
    /// Returns its base URL.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the monotonic time at which it was started.
    pub fn started_us(&self) -> u64 {
        self.started_us
    }

    /// Returns its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid, signal).with_context(|| format!("send {signal} to the server"))
    }

    /// Kills it and waits until it is dead.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        // It may have ended by itself meanwhile.
        let _ended_already = self.signal(Signal::SIGKILL);
        self.ended().await.map(drop)
    }

    /// Tells it to stop and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn stop(mut self, signal: Signal) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.ended().await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let status = tokio::time::timeout(STOP_MAX, self.child.wait())
            .await
            .with_context(|| format!("the server did not end within {STOP_MAX:?}"))??;
        while self.reader.join_next().await.is_some() {}
        Ok(status)
    }

    /// Tells whether it runs.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Returns the end of what it said.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }
}

async fn read(errors: ChildStderr, log: PathBuf, tell: oneshot::Sender<String>) {
    let mut tell = Some(tell);
    let mut log = OpenOptions::new().create(true).append(true).open(log).ok();
    let mut errors = BufReader::new(errors);
    let mut said = String::new();
    while let Ok(1..) = errors.read_line(&mut said).await {
        let line = std::mem::take(&mut said);
        // What a server that was killed in the middle of a line meant to say, nobody knows.
        let Some(line) = line.strip_suffix('\n') else {
            return;
        };
        if let Some((_, address)) = line.split_once(LISTENING)
            && let Some(tell) = tell.take()
        {
            let address = address.trim().trim_end_matches('/').to_owned();
            // Nobody waits for it where the server is killed while starting.
            let _nobody_waits = tell.send(address);
        }
        if let Some(file) = &mut log
            && writeln!(file, "{line}").is_err()
        {
            log = None;
        }
    }
}
