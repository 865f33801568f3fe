//! Cuts the power: what had not been synced is lost.
//!
//! The store lies on an ext4 file system in an image. The server is stopped under load with
//! SIGSTOP, the image is copied (it holds only what the file system has sent to its disk), the
//! server is killed, and the next one starts on the copy.
//!
//! `teeth` is the same with every fsync and fdatasync of the server made to do nothing, from
//! outside. It has to lose jobs, or the campaign would see nothing.

use super::{Common, Ground, Kind, middle_and_greatest};
use crate::history::{FaultKind, Seen, now_us};
use crate::load::Mix;
use crate::pause;
use crate::server::{Launch, Server};
use crate::storage::Disk;
use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use std::time::Duration;

/// An image for a file system, the log of a store and few jobs.
const IMAGE_MEBIBYTES: u64 = 64;
/// What a job takes on the disk, at most: all are kept.
const JOB_KIBIBYTES: u64 = 3;
const SUBMITTERS: usize = 8;
const READERS: usize = 1;
/// How long a server may take to acknowledge something.
const ACK_MAX: Duration = Duration::from_secs(20);

/// Cuts the power under load.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How often.
    #[arg(long, default_value_t = 5)]
    cuts: u64,
    /// Acknowledgements between two cuts, at most.
    #[arg(long, default_value_t = 2_000)]
    acks: usize,
}

/// Shows that a cut of the power is one: without syncs, jobs are lost.
#[derive(Clone, Debug, clap::Args)]
pub struct TeethArguments {
    #[command(flatten)]
    common: Common,
}

/// Returns a disk, or says why there can be none here.
pub(super) fn disk(campaign: &str, mebibytes: u64) -> Option<Disk> {
    match Disk::make(mebibytes) {
        Ok(disk) => Some(disk),
        Err(error) => {
            println!("{campaign}: COULD NOT RUN: no loop devices or mounts here: {error:#}");
            None
        }
    }
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let acks = u64::try_from(arguments.acks)? * arguments.cuts;
    let mebibytes = IMAGE_MEBIBYTES + acks * JOB_KIBIBYTES / 1_024;
    let Some(mut disk) = disk("power", mebibytes) else {
        return Ok(());
    };
    let ground = Ground::make("power", &arguments.common)?;
    let launch = ground.launch(Kind::Digest, &disk.path().join("anteroom.db"), "")?;
    let mix = Mix::functions(Duration::ZERO).all_kept();
    let load = ground.load(mix, SUBMITTERS, READERS)?;
    let mut recoveries = Vec::new();
    let mut server = launch.start().await?;
    ground.up(&server);
    for _ in 0..arguments.cuts {
        load.add_budget(arguments.acks);
        // The cut comes in the middle of it.
        let part = usize::try_from(ground.draw(0..10_000))? * arguments.acks / 12_000;
        load.reach(load.acked_count() + part, ACK_MAX).await?;
        pause(Duration::from_micros(ground.draw(0..5_000))).await;
        let cut_us = now_us().1;
        cut(&ground, &mut disk, server).await?;
        server = launch.start().await?;
        ground.up(&server);
        load.another(ACK_MAX).await?;
        recoveries.push(now_us().1 - cut_us);
    }
    let acked = load.stop().await?;
    let client = ground.client("verifier")?;
    let tally = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    let (middle, greatest) = middle_and_greatest(&mut recoveries);
    let line = format!(
        "power: {} cuts of the power under load; first 202 after a cut p50 {middle} ms, \
         max {greatest} ms (copying and mounting the image included)",
        arguments.cuts
    );
    ground.conclude(&line, tally, true)
}

/// Cuts the power of a server.
pub(super) async fn cut(ground: &Ground, disk: &mut Disk, server: Server) -> anyhow::Result<()> {
    server.signal(Signal::SIGSTOP)?;
    let copy = disk.copy()?;
    ground.hurt(FaultKind::Cut, &server)?;
    ground.kill(server).await?;
    disk.go_on_with(copy).await
}

/// Runs a server whose syncs do nothing, and has to see that it loses jobs.
///
/// # Errors
///
/// When no job was lost: the campaign could not see a loss.
pub async fn teeth(arguments: &TeethArguments) -> anyhow::Result<()> {
    let name = "teeth-nosync";
    let Some(mut disk) = disk(name, IMAGE_MEBIBYTES) else {
        return Ok(());
    };
    let ground = Ground::make(name, &arguments.common)?;
    let launch = ground.launch(Kind::Digest, &disk.path().join("anteroom.db"), "")?;
    let Some(unsynced) = without_syncs(&launch, name) else {
        return Ok(());
    };
    let mix = Mix::functions(Duration::ZERO).all_kept();
    let load = ground.load(mix, SUBMITTERS, READERS)?;

    // The store is made and gets its first jobs, which are on the disk.
    let server = unsynced.start().await?;
    ground.up(&server);
    load.add_budget(100);
    load.reach(100, ACK_MAX).await?;
    disk.sync()?;
    load.add_budget(500);
    load.reach(600, ACK_MAX).await?;
    let acked = load.acked_count();
    cut(&ground, &mut disk, server).await?;
    let acked_jobs = {
        // Those whose answer was on its way when the power was cut count as well.
        ground.down();
        load.stop().await?
    };
    let server = match launch.start().await {
        Ok(server) => server,
        Err(error) => {
            println!("{name}: {acked} acknowledged without syncs; the store is lost: {error:#}");
            return Ok(());
        }
    };
    ground.up(&server);
    let client = ground.client("verifier")?;
    let mut lost = 0;
    for job in &acked_jobs {
        let (state, _) = client.until_answered(|| client.job(&job.id, None)).await?;
        lost += u64::from(state == Seen::Missing);
    }
    server.kill().await?;
    println!(
        "{name}: {acked} acknowledged without syncs, {lost} of them lost in a cut: as it must be"
    );
    if lost == 0 {
        bail!("{name}: nothing was lost without syncs: the cut of the power is none");
    }
    Ok(())
}

/// Returns how to start the server so that its syncs do nothing and succeed.
fn without_syncs(launch: &Launch, campaign: &str) -> Option<Launch> {
    let log = launch.log.with_file_name("strace.log");
    let inject = "inject=fdatasync,fsync,sync_file_range,msync:retval=0";
    strace(&log, inject, campaign).map(|wrapper| Launch {
        wrapper,
        ..launch.clone()
    })
}

/// Returns the words before a program to inject faults into its system calls, or says that
/// there can be none here.
pub(super) fn strace(log: &std::path::Path, inject: &str, campaign: &str) -> Option<Vec<String>> {
    let log = log.display().to_string();
    let tried = crate::storage::run("strace", &["-f", "-e", inject, "-o", &log, "true"]);
    if let Err(error) = tried.context("strace cannot be used") {
        println!("{campaign}: COULD NOT RUN: {error:#}");
        return None;
    }
    // -D: the server is our own child, and strace its grandchild; only what is injected stops.
    let words = ["strace", "-D", "-f", "--seccomp-bpf", "-ttt", "-e"];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    // Only these are traced, or every system call would stop the server.
    words.push("trace=fdatasync,fsync,sync_file_range,msync".to_owned());
    words.extend(["-e".into(), inject.to_owned(), "-o".into(), log]);
    Some(words)
}
