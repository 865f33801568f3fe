//! A turn of one: the latency of single jobs, single jobs at once, jobs in bulk; and what is watched
//! meanwhile.

use super::backing::Backing;
use super::install::Programs;
use super::peak::Watch;
use super::peer::{Facts, Peer};
use crate::contender::Contender;
use crate::order::{Done, Latency, Order};
use crate::{cpu, disk};
use anyhow::{Context, ensure};
use std::path::Path;
use std::time::Duration;

/// Appends that the quiet disk is timed with.
const QUIET_APPENDS: usize = 100;
/// Jobs of the first trial, where there is one a call.
const TRIAL_JOBS: u64 = 100;
/// Calls of the first trial in bulk.
const TRIAL_CALLS: u64 = 4;
/// A trial this long tells how many jobs there will be, as a share of the time that is asked for.
const TRIAL_SHARE: f64 = 0.2;
/// Jobs in all of a part, whatever the time.
const JOBS_MAX: u64 = 2_000_000;
/// Jobs before a latency is measured: programs that compile themselves as they run have done so.
const WARM_JOBS: u64 = 300;
/// How long an order may take, before it counts as hung.
const ORDER_MAX: Duration = Duration::from_mins(3);

/// How large a part is, for one of them: the same in every round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    single: Option<u64>,
    bulk: Option<u64>,
}

/// How long a turn takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    /// Seconds that a part shall take.
    pub(super) seconds: f64,
    /// Jobs whose latency is measured.
    pub(super) latencies: u64,
}

/// What single jobs or jobs in bulk came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Jobs that were done, and the time.
    pub(super) done: Done,
    /// CPU time of the whole system: server, database, workers, client.
    pub(super) cpu: Duration,
    /// What other programs used meanwhile, as a share of all cores.
    pub(super) elsewhere: f64,
}

/// What a turn came to.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// What it says it is.
    pub(super) version: String,
    /// One job a call.
    pub(super) single: Rate,
    /// In bulk, where there is such a call.
    pub(super) bulk: Option<Rate>,
    /// On one connection.
    pub(super) latency: Latency,
    /// The most KiB that the whole system held.
    pub(super) memory: u64,
    /// The quiet disk before, in milliseconds.
    pub(super) fdatasync: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 jobs, which no run reaches"
)]
impl Rate {
    /// Returns jobs a second.
    pub(super) fn rate(&self) -> f64 {
        self.done.jobs as f64 / self.done.span.as_secs_f64()
    }

    /// Returns CPU seconds for 1,000 jobs.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1_000.0 / self.done.jobs as f64
    }
}

/// Measures one. The first time it is found out how many jobs fill the time.
///
/// # Errors
///
/// When it cannot be started, fails, or has not done what it says.
pub(super) fn measure(
    peer: Peer,
    programs: &Programs,
    dir: &Path,
    spans: Spans,
    sizes: &mut Sizes,
) -> anyhow::Result<Figures> {
    let facts = peer.facts();
    let disk = disk::quiet(dir, QUIET_APPENDS)?;
    let backing = Backing::start(facts.beside, programs, dir)?;
    let contender = programs.start(facts, &backing.place)?;
    let mut pids = backing.pids();
    pids.push(contender.pid());
    let watch = Watch::start(pids.clone());
    let mut turn = Turn {
        facts,
        contender,
        pids,
    };
    turn.contender.prepare(turn.each(WARM_JOBS))?;
    let latency = turn.run(Order::Latency {
        jobs: spans.latencies,
    })?;
    let latency = latency.done.latency;
    let single = turn.part(spans, &mut sizes.single, TRIAL_JOBS, Turn::each)?;
    let bulk = match facts.batch {
        None => None,
        Some(batch) => {
            let order = |turn: &Turn, jobs| turn.life(jobs, batch);
            Some(turn.part(spans, &mut sizes.bulk, batch * TRIAL_CALLS, order)?)
        }
    };
    let said = turn.contender.version.clone();
    turn.contender.end()?;
    let memory = watch.finish();
    let versions = [said, backing.version.clone()];
    let versions = versions.into_iter().filter(|version| !version.is_empty());
    let micros = u32::try_from(disk.value_at_quantile(0.5)).unwrap_or(u32::MAX);
    Ok(Figures {
        version: versions.collect::<Vec<_>>().join(", "),
        single,
        bulk,
        latency: latency.context("no latency was said")?,
        memory,
        fdatasync: f64::from(micros) / 1_000.0,
    })
}

