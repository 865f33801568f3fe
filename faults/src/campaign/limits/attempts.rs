//! All attempts of a campaign, put together from what the server lists and what programs wrote.

use super::TIMEOUT_MS;
use crate::flow::Ran;
use crate::listing::{Instant, Listed};
use anyhow::{Context, bail, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// All attempts, by queue and, in `shared`, by group.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) narrow: Vec<Ran>,
    pub(super) paced: Vec<Ran>,
    pub(super) shared: BTreeMap<String, Vec<Ran>>,
    /// Those of them that a kill cut off.
    pub(super) cut_off: usize,
    /// Attempts that must have been, and that no program told of.
    pub(super) unseen: usize,
}

impl Attempts {
    /// Puts together what the list says of the last attempt of every job, and what programs say of
    /// those before.
    ///
    /// # Errors
    ///
    /// When the two do not fit.
    pub(super) fn read(starts: &Path, listed: &[Listed], kills_ms: &[i64]) -> anyhow::Result<Self> {
        let told = told_starts(&std::fs::read_to_string(starts)?)?;
        let mut attempts = Self::default();
        for job in listed {
            let (started, finished) = (job.started_at, job.finished_at);
            let from_ms = started.context("a job without its start")?.ms();
            let to_ms = finished.context("a job without its end")?.ms();
            let last = told.get(&(job.id.clone(), job.attempt));
            ensure!(
                last.is_none_or(|told_ms| *told_ms == from_ms),
                "{} began at {from_ms}, and its program was told {last:?}",
                job.id
            );
            attempts.add(job, Ran { from_ms, to_ms })?;
            for before in 1..job.attempt {
                let Some(from_ms) = told.get(&(job.id.clone(), before)).copied() else {
                    attempts.unseen += 1;
                    continue;
                };
                let killed_at = kills_ms.iter().find(|at| **at >= from_ms);
                let to_ms = *killed_at.context("an attempt before the last was not cut off")?;
                attempts.cut_off += 1;
                attempts.add(job, Ran { from_ms, to_ms })?;
            }
        }
        Ok(attempts)
    }

    fn add(&mut self, job: &Listed, ran: Ran) -> anyhow::Result<()> {
        match &*job.task {
            "narrow" => self.narrow.push(ran),
            "paced" => self.paced.push(ran),
            _ => {
                let group = job
                    .group
                    .clone()
                    .context("a job of shared without a group")?;
                self.shared.entry(group).or_default().push(ran);
            }
        }
        Ok(())
    }
}

/// Reads the lines of programs: id, attempt, deadline. Returns when each attempt began.
fn told_starts(text: &str) -> anyhow::Result<HashMap<(String, u32), i64>> {
    let mut told = HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, attempt, deadline] = words[..] else {
            bail!("a program wrote {line:?}");
        };
        let deadline = Instant::try_from(deadline.to_owned())?;
        let key = (id.to_owned(), attempt.parse()?);
        let before = told.insert(key, deadline.ms() - TIMEOUT_MS);
        ensure!(before.is_none(), "an attempt was begun twice: {line:?}");
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_from_what_programs_were_told() {
        let text = "a 1 2026-11-22T12:01:00.052Z\na 2 2026-11-22T12:01:01.000Z\n";
        let told = told_starts(text).unwrap();
        assert_eq!(told[&("a".to_owned(), 1)], 1_795_348_800_052);
        assert_eq!(told[&("a".to_owned(), 2)], 1_795_348_801_000);
        assert!(told_starts("a 1\n").is_err());
        let twice = "a 1 2026-11-22T12:01:00.052Z\na 1 2026-11-22T12:02:00.052Z\n";
        assert!(told_starts(twice).is_err());
    }
}
