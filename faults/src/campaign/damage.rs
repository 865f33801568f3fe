//! Bytes of the database are flipped, zeroed or cut off.
//!
//! The server either refuses to start with an error that names the file, or serves every
//! acknowledged job right, or says that a job cannot be read. It never starts with a new database
//! in silence. The store's file format has no checksum of its pages, so a flipped byte inside a
//! stored result can only be noticed where the server checks results itself: such results are
//! counted and said.

use super::{Common, DIGEST_TASK, Ground, Kind};
use crate::client::Client;
use crate::history::Seen;
use crate::load::{Acked, Mix};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const JOBS: usize = 200;

/// Damages copies of a database.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many copies, each damaged in one place.
    #[arg(long, default_value_t = 40)]
    copies: u32,
}

/// What came of a damaged copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It did not start, and named the file.
    Refused,
    /// It did not start, and did not name the file.
    RefusedUnnamed,
    /// Everything was right.
    Right,
    /// Some jobs were answered with an error, the rest was right.
    Unreadable,
    /// Some jobs were missing.
    Missing,
    /// All jobs were missing.
    AllMissing,
    /// Some results were others than the right ones.
    Wrong,
}

/// Runs the campaign.
///
/// # Errors
///
/// When a server started with another database in silence, or cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("damage", &arguments.common)?;
    let whole = ground.path().join("whole");
    fs::create_dir(&whole)?;
    let acked = write_database(&ground, &whole).await?;
    let mut outcomes: BTreeMap<Outcome, u32> = BTreeMap::new();
    for number in 0..arguments.copies {
        let copy = ground.path().join(format!("copy-{number}"));
        copy_folder(&whole, &copy)?;
        let what = damage(&ground, &copy)?;
        let outcome = serve(&ground, &copy, &acked).await?;
        if outcome > Outcome::Right || arguments.common.keep {
            println!("damage: {what}: {outcome:?}");
        }
        *outcomes.entry(outcome).or_default() += 1;
        fs::remove_dir_all(&copy)?;
    }
    println!(
        "damage: {} copies of a database of {JOBS} jobs, one place damaged in each: {outcomes:?}",
        arguments.copies
    );
    if outcomes.contains_key(&Outcome::AllMissing) {
        bail!("a damaged database was replaced by a new one in silence");
    }
    if outcomes.contains_key(&Outcome::RefusedUnnamed) {
        bail!("a refusal does not name the file");
    }
    Ok(())
}

/// Has a server write a database of finished jobs, and returns them.
async fn write_database(ground: &Ground, folder: &Path) -> anyhow::Result<Vec<Acked>> {
    let launch = ground.launch(Kind::Anteroom, &folder.join("anteroom.db"), DIGEST_TASK)?;
    let server = launch.start().await?;
    ground.up(&server);
    let load = ground.load(Mix::exec(Duration::ZERO).all_kept(), 4, 0)?;
    load.add_budget(JOBS);
    while load.acked_count() < JOBS {
        if !load.next_ack(Duration::from_secs(10)).await {
            bail!("nothing was acknowledged within 10 s");
        }
    }
    let acked = load.stop().await?;
    let client = ground.client("verifier")?;
    let tally = ground.drain(&client, &acked).await?;
    if !tally.is_right() {
        bail!("before any damage: {tally:?}");
    }
    // Killed, so that the log beside the database is part of it.
    ground.kill(server).await?;
    Ok(acked)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Damages one place, and says which.
fn damage(ground: &Ground, folder: &Path) -> anyhow::Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // The index of the log is made anew at each opening.
    files.retain(|path| !path.display().to_string().ends_with("-shm"));
    files.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    files.sort();
    let file = &files[usize::try_from(ground.draw(0..files.len() as u64))?];
    let mut bytes = fs::read(file)?;
    let length = bytes.len() as u64;
    // The beginning of a file says most about it.
    let range = if ground.draw(0..4) == 0 {
        length.min(200)
    } else {
        length
    };
    let at = usize::try_from(ground.draw(0..range))?;
    let what = match ground.draw(0..4) {
        0 | 1 => {
            let mask = u8::try_from(ground.draw(1..256))?;
            bytes[at] ^= mask;
            format!("byte {at} flipped by {mask:#04x}")
        }
        2 => {
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].fill(0);
            format!("bytes {at}..{end} zeroed")
        }
        _ => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
    };
    fs::write(file, bytes)?;
    let name = file.file_name().context("a file without a name")?;
    Ok(format!("{} of {length} bytes, {what}", name.display()))
}

/// Starts a server on the copy, and finds out what it makes of it.
async fn serve(ground: &Ground, folder: &Path, acked: &[Acked]) -> anyhow::Result<Outcome> {
    let launch = ground.launch(Kind::Anteroom, &folder.join("anteroom.db"), DIGEST_TASK)?;
    let mut server = match launch.start().await {
        Ok(server) => server,
        Err(error) => {
            let text = format!("{error:#}");
            if !text.contains("before it listened") {
                return Err(error);
            }
            let named = text.contains("anteroom.db");
            if !named {
                println!("damage: {text}");
            }
            return Ok(if named {
                Outcome::Refused
            } else {
                Outcome::RefusedUnnamed
            });
        }
    };
    ground.up(&server);
    let number = folder.file_name().context("a folder without a name")?;
    let client = ground.client(&format!("reader-of-{}", number.display()))?;
    let outcome = read_all(&client, acked).await;
    ground.down();
    let has_ended = !server.is_running()?;
    server.kill().await?;
    // Ending once damage is met is as good as an error.
    Ok(if has_ended {
        Outcome::Unreadable
    } else {
        outcome
    })
}

async fn read_all(client: &Client, acked: &[Acked]) -> Outcome {
    let (mut missing, mut unreadable, mut wrong) = (0, 0, 0);
    for job in acked {
        match client.result(&job.id).await {
            Ok((Seen::Succeeded, result)) => wrong += usize::from(result != job.expected),
            Ok((Seen::Missing | Seen::Gone, _)) => missing += 1,
            // A job whose end was lost with the end of the log runs again.
            Ok((Seen::Scheduled | Seen::Ready | Seen::Running, _)) => {}
            Ok((Seen::Failed | Seen::Cancelled, _)) => wrong += 1,
            Err(_) => unreadable += 1,
        }
    }
    if wrong > 0 {
        Outcome::Wrong
    } else if missing == acked.len() {
        Outcome::AllMissing
    } else if missing > 0 {
        Outcome::Missing
    } else if unreadable > 0 {
        Outcome::Unreadable
    } else {
        Outcome::Right
    }
}
