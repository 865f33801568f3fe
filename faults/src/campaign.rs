//! The campaigns: each hurts a real server in one way.
//!
//! What they share is the [`Ground`]: a folder with the store, the configuration and the
//! histories, the clients, and the injector that writes down what was hurt.

pub mod damage;
pub mod disk_full;
pub mod drain;
pub mod fsync_error;
pub mod kill;
pub mod limits;
pub mod moving;
pub mod naps;
pub mod nodes;
pub mod overload;
pub mod poison;
pub mod power;
pub mod pull;
pub mod slow;

use crate::client::{Client, Whereabouts};
use crate::history::{Bounds, Event, FaultKind, Recorder, Report, check};
use crate::load::{Acked, Load, Mix};
use crate::server::{Launch, Server};
use crate::verify::{self, Tally};
use anyhow::{Context, anyhow, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

/// What every campaign is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The server under test; by default the one beside this program.
    #[arg(long)]
    pub server_binary: Option<PathBuf>,
    /// The server with function tasks; by default the one beside this program.
    #[arg(long)]
    pub digest_binary: Option<PathBuf>,
    /// What all random choices come from; by default another one each time.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Keeps the folder with the store, the histories and the logs.
    #[arg(long)]
    pub keep: bool,
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `anteroom`: its tasks are programs, and write no history.
    Anteroom,
    /// `digest_server`: the same engine and HTTP with tasks that write a history.
    Digest,
}

/// Where a campaign takes place.
#[derive(Debug)]
pub struct Ground {
    folder: TempDir,
    common: Common,
    seed: u64,
    random: Mutex<fastrand::Rng>,
    injector: Recorder,
    /// The databases that servers were to be started on.
    databases: Mutex<BTreeSet<PathBuf>>,
    server: watch::Sender<Option<String>>,
}