/// One under way.
struct Turn {
    facts: &'static Facts,
    contender: Contender,
    pids: Vec<u32>,
}

impl Turn {
    fn each(&self, jobs: u64) -> Order {
        Order::Each {
            jobs,
            connections: self.facts.connections,
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "so that both orders are made in the same way"
    )]
    fn life(&self, jobs: u64, batch: u64) -> Order {
        Order::Life {
            jobs,
            batch,
            seconds: ORDER_MAX.as_secs_f64(),
            is_backlog: false,
        }
    }

    /// Measures jobs of one kind, after a few that warm it up or tell how many there will be.
    fn part(
        &mut self,
        spans: Spans,
        size: &mut Option<u64>,
        trial: u64,
        order: impl Fn(&Self, u64) -> Order,
    ) -> anyhow::Result<Rate> {
        let jobs = if let Some(jobs) = *size {
            let warm = order(self, (jobs / 8).max(1));
            self.contender.prepare(warm)?;
            jobs
        } else {
            let (mut jobs, mut is_again) = (trial, false);
            loop {
                let done = self.run(order(self, jobs))?.done;
                let share = done.span.as_secs_f64() / spans.seconds;
                // Once may have been a stall, and not how fast it is.
                if share > 1.0 && !is_again {
                    is_again = true;
                    continue;
                }
                if share >= TRIAL_SHARE || jobs >= JOBS_MAX {
                    break filling(jobs, share).max(trial);
                }
                jobs = (jobs * 4).min(JOBS_MAX);
            }
        };
        *size = Some(jobs);
        let rate = self.run(order(self, jobs))?;
        ensure!(
            rate.done.jobs == jobs,
            "{} of {jobs} jobs were done",
            rate.done.jobs
        );
        Ok(rate)
    }

    fn run(&mut self, order: Order) -> anyhow::Result<Rate> {
        let before = self.used()?;
        self.contender.order(order)?;
        let done = self.contender.done(ORDER_MAX)?;
        let after = self.used()?;
        self.contender.well()?;
        let cpu = after.ours.saturating_sub(before.ours);
        let busy = after.busy.saturating_sub(before.busy);
        let all = after.all.saturating_sub(before.all);
        let others = busy.saturating_sub(cpu);
        Ok(Rate {
            done,
            cpu,
            elsewhere: others.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE),
        })
    }

    fn used(&self) -> anyhow::Result<Used> {
        let (busy, all) = cpu::of_machine()?;
        let mut ours = Duration::ZERO;
        for pid in &self.pids {
            ours += cpu::of_tree(*pid)?;
        }
        Ok(Used { ours, busy, all })
    }
}

/// Who has used the cores up to now.
#[derive(Clone, Copy, Debug)]
struct Used {
    ours: Duration,
    busy: Duration,
    all: Duration,
}

/// Returns how many jobs fill the time, of which so many took this share.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of jobs, far below 2^53, and a few more or less do not matter"
)]
fn filling(jobs: u64, share: f64) -> u64 {
    ((jobs as f64 / share) as u64).clamp(1, JOBS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_tells_how_many_jobs_fill_the_time() {
        assert_eq!(filling(1_000, 0.25), 4_000);
        assert_eq!(filling(1_000, 4.0), 250);
        assert_eq!(filling(10, 100.0), 1);
        assert_eq!(filling(JOBS_MAX, 0.1), JOBS_MAX);
    }
}
