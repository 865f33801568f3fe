//! The attempts that run on this node: who is told to stop, whose leases are kept.

use crate::run::{Stop, StopReason};
use anteroom_core::{ClaimNumber, JobId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stops remembered of attempts that have not entered yet: between the commit of a claim and the
/// entering of its attempt lie some microseconds, so that few can be under way at once.
const EARLY_STOPS_MAX: usize = 1_024;

/// The attempts that run on this node, by job.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    entered: HashMap<JobId, (ClaimNumber, Stop)>,
    /// Stops that came after the claim and before its attempt, oldest first.
    early_stops: VecDeque<(JobId, ClaimNumber, StopReason)>,
}

impl Running {
    /// Enters an attempt, until the guard is dropped. Tells it to stop if somebody did already,
    /// and tells an earlier attempt of the job, which must have lost its lease.
    pub(crate) fn enter(self: &Arc<Self>, id: JobId, claim: ClaimNumber, stop: Stop) -> Entered {
        let mut attempts = self.lock();
        let early = attempts
            .early_stops
            .iter()
            .position(|early| (early.0, early.1) == (id, claim));
        if let Some((_, _, reason)) = early.and_then(|at| attempts.early_stops.remove(at)) {
            stop.request(reason);
        }
        if let Some((_, superseded)) = attempts.entered.insert(id, (claim, stop)) {
            superseded.request(StopReason::LeaseLost);
        }
        drop(attempts);
        Entered {
            running: self.clone(),
            id,
            claim,
        }
    }

    /// Tells the attempt under `claim` to stop, now or when it enters.
    pub(crate) fn stop(&self, id: JobId, claim: ClaimNumber, reason: StopReason) {
        let mut attempts = self.lock();
        match attempts.entered.get(&id) {
            Some((running, stop)) if *running == claim => stop.request(reason),
            _ => {
                if attempts.early_stops.len() == EARLY_STOPS_MAX {
                    attempts.early_stops.pop_front();
                }
                attempts.early_stops.push_back((id, claim, reason));
            }
        }
    }

    /// Tells the attempt under `claim` to stop, if it runs here.
    pub(crate) fn stop_running(&self, id: JobId, claim: ClaimNumber, reason: StopReason) {
        if let Some((running, stop)) = self.lock().entered.get(&id)
            && *running == claim
        {
            stop.request(reason);
        }
    }

    /// Tells whether the attempt under `claim` runs here.
    pub(crate) fn holds(&self, id: JobId, claim: ClaimNumber) -> bool {
        self.lock()
            .entered
            .get(&id)
            .is_some_and(|(running, _)| *running == claim)
    }

    /// Tells whether an attempt of a job runs here that nobody has told to stop. Whoever watches the job
    /// before asking is told of what becomes of it.
    pub(crate) fn runs(&self, id: JobId) -> bool {
        self.lock()
            .entered
            .get(&id)
            .is_some_and(|(_, stop)| stop.reason().is_none())
    }

    /// Tells every attempt to stop.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for (_, stop) in self.lock().entered.values() {
            stop.request(reason);
        }
    }

    /// Returns the job and the claim of every attempt.
    pub(crate) fn held(&self) -> Vec<(JobId, ClaimNumber)> {
        self.lock()
            .entered
            .iter()
            .map(|(id, (claim, _))| (*id, *claim))
            .collect()
    }

    // Nothing in here panics while it holds the lock, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt's place among the running ones.
#[derive(Debug)]
pub(crate) struct Entered {
    running: Arc<Running>,
    id: JobId,
    claim: ClaimNumber,
}

impl Entered {
    /// Takes the attempt away.
    pub(crate) fn leave(&self) {
        let mut attempts = self.running.lock();
        // After a lost lease the job may run here again already, under a later claim.
        if attempts
            .entered
            .get(&self.id)
            .is_some_and(|(claim, _)| *claim == self.claim)
        {
            attempts.entered.remove(&self.id);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: JobId = JobId::from_bytes([7; 16]);
    const CLAIM: ClaimNumber = ClaimNumber::new(1);

    #[test]
    fn a_stop_that_comes_before_its_attempt_is_kept_for_it() {
        let running = Arc::<Running>::default();
        running.stop(ID, CLAIM, StopReason::Cancelled);
        let later = Stop::default();
        let entered = running.enter(ID, CLAIM.next(), later.clone());
        assert_eq!(later.reason(), None, "another claim's");
        drop(entered);
        let stop = Stop::default();
        let _entered = running.enter(ID, CLAIM, stop.clone());
        assert_eq!(stop.reason(), Some(StopReason::Cancelled));
    }

    #[test]
    fn an_attempt_that_leaves_late_does_not_take_its_successor_along() {
        let running = Arc::<Running>::default();
        let stop = Stop::default();
        let first = running.enter(ID, CLAIM, stop.clone());
        let _second = running.enter(ID, CLAIM.next(), Stop::default());
        assert_eq!(stop.reason(), Some(StopReason::LeaseLost), "it is told");
        drop(first);
        assert_eq!(running.held(), [(ID, CLAIM.next())]);
    }
}
