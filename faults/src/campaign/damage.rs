//! Bytes of the database are flipped, zeroed or cut off.
//!
//! Two databases are damaged: one whose server was stopped cleanly, and one whose server was
//! killed, so that much of it lies in its log. A server on a damaged copy either refuses to start
//! with an error that names the file, or serves every acknowledged job right, or says of a job
//! that it cannot be read. It never starts with a new database in silence.
//!
//! What is not promised is counted and said: the file format has no checksum of its pages, so a
//! flipped byte inside a stored result shows only where the server checks results itself; and a
//! log ends at its first damaged record, which looks like a log that was written no further.

use super::{Common, Ground, Kind};
use crate::client::{Ask, Client, Submitted, digest};
use crate::history::Seen;
use crate::load::Acked;
use anyhow::{Context, bail};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const JOBS: usize = 200;
const BODY_BYTES_MAX: usize = 6_000;

/// The result is the input.
const TASKS: &str = r#"
retain = "1h"

[tasks.echo]
exec = ["cat"]
max_attempts = 100
"#;

/// Damages copies of a database.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How many copies of each database, each damaged in one place.
    #[arg(long, default_value_t = 30)]
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

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused by the file's name",
            Self::RefusedUnnamed => "refused without the file's name",
            Self::Right => "all right",
            Self::Unreadable => "some jobs answered with an error",
            Self::Missing => "some jobs missing",
            Self::AllMissing => "all jobs missing",
            Self::Wrong => "wrong results",
        })
    }
}

/// Runs the campaign.
///
/// # Errors
///
/// When a server started with another database in silence, or cannot be run.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ground = Ground::make("damage", &arguments.common)?;
    let mut outcomes: BTreeMap<(&str, Outcome), u32> = BTreeMap::new();
    for (name, is_killed) in [("stopped", false), ("killed", true)] {
        let whole = ground.path().join(name);
        fs::create_dir(&whole)?;
        let acked = write_database(&ground, &whole, is_killed).await?;
        for number in 0..arguments.copies {
            let copy = ground.path().join(format!("{name}-{number}"));
            copy_folder(&whole, &copy)?;
            let damage = damage(&ground, &copy)?;
            let outcome = serve(&ground, &copy, &acked).await?;
            if outcome > Outcome::Right || arguments.common.keep {
                println!("damage: {}: {outcome}", damage.what);
            }
            let part = if damage.is_log { "log" } else { "database" };
            *outcomes.entry((part, outcome)).or_default() += 1;
            fs::remove_dir_all(&copy)?;
        }
    }
    let counts: Vec<_> = outcomes
        .iter()
        .map(|((part, outcome), count)| format!("{part}: {count} {outcome}"))
        .collect();
    println!(
        "damage: {} copies of databases of {JOBS} jobs, one place damaged in each: {}",
        arguments.copies * 2,
        counts.join("; ")
    );
    if outcomes.contains_key(&("database", Outcome::AllMissing)) {
        bail!("a damaged database was replaced by a new one in silence");
    }
    if outcomes
        .keys()
        .any(|(_, outcome)| *outcome == Outcome::RefusedUnnamed)
    {
        bail!("a refusal does not name the file");
    }
    Ok(())
}

/// Has a server write a database of finished jobs, and returns them.
async fn write_database(
    ground: &Ground,
    folder: &Path,
    is_killed: bool,
) -> anyhow::Result<Vec<Acked>> {
    let launch = ground.launch(Kind::Anteroom, &folder.join("anteroom.db"), TASKS)?;
    let server = launch.start().await?;
    ground.up(&server);
    let name = folder.file_name().context("a folder without a name")?;
    let client = ground.client(&format!("writer-of-{}", name.display()))?;
    let mut random = fastrand::Rng::with_seed(ground.draw(0..u64::MAX));
    let mut acked = Vec::new();
    for _ in 0..JOBS {
        let length = random.usize(0..BODY_BYTES_MAX);
        let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
            .take(length)
            .collect();
        let ask = Ask {
            task: "echo",
            expected: Some(digest(&body)),
            body: Bytes::from(body),
            options: String::new(),
            retain: None,
        };
        match client.submit(&ask).await? {
            Submitted::Acked(id) => acked.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            }),
            other => bail!("a submit is answered {other:?}"),
        }
    }
    let tally = ground.drain(&client, &acked).await?;
    if !tally.is_right() {
        bail!("before any damage: {tally:?}");
    }
    if is_killed {
        ground.kill(server).await?;
    } else {
        ground.stop(server).await?;
    }
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

/// What was damaged.
struct Damage {
    what: String,
    /// It was the log beside the database.
    is_log: bool,
}

/// Damages one place, and says which.
fn damage(ground: &Ground, folder: &Path) -> anyhow::Result<Damage> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // The index of the log is made anew at each opening, and a lock has no content.
    let is_content = |path: &Path| {
        let name = path.file_name().map(|name| name.display().to_string());
        matches!(name.as_deref(), Some("anteroom.db" | "anteroom.db-wal"))
            && fs::metadata(path).is_ok_and(|file| file.len() > 0)
    };
    files.retain(|path| is_content(path));
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
    Ok(Damage {
        what: format!("{} of {length} bytes, {what}", name.display()),
        is_log: name.display().to_string().ends_with("-wal"),
    })
}

/// Starts a server on the copy, and finds out what it makes of it.
async fn serve(ground: &Ground, folder: &Path, acked: &[Acked]) -> anyhow::Result<Outcome> {
    let launch = ground.launch(Kind::Anteroom, &folder.join("anteroom.db"), TASKS)?;
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