impl Ground {
    /// Makes an empty one and says its seed.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn make(name: &str, common: &Common) -> anyhow::Result<Self> {
        let seed = common.seed.unwrap_or_else(|| fastrand::u64(..));
        println!("{name}: seed {seed}");
        let folder = tempfile::Builder::new()
            .prefix(&format!("anteroom-{name}-"))
            .disable_cleanup(common.keep)
            .tempdir()?;
        if common.keep {
            println!("{name}: kept in {}", folder.path().display());
        }
        let injector = Recorder::open(&folder.path().join("injector.jsonl"), "injector")?;
        Ok(Self {
            folder,
            common: common.clone(),
            seed,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            injector,
            databases: Mutex::default(),
            server: watch::Sender::new(None),
        })
    }

    /// Returns its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a number drawn from `range`.
    pub fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        let mut random = self
            .random
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        random.u64(range)
    }

    /// Returns a client that writes a history of its own.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn client(&self, party: &str) -> anyhow::Result<Client> {
        let recorder = Recorder::open(&self.path().join(format!("{party}.jsonl")), party)?;
        let server: Whereabouts = self.server.subscribe();
        Ok(Client::new(recorder, server))
    }

    /// Starts load by so many submitters and readers.
    ///
    /// # Errors
    ///
    /// When there is no room for their histories.
    pub fn load(&self, mix: Mix, submitters: usize, readers: usize) -> anyhow::Result<Load> {
        let clients = |name: &str, count| -> anyhow::Result<Vec<_>> {
            (1..=count)
                .map(|number| self.client(&format!("{name}-{number}")))
                .collect()
        };
        Ok(Load::start(
            mix,
            clients("submitter", submitters)?,
            clients("reader", readers)?,
            self.draw(0..u64::MAX),
        ))
    }

    /// Returns how to start a server on the store `database` with tasks as `configured`.
    ///
    /// # Errors
    ///
    /// When its configuration cannot be written.
    pub fn launch(&self, kind: Kind, database: &Path, configured: &str) -> anyhow::Result<Launch> {
        let store = format!("sqlite:{}", database.display());
        self.databases
            .lock()
            .map_err(|_| anyhow!("a campaign panicked"))?
            .insert(database.to_owned());
        let mut arguments: Vec<String> = Vec::new();
        let binary = match kind {
            Kind::Anteroom => {
                let file = self.path().join("anteroom.toml");
                std::fs::write(&file, configured).context("write the configuration")?;
                let file = file.display().to_string();
                arguments.extend(["serve".into(), "--config".into(), file]);
                self.server_binary()?
            }
            Kind::Digest => {
                let history = self.path().join("handlers.jsonl").display().to_string();
                arguments.extend(["--history".into(), history]);
                self.digest_binary()?
            }
        };
        if !binary.exists() {
            bail!(
                "there is no server at {}: build it, or name another",
                binary.display()
            );
        }
        let listen = "127.0.0.1:0".to_owned();
        arguments.extend(["--listen".into(), listen, "--store".into(), store]);
        Ok(Launch {
            binary,
            arguments,
            wrapper: Vec::new(),
            log: self.path().join("server.log"),
        })
    }

    fn server_binary(&self) -> anyhow::Result<PathBuf> {
        if let Some(binary) = &self.common.server_binary {
            return Ok(binary.clone());
        }
        beside("anteroom")
    }

    fn digest_binary(&self) -> anyhow::Result<PathBuf> {
        if let Some(binary) = &self.common.digest_binary {
            return Ok(binary.clone());
        }
        beside("digest_server")
    }

    /// Writes down that more is submitted from now on than the server can take, or no longer.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn overload(&self, on: bool) -> anyhow::Result<()> {
        self.injector.write(Event::Overload { on })
    }

    /// Tells the clients that the server is up.
    pub fn up(&self, server: &Server) {
        self.server.send_replace(Some(server.address().to_owned()));
    }

    /// Tells the clients to wait for another server.
    pub fn down(&self) {
        self.server.send_replace(None);
    }

    /// Writes down what was just done to the server.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn hurt(&self, kind: FaultKind, server: &Server) -> anyhow::Result<()> {
        let node = Some(node(server.pid().as_raw()));
        self.injector.write(Event::Fault { kind, node })
    }

    /// Kills the server and writes it down once it is dead.
    ///
    /// # Errors
    ///
    /// When it does not die.
    pub async fn kill(&self, server: Server) -> anyhow::Result<()> {
        let node = Some(node(server.pid().as_raw()));
        server.kill().await?;
        self.down();
        let kind = FaultKind::Kill;
        self.injector.write(Event::Fault { kind, node })
    }

    /// Stops the server cleanly, checks that it ended well, and writes it down.
    ///
    /// # Errors
    ///
    /// When it does not end, or not well.
    pub async fn stop(&self, server: Server) -> anyhow::Result<()> {
        let node = Some(node(server.pid().as_raw()));
        let status = server.stop(nix::sys::signal::Signal::SIGTERM).await?;
        self.down();
        let kind = FaultKind::Stop;
        self.injector.write(Event::Fault { kind, node })?;
        if !status.success() {
            bail!("after SIGTERM the server ended with {status}");
        }
        Ok(())
    }

    /// Waits until everything acknowledged is done, and reads it.
    ///
    /// # Errors
    ///
    /// When there are no answers.
    pub async fn drain(&self, client: &Client, acked: &[Acked]) -> anyhow::Result<Tally> {
        verify::drain(client, acked).await
    }

    /// Holds all histories to the rules, looks for damage in the stores, and says what came of the
    /// campaign in one line. All servers are stopped.
    ///
    /// # Errors
    ///
    /// When a rule was broken, a job was not right, or a store is damaged.
    pub fn conclude(&self, line: &str, tally: Tally, handlers: bool) -> anyhow::Result<()> {
        let bounds = Bounds {
            handlers,
            ..Bounds::default()
        };
        self.conclude_within(line, tally, &bounds)
    }

    /// Does the same with these bounds.
    ///
    /// # Errors
    ///
    /// When a rule was broken, a job was not right, or a store is damaged.
    pub fn conclude_within(&self, line: &str, tally: Tally, bounds: &Bounds) -> anyhow::Result<()> {
        let report = check::check_files(&self.histories()?, bounds)?;
        let stores = self.verify_stores();
        println!(
            "{}",
            Conclusion {
                line,
                tally,
                report: &report
            }
        );
        if let Err(damage) = &stores {
            println!("{damage:#}");
        }
        if !report.is_clean() || !tally.is_right() || stores.is_err() {
            let kept = self.path().with_extension("broken");
            std::fs::rename(self.path(), &kept).context("keep what shows it")?;
            bail!(
                "the promise was broken (seed {}); the histories are in {}",
                self.seed,
                kept.display()
            );
        }
        Ok(())
    }

    /// Has the server's own command look for damage in every store.
    fn verify_stores(&self) -> anyhow::Result<()> {
        // It is run in another folder, which has no configuration but the campaign's.
        let binary = std::path::absolute(self.server_binary()?)?;
        let databases = self.databases.lock();
        for database in &*databases.map_err(|_| anyhow!("a campaign panicked"))? {
            let store = format!("sqlite:{}", database.display());
            let verified = Command::new(&binary)
                .args(["store", "verify", "--store", &store])
                .current_dir(self.path())
                .output()
                .context("verify a store")?;
            if !verified.status.success() {
                let said = String::from_utf8_lossy(&verified.stderr);
                bail!("{store} is damaged: {said}");
            }
        }
        Ok(())
    }

    /// Returns the files of all histories.
    fn histories(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.path())? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Returns the program of this name beside this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.with_file_name(name))
}

/// Names the node that a server process is.
pub fn node(pid: i32) -> String {
    format!("process-{pid}")
}

struct Conclusion<'a> {
    line: &'a str,
    tally: Tally,
    report: &'a Report,
}

impl std::fmt::Display for Conclusion<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lost, doubled, changed) = verify::figures(self.report);
        let Tally {
            right,
            gone,
            wrong,
            failed,
            missing,
            unfinished,
        } = self.tally;
        write!(
            f,
            "{}; {} acknowledged: {right} right, {gone} gone after their time, {missing} missing, \
             {wrong} wrong, {failed} failed, {unfinished} unfinished; lost {lost}, \
             doubled {doubled}, changed {changed}; history: {}",
            self.line, self.report.acked, self.report
        )
    }
}

/// Returns the middle and the greatest of `spans`, in milliseconds.
fn middle_and_greatest(spans: &mut [u64]) -> (u64, u64) {
    spans.sort_unstable();
    let middle = spans.get(spans.len() / 2).copied().unwrap_or_default();
    let greatest = spans.last().copied().unwrap_or_default();
    (middle / 1_000, greatest / 1_000)
}

/// A configuration with the task `digest`: what `sha256sum` says of the input.
const DIGEST_TASK: &str = r#"
retain = "1h"
shutdown_grace = "3s"

[tasks.digest]
exec = ["sha256sum"]
timeout = "30s"
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }
"#;
