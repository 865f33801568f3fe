//! What this node's writers know of jobs without reading them.
//!
//! A job that was submitted here and starts here, or that runs here and ends, is as it was written, unless
//! somebody else has changed it since. Of one that starts the row is locked and says its version; of one
//! that ends the version is compared where the change is written, and the transaction fails if it is
//! another: the next one reads.

use super::batch::Touched;
use anteroom_core::{JobId, State};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Jobs of each kind that are known at most.
const KNOWN_MAX: usize = 16_384;
/// Bytes of inputs that are known at most.
const INPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Jobs that were submitted here and started elsewhere are forgotten after this long, if others need
/// their place.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Jobs>);

#[derive(Debug, Default)]
struct Jobs {
    running: HashMap<JobId, Touched>,
    waiting: HashMap<JobId, Touched>,
    input_bytes: usize,
    forgot_at: Option<Instant>,
}

impl Known {
    /// Returns what is known of some jobs that run, and forgets it: until it is written it may be wrong.
    pub(super) fn take(&self, ids: &[JobId]) -> Vec<Touched> {
        let mut jobs = self.lock();
        let known = ids.iter();
        known.filter_map(|id| jobs.running.remove(id)).collect()
    }

    /// Returns those of some waiting jobs that are known and have the version that is offered, with
    /// their inputs, and forgets them.
    pub(super) fn take_waiting(
        &self,
        ids: &[JobId],
        offered: &HashMap<JobId, u64>,
    ) -> Vec<Touched> {
        let mut jobs = self.lock();
        let known = ids.iter().filter_map(|id| jobs.take_waiting(id));
        let is_offered = |job: &Touched| offered.get(&job.spec.id) == Some(&job.status.version);
        known.filter(is_offered).collect()
    }

    /// Notes how a transaction that was committed left its jobs.
    pub(super) fn keep(&self, left: impl Iterator<Item = Touched>) {
        let mut jobs = self.lock();
        for job in left.filter(|job| job.is_changed) {
            match job.status.state {
                State::Waiting => jobs.keep_waiting(job.left()),
                // A pulled lease is settled at any node.
                State::Running if job.node.is_some() => jobs.keep_running(job.left()),
                State::Running | State::Succeeded | State::Failed | State::Cancelled => {
                    jobs.running.remove(&job.spec.id);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Whatever panicked left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    fn keep_running(&mut self, job: Touched) {
        // Those whose attempts end elsewhere would stay for ever.
        if self.running.len() >= KNOWN_MAX {
            self.running.clear();
        }
        self.running.insert(job.spec.id, job);
    }

    /// Keeps a job that was submitted here. Those that came first start first, and stay.
    fn keep_waiting(&mut self, job: Touched) {
        let id = job.spec.id;
        self.running.remove(&id);
        self.take_waiting(&id);
        let Some(input) = &job.input else {
            return;
        };
        let bytes = input.bytes.len();
        let is_full = self.waiting.len() >= KNOWN_MAX || self.input_bytes + bytes > INPUT_BYTES_MAX;
        if is_full {
            let forgot_at = *self.forgot_at.get_or_insert_with(Instant::now);
            if forgot_at.elapsed() < FORGOTTEN_AFTER {
                return;
            }
            self.waiting.clear();
            self.input_bytes = 0;
            self.forgot_at = None;
        }
        self.input_bytes += bytes;
        self.waiting.insert(id, job);
    }

    fn take_waiting(&mut self, id: &JobId) -> Option<Touched> {
        let job = self.waiting.remove(id)?;
        self.input_bytes -= job.input.as_ref().map_or(0, |input| input.bytes.len());
        Some(job)
    }
}
