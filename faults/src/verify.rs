//! Reads everything that was acknowledged once all is done, over HTTP: what clients were promised. Whether
//! the store is whole in itself is for `anteroom store verify` to say, which campaigns end with.

use crate::client::Client;
use crate::history::{Report, Rule, Seen};
use crate::listing::list;
use crate::load::Acked;
use anyhow::Context;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// How many read at once.
const READERS: usize = 16;
/// How long a job may take until it is done, in waits of [`WAIT`].
const WAITS_MAX: u32 = 12;
const WAIT: Duration = Duration::from_secs(10);

/// Where every acknowledged job stands in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Read as succeeded, with the right result where that is known.
    pub right: usize,
    /// Gone after a short retention.
    pub gone: usize,
    /// Read with another result than the right one.
    pub wrong: usize,
    /// Read as failed or cancelled.
    pub failed: usize,
    /// Missing, or gone too early.
    pub missing: usize,
    /// Not done in time.
    pub unfinished: usize,
}

impl Tally {
    /// Tells whether every job is there with its right result.
    pub fn is_right(&self) -> bool {
        self.wrong == 0 && self.failed == 0 && self.missing == 0 && self.unfinished == 0
    }

    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.gone += other.gone;
        self.wrong += other.wrong;
        self.failed += other.failed;
        self.missing += other.missing;
        self.unfinished += other.unfinished;
    }
}

/// Waits until every acknowledged job is done and reads its result.
///
/// # Errors
///
/// When the server gives no answers.
pub async fn drain(client: &Client, acked: &[Acked]) -> anyhow::Result<Tally> {
    let acked: Arc<[Acked]> = acked.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (client, acked, next) = (client.clone(), acked.clone(), next.clone());
        readers.spawn(async move {
            let mut tally = Tally::default();
            while let Some(job) = acked.get(next.fetch_add(1, Ordering::Relaxed)) {
                tally.add(end_of(&client, job).await?);
            }
            anyhow::Ok(tally)
        });
    }
    let mut tally = Tally::default();
    while let Some(ended) = readers.join_next().await {
        tally.add(ended.context("a reader panicked")??);
    }
    Ok(tally)
}

async fn end_of(client: &Client, job: &Acked) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..WAITS_MAX {
        let (state, _) = client
            .until_answered(|| client.job(&job.id, Some(WAIT)))
            .await?;
        let count = match state {
            Seen::Scheduled | Seen::Ready | Seen::Running => continue,
            Seen::Succeeded => {
                let (state, result) = client.until_answered(|| client.result(&job.id)).await?;
                if state == Seen::Gone && job.is_short {
                    &mut tally.gone
                } else if state == Seen::Succeeded
                    && (job.expected.is_none() || result == job.expected)
                {
                    &mut tally.right
                } else {
                    &mut tally.wrong
                }
            }
            Seen::Failed | Seen::Cancelled => &mut tally.failed,
            Seen::Gone if job.is_short => &mut tally.gone,
            Seen::Gone | Seen::Missing => &mut tally.missing,
        };
        *count += 1;
        return Ok(tally);
    }
    tally.unfinished += 1;
    Ok(tally)
}

/// Lists all jobs, reads those that were never acknowledged to anybody, and returns how many.
///
/// # Errors
///
/// When the server gives no list.
pub async fn unacknowledged(client: &Client, acked: &[Acked]) -> anyhow::Result<usize> {
    let known: HashSet<&str> = acked.iter().map(|job| &*job.id).collect();
    let ids = list(client, "").await?.into_iter().map(|job| job.id);
    // A job that is submitted meanwhile moves no other one to another page.
    let unknown: HashSet<_> = ids.filter(|id| !known.contains(&**id)).collect();
    for id in &unknown {
        client.job(id, None).await?;
    }
    Ok(unknown.len())
}

/// Returns `lost, doubled, changed` of a report.
pub fn figures(report: &Report) -> (u64, u64, u64) {
    let sum = |rules: &[Rule]| rules.iter().map(|rule| report.count(*rule)).sum();
    (
        sum(&[Rule::Kept]),
        sum(&[Rule::OneId, Rule::AtMostOnce, Rule::Fenced, Rule::Alone]),
        sum(&[Rule::Constant, Rule::Produced]),
    )
}
