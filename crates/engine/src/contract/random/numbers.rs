//! Claim numbers of two stores made comparable: by when they were drawn.

use crate::store::{Applied, Deleted, Inserted, Overdue, OverdueReason, Refused, StoreError};
use anteroom_core::{ClaimNumber, Job};
use std::collections::HashMap;

/// The claim numbers that one store drew, in their order.
#[derive(Default)]
pub(super) struct Numbers {
    drawn: Vec<ClaimNumber>,
    when: HashMap<ClaimNumber, u64>,
}

impl Numbers {
    pub(super) fn draw(&mut self, claim: ClaimNumber) {
        self.drawn.push(claim);
        self.when.insert(claim, self.drawn.len() as u64);
    }

    /// Returns the claim that was drawn at that place; before the first there is none.
    pub(super) fn at(&self, when: u64) -> ClaimNumber {
        let place = usize::try_from(when).ok().and_then(|n| n.checked_sub(1));
        let drawn = place.and_then(|place| self.drawn.get(place));
        drawn.copied().unwrap_or(ClaimNumber::NONE)
    }

    /// Puts in place of the claim number when it was drawn.
    pub(super) fn plain_number(&self, claim: ClaimNumber) -> ClaimNumber {
        ClaimNumber::new(self.when.get(&claim).copied().unwrap_or(0))
    }

    pub(super) fn plain_job(&self, mut job: Job) -> Job {
        job.status.claim = self.plain_number(job.status.claim);
        job
    }

    pub(super) fn plain_applied(&self, applied: Applied) -> Applied {
        match applied {
            Ok(job) => Ok(self.plain_job(job)),
            Err(Refused::Rejected(why, job)) => {
                Err(Refused::Rejected(why, Box::new(self.plain_job(*job))))
            }
            Err(Refused::Repeated(job)) => Err(Refused::Repeated(Box::new(self.plain_job(*job)))),
            Err(Refused::VersionDiffers(job)) => {
                Err(Refused::VersionDiffers(Box::new(self.plain_job(*job))))
            }
            Err(Refused::Unknown | Refused::Gone | Refused::UniqueKeyTaken { .. }) => applied,
        }
    }

    /// Refusals as they are told: of errors there are none here but those.
    pub(super) fn plain_inserted(
        &self,
        inserted: Result<Vec<Inserted>, StoreError>,
    ) -> Result<Vec<Inserted>, String> {
        let inserted = inserted.map_err(|error| format!("{error:?}"))?;
        let plain = |one| match one {
            Inserted::New(place) => Inserted::New(place),
            Inserted::Duplicate(job) => Inserted::Duplicate(Box::new(self.plain_job(*job))),
            Inserted::Replayed { job, duplicate } => Inserted::Replayed {
                job: Box::new(self.plain_job(*job)),
                duplicate,
            },
        };
        Ok(inserted.into_iter().map(plain).collect())
    }

    pub(super) fn plain_deleted(&self, deleted: Deleted) -> Deleted {
        match deleted {
            Deleted::NotFinal(job) => Deleted::NotFinal(Box::new(self.plain_job(*job))),
            Deleted::VersionDiffers(job) => Deleted::VersionDiffers(Box::new(self.plain_job(*job))),
            Deleted::Done | Deleted::Unknown | Deleted::Gone => deleted,
        }
    }

    pub(super) fn plain_overdue(&self, mut overdue: Vec<Overdue>) -> Vec<Overdue> {
        for one in &mut overdue {
            one.reason = match one.reason {
                OverdueReason::Lease(claim) => OverdueReason::Lease(self.plain_number(claim)),
                OverdueReason::Timeout(claim) => OverdueReason::Timeout(self.plain_number(claim)),
                OverdueReason::Process(claim) => OverdueReason::Process(self.plain_number(claim)),
                OverdueReason::Deadline => OverdueReason::Deadline,
            };
        }
        overdue.sort_by_key(|one| one.id);
        overdue
    }
}
