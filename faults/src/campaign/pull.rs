//! Workers that pull: killed, paused past their leases, late, and with the server killed under them.

use super::{Common, Ground, Kind, beside, node};
use crate::history::{Event, FaultKind, Line};
use crate::load::{Load, Mix};
use crate::pause;
use crate::server::{Launch, Server};
use crate::worker::LEASE;
use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a part of the campaign may take.
const PART_MAX: Duration = Duration::from_mins(10);
const SUBMITTERS: usize = 8;
const READERS: usize = 1;

/// A configuration with the task `digest`, left to workers.
const TASK: &str = r#"
retain = "1h"
shutdown_grace = "3s"

[tasks.digest]
pull = true
timeout = "30s"
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }
"#;

/// Has workers lease jobs, and hurts them.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Workers at once, each a process.
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Jobs to submit.
    #[arg(long, default_value_t = 4_000)]
    jobs: usize,
    /// How often something is hurt: a worker killed or paused, or the server killed.
    #[arg(long, default_value_t = 12)]
    faults: usize,
}

/// What was hurt, and how often.
#[derive(Debug, Default)]
struct Hurt {
    killed: usize,
    paused: usize,
    servers: usize,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the processes cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("pull", &arguments.common)?;
    let launch = ground.launch(Kind::Anteroom, &ground.path().join("anteroom.db"), TASK)?;
    let mix = Mix {
        tasks: vec![("digest", "", 1)],
        ..Mix::exec(Duration::ZERO)
    };
    let load = ground.load(mix.all_kept(), SUBMITTERS, READERS)?;
    let mut server = launch.start().await?;
    let mut workers = Workers::start(&ground, arguments.workers)?;
    workers.tell(&server)?;
    ground.up(&server);
    let mut hurt = Hurt::default();
    let part = arguments.jobs / (arguments.faults + 1);
    for round in 0..arguments.faults {
        load.add_budget(part);
        load.reach((part * (round + 1)).saturating_sub(part / 2), PART_MAX)
            .await?;
        workers.check()?;
        match round % 4 {
            0 | 2 => {
                workers.kill_one(&ground).await?;
                hurt.killed += 1;
            }
            1 => {
                workers.pause_one(&ground).await?;
                hurt.paused += 1;
            }
            _ => {
                server = restart(&ground, &launch, &mut workers, server).await?;
                hurt.servers += 1;
            }
        }
    }
    load.add_budget(arguments.jobs - part * arguments.faults);
    load.reach(usize::MAX, PART_MAX).await?;
    finish(&ground, load, server, workers, &hurt).await
}

/// Kills the server and starts it again.
async fn restart(
    ground: &Ground,
    launch: &Launch,
    workers: &mut Workers,
    server: Server,
) -> anyhow::Result<Server> {
    ground.kill(server).await?;
    let server = launch.start().await?;
    workers.tell(&server)?;
    ground.up(&server);
    Ok(server)
}

async fn finish(
    ground: &Ground,
    load: Load,
    server: Server,
    mut workers: Workers,
    hurt: &Hurt,
) -> anyhow::Result<()> {
    let acked = load.stop().await?;
    let client = ground.client("verifier")?;
    let tally = ground.drain(&client, &acked).await?;
    // Those that are late on purpose come back.
    pause(LEASE * 2).await;
    workers.check()?;
    let count = workers.list.len();
    workers.end().await?;
    ground.stop(server).await?;
    let (taken, refused) = settles(&workers.histories)?;
    let Hurt {
        killed,
        paused,
        servers,
    } = hurt;
    let line = format!(
        "pull: {count} workers, {killed} times one was killed and {paused} times paused past its \
         leases, {servers} kills of the server; {taken} results taken, {refused} that came late \
         refused"
    );
    ground.conclude(&line, tally, true)
}

/// Counts the successes that were taken and refused.
fn settles(histories: &[PathBuf]) -> anyhow::Result<(usize, usize)> {
    let (mut taken, mut refused) = (0, 0);
    for history in histories {
        for line in std::fs::read_to_string(history)?.lines() {
            let line: Line = serde_json::from_str(line)?;
            if let Event::Settle { accepted, .. } = line.event {
                let count = if accepted { &mut taken } else { &mut refused };
                *count += 1;
            }
        }
    }
    Ok((taken, refused))
}

/// The worker processes.
struct Workers {
    binary: PathBuf,
    /// Says where the server is.
    server: PathBuf,
    folder: PathBuf,
    /// One for each that was ever started: one that is paused while it writes holds up nobody else.
    histories: Vec<PathBuf>,
    log: PathBuf,
    list: Vec<Child>,
}

impl Workers {
    fn start(ground: &Ground, count: usize) -> anyhow::Result<Self> {
        let mut workers = Self {
            binary: beside("pull_worker")?,
            server: ground.path().join("server.address"),
            folder: ground.path().to_owned(),
            histories: Vec::new(),
            log: ground.path().join("workers.log"),
            list: Vec::new(),
        };
        for _ in 0..count {
            let worker = workers.one(ground)?;
            workers.list.push(worker);
        }
        Ok(workers)
    }

    fn one(&mut self, ground: &Ground) -> anyhow::Result<Child> {
        let number = self.histories.len() + 1;
        let history = self.folder.join(format!("worker-{number}.jsonl"));
        self.histories.push(history.clone());
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        Command::new(&self.binary)
            .arg("--server")
            .arg(&self.server)
            .arg("--history")
            .arg(&history)
            .arg(format!("--seed={}", ground.draw(0..u64::MAX)))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))
    }

    /// Tells them where the server is.
    fn tell(&self, server: &Server) -> anyhow::Result<()> {
        let new = self.server.with_extension("new");
        std::fs::write(&new, server.address())?;
        Ok(std::fs::rename(new, &self.server)?)
    }

    /// Fails if one has ended by itself: it saw what no server may do.
    fn check(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.list {
            if let Some(status) = worker.try_wait()? {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("a worker ended with {status}: {}", said.trim());
            }
        }
        Ok(())
    }

    fn draw(&self, ground: &Ground) -> anyhow::Result<usize> {
        Ok(usize::try_from(
            ground.draw(0..self.list.len().max(1) as u64),
        )?)
    }

    /// Kills one with SIGKILL, and starts another in its place.
    async fn kill_one(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let index = self.draw(ground)?;
        let pid = pid(&self.list[index])?;
        self.list[index].kill().await?;
        ground.left_behind(FaultKind::Kill, pid)?;
        self.list[index] = self.one(ground)?;
        Ok(())
    }

    /// Pauses one with SIGSTOP until its leases are over.
    async fn pause_one(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let index = self.draw(ground)?;
        let pid = pid(&self.list[index])?;
        kill(pid, Signal::SIGSTOP)?;
        ground.left_behind(FaultKind::Pause, pid)?;
        pause(LEASE + Duration::from_secs(2)).await;
        kill(pid, Signal::SIGCONT)?;
        // What it held when it was let go on is explained, too.
        ground.left_behind(FaultKind::Pause, pid)
    }

    async fn end(&mut self) -> anyhow::Result<()> {
        for worker in &mut self.list {
            worker.kill().await?;
        }
        Ok(())
    }
}

fn pid(worker: &Child) -> anyhow::Result<Pid> {
    let id = worker.id().context("a worker without an id")?;
    Ok(Pid::from_raw(i32::try_from(id)?))
}

impl Ground {
    /// Writes down what was just done to a worker.
    fn left_behind(&self, kind: FaultKind, worker: Pid) -> anyhow::Result<()> {
        let node = Some(node(worker.as_raw()));
        self.injector.write(Event::Fault { kind, node })
    }
}
