//! The N-th sync fails: nothing is acknowledged after it, and the process ends.
//!
//! `strace` makes the N-th fdatasync or fsync of a thread fail with EIO; those after it would
//! succeed, so that a server that tries again believes that all is well. After the server ended,
//! the power is cut: what it had acknowledged on the strength of a failed sync is lost then.

use super::power::{disk, strace};
use super::{Common, Ground, Kind};
use crate::history::{FaultKind, now_us};
use crate::load::Mix;
use crate::server::Launch;
use crate::verify::Tally;
use anyhow::{Context, bail};
use std::time::Duration;

const IMAGE_MEBIBYTES: u64 = 64;

/// Lets the N-th sync fail.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Which syncs, each in a run of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 5, 9, 17, 40, 90])]
    at: Vec<u32>,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut notes = Vec::new();
    for at in &arguments.at {
        match one(&arguments.common, *at).await? {
            Some(note) => notes.push(format!("{at}: {note}")),
            None => return Ok(()),
        }
    }
    println!(
        "fsync-error: {} runs, no acknowledgement was lost and the server ended each time ({})",
        notes.len(),
        notes.join("; ")
    );
    Ok(())
}

/// Lets the sync with this number fail. Returns what happened; nothing where it cannot be tried.
async fn one(common: &Common, at: u32) -> anyhow::Result<Option<String>> {
    let name = "fsync-error";
    let Some(mut disk) = disk(name, IMAGE_MEBIBYTES) else {
        return Ok(None);
    };
    let ground = Ground::make(name, common)?;
    let launch = ground.launch(Kind::Digest, &disk.path().join("anteroom.db"), "")?;
    let log = ground.path().join("strace.log");
    let inject = format!("inject=fdatasync,fsync:error=EIO:when={at}");
    let Some(wrapper) = strace(&log, &inject, name) else {
        return Ok(None);
    };
    let failing = Launch {
        wrapper,
        ..launch.clone()
    };
    let load = ground.load(Mix::functions(Duration::ZERO).all_kept(), 8, 1)?;
    load.add_budget(1_000_000);
    let (status, ended_us) = match failing.spawn()?.listening().await {
        Ok(mut server) => {
            ground.up(&server);
            let ended = server.ended().await;
            ground.down();
            // It has ended by itself, and its attempts with it.
            ground.hurt(FaultKind::Stop, &server)?;
            let status = ended.context("a sync failed, and the server went on")?;
            (status.code(), now_us().1)
        }
        // It may fail while the store is being made.
        Err(error) if format!("{error:#}").contains("before it listened") => (Some(1), now_us().1),
        Err(error) => return Err(error),
    };
    // What was not synced is lost now.
    let copy = disk.copy()?;
    disk.go_on_with(copy).await?;
    let acked = load.stop().await?;
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    if !log.contains("(INJECTED)") {
        bail!("{name}: no sync failed when it should have been number {at}");
    }
    if status.is_none_or(|code| code == 0) {
        bail!("{name}: sync {at} failed, and the server ended with {status:?}");
    }
    let error_us = injected_us(&log).context("find the failed sync in the log of strace")?;
    let now = now_us();
    let took_ms = (now.0 - (now.1 - ended_us)).saturating_sub(error_us) / 1_000;

    let server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("verifier")?;
    let tally = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    conclude(&ground, at, tally)?;
    Ok(Some(format!(
        "{} acknowledged, exit {} after {took_ms} ms",
        acked.len(),
        status.unwrap_or_default()
    )))
}

fn conclude(ground: &Ground, at: u32, tally: Tally) -> anyhow::Result<()> {
    ground.conclude(&format!("fsync-error: sync {at} failed"), tally, true)
}

/// Returns the Unix time of the first failed sync, in microseconds.
fn injected_us(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("(INJECTED)"))?;
    let time = line.split_whitespace().nth(1)?;
    let (seconds, micros) = time.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
}
