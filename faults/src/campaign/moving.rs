//! Jobs that three servers on one `PostgreSQL` took and ran are moved: into `SQLite`, and on into an
//! empty database of `PostgreSQL`.
//!
//! All three stores hold the same: their exports are the same line for line but for what says when
//! they were made. None is damaged. A server that is started on the last of them answers for the jobs
//! as the three did, honours the leases and keys that they gave out, and has the rest run.

mod lives;

use super::{Common, Ground};
use crate::server::{Launch, Server};
use anteroom_pgtest::Cluster;
use anyhow::{Context, bail, ensure};
use lives::{Lives, Node};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

/// Servers on the first database.
const SERVERS: usize = 3;
/// How long a command about a store may take for a million jobs, on a machine that others use.
const COMMAND_MAX: Duration = Duration::from_hours(1);

const TASKS: &str = r#"
retain = "30d"

[tasks.pulled]
pull = true
max_attempts = 3

[tasks.echo]
exec = ["cat"]
"#;

/// Moves jobs of several servers to and fro.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many jobs the servers take.
    #[arg(long, default_value_t = 20_000)]
    jobs: usize,
}

/// Runs the campaign.
///
/// # Errors
///
/// When two of the stores differ, one is damaged, a job is another after the move, or a program
/// cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("moving", &arguments.common)?;
    let cluster = match Cluster::start(&[]) {
        Ok(cluster) => cluster,
        Err(why) => {
            println!("moving: COULD NOT RUN: {why}");
            return Ok(());
        }
    };
    let (from, to) = (cluster.database(), cluster.database());
    let stores = Stores::of(&ground)?;
    let lives = live(&ground, &from.url(), arguments.jobs).await?;
    println!("moving: {}", lives.figures());

    let sqlite = format!("sqlite:{}", ground.path().join("moved.db").display());
    let mut spans = Vec::new();
    let (mut file, digest) = stores.export(&ground, &from.url(), &mut spans).await?;
    for store in [sqlite, to.url()] {
        let import = ["import", "--input", &file.display().to_string()];
        for words in [&import[..], &["verify"]] {
            let found = stores.run(words, &store, &mut spans).await?;
            ensure!(found == digest, "after {words:?} the digest is another");
        }
        let (next, of_next) = stores.export(&ground, &store, &mut spans).await?;
        ensure!(of_next == digest, "the second export has another digest");
        same_records(&file, &next)?;
        file = next;
    }
    let server = launch(&ground, &to.url(), "moved")?.start().await?;
    let node = Node::of(&server);
    lives.go_on(&node).await.context("after the move")?;
    ended(server).await?;
    stores.run(&["verify"], &to.url(), &mut spans).await?;
    println!(
        "moving: {} jobs of {SERVERS} servers moved from PostgreSQL to SQLite and on to PostgreSQL, \
         the same line for line, and served there; {}",
        arguments.jobs,
        spans.join(", ")
    );
    Ok(())
}

/// Has the servers take jobs and run them, and returns what became of some.
async fn live(ground: &Ground, url: &str, jobs: usize) -> anyhow::Result<Lives> {
    let mut servers = Vec::new();
    for number in 1..=SERVERS {
        let launch = launch(ground, url, &format!("server-{number}"))?;
        servers.push(launch.start().await?);
    }
    let nodes: Vec<Node> = servers.iter().map(Node::of).collect();
    let lives = Lives::lead(&nodes, jobs).await?;
    for server in servers {
        ended(server).await?;
    }
    Ok(lives)
}

/// Returns how to start a server on a store.
fn launch(ground: &Ground, store: &str, name: &str) -> anyhow::Result<Launch> {
    let config = ground.path().join("anteroom.toml");
    std::fs::write(&config, TASKS).context("write the configuration")?;
    let words = ["serve", "--listen", "127.0.0.1:0", "--store", store];
    let mut arguments: Vec<String> = words.map(str::to_owned).into();
    arguments.extend(["--config".to_owned(), config.display().to_string()]);
    Ok(Launch {
        binary: ground.server_binary()?,
        arguments,
        wrapper: Vec::new(),
        log: ground.path().join(format!("{name}.log")),
    })
}

async fn ended(server: Server) -> anyhow::Result<()> {
    let status = server.stop(nix::sys::signal::Signal::SIGTERM).await?;
    ensure!(status.success(), "a server ended with {status}");
    Ok(())
}

/// Runs `anteroom store`.
struct Stores {
    binary: PathBuf,
    folder: PathBuf,
}

impl Stores {
    fn of(ground: &Ground) -> anyhow::Result<Self> {
        Ok(Self {
            binary: std::path::absolute(ground.server_binary()?)?,
            folder: ground.path().to_owned(),
        })
    }

    /// Exports a store, and returns the file and the digest.
    async fn export(
        &self,
        ground: &Ground,
        store: &str,
        spans: &mut Vec<String>,
    ) -> anyhow::Result<(PathBuf, String)> {
        let file = ground.path().join(format!("{}.ndjson", spans.len()));
        let words = ["export", "--output", &file.display().to_string()];
        let digest = self.run(&words, store, spans).await?;
        Ok((file, digest))
    }

    /// Runs a command about a store and returns the digest that it tells.
    async fn run(
        &self,
        words: &[&str],
        store: &str,
        spans: &mut Vec<String>,
    ) -> anyhow::Result<String> {
        let began_at = Instant::now();
        let kind = store.split(':').next().unwrap_or_default();
        let what = format!("{} {kind}", words.first().copied().unwrap_or_default());
        let command = Command::new(&self.binary)
            .arg("store")
            .args(words)
            .args(["--store", store, "--json"])
            .current_dir(&self.folder)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_MAX, command).await;
        let output =
            output.with_context(|| format!("{what} took longer than {COMMAND_MAX:?}"))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{what}: {}: {said}", output.status);
        }
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{what} prints no JSON"))?;
        let span = format!("{what} {:.1} s", began_at.elapsed().as_secs_f64());
        println!("moving: {span}");
        spans.push(span);
        let digest = said["digest"].as_str();
        Ok(digest.context("no digest is told")?.to_owned())
    }
}

/// Compares two exports: all lines but the first, which says when it was made, and the last, which
/// has the digest of the first too.
fn same_records(one: &Path, other: &Path) -> anyhow::Result<()> {
    let lines =
        |path: &Path| -> anyhow::Result<_> { Ok(BufReader::new(File::open(path)?).split(b'\n')) };
    let (mut one_lines, mut other_lines) = (lines(one)?, lines(other)?);
    let mut number = 0_u64;
    loop {
        number += 1;
        let pair = (
            one_lines.next().transpose()?,
            other_lines.next().transpose()?,
        );
        match pair {
            (None, None) => break,
            (Some(one), Some(other)) if one == other || number == 1 => {}
            (Some(one), Some(other)) if one.starts_with(b"{\"end\"") => {
                ensure!(
                    other.starts_with(b"{\"end\""),
                    "line {number}: one ends earlier"
                );
            }
            (one, other) => bail!("line {number} differs: {one:?} and {other:?}"),
        }
    }
    ensure!(number > 2, "the exports hold nothing");
    Ok(())
}
