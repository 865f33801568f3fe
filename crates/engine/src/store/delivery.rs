//! Claims that wait for jobs, and claimed jobs on their way to whoever asked for them.

use super::{Claimed, StoreError, Want};
use anteroom_core::{ClaimNumber, JobId, Timestamp};
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where an answer goes. Nobody may be waiting for it any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A claim that waits for jobs.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) want: Want,
    /// How long it waits.
    pub(super) until: Timestamp,
    pub(super) reply: Reply<Delivery>,
}

/// Whoever takes back claims that nobody received.
pub(super) trait HandBack: Send + Sync {
    fn hand_back(&self, claims: Vec<(JobId, ClaimNumber)>);
}

/// Claimed jobs on their way.
///
/// What is dropped on the way, because nobody waits any more, goes back.
pub(super) struct Delivery {
    jobs: Vec<Claimed>,
    back: Arc<dyn HandBack>,
}

impl Delivery {
    pub(super) fn new(jobs: Vec<Claimed>, back: Arc<dyn HandBack>) -> Self {
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
