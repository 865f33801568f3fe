//! Counts the instructions of a process under Callgrind: those of all its threads, in user space.

use crate::work::{JOBS, STEPS, Work};
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where databases are made, if it is there: in memory, so that no disk has a part in it.
const IN_MEMORY: &str = "/dev/shm";
/// How a program ends that does not understand its command line.
const EXIT_USAGE: i32 = 2;

/// Returns what each of the [`STEPS`] costs a job in `program`; none where it knows no such step.
/// Leaves profiles in `folder`.
///
/// # Errors
///
/// When the work fails, or Valgrind does.
pub(crate) fn all(
    program: &Path,
    seeds: &Path,
    folder: &Path,
) -> anyhow::Result<[Option<u64>; STEPS.len()]> {
    std::fs::create_dir_all(folder)?;
    let mut counted = Vec::new();
    for work in Work::value_variants() {
        counted.push((*work, count(program, *work, seeds, folder)?));
    }
    let of = |wanted| {
        let found = counted.iter().find(|(work, _)| *work == wanted);
        found.and_then(|(_, count)| *count)
    };
    let mut steps = [None; STEPS.len()];
    for (step, (name, work, without)) in steps.iter_mut().zip(STEPS) {
        if let (Some(with), Some(without)) = (of(work), of(without)) {
            let more = with.checked_sub(without);
            let more = more.with_context(|| format!("it took less with {name} than without"))?;
            *step = Some(more / u64::from(JOBS));
        }
    }
    Ok(steps)
}

/// Returns the instructions of a process that does `work`; none where it knows no such work.
fn count(program: &Path, work: Work, seeds: &Path, folder: &Path) -> anyhow::Result<Option<u64>> {
    let value = work.to_possible_value().context("work that has no name")?;
    let name = value.get_name();
    let database = tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir())?;
    let mut profile = OsString::from("--callgrind-out-file=");
    profile.push(folder.join(name));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(profile)
        .arg(program)
        .args(["work", name, "--dir"])
        .arg(database.path())
        .env("LD_PRELOAD", seeds)
        .stdin(Stdio::null())
        .output()
        .context("valgrind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(EXIT_USAGE) => return Ok(None),
        _ => bail!("{name} ended with {}:\n{said}", output.status),
    }
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.with_context(|| format!("{name} has no count:\n{said}"))?;
    let count: u64 = collected.trim().parse()?;
    ensure!(count > 0, "{name} was not counted:\n{said}");
    Ok(Some(count))
}
