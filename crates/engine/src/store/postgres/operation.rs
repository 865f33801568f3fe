//! What the writer is asked to do, and how it answers.

use super::shared::{Entered, Shared};
use crate::store::{Applied, Change, Claimed, Inserted, NewJob, PlaceOf, StoreError, Want};
use anteroom_core::{ClaimNumber, JobId, Place, QueueDefaults, Timestamp};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where an answer goes. Nobody may be waiting for it any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Operation {
    Insert(Entered, Vec<NewJob>, Reply<Vec<Inserted>>),
    Claim(Parked),
    Apply(Vec<Change>, Reply<Vec<Applied>>),
    /// Claims that nobody received.
    HandBack(Vec<(JobId, ClaimNumber)>),
    Place(PlaceOf, Reply<Option<Place>>),
    ConfigureQueues(Box<QueueDefaults>, Reply<()>),
    /// Something changed elsewhere, or the clock was moved.
    LookAgain,
    /// Take no more, and end. Tells when that is done.
    Close(oneshot::Sender<()>),
}

/// A claim that waits for jobs.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) want: Want,
    /// How long it waits.
    pub(super) until: Timestamp,
    pub(super) reply: Reply<Delivery>,
}

impl Operation {
    /// Returns how many jobs it changes and how many bytes it brings: what a batch is bounded by.
    /// What claims take is bounded apart.
    pub(super) fn weight(&self) -> (usize, usize) {
        match self {
            Self::Insert(_, jobs, _) => {
                let bytes = jobs.iter().map(|job| job.input.bytes.len()).sum();
                (jobs.len(), bytes)
            }
            Self::Apply(changes, _) => {
                let bytes = |change: &Change| {
                    let result = change.result.as_ref().map_or(0, |it| it.bytes.len());
                    result + change.reports.bytes()
                };
                (changes.len(), changes.iter().map(bytes).sum())
            }
            Self::HandBack(claims) => (claims.len(), 0),
            Self::Claim(_) | Self::Place(..) | Self::ConfigureQueues(..) => (1, 0),
            Self::LookAgain | Self::Close(_) => (0, 0),
        }
    }
}

/// Claimed jobs on their way to whoever asked for them.
///
/// What is dropped on the way, because nobody waits any more, goes back to the writer.
pub(super) struct Delivery {
    jobs: Vec<Claimed>,
    back: Arc<Shared>,
}

impl Delivery {
    pub(super) fn new(jobs: Vec<Claimed>, back: Arc<Shared>) -> Self {
        Self { jobs, back }
    }

    /// Takes the jobs out: they have arrived.
    pub(super) fn receive(mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.jobs)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        let claims = self.jobs.iter();
        let claims = claims.map(|claimed| (claimed.job.spec.id, claimed.job.status.claim));
        self.back.hand_back(claims.collect());
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}
