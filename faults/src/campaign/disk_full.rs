//! The disk is full, and has room again later.

use super::power::disk;
use super::{Common, Ground, Kind};
use crate::client::{Ask, Submitted};
use crate::history::{FaultKind, Seen};
use crate::load::Acked;
use crate::pause;
use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::Method;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const IMAGE_MEBIBYTES: u64 = 40;
const BALLAST_MEBIBYTES: usize = 12;
const BODY_BYTES: usize = 64 * 1024;
/// More than fit.
const SUBMITS_MAX: usize = 2_000;
const SLOW_JOBS: usize = 6;

const TASKS: &str = r#"
retain = "1h"
shutdown_grace = "3s"

[tasks.size]
exec = ["wc", "-c"]
max_attempts = 100
backoff = { initial = "20ms", factor = 1.0, max = "20ms", jitter = 0.0 }

[tasks.slow]
exec = ["sleep", "4"]
"#;

/// Fills the disk and makes room again.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// Runs the campaign.
///
/// # Errors
///
/// When the promise was broken, or the server cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Some(disk) = disk("disk-full", IMAGE_MEBIBYTES) else {
        return Ok(());
    };
    let ground = Ground::make("disk-full", &arguments.common)?;
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST_MEBIBYTES << 20])?;
    let launch = ground.launch(Kind::Anteroom, &disk.path().join("anteroom.db"), TASKS)?;
    let mut server = launch.start().await?;
    ground.up(&server);
    let client = ground.client("submitter")?;

    let mut acked = Vec::new();
    let mut filled = false;
    let mut random = fastrand::Rng::with_seed(ground.draw(0..u64::MAX));
    for number in 0..SUBMITS_MAX {
        // Some jobs run while the disk becomes full.
        let is_slow = number % 40 == 20 && acked.len() < SLOW_JOBS * 40;
        let ask = if is_slow { slow() } else { size(&mut random) };
        match client.submit(&ask).await? {
            Submitted::Acked(id) => acked.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            }),
            Submitted::Unknown(Some((503, problem))) if problem == "store-unavailable" => {
                filled = true;
                break;
            }
            other => bail!("on a disk that is nearly full a submit is answered {other:?}"),
        }
    }
    let full = acked.len();
    if !filled {
        bail!("{SUBMITS_MAX} submits of {BODY_BYTES} bytes did not fill {IMAGE_MEBIBYTES} MiB");
    }
    fill(&disk.path())?;
    ground.hurt(FaultKind::Disk, &server)?;
    while_full(&client, &acked, &mut random).await?;
    if !server.is_running()? {
        bail!("on a full disk the server ended: {}", server.last_words());
    }

    fs::remove_file(&ballast)?;
    fs::remove_file(disk.path().join("filling"))?;
    let mut later = 0;
    let mut waited = 0;
    while later < 20 {
        let ask = size(&mut random);
        match client.submit(&ask).await? {
            Submitted::Acked(id) => {
                later += 1;
                acked.push(Acked {
                    id,
                    expected: ask.expected,
                    is_short: false,
                });
            }
            other if waited == 100 => bail!("with room again, submits are answered {other:?}"),
            _ => {
                waited += 1;
                pause(Duration::from_millis(100)).await;
            }
        }
    }
    if !server.is_running()? {
        bail!("the server ended: {}", server.last_words());
    }
    let tally = ground.drain(&client, &acked).await?;
    ground.stop(server).await?;
    let line = format!(
        "disk-full: {full} acknowledged until 503 store-unavailable, {later} more {} ms after \
         there was room, without a restart",
        waited * 100
    );
    ground.conclude(&line, tally, false)
}

/// Reads work, submits are refused in the right way, and nothing acknowledged is lost.
async fn while_full(
    client: &crate::client::Client,
    acked: &[Acked],
    random: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    let live = client
        .call(Method::GET, "/livez", &[], Bytes::new())
        .await?;
    if live.status != 200 {
        bail!("on a full disk /livez is answered {}", live.status);
    }
    for _ in 0..20 {
        if let Submitted::Acked(id) = client.submit(&size(random)).await? {
            bail!("on a full disk {id} was acknowledged");
        }
        let job = &acked[random.usize(0..acked.len())];
        let (state, _) = client
            .job(&job.id, None)
            .await
            .context("read a job on a full disk")?;
        if matches!(state, Seen::Missing | Seen::Gone | Seen::Failed) {
            bail!("on a full disk {} is {state:?}", job.id);
        }
        pause(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Takes what room is left, to the last block.
fn fill(folder: &Path) -> anyhow::Result<()> {
    let mut file = fs::File::create(folder.join("filling"))?;
    for size in [1 << 20, 64 << 10, 4 << 10, 512] {
        let block = vec![2; size];
        while file.write_all(&block).is_ok() {}
    }
    // It does not matter what was written last.
    let _full = file.sync_all();
    Ok(())
}

fn size(random: &mut fastrand::Rng) -> Ask {
    let length = random.usize(BODY_BYTES / 2..BODY_BYTES);
    let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect();
    Ask {
        task: "size",
        body: Bytes::from(body),
        expected: Some(crate::client::digest(format!("{length}\n").as_bytes())),
        options: String::new(),
        retain: None,
    }
}

fn slow() -> Ask {
    Ask {
        task: "slow",
        body: Bytes::new(),
        expected: Some(crate::client::digest(b"")),
        options: String::new(),
        retain: None,
    }
}
